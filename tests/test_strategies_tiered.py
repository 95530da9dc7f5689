"""What `tiered` takes out first, what it leaves alone, and what its placeholders say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import CompressionStrategy, MemoryConfig, MemoryManager, Plan
from memory.messages import Attachment, DialectName, Reading, ToolCall, ToolResult
from memory.strategies import Tiered
from memory.testing import WordCounter, check_strategy, situation_of
from memory.units import Unit
from memory.window import FIRST_USER, Entry

from .conversations import builder_for

DIALECT_NAMES: tuple[DialectName, ...] = ("openai_chat", "openai_responses", "anthropic", "gemini")


def text_of(name: str, lines: int = 40) -> str:
    return "\n".join(f"{name} has on line {n} the value {name}_{n * 7}" for n in range(lines))


def read(seq: int, path: str, text: str, tokens: int = 500, **changes: Any) -> Unit:
    """A call of 20 tokens and its result."""
    call = ToolCall(id=f"c{seq}", name="read", arguments=json.dumps({"path": path}))
    result = ToolResult(call_id=call.id, name=None, text=text, is_error=changes.pop("is_error", False))
    entries = (
        Entry(seq=seq, message={}, reading=Reading(role="assistant", calls=(call,)), tokens=20),
        Entry(seq=seq + 1, message={}, reading=Reading(role="tool", results=(result,), **changes), tokens=tokens - 20),
    )
    return Unit(start=seq - 1, stop=seq + 1, entries=entries, tokens=tokens, is_open=False)


def said(seq: int, tokens: int = 10) -> Unit:
    entry = Entry(seq=seq, message={}, reading=Reading(role="assistant", text="x"), tokens=tokens)
    return Unit(start=seq - 1, stop=seq, entries=(entry,), tokens=tokens, is_open=False)


def plan_of(units: Sequence[Unit], *, threshold: int, strategy: Tiered | None = None, **settings: Any) -> Plan:
    settings = {"short_term_size": 1, "max_summaries": 4} | settings
    situation = replace(situation_of([], threshold_tokens=threshold, **settings), units=tuple(units))
    check_strategy(strategy or Tiered(), situation)
    return (strategy or Tiered()).plan(situation)


def reasons(plan: Plan) -> list[str]:
    return [decision.reason for decision in plan.changes]


def test_a_superseded_result_goes_first_though_it_is_not_the_oldest() -> None:
    units = [read(1, "a", text_of("a")), read(3, "b", text_of("old")), read(5, "b", text_of("new")), said(7)]
    plan = plan_of(units, threshold=2_200)

    assert reasons(plan) == ["superseded by a newer result"]
    assert plan.changes[0].notes == {(4, 0): "a newer result of the same call is r6"}


def test_the_order_and_spacing_of_arguments_do_not_matter() -> None:
    first, second = read(1, "a", text_of("old")), read(3, "a", text_of("new"))
    spaced = ToolCall(id="c1", name="read", arguments='{ "path" : "a" }')
    entry = replace(first.entries[0], reading=Reading(role="assistant", calls=(spaced,)))
    plan = plan_of([replace(first, entries=(entry, first.entries[1])), second, said(5)], threshold=1_200)

    assert reasons(plan) == ["superseded by a newer result"]


def test_a_newer_result_that_failed_supersedes_nothing() -> None:
    failed = read(3, "a", "error: " + text_of("failure"), is_error=True)
    plan = plan_of([read(1, "a", text_of("old")), failed, said(5)], threshold=1_200)

    assert reasons(plan) == ["old tool result"]


@pytest.mark.parametrize(
    ("newer", "note"),
    [(text_of("a"), "r4 says the same"), (text_of("a") + "\n12:01", "r4 says the same")],
    ids=["equal", "longer"],
)
def test_a_text_that_is_read_again_from_elsewhere_stands_once(newer: str, note: str) -> None:
    plan = plan_of([read(1, "a", text_of("a")), read(3, "copy_of_a", newer), said(5)], threshold=1_200)

    assert reasons(plan) == ["said again by a newer result"]
    assert plan.changes[0].notes == {(2, 0): note}


def test_a_clock_that_went_on_makes_no_other_text() -> None:
    waiting = [read(seq, f"try {seq}", f"{text_of('job')}\nat 12:0{seq}") for seq in (1, 3, 5)]
    plan = plan_of([*waiting, said(7)], threshold=1_200)

    assert [decision.notes for decision in plan.changes] == [
        {(2, 0): "r6 says nearly the same"},
        {(4, 0): "r6 says nearly the same"},
    ]


def test_results_that_differ_in_more_than_a_clock_both_stand() -> None:
    orders = [read(seq, f"order {seq}", "\n".join(f"field {n}: value {n * seq}" for n in range(40))) for seq in (1, 3)]
    plan = plan_of([*orders, said(5)], threshold=1_200)

    assert reasons(plan) == ["old tool result"]


def test_pictures_are_never_taken_for_the_same_because_of_the_words_beside_them() -> None:
    shown: dict[str, Any] = {"attachments": (Attachment(kind="image"),)}
    plan = plan_of(
        [read(1, "one", text_of("a"), **shown), read(3, "two", text_of("a"), **shown), said(5)], threshold=1_200
    )

    assert reasons(plan) == ["old tool result"]


def test_old_results_are_masked_oldest_first_and_only_as_many_as_it_takes() -> None:
    units = [read(seq, f"f{seq}", text_of(f"f{seq}")) for seq in range(1, 21, 2)]
    plan = plan_of([*units, said(21)], threshold=6_000)

    assert [d.reason for d in plan.decisions[:-1]] == ["old tool result"] * 5 + ["old, but there is room for it"] * 5
    assert plan.summary_target_tokens == 0


def test_what_is_still_too_much_is_summarised_oldest_first() -> None:
    units = [said(seq, 100) for seq in range(1, 21)]
    plan = plan_of([*units, read(21, "f", text_of("f")), said(23)], threshold=2_000)

    assert reasons(plan)[0] == "too much even when masked"
    assert plan.decisions[-2].action == "masked"
    assert plan.tokens_after <= 10 + (2_000 - 10) * 0.5


def test_what_is_protected_and_what_is_recent_stays_though_it_is_repeated() -> None:
    units = [read(seq, "a", text_of("a")) for seq in (1, 3, 5, 7)]
    wide = Tiered(recent_share=0.5)
    plan = plan_of(units, threshold=2_100, strategy=wide, short_term_size=4, protected={0: FIRST_USER})

    assert [str(decision.action) for decision in plan.decisions] == ["kept", "masked", "kept", "kept"]


def play(dialect: DialectName, results: Sequence[tuple[str, str]], *, threshold: int) -> MemoryManager:
    """Return a memory that has seen a loop read these paths with these answers, and more of its own after that."""
    config = MemoryConfig(
        compression_threshold=threshold, compression_strategy=CompressionStrategy.TIERED, short_term_size=2
    )
    memory = MemoryManager(config, dialect=dialect, counter=WordCounter())
    build = builder_for(dialect)
    for message in build.user("find the bug"):
        memory.add_message_sync(message)
    for number, (path, answer) in enumerate(results):
        call_id = f"c{number}"
        for message in [
            *build.assistant("", [(call_id, "read", {"path": path})]),
            *build.results([(call_id, "read", answer)]),
        ]:
            memory.add_message_sync(message)
    return memory


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_in_every_format_a_placeholder_names_the_newer_result_and_the_archive_has_the_older(
    dialect: DialectName,
) -> None:
    old, new = text_of("old"), text_of("new")
    memory = play(dialect, [("a", old), ("b", text_of("b")), ("a", new), ("c", "done")], threshold=5_000)
    before = memory.messages
    memory.compress_sync()
    assert memory.messages == before, "there is room: nothing need go"

    memory = play(dialect, [("a", old), ("b", text_of("b")), ("a", new), ("c", "done")], threshold=1_400)
    memory.compress_sync()

    context = json.dumps(memory.messages)
    assert "a newer result of the same call is r7" in context
    assert "new has on line 3" in context
    assert "old has on line 3" not in context
    assert "old has on line 3" in json.dumps(memory.original("r3"))
    assert [hit.ref for hit in memory.recall("old_21")] == ["r3"]


def test_a_result_beside_a_superseded_one_can_be_masked_later() -> None:
    build = builder_for("anthropic")
    config = MemoryConfig(
        compression_threshold=1_500, compression_strategy=CompressionStrategy.TIERED, short_term_size=2
    )
    memory = MemoryManager(config, dialect="anthropic", counter=WordCounter())
    calls = [("c0", "read", {"path": "a"}), ("c1", "read", {"path": "b"})]
    messages = [
        *build.user("go"),
        *build.assistant("", calls),
        *build.results([("c0", "read", text_of("a")), ("c1", "read", text_of("b"))]),
        *build.assistant("", [("c2", "read", {"path": "a"})]),
        *build.results([("c2", "read", text_of("new"))]),
        *build.assistant("now I know"),
    ]
    for message in messages:
        memory.add_message_sync(message)
    memory.compress_sync()
    assert "b has on line 3" in json.dumps(memory.messages)
    assert "a has on line 3" not in json.dumps(memory.messages)

    for number in range(3, 8):
        for message in [
            *build.assistant("", [(f"c{number}", "read", {"path": str(number)})]),
            *build.results([(f"c{number}", "read", text_of(f"f{number}"))]),
        ]:
            memory.add_message_sync(message)

    context = json.dumps(memory.messages)
    assert "b has on line 3" not in context
    assert context.count("ref r3") == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=2, max_size=12))
def test_what_a_note_names_stands_behind_it_and_carries_no_note_itself(reads: list[tuple[str, str]]) -> None:
    units = [read(2 * n + 1, path, text_of(text)) for n, (path, text) in enumerate(reads)]
    plan = plan_of([*units, said(2 * len(reads) + 1)], threshold=600 * len(reads))
    notes = {place: note for decision in plan.changes for place, note in decision.notes.items() if note}

    for (seq, _), note in notes.items():
        named = (
            int(note[note.index("r", note.find("is r")) + 1 :].split()[0])
            if "is r" in note
            else int(note.split()[0][1:])
        )
        assert named > seq
        assert not notes.get((named, 0))


def test_tiered_is_a_strategy_by_name() -> None:
    config = replace(MemoryConfig(), compression_strategy="tiered")  # type: ignore[arg-type]  # names are accepted
    assert config.compression_strategy is CompressionStrategy.TIERED
