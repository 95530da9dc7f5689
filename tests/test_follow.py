"""A caller who keeps its own full list: `follow` makes the memory's log equal to it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import (
    Compressed,
    CompressionStrategy,
    ConfigError,
    ContextOverflowError,
    MemoryConfig,
    MemoryManager,
    MessageError,
    StalePlanError,
)
from memory import validate as validate_messages
from memory.events import Event
from memory.messages import DialectName
from memory.testing import ScriptedLLM, WordCounter

from .conversations import DIALECT_NAMES, conversations

STRATEGIES = tuple(CompressionStrategy)


def manager(dialect: DialectName | None = None, *, threshold: int = 150, **options: Any) -> MemoryManager:
    strategy = options.pop("strategy", CompressionStrategy.SLIDING_WINDOW)
    config = MemoryConfig(
        max_context_tokens=options.pop("max_context_tokens", 1_000_000),
        compression_threshold=threshold,
        compression_strategy=strategy,
        short_term_size=6,
    )
    return MemoryManager(config, options.pop("llm", None), dialect=dialect, counter=WordCounter(), **options)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def talk(turns: int, *, words: int = 30) -> list[dict[str, Any]]:
    said = [(user(f"question {n} " + "why " * words), assistant(f"answer {n} " + "so " * words)) for n in range(turns)]
    return [message for pair in said for message in pair]


def everything(memory: MemoryManager) -> list[Any]:
    return [record.message for record in memory.archive] + memory.messages


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
def test_following_a_growing_list_is_adding_its_messages(
    dialect: DialectName, strategy: CompressionStrategy, data: st.DataObject
) -> None:
    messages = data.draw(conversations(dialect))
    followed, added = manager(dialect, strategy=strategy), manager(dialect, strategy=strategy)

    for stop in range(1, len(messages) + 1):
        followed.follow_sync(messages[:stop])
        added.add_message_sync(messages[stop - 1])

        assert [id(m) for m, o in zip(followed.messages, followed.origins(), strict=True) if m is o] == [
            id(m) for m, o in zip(added.messages, added.origins(), strict=True) if m is o
        ]
        assert followed.messages == added.messages


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_whatever_the_caller_does_to_its_list_nothing_is_lost_and_the_context_stays_valid(
    dialect: DialectName, data: st.DataObject
) -> None:
    memory, shown = manager(dialect), []
    base = data.draw(conversations(dialect))
    for _ in range(data.draw(st.integers(1, 4))):
        cut = data.draw(st.integers(0, len(base)))
        # Forked: the list departs at any place and goes on with another conversation's messages.
        messages = base[:cut] or data.draw(conversations(dialect))
        with contextlib.suppress(ContextOverflowError):
            memory.follow_sync(messages)
        shown += messages
        base = messages + data.draw(conversations(dialect))

        kept = everything(memory)
        assert all(any(message is one or message == one for one in kept) for message in shown)
        if not [issue for issue in validate_messages(messages, dialect) if issue.severity == "error"]:
            errors = [issue for issue in validate_messages(memory.messages, dialect) if issue.severity == "error"]
            assert errors == []


def test_a_changed_list_leaves_only_what_still_stands_in_it() -> None:
    memory = manager(threshold=10_000)
    first, answer, again = user("what is it?"), assistant("a valve"), assistant("a pump")

    memory.follow_sync([first, answer])
    memory.follow_sync([first, again])

    assert memory.messages == [first, again]
    assert memory.messages[0] is first
    assert memory.original("r2") is answer


def test_a_list_that_departs_before_a_summary_begins_anew() -> None:
    memory = manager(threshold=100)
    messages = talk(8)
    memory.follow_sync(messages)
    assert memory.get_stats()["summary_count"] == 1

    other = [user("something else altogether"), *talk(1)]
    memory.follow_sync(other)

    assert memory.messages == other
    assert all(any(message is one for one in everything(memory)) for message in messages)


def test_a_departure_behind_the_summary_leaves_the_summary_as_it_is() -> None:
    memory = manager(threshold=400)
    messages = talk(10)
    memory.follow_sync(messages)
    (summary,) = [m for m, origin in zip(memory.messages, memory.origins(), strict=True) if origin is None]

    memory.follow_sync([*messages[:-1], assistant("another answer")])

    assert summary in memory.messages
    assert memory.messages[-1] == assistant("another answer")
    assert messages[-1] not in memory.messages


def test_cache_marks_that_wander_are_no_departure_and_the_newest_object_is_sent() -> None:
    memory = manager("anthropic", threshold=10_000)

    def said(text: str, *, marked: bool) -> dict[str, Any]:
        mark = {"cache_control": {"type": "ephemeral"}} if marked else {}
        return {"role": "user", "content": [{"type": "text", "text": text, **mark}]}

    memory.follow_sync([said("one", marked=True)])
    newest = [said("one", marked=False), assistant("fine"), said("two", marked=True)]
    memory.follow_sync(newest)

    assert [id(message) for message in memory.messages] == [id(message) for message in newest]
    assert len(memory.archive) == 0


def test_equal_copies_of_the_list_are_the_same_conversation() -> None:
    memory = manager(threshold=10_000)
    messages = talk(3)

    memory.follow_sync(messages)
    copies = copy.deepcopy(messages)
    memory.follow_sync([*copies, user("and now?")])

    assert memory.get_stats()["message_count"] == 7
    assert memory.messages[0] is copies[0]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data(), strategy=st.sampled_from(STRATEGIES))
def test_a_caller_that_writes_its_list_anew_each_time_has_the_same_conversation(
    dialect: DialectName, data: st.DataObject, strategy: CompressionStrategy
) -> None:
    messages = data.draw(conversations(dialect))
    memory = manager(dialect, strategy=strategy, threshold=60, max_context_tokens=200)

    for stop in range(1, len(messages) + 1):
        with contextlib.suppress(ContextOverflowError):
            memory.follow_sync(copy.deepcopy(messages[:stop]))

    assert memory.get_stats()["message_count"] == len(messages)
    assert all(message in everything(memory) for message in messages)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_masked_unit_keeps_may_come_anew_before_it_is_taken_out(strategy: CompressionStrategy) -> None:
    memory = manager("openai_chat", strategy=strategy, threshold=200, max_context_tokens=400)
    messages = [user("the task"), *rounds(60)]

    for stop in range(1, len(messages) + 1, 2):
        memory.follow_sync(copy.deepcopy(messages[:stop]))

    assert memory.get_stats()["message_count"] == len(messages)


def rounds(count: int) -> list[dict[str, Any]]:
    """Return calls of a tool, each with its result."""
    function = {"name": "read", "arguments": "{}"}
    calls = [[{"id": f"c{n}", "type": "function", "function": function}] for n in range(count)]
    return [
        message
        for n, call in enumerate(calls)
        for message in (
            {"role": "assistant", "content": None, "tool_calls": call},
            {"role": "tool", "tool_call_id": f"c{n}", "content": f"result {n} " + "word " * 60},
        )
    ]


def test_a_whole_response_that_comes_anew_is_sent_as_its_message() -> None:
    def response() -> dict[str, Any]:
        return {"choices": [{"index": 0, "message": assistant("done")}], "usage": {"prompt_tokens": 1}}

    memory = manager("openai_chat", threshold=10_000)
    memory.follow_sync([user("go on"), response()])
    memory.follow_sync([user("go on"), response(), user("thanks")])

    assert memory.messages == [user("go on"), assistant("done"), user("thanks")]


@pytest.mark.parametrize("in_place", [True, False])
def test_cache_marks_wander_away_from_shortened_copies_too(in_place: bool) -> None:
    config = MemoryConfig(max_context_tokens=100_000, max_result_tokens=200)
    memory = MemoryManager(config, dialect="anthropic", counter=WordCounter())
    messages: list[dict[str, Any]] = [user("the task")]

    for n in range(6):
        messages = messages if in_place else copy.deepcopy(messages)
        for message in messages[2::2]:
            message["content"][0].pop("cache_control", None)
        call = {"type": "tool_use", "id": f"t{n}", "name": "read", "input": {"cache_control": "no mark"}}
        result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": "word " * 400}
        messages.append({"role": "assistant", "content": [call]})
        messages.append({"role": "user", "content": [{**result, "cache_control": {"type": "ephemeral"}}]})
        memory.follow_sync(messages)

    results = memory.messages[2::2]
    assert ["cache_control" in message["content"][0] for message in results] == [False] * 5 + [True]
    assert all(len(message["content"][0]["content"].split()) <= 220 for message in results)


def test_a_plan_is_stale_once_the_callers_objects_are_others() -> None:
    memory = manager("openai_chat", threshold=10_000)
    messages = talk(10)
    memory.follow_sync(messages)
    plan = memory.preview()
    memory.follow_sync([messages[0], *copy.deepcopy(messages[1:])])

    with pytest.raises(StalePlanError):
        memory.apply_sync(plan)


def test_a_pin_goes_with_its_message_when_the_list_departs_before_it() -> None:
    memory = manager("openai_chat", threshold=100)
    secret = user("the code is 4711")
    messages = [user("the task"), assistant("yes"), secret, *talk(8)]
    memory.follow_sync(messages[:3])
    memory.pin(secret)
    memory.follow_sync(messages)
    memory.follow_sync([messages[0], assistant("no"), *messages[2:], *talk(8)])

    assert memory.get_stats()["summary_count"] == 2
    assert any(message is secret for message in memory.messages)


def test_what_a_departure_adds_once_more_is_not_taken_for_the_answer() -> None:
    memory = manager(threshold=10_000, model="gpt-4o")
    messages = [user("the task"), *talk(20)]
    memory.follow_sync(messages)
    size = memory.current_tokens
    memory.get_context_for_llm()
    memory.record_usage({"input": size, "output": 10})

    memory.follow_sync([user("the task again"), *messages[1:], assistant("done"), user("thanks")])

    assert memory.current_tokens == pytest.approx(size, rel=0.05)
    assert memory.get_stats()["total_input_tokens"] == size


def test_what_was_dropped_stays_saved_when_the_list_departs_behind_it() -> None:
    def saved(*departures: dict[str, Any]) -> int:
        memory = manager(threshold=400, strategy=CompressionStrategy.DELETION, model="gpt-4o")
        memory.follow_sync(messages)
        for departure in departures:
            memory.follow_sync([*messages[:-1], departure])
        memory.get_context_for_llm()
        memory.follow_sync([*messages[:-1], *(departures[-1:] or messages[-1:]), assistant("done")])
        return int(memory.get_stats()["total_savings"])

    messages = [*talk(20), user("and now")]
    assert saved() == saved(user("and then")) > 500


def test_only_the_answer_to_a_request_is_booked_and_history_is_not() -> None:
    memory = manager(threshold=10_000, model="gpt-4o")
    messages = [*talk(3), user("go on")]

    memory.follow_sync(messages)
    assert memory.get_stats()["total_input_tokens"] == 0

    memory.get_context_for_llm()
    memory.record_usage({"input": 500, "output": 20})
    memory.follow_sync([*messages, assistant("done"), user("thanks")])

    stats = memory.get_stats()
    assert (stats["total_input_tokens"], stats["total_output_tokens"]) == (500, 20)
    assert not stats["cost_is_estimate"]


def test_an_answer_without_reported_usage_is_booked_by_estimate() -> None:
    memory = manager(threshold=10_000, model="gpt-4o")
    memory.follow_sync([user("go on")])
    memory.get_context_for_llm()
    memory.follow_sync([user("go on"), assistant("done")])

    assert memory.get_stats()["total_input_tokens"] > 0
    assert memory.get_stats()["cost_is_estimate"]


def test_what_cannot_be_read_is_refused_and_what_came_before_it_stays() -> None:
    memory = manager("openai_chat", threshold=10_000)
    with pytest.raises(MessageError):
        memory.follow_sync([user("one"), 7])
    memory.follow_sync([user("one"), user("two")])

    assert memory.messages == [user("one"), user("two")]


class _SlowModel:
    """Writes summaries when it is told to."""

    model = "slow"

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def call_async(self, messages: Sequence[object], tools: object = None, max_tokens: int = 0) -> Any:
        self.asked.set()
        await self.may_answer.wait()
        return await asyncio.to_thread(ScriptedLLM("a summary of what was said, in a few words"), "")


async def test_a_list_that_departs_while_a_summary_is_written_discards_the_summary() -> None:
    events: list[Event] = []
    model = _SlowModel()
    memory = manager("openai_chat", threshold=100, llm=model, on_event=events.append)
    messages = talk(8)
    compressing = asyncio.create_task(memory.follow(messages))
    await asyncio.wait_for(model.asked.wait(), 5)

    await memory.follow([user("something else"), assistant("yes")])
    model.may_answer.set()
    await asyncio.wait_for(compressing, 5)

    assert memory.messages == [user("something else"), assistant("yes")]
    assert not [event for event in events if isinstance(event, Compressed)]


def test_what_travels_beside_the_messages_may_change_and_is_counted() -> None:
    memory = manager(threshold=10_000)
    memory.follow_sync([user("hello there")])
    before = memory.current_tokens

    memory.set_fixed(system="one two three four", tools=None)
    assert memory.current_tokens == before + 4
    memory.set_fixed()
    assert memory.current_tokens == before


def test_what_travels_beside_the_messages_may_be_changed_in_place() -> None:
    memory = manager(threshold=10_000)
    memory.follow_sync([user("hello there")])
    before = memory.current_tokens
    system = [{"type": "text", "text": "one two"}]

    memory.set_fixed(system=system)
    system[0]["text"] = "one two three"
    system.append({"type": "text", "text": "four"})
    memory.set_fixed(system=system)

    assert memory.current_tokens == before + 4


def test_the_caller_may_name_the_format_before_the_messages_show_it() -> None:
    memory = manager(threshold=10_000)
    memory.follow_sync([user("hello")], dialect="anthropic")

    assert memory.dialect == "anthropic"
    with pytest.raises(ConfigError, match="anthropic"):
        memory.follow_sync([user("hello")], dialect="gemini")


def test_history_that_was_loaded_and_messages_that_were_added_are_part_of_the_list() -> None:
    memory = manager(threshold=10_000)
    history = talk(2)
    memory.load_history_sync(history)
    memory.follow_sync([*history, user("go on")])
    answer = assistant("done")
    memory.add_message_sync(answer)
    memory.follow_sync([*history, user("go on"), answer, user("thanks")])

    assert memory.messages == [*history, user("go on"), answer, user("thanks")]
    assert memory.get_stats()["message_count"] == 7
