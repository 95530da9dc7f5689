"""Broken histories are put right with few changes, each reported, and never made worse."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.dialects import DIALECTS, validate
from memory.errors import MessageError
from memory.messages import DialectName, Issue, LLMMessage
from memory.repair import Repair, repair

from .conversations import DIALECT_NAMES, Message, builder_for, conversations
from .corpus import malformed

CALLS = [("c1", "f", {"a": 1}), ("c2", "g", {})]
WAITING = {"OC-1", "OR-2", "AN-1", "GE-3"}


def errors(messages: Sequence[object], dialect: DialectName) -> list[Issue]:
    return [issue for issue in validate(messages, dialect) if issue.severity == "error"]


def results(messages: Sequence[Any], dialect: DialectName) -> list[tuple[str | None, str]]:
    readings = [DIALECTS[dialect].read(message) for message in messages]
    return [(result.call_id, result.text) for reading in readings for result in reading.results]


def is_same(left: Sequence[object], right: Sequence[object]) -> bool:
    return len(left) == len(right) and all(one is other for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_a_valid_list_is_left_as_it_is(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect, long_texts=False))

    repaired = repair(messages, dialect)

    assert is_same(repaired.messages, messages)
    assert repaired.changes == ()


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_result_without_its_call_is_taken_out_and_kept_in_the_report(dialect: DialectName) -> None:
    build = builder_for(dialect)
    (orphan,) = build.results([("c9", "f", "lost")])
    messages = [*build.user("go"), *build.assistant("yes"), orphan, *build.user("on")]

    repaired = repair(messages, dialect)

    assert is_same(repaired.messages, [message for message in messages if message is not orphan])
    (change,) = repaired.changes
    assert change.removed is orphan
    assert change.path.endswith("[2]")


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_second_result_for_a_call_is_taken_out(dialect: DialectName) -> None:
    build = builder_for(dialect)
    round_ = [*build.user("go"), *build.assistant(calls=CALLS[:1]), *build.results([("c1", "f", "first")])]
    messages = [*round_, *build.results([("c1", "f", "second")]), *build.user("on")]

    repaired = repair(messages, dialect)

    assert results(repaired.messages, dialect) == [("c1", "first")]
    assert errors(repaired.messages, dialect) == []


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_an_unanswered_call_gets_a_result_that_says_so(dialect: DialectName) -> None:
    build = builder_for(dialect)
    answered = build.results([("c2", "g", "done")])
    messages = [*build.user("go"), *build.assistant(calls=CALLS), *answered, *build.user("on"), *build.assistant("yes")]

    repaired = repair(messages, dialect)

    assert dict(results(repaired.messages, dialect)) == {"c1": "No result was recorded for this call.", "c2": "done"}
    assert errors(repaired.messages, dialect) == []
    assert all(change.removed is None for change in repaired.changes)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("answered", [0, 1])
def test_calls_that_wait_at_the_end_stay_open(dialect: DialectName, answered: int) -> None:
    build = builder_for(dialect)
    some = build.results([("c1", "f", "done")][:answered]) if answered else []
    messages = [*build.user("go"), *build.assistant(calls=CALLS), *some]

    assert repair(messages, dialect) == Repair(messages=tuple(messages))


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_result_that_came_late_moves_behind_its_call_where_it_must(dialect: DialectName) -> None:
    build = builder_for(dialect)
    caller = build.assistant(calls=CALLS[:1])
    late = build.results([("c1", "f", "done")])
    messages = [*build.user("go"), *caller, *build.user("hello?"), *late, *build.assistant("yes"), *build.user("on")]

    repaired = repair(messages, dialect)

    assert errors(repaired.messages, dialect) == []
    assert any(message is late[0] for message in repaired.messages)
    # Responses pair wherever the output stands.
    assert len(repaired.changes) == (0 if dialect == "openai_responses" else 1)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_result_that_came_before_its_call_moves_behind_it(dialect: DialectName) -> None:
    build = builder_for(dialect)
    early = build.results([("c1", "f", "done")])
    messages = [*build.user("go"), *early, *build.assistant(calls=CALLS[:1]), *build.user("on")]

    repaired = repair(messages, dialect)

    assert results(repaired.messages, dialect) == [("c1", "done")]
    assert errors(repaired.messages, dialect) == []


def test_results_apart_from_their_calls_are_put_into_one_message_before_the_text() -> None:
    def result(id_: str) -> Message:
        return {"type": "tool_result", "tool_use_id": id_, "content": id_}

    text = {"type": "text", "text": "and now"}
    build = builder_for("anthropic")
    messages = [
        *build.user("go"),
        *build.assistant(calls=CALLS),
        {"role": "user", "content": [text, result("c2")]},
        *build.assistant("hm"),
        {"role": "user", "content": [result("c1")]},
    ]

    repaired = repair(messages)

    assert [message["content"] for message in repaired.messages[2:4]] == [[result("c1"), result("c2")], [text]]  # type: ignore[index]
    assert errors(repaired.messages, "anthropic") == []


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_a_list_that_the_assistant_opens_gets_a_user_line_before_it(dialect: DialectName) -> None:
    build = builder_for(dialect)
    messages = [*build.assistant("as I said"), *build.user("go on")]

    repaired = repair(messages, dialect)

    assert is_same(repaired.messages[1:], messages)
    assert DIALECTS[dialect].read(repaired.messages[0]).role == "user"  # type: ignore[arg-type]
    assert errors(repaired.messages, dialect) == []


@pytest.mark.parametrize(
    ("dialect", "messages", "left"),
    [
        ("openai_chat", [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}], [0]),
        ("anthropic", [{"role": "user", "content": "a"}, {"role": "user", "content": " "}], [0]),
        (
            "anthropic",
            [{"role": "user", "content": [{"type": "text", "text": ""}]}, {"role": "user", "content": "a"}],
            [1],
        ),
        ("gemini", [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": []}], [0]),
        (
            "openai_responses",
            [{"role": "user", "content": "a"}, {"type": "reasoning", "id": "r", "summary": []}],
            [0],
        ),
    ],
)
def test_an_empty_message_is_taken_out(dialect: DialectName, messages: list[Message], left: list[int]) -> None:
    repaired = repair(messages, dialect)

    assert is_same(repaired.messages, [messages[index] for index in left])
    assert len(repaired.changes) == 1


@pytest.mark.parametrize(
    ("dialect", "before", "after"),
    [
        (
            "openai_chat",
            {"role": "assistant", "content": "a", "tool_calls": []},
            {"role": "assistant", "content": "a"},
        ),
        (
            "anthropic",
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "a"}]},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
        ),
        ("gemini", {"role": "user", "parts": [{}, {"text": "a"}]}, {"role": "user", "parts": [{"text": "a"}]}),
    ],
)
def test_an_empty_part_is_taken_out_of_its_message(dialect: DialectName, before: Message, after: Message) -> None:
    original = copy.deepcopy(before)

    repaired = repair([before], dialect)

    assert repaired.messages == (after,)
    assert before == original


def test_our_own_messages_stay_our_own() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [LLMMessage("user", "go"), LLMMessage("assistant", tool_calls=[call]), LLMMessage("user", "on")]

    repaired = repair(messages)

    assert repaired.messages[2] == LLMMessage("tool", "No result was recorded for this call.", tool_call_id="c1")


def test_a_call_whose_id_is_lost_is_not_given_a_result_that_cannot_name_it() -> None:
    call = {"id": None, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "on"}]

    assert repair(messages) == Repair(messages=tuple(messages))


def test_what_is_no_message_is_an_error() -> None:
    with pytest.raises(MessageError, match="str"):
        repair(["hi"])


@pytest.mark.usefixtures("corpus_dir")
def test_every_broken_recording_is_mended_but_for_calls_that_wait() -> None:
    for one in malformed():
        repaired = repair(one.messages)

        assert {issue.code for issue in errors(repaired.messages, one.dialect)} <= WAITING
        assert all(issue.path.startswith("input[9") for issue in errors(repaired.messages, one.dialect))
        kept = {id(message) for message in repaired.messages}
        taken = [change.removed for change in repaired.changes if change.removed is not None]
        assert all(id(message) in kept or any(message is gone for gone in taken) for message in one.messages)
        assert len(repaired.changes) <= 2


def disordered(messages: list[Message], seeds: list[int]) -> list[Message]:
    """Delete, repeat, swap and shuffle messages and parts."""
    for random in map(Random, seeds):
        if not messages:
            break
        here, there = (random.randrange(len(messages)) for _ in range(2))
        match random.randrange(5):
            case 0:
                del messages[here]
            case 1:
                messages.insert(there, copy.deepcopy(messages[here]))
            case 2:
                messages[here], messages[there] = messages[there], messages[here]
            case 3:
                messages = messages[here:]
            case _:
                messages[here] = copy.deepcopy(messages[here])
                shuffle_parts(messages[here], random)
    return messages


def shuffle_parts(message: Message, random: Random) -> None:
    parts = message.get("content", message.get("parts"))
    if isinstance(parts, list) and parts:
        random.shuffle(parts)
        del parts[random.randrange(len(parts)) :]
    elif isinstance(parts, str) and message.get("role") in ("user", "assistant"):
        message["content"] = random.choice(["", " "])


def spoilt(messages: list[Message], seeds: list[int]) -> list[Message]:
    """Put something that does not belong there into a field, anywhere."""
    messages = copy.deepcopy(messages)
    junk: list[Any] = [None, 3, "", [], {}, ["x"], [[1]], {"type": ["x"]}, True, "x", {"a": {"b": 1}}, [{}], [None]]
    for random in map(Random, seeds):
        *way, last = random.choice([path for path in paths(messages) if len(path) > 1])
        place: Any = messages
        for step in way:
            place = place[step]
        place[last] = copy.deepcopy(random.choice(junk))
    return messages


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from paths(inner, (*path, step))


SEEDS = st.lists(st.integers(min_value=0, max_value=2**16), min_size=1, max_size=4)


def check_laws(messages: list[Message], dialect: DialectName) -> Repair:
    repaired = repair(messages, dialect)
    again = repair(repaired.messages, dialect)

    assert len(errors(repaired.messages, dialect)) <= len(errors(messages, dialect))
    assert is_same(again.messages, repaired.messages)
    assert again.changes == ()
    return repaired


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_a_disordered_list_is_mended_but_for_what_only_the_caller_can_know(
    dialect: DialectName, data: st.DataObject
) -> None:
    messages = disordered(data.draw(conversations(dialect, long_texts=False)), data.draw(SEEDS))

    repaired = check_laws(messages, dialect)

    # Twice the same id in one turn, half of a server tool's pair, nothing left at all.
    unknowable = {"C-1", "OR-9", "C-2", "AN-14", "GE-4"}
    assert {issue.code for issue in errors(repaired.messages, dialect)} <= WAITING | unknowable


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_junk_in_a_field_is_survived_or_a_clear_error(dialect: DialectName, data: st.DataObject) -> None:
    messages = spoilt(data.draw(conversations(dialect, max_turns=3, long_texts=False)), data.draw(SEEDS))

    DIALECTS[dialect].validate(messages)
    with suppress(MessageError):
        check_laws(messages, dialect)
