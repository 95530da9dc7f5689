"""Sessions as files: an export is exact, an import is whole or nothing, a provider's format is what came."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sessions.incoming import import_file
from agent.transcripts import parse_transcripts
from memory import LLMMessage, MemoryConfig, MemoryManager
from memory.errors import (
    ConfigError,
    CorruptStorageError,
    MessageError,
    NewerStorageError,
    SessionError,
    StorageFullError,
    TranscriptError,
    UnknownSessionError,
)
from memory.messages import DialectName
from memory.sessions.postgres import PostgresSessionStore
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.transfer import ExportFormat, export_session, import_session
from memory.sessions.values import Saved, Turn

from .test_session_encoding import values

CONFIG = MemoryConfig(max_context_tokens=9_000, compression_threshold=1_500, short_term_size=4)


@pytest.fixture
def store() -> Iterator[SqliteSessionStore]:
    store = SqliteSessionStore(":memory:")
    yield store
    store.close()


@pytest.fixture
def other() -> Iterator[SqliteSessionStore]:
    store = SqliteSessionStore(":memory:")
    yield store
    store.close()


def rounds(count: int, *, size: int = 120) -> Iterator[dict[str, Any]]:
    """A task and rounds with a tool, as OpenAI chat writes them."""
    yield {"role": "user", "content": "Read every file and report. \ud83d é"}
    for number in range(count):
        function = {"name": "read_file", "arguments": json.dumps({"path": f"src/file_{number}.py"})}
        call = {"id": f"c{number}", "type": "function", "function": function}
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
        result = " ".join(f"value_{number}_{word} = {word}" for word in range(size))
        yield {"role": "tool", "tool_call_id": f"c{number}", "content": result}
    yield {"role": "assistant", "content": "Done."}


def summarised(prompt: str) -> str:
    return f"They read files; the request had {len(prompt)} characters."


def saved(store: SqliteSessionStore, messages: Iterable[object], **options: Any) -> str:
    """Return the id of a session that has these messages."""
    memory = MemoryManager(store=store, **options)
    session_id = memory.session_id
    assert session_id is not None
    for message in messages:
        memory.add_message_sync(message)
    memory.close()
    return session_id


def kept(store: SqliteSessionStore) -> str:
    """Return the id of a session that has compressions, an undo, a long result and reported usage."""
    memory = MemoryManager(CONFIG, summarised, model="gpt-4o", store=store, system="Be brief.", tools=[TOOL])
    for message in rounds(12):
        is_answer = message["role"] == "assistant"
        memory.add_message_sync(message, {"input": 900, "output": 30} if is_answer else None)
    memory.undo()
    memory.add_message_sync({"role": "user", "content": "x" * 20_000})
    session_id = id_of(memory)
    memory.close()
    return session_id


TOOL = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}


def id_of(memory: MemoryManager) -> str:
    assert memory.session_id is not None
    return memory.session_id


def lines_of(store: SqliteSessionStore, session_id: str) -> list[str]:
    return list(export_session(store, session_id))


def context_of(store: SqliteSessionStore, session_id: str) -> str:
    memory = MemoryManager.resume(session_id, store=store)
    context = json.dumps([memory.messages, memory.get_stats()], default=repr)
    memory.close()
    return context


# --- All of it --------------------------------------------------------------------------------------------------------


def test_an_export_that_is_imported_is_exported_the_same(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    session_id = kept(store)
    lines = lines_of(store, session_id)

    made = import_session(other, lines)

    assert made == replace(store.load(session_id).info, owner=None, lease_until=made.lease_until)
    assert lines_of(other, made.id) == lines


def test_a_memory_goes_on_from_an_import_as_from_the_session_itself(
    store: SqliteSessionStore, other: SqliteSessionStore
) -> None:
    session_id = kept(store)

    import_session(other, lines_of(store, session_id))

    assert store.load(session_id).info.heading.compression_count > 1
    assert context_of(other, session_id) == context_of(store, session_id)


def test_an_import_can_be_undone_and_recalled_from(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    session_id = kept(store)
    import_session(other, lines_of(store, session_id))

    resumed = MemoryManager.resume(session_id, store=other)

    resumed.undo()
    assert resumed.original("r3")["tool_call_id"] == "c0"
    assert resumed.original(f"r{12 * 2 + 3}")["content"] == "x" * 20_000


def test_a_branch_is_exported_whole_and_stands_alone(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    session_id = kept(store)
    resumed = MemoryManager.resume(session_id, store=store)
    branch = resumed.branch(at="r9")
    branch_id = id_of(branch)
    branch.add_message_sync({"role": "user", "content": "Another way."})
    branch.close()
    resumed.close()

    made = import_session(other, lines_of(store, branch_id))

    assert (made.parent_id, made.heading.last_seq) == (None, 10)
    assert [one.seq for one in other.messages(made.id)] == list(range(1, 11))
    assert context_of(other, made.id) == context_of(store, branch_id)


def test_an_id_that_is_taken_is_left_to_whom_it_belongs(store: SqliteSessionStore) -> None:
    session_id = kept(store)
    lines = lines_of(store, session_id)

    made = import_session(store, lines)

    assert made.id != session_id
    assert lines_of(store, session_id) == lines
    assert context_of(store, made.id) == context_of(store, session_id).replace(session_id, made.id)


def test_a_session_that_was_deleted_can_be_brought_back(store: SqliteSessionStore) -> None:
    session_id = kept(store)
    lines = lines_of(store, session_id)
    store.delete(session_id)

    made = import_session(store, lines)

    assert store.load(made.id).info.heading.last_seq == made.heading.last_seq


def test_a_deleted_session_whose_branch_still_needs_it_comes_back_under_a_new_id(store: SqliteSessionStore) -> None:
    session_id = kept(store)
    lines = lines_of(store, session_id)
    resumed = MemoryManager.resume(session_id, store=store)
    branch = resumed.branch()
    branch.close()
    resumed.close()
    store.delete(session_id)

    made = import_session(store, lines)

    assert made.id != session_id
    assert made.heading.last_seq == len(store.messages(made.id))


def test_messages_that_json_cannot_say_come_back(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    messages: list[dict[str, Any]] = [
        {
            "role": "user",
            "parts": [{"text": "look \udc00\ud800"}, {"inline_data": {"mime_type": "a/b", "data": b"\0" * 9_000}}],
        },
        {"role": "model", "parts": [{"text": "seen", "thought_signature": b"\xff\xfe", "numbers": (1, float("inf"))}]},
    ]
    session_id = saved(store, messages, dialect="gemini")

    made = import_session(other, lines_of(store, session_id))

    assert MemoryManager.resume(made.id, store=other).messages == messages


@settings(max_examples=25)
@given(notes=st.lists(values, min_size=1, max_size=3))
def test_whatever_a_message_holds_an_export_of_its_import_is_the_same(notes: list[Any]) -> None:
    store, other = SqliteSessionStore(":memory:"), SqliteSessionStore(":memory:")
    messages = [{"role": "user", "parts": [{"text": "Look."}], "note": note} for note in notes]
    session_id = saved(store, messages, dialect="gemini")
    lines = lines_of(store, session_id)

    import_session(other, lines)

    assert lines_of(other, session_id) == lines
    assert all(line.isascii() and line.count("\n") == 1 for line in lines)


def test_a_session_goes_from_sqlite_to_postgres_and_back(
    store: SqliteSessionStore, other: SqliteSessionStore, postgres_server: str, postgres_schema: str
) -> None:
    session_id = kept(store)
    lines = lines_of(store, session_id)
    postgres = PostgresSessionStore(postgres_server, schema=postgres_schema)

    import_session(postgres, lines)
    there = list(export_session(postgres, session_id))
    postgres.close()
    import_session(other, there)

    assert there == lines
    assert context_of(other, session_id) == context_of(store, session_id)


def test_an_export_shows_one_turns_end_while_somebody_writes(store: SqliteSessionStore) -> None:
    memory = MemoryManager(store=store)
    memory.add_message_sync({"role": "user", "content": "first"})
    lines = export_session(store, id_of(memory))
    memory.add_message_sync({"role": "assistant", "content": "second"})

    read = [json.loads(line) for line in lines]

    assert [one["message"]["body"]["content"] for one in read if "message" in one] == ["first"]
    assert read[0]["heading"]["last_seq"] == 1


def test_a_session_that_is_written_to_without_a_pause_is_not_exported_torn(tmp_path: Path) -> None:
    class Busy(SqliteSessionStore):
        loads = 0

        def load(self, session_id: str) -> Saved:
            self.loads += 1
            saved = super().load(session_id)
            return replace(saved, info=replace(saved.info, updated_at=float(self.loads)))

    busy = Busy(tmp_path / "sessions.db")

    with pytest.raises(SessionError, match="without a pause"):
        export_session(busy, kept(busy))


# --- What is no export ------------------------------------------------------------------------------------------------


def refused(store: SqliteSessionStore, lines: list[str], error: type[Exception], match: str = ".") -> None:
    with pytest.raises(error, match=match):
        import_session(store, lines)
    assert store.sessions() == []


@pytest.mark.parametrize("kept_lines", [0, 1, 2, -2, -1])
def test_half_an_export_is_noticed(store: SqliteSessionStore, other: SqliteSessionStore, kept_lines: int) -> None:
    lines = lines_of(store, kept(store))

    refused(other, lines[:kept_lines], CorruptStorageError, "cut off")


def test_a_last_line_that_was_half_written_is_noticed(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    lines = lines_of(store, kept(store))

    refused(other, [*lines[:-1], lines[-1][:20]], CorruptStorageError, "cut off")


def without_a_line(lines: list[str]) -> list[str]:
    return [*lines[:5], *lines[6:]]


def with_another_word(lines: list[str]) -> list[str]:
    return [line.replace("value_1_7", "value_1_8") for line in lines]


def with_a_line_behind(lines: list[str]) -> list[str]:
    return [*lines, lines[3]]


@pytest.mark.parametrize("damaged", [without_a_line, with_another_word, with_a_line_behind])
def test_an_export_that_was_changed_is_noticed(
    store: SqliteSessionStore, other: SqliteSessionStore, damaged: Callable[[list[str]], list[str]]
) -> None:
    refused(other, damaged(lines_of(store, kept(store))), CorruptStorageError)


def rewritten(lines: list[str], change: Callable[[list[dict[str, Any]]], None]) -> list[str]:
    """Return an export that says something else and is whole by its own account."""
    from hashlib import sha256

    values = [json.loads(line) for line in lines[:-1]]
    change(values)
    body = [json.dumps(value, separators=(",", ":")) + "\n" for value in values]
    end = {"end": len(body), "sha256": sha256("".join(body).encode()).hexdigest()}
    return [*body, json.dumps(end)]


def first_message(values: list[dict[str, Any]]) -> dict[str, Any]:
    return next(value["message"] for value in values if "message" in value)


def last_layout(values: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = [value["layout"] for value in values if "layout" in value][-1]
    return found


WRONG: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "a gap": lambda values: values.remove(next(v for v in values if "message" in v)),
    "a number that is none": lambda values: first_message(values).update(tokens="many"),
    "a role that is none": lambda values: first_message(values).update(role="boss"),
    "a field too many": lambda values: first_message(values).update(mood="good"),
    "a field too few": lambda values: first_message(values).pop("tokens"),
    "a message that is none": lambda values: values.insert(2, {"message": [1, 2]}),
    "a kind that is none": lambda values: values.insert(2, {"poem": {}}),
    "an empty line of JSON": lambda values: values.insert(2, {}),
    "no heading": lambda values: values[0].pop("heading"),
    "an owner": lambda values: values[0].update(owner=None),
    "no state": lambda values: values.pop(),
    "a state that is no object": lambda values: values[-1].update(state=[1]),
    "a state that says nothing": lambda values: values[-1].update(state={}),
    "a context that says nothing": lambda values: last_layout(values).update(body={}),
    "a context of other messages": lambda values: last_layout(values)["body"].update(entries=[[1, 99]]),
    "a message that no provider knows": lambda values: first_message(values).update(body={"poem": "x"}),
    "a message that is a number": lambda values: first_message(values).update(body="7"),
    "a blob that is missing": lambda values: values.remove(next(v for v in values if "blob" in v)),
    "a blob that is another": lambda values: next(v for v in values if "blob" in v).update(base64="AAAA"),
    "a blob that is none": lambda values: next(v for v in values if "blob" in v).update(base64="?"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_an_export_that_makes_no_session_is_refused(
    store: SqliteSessionStore, other: SqliteSessionStore, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    refused(other, rewritten(lines_of(store, kept(store)), change), CorruptStorageError)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "not json", '{"messages": []}', '{"aloop_session": "x"}', "null", "7"]
)
def test_what_is_no_export_is_refused(store: SqliteSessionStore, text: str) -> None:
    refused(store, text.splitlines(), CorruptStorageError)


def test_an_export_of_a_newer_version_says_so(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    lines = rewritten(lines_of(store, kept(store)), lambda values: values[0].update(aloop_session=2))

    refused(other, lines, NewerStorageError, "newer")


def test_an_import_that_the_store_cannot_take_leaves_nothing(store: SqliteSessionStore) -> None:
    class Full(SqliteSessionStore):
        def save(self, turn: Turn) -> None:
            raise StorageFullError("the disk is full")

    refused(Full(":memory:"), lines_of(store, kept(store)), StorageFullError)


# --- A provider's own format ------------------------------------------------------------------------------------------


def anthropic() -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Read a file."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "read_file", "input": {"n": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "é" * 9_000}]},
    ]


def responses() -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Read a file."},
        {"type": "function_call", "call_id": "f1", "name": "read_file", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "f1", "output": "seen"},
    ]


def gemini() -> list[dict[str, Any]]:
    return [
        {"role": "user", "parts": [{"text": "Read a file."}]},
        {"role": "model", "parts": [{"function_call": {"name": "read_file", "args": {"n": 1}}}]},
        {"role": "user", "parts": [{"function_response": {"name": "read_file", "response": {"text": "seen"}}}]},
    ]


NATIVE: list[tuple[ExportFormat, DialectName, list[dict[str, Any]]]] = [
    ("openai", "openai_chat", list(rounds(2))),
    ("openai-responses", "openai_responses", responses()),
    ("anthropic", "anthropic", anthropic()),
    ("gemini", "gemini", gemini()),
]


@pytest.mark.parametrize(("format", "dialect", "messages"), NATIVE, ids=[one[0] for one in NATIVE])
def test_an_export_in_the_providers_format_is_read_back_as_it_came(
    store: SqliteSessionStore, format: ExportFormat, dialect: DialectName, messages: list[dict[str, Any]]
) -> None:
    session_id = saved(store, messages, dialect=dialect, model="m-1", system="Be brief.", tools=[TOOL])

    text = "".join(export_session(store, session_id, format))

    (read,) = parse_transcripts(text.encode(), "export.json")
    assert (read.dialect, list(read.messages)) == (dialect, messages)
    assert (read.id, read.model, read.system, read.tools) == (session_id, "m-1", "Be brief.", [TOOL])


def test_messages_of_the_memorys_own_class_are_exported_as_on_the_wire(store: SqliteSessionStore) -> None:
    session_id = saved(store, [LLMMessage("user", "Hi."), LLMMessage("assistant", "Hello.")])

    (read,) = parse_transcripts("".join(export_session(store, session_id, "openai")).encode(), "export.json")

    assert read.messages == ({"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."})


def test_bytes_are_exported_in_base64(store: SqliteSessionStore) -> None:
    messages = [{"role": "user", "parts": [{"inline_data": {"mime_type": "a/b", "data": b"abc"}}]}]
    session_id = saved(store, messages, dialect="gemini")

    (body,) = map(json.loads, export_session(store, session_id, "gemini"))

    assert body["contents"][0]["parts"][0]["inline_data"]["data"] == "YWJj"


def test_another_providers_format_is_refused_with_the_one_it_has(store: SqliteSessionStore) -> None:
    session_id = saved(store, anthropic()[:1], dialect="anthropic")

    with pytest.raises(ConfigError, match=r"in the format anthropic, not gemini.*never converted"):
        export_session(store, session_id, "gemini")


def test_a_format_that_nobody_knows_is_refused(store: SqliteSessionStore) -> None:
    with pytest.raises(ConfigError, match="must be one of jsonl, openai, openai-responses, anthropic, gemini"):
        export_session(store, kept(store), "xml")  # type: ignore[arg-type] # what is tested


def test_exporting_what_is_not_there_says_so(store: SqliteSessionStore) -> None:
    with pytest.raises(UnknownSessionError):
        export_session(store, "nothing")


# --- Recorded conversations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "dialect", "messages"), NATIVE, ids=[one[0] for one in NATIVE])
def test_a_recorded_conversation_becomes_a_session_of_its_messages(
    store: SqliteSessionStore, format: ExportFormat, dialect: DialectName, messages: list[dict[str, Any]]
) -> None:
    key = {"gemini": "contents", "openai-responses": "input"}.get(format, "messages")
    content = json.dumps({"model": "gpt-4o", key: messages}).encode()

    (made,) = import_file(store, content, "run.json")

    memory = MemoryManager.resume(made.id, store=store)
    assert memory.messages == messages
    assert (made.heading.dialect, made.heading.model) == (dialect, "gpt-4o")


def test_a_file_of_several_conversations_becomes_several_sessions(store: SqliteSessionStore) -> None:
    content = "\n".join(json.dumps({"messages": list(rounds(number))}) for number in (1, 2, 3)).encode()

    made = import_file(store, gzip.compress(content), "runs.jsonl.gz")

    assert [one.heading.last_seq for one in made] == [4, 6, 8]
    assert len({one.id for one in made}) == 3


def test_an_export_is_recognised_also_gzipped(store: SqliteSessionStore, other: SqliteSessionStore) -> None:
    session_id = kept(store)
    content = "".join(lines_of(store, session_id)).encode()

    assert import_file(other, gzip.compress(content), "a.jsonl.gz")[0].id == session_id
    assert import_file(other, content, "a.jsonl")[0].heading == store.load(session_id).info.heading


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bbroken", b"nothing", b'{"messages": "hi"}', b"\xff\xfe\x00"])
def test_what_is_no_conversation_is_refused(store: SqliteSessionStore, content: bytes) -> None:
    with pytest.raises(TranscriptError, match=r"file\.json"):
        import_file(store, content, "file.json")
    assert store.sessions() == []


def test_several_conversations_are_imported_all_or_none(
    store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Filling(SqliteSessionStore):
        turns = 0

        def save(self, turn: Turn) -> None:
            self.turns += 1
            if self.turns > 2:
                raise StorageFullError("the disk is full")
            super().save(turn)

    content = "\n".join(json.dumps({"messages": list(rounds(number))}) for number in (1, 2, 3)).encode()
    filling = Filling(":memory:")

    with pytest.raises(StorageFullError):
        import_file(filling, content, "runs.jsonl")

    assert filling.sessions() == []


def test_nothing_that_the_memory_refuses_is_half_imported(store: SqliteSessionStore, tmp_path: Path) -> None:
    content = json.dumps({"messages": [{"role": "user", "content": "Hi."}, {"role": "user", "content": 7}]}).encode()

    with pytest.raises((MessageError, TranscriptError)):
        import_file(store, content, "run.json")

    assert store.sessions() == []
