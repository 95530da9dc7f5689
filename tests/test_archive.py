"""What left the context is found again: by reference always, by words in a sensible order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Hit, InMemoryArchive, MemoryConfig, MemoryManager, Record, UnknownReferenceError
from memory.messages import Reading, ToolCall, ToolResult
from memory.testing import WordCounter, check_archive

from .conversations import builder_for

CHAT = builder_for("openai_chat")


def archive_of(*texts: str) -> InMemoryArchive:
    archive = InMemoryArchive()
    for seq, text in enumerate(texts, start=1):
        archive.put(Record(seq=seq, message={"content": text}, reading=Reading(role="user", text=text), tokens=1))
    return archive


def found(archive: InMemoryArchive, query: str, **options: Any) -> list[str]:
    return [hit.ref for hit in archive.search(query, **options)]


def test_the_archive_in_memory_keeps_the_contract() -> None:
    check_archive(InMemoryArchive)


def test_a_message_that_has_the_query_as_it_stands_comes_first() -> None:
    scattered = "code launch code launch code the launch code"
    archive = archive_of(scattered.replace("launch code", "launch of code"), "well, the launch code is 4711 " * 30)

    assert found(archive, "The Launch Code") == ["r2", "r1"]


def test_a_rare_word_outranks_a_common_one() -> None:
    archive = archive_of("the build failed", "the build passed", "the build hung at linker", "the build ran")

    assert found(archive, "build linker")[0] == "r3"


def test_equal_matches_come_newest_first() -> None:
    assert found(archive_of("same words", "same words"), "words") == ["r2", "r1"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("call getUserName() first", "user name"),
        ("call getUserName() first", "getusername"),
        ("the HTTPServerError again", "server"),
        ("set max_retry_count to 3", "retry count"),
        ("see src/memory/window.py:88", "window.py"),
        ("see src/memory/window.py:88", "memory/window"),
        ("error E1234x", "1234"),
        ("die Größe ist falsch", "GRÖSSE"),
        ("пароль: тайна", "ПАРОЛЬ"),
        ("東京タワーの高さ", "東京"),
        ("naïve café", "CAFÉ"),
        ("a \ud83d half", "\ud83d"),
        ("nul \x00 byte", "\x00"),
    ],
)
def test_a_query_finds_identifiers_by_their_parts_and_words_in_any_script(text: str, query: str) -> None:
    assert found(archive_of("nothing of the kind", text, "nor here"), query)[0] == "r2"


@pytest.mark.parametrize(
    ("reading", "query"),
    [
        (Reading(role="assistant", reasoning="the cache is stale"), "stale cache"),
        (Reading(role="assistant", calls=(ToolCall(id="c", name="read_file", arguments='{"path": "a.py"}'),)), "a.py"),
        (Reading(role="assistant", calls=(ToolCall(id="c", name="read_file", arguments="{}"),)), "read_file"),
        (Reading(role="tool", results=(ToolResult(call_id="c", name=None, text="exit code 137"),)), "exit code 137"),
    ],
    ids=["reasoning", "arguments", "tool name", "result"],
)
def test_every_part_of_a_message_can_be_found(reading: Reading, query: str) -> None:
    archive = archive_of("nothing of the kind")
    archive.put(Record(seq=9, message={}, reading=reading, tokens=1))

    assert found(archive, query) == ["r9"]


@pytest.mark.parametrize("query", ["", "   ", "\n", "nosuchword", "(", "*", "' OR 1=1 --", "?"])
def test_a_query_that_matches_nothing_gives_nothing(query: str) -> None:
    assert found(archive_of("some words", "other words"), query) == []


@given(texts=st.lists(st.text(max_size=40), max_size=4), query=st.text(max_size=20))
def test_any_text_is_a_legal_query_and_a_contained_one_is_found(texts: list[str], query: str) -> None:
    hits = archive_of(*texts).search(query, limit=10)
    wanted = query.strip().casefold()

    assert {f"r{n}" for n, text in enumerate(texts, 1) if wanted and wanted in text.casefold()} <= {h.ref for h in hits}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(len(hit.excerpt) <= 240 for hit in hits)


@pytest.mark.parametrize(("limit", "expected"), [(2, 2), (10, 3), (0, 0), (-1, 0)])
def test_a_limit_is_a_limit(limit: int, expected: int) -> None:
    assert len(found(archive_of("word", "word", "word"), "word", limit=limit)) == expected


@pytest.mark.parametrize("before", ["", "word " * 500, "ß" * 500, "İ" * 500])
def test_the_excerpt_shows_the_match(before: str) -> None:
    hit = archive_of(f"{before} needle {'hay ' * 500}").search("NEEDLE")[0]

    assert "needle" in hit.excerpt


def test_a_later_put_is_found_too() -> None:
    archive = archive_of("one word")
    assert found(archive, "word") == ["r1"]
    archive.put(Record(seq=2, message={}, reading=Reading(role="user", text="another word"), tokens=1))

    assert found(archive, "word") == ["r2", "r1"]


@pytest.mark.parametrize("ref", ["r3", "", "r", "17", "r-1", "r1.0", "r１"])
def test_an_unknown_reference_is_an_error_that_shows_it(ref: str) -> None:
    with pytest.raises(UnknownReferenceError, match="references look like 'r17'") as refusal:
        archive_of("a", "b").get(ref)

    assert repr(ref) in str(refusal.value)


def test_records_come_by_their_number_whatever_the_order_of_storing() -> None:
    archive = InMemoryArchive()
    for seq in (5, 2, 9):
        archive.put(Record(seq=seq, message={}, reading=Reading(role="user"), tokens=1))

    assert [record.ref for record in archive] == ["r2", "r5", "r9"]


def test_what_a_compression_took_out_is_recalled_as_the_very_object() -> None:
    config = MemoryConfig(max_context_tokens=500, compression_threshold=100, compression_strategy="deletion")  # type: ignore[arg-type]  # a name is accepted
    memory = MemoryManager(config, counter=WordCounter())
    secret = CHAT.assistant("the launch code is 4711")[0]
    messages: list[Any] = [*CHAT.user("go"), secret, *(CHAT.assistant("filler " * 30)[0] for _ in range(6))]
    for message in messages:
        memory.add_message_sync(message)
    hits: list[Hit] = memory.recall("launch code")

    assert secret not in memory.get_context_for_llm()
    assert (hits[0].message, hits[0].ref) == (secret, "r2")
    assert memory.original("r2") is hits[0].message is secret
