"""Which messages stay or go together, which calls are open, and what the window protects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.copies import entry_of
from memory.dialects import DIALECTS
from memory.messages import DialectName
from memory.pairing import OpenCalls
from memory.testing import WordCounter
from memory.units import units
from memory.window import FIRST_USER, NEWEST_USER, PINNED, SYSTEM_PROMPT, Entry, Kind, Window, reference

from .conversations import DIALECT_NAMES, Builder, GeminiBuilder, builder_for, conversations

CHAT = builder_for("openai_chat")
CLAUDE = builder_for("anthropic")
RESPONSES = builder_for("openai_responses")
GEMINI = GeminiBuilder(with_ids=False)

ASK = CHAT.user("go")
TWO_CALLS = [("a", "read", {"n": 1}), ("b", "read", {"n": 2})]
TWO_RESULTS = [("a", "read", "one"), ("b", "read", "two")]
REASONING_ITEM = RESPONSES.assistant("", [("c1", "read", {})], reasoning="think first")


def entries_of(messages: Sequence[Any], dialect: DialectName = "openai_chat") -> list[Entry]:
    counter = WordCounter()
    return [entry_of(message, seq, DIALECTS[dialect], counter) for seq, message in enumerate(messages, start=1)]


def grouped(messages: Sequence[Any], dialect: DialectName = "openai_chat") -> list[str]:
    """The references of each unit; an open one ends with a question mark."""
    found = units(entries_of(messages, dialect), splits_responses=DIALECTS[dialect].splits_responses)
    return [f"{unit.refs}?" if unit.is_open else unit.refs for unit in found]


def open_after(messages: Sequence[Any], dialect: DialectName = "openai_chat") -> bool:
    calls = OpenCalls(splits_responses=DIALECTS[dialect].splits_responses)
    for entry in entries_of(messages, dialect):
        calls.add(entry.reading)
    return bool(calls)


def filled(messages: Sequence[Any], dialect: DialectName = "openai_chat") -> Window:
    window = Window(splits_responses=DIALECTS[dialect].splits_responses)
    for entry in entries_of(messages, dialect):
        window.append(entry)
    return window


def round_of(build: Builder, id_: str = "c1", *, name: str = "read") -> list[Any]:
    return [*build.assistant("", [(id_, name, {})]), *build.results([(id_, name, "done")])]


# --- Units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([*ASK, *CHAT.assistant("hi"), *ASK], ["r1", "r2", "r3"], id="words alone"),
        pytest.param([*ASK, *round_of(CHAT), *ASK], ["r1", "r2-r3", "r4"], id="a call and its result"),
        pytest.param(
            [*ASK, *CHAT.assistant("", TWO_CALLS), *CHAT.results(TWO_RESULTS), *ASK],
            ["r1", "r2-r4", "r5"],
            id="parallel calls and all their results",
        ),
        pytest.param(
            [*ASK, *CHAT.assistant("", TWO_CALLS), *CHAT.results(TWO_RESULTS[::-1]), *ASK],
            ["r1", "r2-r4", "r5"],
            id="results in another order",
        ),
        pytest.param([*ASK, *round_of(CHAT), *round_of(CHAT)], ["r1", "r2-r3", "r4-r5"], id="an id used again"),
        pytest.param(
            [*CHAT.assistant("", TWO_CALLS), *ASK, *CHAT.results(TWO_RESULTS), *ASK],
            ["r1-r4", "r5"],
            id="a message between a call and its results",
        ),
        pytest.param([*CHAT.results([("x", "read", "?")]), *ASK], ["r1", "r2"], id="a result without a call"),
    ],
)
def test_a_unit_is_what_belongs_together_in_chat(messages: list[Any], expected: list[str]) -> None:
    assert grouped(messages) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([*ASK, *CHAT.assistant("", TWO_CALLS)], ["r1", "r2?"], id="no result yet"),
        pytest.param(
            [*ASK, *CHAT.assistant("", TWO_CALLS), *CHAT.results(TWO_RESULTS[:1])], ["r1", "r2-r3?"], id="one of two"
        ),
        pytest.param(
            [*ASK, *CHAT.assistant("", TWO_CALLS), *ASK], ["r1", "r2-r3?"], id="the user speaks while a call is open"
        ),
        pytest.param(
            [*CHAT.assistant("", TWO_CALLS), *CHAT.assistant("never mind"), *ASK],
            ["r1", "r2", "r3"],
            id="a call that the next response left behind is dead",
        ),
        pytest.param(
            [*CHAT.assistant("", TWO_CALLS), *CHAT.results(TWO_RESULTS[:1]), *round_of(CHAT)],
            ["r1-r2", "r3-r4"],
            id="half answered, then left behind",
        ),
        pytest.param(
            [*CHAT.assistant("", [("c1", "read", {})]), *round_of(CHAT)],
            ["r1", "r2-r3"],
            id="the result belongs to the nearest call of that id, not to the dead one",
        ),
    ],
)
def test_only_calls_of_the_newest_response_are_open(messages: list[Any], expected: list[str]) -> None:
    assert grouped(messages) == expected


def test_anthropic_results_of_one_turn_are_one_message_of_the_unit() -> None:
    messages = [*CLAUDE.user("go"), *CLAUDE.assistant("", TWO_CALLS), *CLAUDE.results(TWO_RESULTS), *CLAUDE.user("so?")]

    assert grouped(messages, "anthropic") == ["r1", "r2-r3", "r4"]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([*GEMINI.user("go"), *round_of(GEMINI), *round_of(GEMINI)], ["r1", "r2-r3", "r4-r5"], id="pairs"),
        pytest.param(
            [*GEMINI.assistant("", TWO_CALLS), *GEMINI.results(TWO_RESULTS[:1]), *GEMINI.results(TWO_RESULTS[1:])],
            ["r1-r3"],
            id="two calls of one tool, answered one by one",
        ),
        pytest.param(
            [*GEMINI.assistant("", TWO_CALLS), *GEMINI.results(TWO_RESULTS[:1])], ["r1-r2?"], id="one still open"
        ),
        pytest.param(
            [*GEMINI.assistant("", [("", "read", {})]), *GEMINI.results([("", "write", "ok")])],
            ["r1-r2?"],
            id="a response of another tool answers nothing",
        ),
        pytest.param(
            [*GEMINI.assistant("", [("", "read", {})]), *round_of(GEMINI), *GEMINI.user("so?")],
            ["r1", "r2-r3", "r4"],
            id="the newest response's call before a dead one",
        ),
    ],
)
def test_gemini_pairs_by_name_and_order_where_there_are_no_ids(messages: list[Any], expected: list[str]) -> None:
    assert grouped(messages, "gemini") == expected


def test_a_gemini_response_without_id_answers_a_call_that_has_one() -> None:
    with_ids = GeminiBuilder(with_ids=True)
    messages = [*with_ids.assistant("", TWO_CALLS), *GEMINI.results(TWO_RESULTS), *GEMINI.user("so?")]

    assert grouped(messages, "gemini") == ["r1-r2", "r3"]
    assert not open_after(messages, "gemini")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(
            [*RESPONSES.user("go"), *REASONING_ITEM, *RESPONSES.results([("c1", "read", "x")])],
            ["r1", "r2-r4"],
            id="reasoning, its call, and the output",
        ),
        pytest.param(
            [*RESPONSES.user("go"), *RESPONSES.assistant("hi", reasoning="hm"), *RESPONSES.user("so?")],
            ["r1", "r2-r3", "r4"],
            id="reasoning and what it said",
        ),
        pytest.param(
            [*REASONING_ITEM[:1], *RESPONSES.user("stop"), *RESPONSES.assistant("fine")],
            ["r1", "r2", "r3"],
            id="reasoning that an interrupt cut off binds nothing",
        ),
        pytest.param(
            [*RESPONSES.assistant("", TWO_CALLS), *RESPONSES.results(TWO_RESULTS)],
            ["r1-r4"],
            id="parallel calls are separate items",
        ),
        pytest.param(
            [*RESPONSES.assistant("", TWO_CALLS[:1]), *RESPONSES.assistant("wait"), *RESPONSES.user("so?")],
            ["r1-r3?"],
            id="items in a row are one response, so its call stays open",
        ),
    ],
)
def test_responses_items_are_bound_by_reasoning_and_calls(messages: list[Any], expected: list[str]) -> None:
    assert grouped(messages, "openai_responses") == expected


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_units_cover_the_window_in_order_and_no_pair_is_cut(dialect: DialectName, data: st.DataObject) -> None:
    entries = entries_of(data.draw(conversations(dialect)), dialect)
    found = units(entries, splits_responses=DIALECTS[dialect].splits_responses)

    assert [entry for unit in found for entry in unit.entries] == entries
    assert not any(unit.is_open for unit in found)
    for unit in found:
        calls = sorted(call.name for call in unit.calls())
        assert len(calls) == sum(len(entry.reading.results) for entry in unit.entries)
        assert unit.tokens == sum(entry.tokens for entry in unit.entries)


# --- Open calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([*ASK], False),
        ([*CHAT.assistant("", TWO_CALLS)], True),
        ([*CHAT.assistant("", TWO_CALLS), *CHAT.results(TWO_RESULTS[:1])], True),
        ([*CHAT.assistant("", TWO_CALLS), *ASK], True),
        ([*CHAT.assistant("", TWO_CALLS), *CHAT.results(TWO_RESULTS)], False),
        ([*CHAT.assistant("", TWO_CALLS), *CHAT.assistant("never mind")], False),
        ([*CHAT.results(TWO_RESULTS)], False),
    ],
    ids=["no call", "no result", "one of two", "the user speaks", "all results", "left behind", "orphan results"],
)
def test_calls_are_open_until_answered_or_left_behind(messages: list[Any], expected: bool) -> None:
    assert open_after(messages) is expected


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_open_calls_and_open_units_agree_after_every_message(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect, max_turns=4, ends_open=True))

    for end in range(len(messages) + 1):
        is_open = any(refs.endswith("?") for refs in grouped(messages[:end], dialect))
        assert open_after(messages[:end], dialect) is is_open
    assert open_after(messages, dialect)


def test_only_the_first_item_of_a_split_response_begins_it() -> None:
    calls = OpenCalls(splits_responses=True)
    begins = []
    for entry in entries_of([*RESPONSES.user("go"), *REASONING_ITEM], "openai_responses"):
        begins.append(calls.begins_response(entry.reading))
        calls.add(entry.reading)

    assert begins == [False, True, False]


# --- The window -------------------------------------------------------------------------------------------------------


def test_the_window_protects_system_first_user_newest_user_and_pins() -> None:
    window = filled([*CHAT.system("be kind"), *ASK, *CHAT.assistant("hi"), *CHAT.user("so?"), *CHAT.assistant("so.")])
    window.pin(window.entries[2])

    assert window.protected(system_prompts=True) == {1: SYSTEM_PROMPT, 2: FIRST_USER, 3: PINNED, 4: NEWEST_USER}


@pytest.mark.parametrize(("system_prompts", "expected"), [(True, {1, 2, 4}), (False, {1, 2})])
def test_later_system_messages_are_protected_only_when_asked_for(system_prompts: bool, expected: set[int]) -> None:
    system = CHAT.system("be kind")
    window = filled([*system, *system, *CHAT.assistant("hi"), *system])

    assert window.protected(system_prompts=system_prompts).keys() == expected


def test_words_beside_results_do_not_displace_the_users_own_message() -> None:
    results = CLAUDE.results([("c1", "read", "x")])
    results[0]["content"].append({"type": "text", "text": "and hurry"})
    window = filled(
        [*CLAUDE.user("go"), *CLAUDE.user("really"), *CLAUDE.assistant("", [("c1", "read", {})]), *results], "anthropic"
    )

    assert window.protected(system_prompts=True) == {1: FIRST_USER, 2: NEWEST_USER, 4: NEWEST_USER}


def test_an_unpinned_message_is_no_longer_protected() -> None:
    window = filled([*ASK, *CHAT.assistant("hi"), *ASK])
    window.pin(window.entries[1])
    window.unpin(window.entries[1])

    assert 2 not in window.protected(system_prompts=True)


def test_a_message_is_found_by_identity_or_reference_and_never_by_equality() -> None:
    message = CHAT.user("go")[0]
    window = filled([message, dict(message)])

    assert window.find(message) is window.entries[0]
    assert window.find("r2") is window.entries[1]
    assert window.find(dict(message)) is None


def test_a_masked_entry_is_not_found_as_what_was_added() -> None:
    window = filled(ASK)
    window.splice([replace(window.entries[0], kind=Kind.MASKED)], replaced_count=1)

    assert window.find("r1") is None


def test_a_splice_leaves_what_came_since_behind_it_and_keeps_the_log() -> None:
    window = filled([*ASK, *CHAT.assistant("hi"), *ASK, *CHAT.assistant("late")])
    log_tokens, late = window.log_tokens, window.entries[3].message
    window.splice(window.entries[:1], replaced_count=3)

    assert window.context == [ASK[0], late]
    assert window.tokens == sum(entry.tokens for entry in window.entries)
    assert (window.log_tokens, window.last_seq) == (log_tokens, 4)


def test_every_change_of_the_window_changes_its_version() -> None:
    window = filled(ASK)
    versions = [window.version]
    window.append(entries_of(CHAT.assistant("hi"))[0])
    versions.append(window.version)
    window.pin(window.entries[0])
    versions.append(window.version)
    window.unpin(window.entries[0])
    versions.append(window.version)
    window.splice(window.entries[:1], replaced_count=2)
    versions.append(window.version)

    assert len(set(versions)) == len(versions)


def test_the_task_is_the_text_of_the_first_user_message() -> None:
    assert filled([*CHAT.system("be kind"), *CHAT.user("find it"), *CHAT.user("now")]).task == "find it"
    assert filled(CHAT.system("be kind")).task == ""


def test_the_context_is_a_new_list_each_time() -> None:
    window = filled(ASK)
    window.context.clear()

    assert window.context == ASK


def test_a_reference_is_r_and_the_number() -> None:
    assert (reference(17), entries_of(ASK)[0].ref) == ("r17", "r1")
