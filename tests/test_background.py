"""Summaries that are written while the loop goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from memory import Compressed, LLMMessage, MemoryConfig, MemoryManager, StalePlanError
from memory.events import Degraded, Event
from memory.testing import ScriptedLLM, WordCounter

SUMMARY = "## State of the work\nThe user wants the valve to open at 9 bar, and most pages have been read by now."


class HeldModel:
    """An asynchronous model whose answers the test releases."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[str]] = []
        self.cancelled = 0

    async def ask(self, prompt: str) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def answer(self, text: str = SUMMARY) -> None:
        await turns()
        self.waiting.pop(0).set_result(text)
        await turns()


async def turns() -> None:
    """Let the event loop turn until nothing moves any more."""
    for _ in range(20):
        await asyncio.sleep(0)


def manager(llm: object | None, events: list[Event] | None = None, **changes: Any) -> MemoryManager:
    settings = {"max_context_tokens": 100_000, "compression_threshold": 100, "background": True, **changes}
    on_event = events.append if events is not None else None
    return MemoryManager(MemoryConfig(**settings), llm, counter=WordCounter(), model="gpt-4o", on_event=on_event)


def user(number: int, words: int = 10) -> LLMMessage:
    return LLMMessage("user", f"remark {number} " + "word " * words)


async def fill(memory: MemoryManager, *, first: int = 0, count: int = 12) -> None:
    for number in range(first, first + count):
        await memory.add_message(user(number))


async def test_adding_never_waits_for_the_model() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    adding = asyncio.create_task(fill(memory, count=40))

    await asyncio.wait_for(adding, 5)

    assert memory.is_compressing
    assert len(model.waiting) <= 1, "one compression at a time"
    assert len(memory.get_context_for_llm()) == 40
    await memory.drop_background()


async def test_the_summary_stands_in_the_context_the_turn_after_it_came() -> None:
    model, events = HeldModel(), list[Event]()
    memory = manager(model.ask, events)
    await fill(memory)
    before = memory.messages
    await model.answer()
    assert memory.messages == before

    await memory.add_message(user(99))

    assert memory.was_compressed_last_iteration
    assert "9 bar" in str(memory.messages[1])
    assert memory.messages[-1] == user(99)
    assert not memory.is_compressing
    (event,) = [event for event in events if isinstance(event, Compressed)]
    assert event.in_background
    assert event.method == "model"
    assert event.tokens_after < event.tokens_before


async def test_messages_that_came_meanwhile_stand_behind_the_summary_in_their_order() -> None:
    model, events = HeldModel(), list[Event]()
    memory = manager(model.ask, events)
    await fill(memory)
    begun = next(iter(model.waiting), None) or await anext_call(model)
    late = [user(number) for number in (50, 51, 52)]
    for message in late:
        await memory.add_message(message)
    begun.set_result(SUMMARY)
    await memory.finish_background()

    assert [m for m in memory.messages if any(m is one for one in late)] == late
    assert memory.messages[-3:] == late
    (event,) = [event for event in events if isinstance(event, Compressed)]
    assert event.late_count >= 3


async def anext_call(model: HeldModel) -> asyncio.Future[str]:
    await turns()
    return model.waiting[0]


async def test_at_the_hard_limit_it_is_waited_for() -> None:
    model = HeldModel()
    memory = manager(model.ask, max_context_tokens=160)
    await fill(memory)
    over = asyncio.create_task(memory.add_message(user(99, words=40)))
    await turns()
    assert not over.done()

    await model.answer()
    await asyncio.wait_for(over, 5)

    assert memory.current_tokens <= 160
    assert memory.was_compressed_last_iteration


async def test_at_the_hard_limit_more_is_taken_out_where_the_summary_is_not_enough() -> None:
    model, events = HeldModel(), list[Event]()
    memory = manager(model.ask, events, max_context_tokens=200, short_term_size=3)
    await fill(memory, count=10)
    await turns()
    assert memory.is_compressing
    context = asyncio.create_task(memory.load_history([user(n, words=18) for n in range(20, 28)]))
    for _ in range(3):
        await turns()
        if model.waiting:
            await model.answer()
    await asyncio.wait_for(context, 5)

    assert memory.current_tokens <= 200
    kinds = [(event.in_background, event.trigger) for event in events if isinstance(event, Compressed)]
    assert kinds == [(True, "threshold"), (False, "limit")]


async def test_without_a_model_the_summary_is_made_in_the_turn() -> None:
    events: list[Event] = []
    memory = manager(None, events)
    await fill(memory)

    assert memory.get_stats()["compression_count"] == 1
    assert not memory.is_compressing
    assert [event.in_background for event in events if isinstance(event, Compressed)] == [False]


@pytest.mark.parametrize("failure", [RuntimeError("503"), "", "ok"], ids=["raises", "says nothing", "says too little"])
async def test_a_model_that_fails_is_followed_by_the_next_step_of_the_ladder(failure: str | Exception) -> None:
    events: list[Event] = []
    memory = manager(ScriptedLLM(failure), events, compression_threshold=4_000)
    await memory.load_history([user(number, words=400) for number in range(12)])
    assert await memory.finish_background()

    (event,) = [event for event in events if isinstance(event, Compressed)]
    assert event.method == "extractive"
    assert [(event.failed, event.next) for event in events if isinstance(event, Degraded)] == [("model", "extractive")]


async def test_what_was_pinned_meanwhile_stays_and_the_summary_is_not_used() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await fill(memory)
    before = memory.messages
    memory.pin(before[3])
    await model.answer()
    await memory.finish_background()

    assert memory.messages == before
    assert memory.get_stats()["degraded_count"] == 1


async def test_an_edit_of_what_is_being_summarised_ends_the_model_call() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    messages = [user(number) for number in range(12)]
    await memory.follow(messages)
    await turns()

    await memory.follow([*messages[:2], user(77)])
    await turns()

    assert not memory.is_compressing
    assert model.cancelled == 1
    assert memory.messages == [*messages[:2], user(77)]


async def test_an_edit_behind_what_is_being_summarised_lets_the_summary_stand() -> None:
    model = HeldModel()
    memory = manager(model.ask, short_term_size=4, compression_threshold=150)
    messages = [user(number) for number in range(16)]
    await memory.follow(messages)
    await turns()
    edited = [*messages[:-1], user(77)]

    await memory.follow(edited)
    await model.answer()
    await memory.finish_background()

    assert "9 bar" in str(memory.messages[1])
    assert memory.messages[-1] == user(77)
    assert messages[-1] not in memory.messages


async def test_a_callers_newer_copies_of_its_messages_stand_behind_the_summary() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await memory.follow([user(number) for number in range(12)])
    copies = [user(number) for number in range(12)]
    await memory.follow(copies)
    await model.answer()
    await memory.finish_background()

    assert memory.get_stats()["summary_count"] == 1
    assert all(any(message is copy for copy in copies) for message in (memory.messages[0], *memory.messages[2:]))


async def test_nothing_is_put_in_place_between_a_request_and_its_answer() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await fill(memory)
    sent = memory.get_context_for_llm()
    sent_tokens = memory.current_tokens
    await model.answer()
    await memory.add_message(user(98))
    assert memory.messages == [*sent, user(98)]

    await memory.add_message(LLMMessage("assistant", "done"))

    assert memory.was_compressed_last_iteration
    assert memory.tracker.by_purpose["agent"].input_tokens >= sent_tokens


async def test_nothing_is_put_in_place_while_a_call_is_open() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await fill(memory)
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    await memory.add_message(LLMMessage("assistant", None, tool_calls=[call]))
    await model.answer()
    assert not await memory.finish_background()
    assert memory.is_compressing

    await memory.add_message(LLMMessage("tool", "text", tool_call_id="c1"))

    assert memory.was_compressed_last_iteration


async def test_to_cancel_who_waits_at_the_limit_leaves_the_summary_going_on() -> None:
    model = HeldModel()
    memory = manager(model.ask, max_context_tokens=160)
    await fill(memory)
    over = asyncio.create_task(memory.add_message(user(99, words=40)))
    await turns()
    over.cancel()
    await asyncio.wait([over])
    assert memory.is_compressing
    assert model.cancelled == 0

    await model.answer()
    assert await memory.finish_background()
    assert memory.current_tokens <= 160


async def test_a_summary_that_is_dropped_leaves_the_context_and_is_booked() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await fill(memory)
    await turns()
    before = memory.messages
    tasks = asyncio.all_tasks()

    assert await memory.drop_background()

    assert memory.messages == before
    assert model.cancelled == 1
    assert all(task.done() for task in tasks if task is not asyncio.current_task())
    summaries = memory.tracker.by_purpose["summary"]
    assert (summaries.calls, summaries.estimated_calls) == (1, 1)
    assert not await memory.drop_background()


async def test_the_context_is_cleared_but_for_the_system_prompt_and_stays_findable() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    system = LLMMessage("system", "be brief")
    await memory.add_message(system)
    await fill(memory)
    await turns()

    memory.clear()
    await turns()

    assert memory.messages == [system]
    assert model.cancelled == 1
    assert memory.original("r2") == user(0)
    assert memory.recall("remark 7")
    await memory.add_message(user(50))
    assert memory.messages == [system, user(50)]
    assert memory.short_term.get_all() == [system, user(50)]


async def test_a_followed_list_begins_anew_behind_the_system_prompt_after_a_clear() -> None:
    memory = manager(None)
    system = LLMMessage("system", "be brief")
    await memory.follow([system, user(1), LLMMessage("assistant", "yes")])
    memory.clear()
    await memory.follow([system, user(2)])

    assert memory.messages == [system, user(2)]


async def test_compress_waits_for_what_goes_on_already() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await fill(memory)
    plan = memory.preview()
    with pytest.raises(StalePlanError, match="background"):
        await memory.apply(plan)
    compressing = asyncio.create_task(memory.compress())
    await model.answer()

    assert await compressing
    assert memory.get_stats()["compression_count"] == 1


async def test_a_refused_context_waits_for_the_summary() -> None:
    model = HeldModel()
    memory = manager(model.ask)
    await fill(memory)
    refused_tokens = memory.current_tokens
    recovering = asyncio.create_task(memory.recover(RuntimeError("context_length_exceeded")))
    await model.answer()

    assert await asyncio.wait_for(recovering, 5)
    assert memory.current_tokens <= 0.9 * refused_tokens
    assert memory.get_stats()["compression_count"] == 1


async def test_a_summary_in_pieces_asks_for_the_next_piece_turn_by_turn() -> None:
    model = HeldModel()
    memory = manager(model.ask, compression_threshold=600, summary_input_tokens=150)
    await memory.load_history([user(number, words=40) for number in range(16)])
    pieces = 0
    while memory.is_compressing:
        await model.answer()
        pieces += 1
        await memory.add_message(user(100 + pieces, words=1))

    assert pieces > 2
    assert memory.get_stats()["summary_count"] == 1


def test_without_an_event_loop_the_model_is_asked_in_a_thread() -> None:
    answer: Future[str] = Future()
    memory = manager(lambda prompt: answer.result(timeout=10))
    for number in range(30):
        memory.add_message_sync(user(number))
    assert memory.is_compressing
    answer.set_result(SUMMARY)
    assert memory.finish_background_sync()

    assert "9 bar" in str(memory.messages[1])
    assert memory.messages[-1] == user(29)


def test_a_summary_that_was_paid_for_is_in_the_statistics_before_it_is_in_the_context() -> None:
    memory = manager(ScriptedLLM(SUMMARY))
    numbers = iter(range(100))
    while not memory.is_compressing:
        memory.add_message_sync(user(next(numbers)))
    for thread in (t for t in threading.enumerate() if t.name == "memory-summary"):
        thread.join(5)

    stats = memory.get_stats()

    assert (stats["compression_count"], stats["compression_tokens"] > 0) == (0, True)
    assert memory.get_stats()["compression_tokens"] == stats["compression_tokens"]


async def test_a_summary_that_the_budget_forbids_is_extractive() -> None:
    model, events = HeldModel(), list[Event]()
    memory = manager(model.ask, events, max_cost_dollars=0.000001)
    await fill(memory, count=14)

    assert await memory.finish_background() or memory.get_stats()["compression_count"]
    assert model.waiting == []
    assert {event.method for event in events if isinstance(event, Compressed)} == {"extractive"}
    assert memory.tracker.by_purpose["summary"].calls == 0


@pytest.fixture
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is said of tasks that were destroyed, or of exceptions that nobody looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.usefixtures("no_complaints")
def test_a_loop_that_ends_takes_the_summary_with_it_and_the_next_one_is_waited_for() -> None:
    model, events = HeldModel(), list[Event]()
    memory = manager(model.ask, events)
    asyncio.run(fill(memory))
    before = memory.messages
    assert model.cancelled == 1

    async def go_on() -> None:
        adding = asyncio.create_task(fill(memory, first=50, count=3))
        while not adding.done():
            await turns()
            for call in (call for call in model.waiting if not call.done()):
                call.set_result(SUMMARY)
        await adding

    asyncio.run(go_on())

    assert [event.reason for event in events if isinstance(event, Degraded)] == [
        "the event loop ended before the summary came"
    ]
    (event,) = [event for event in events if isinstance(event, Compressed)]
    assert not event.in_background
    assert memory.messages[0] == before[0]
    assert len(memory.archive) > 0


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize("then", ["goes on", "is forgotten"])
def test_a_loop_that_is_closed_under_the_summary_harms_nobody(then: str) -> None:
    model = HeldModel()
    memory: MemoryManager | None = manager(model.ask)
    assert memory is not None
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fill(memory))
    loop.close()
    before = memory.messages
    if then == "goes on":
        memory.add_message_sync(user(99))
        assert memory.messages == [*before, user(99)]
    del memory, model
    gc.collect()


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize("outcome", [SUMMARY, RuntimeError("503")], ids=["answers", "fails"])
async def test_a_manager_that_is_forgotten_harms_nobody(outcome: str | Exception) -> None:
    model = HeldModel()
    memory: MemoryManager | None = manager(model.ask)
    assert memory is not None
    await fill(memory)
    await turns()
    del memory
    gc.collect()
    (call,) = model.waiting
    call.set_exception(outcome) if isinstance(outcome, Exception) else call.set_result(outcome)
    await turns()


def test_what_a_loop_began_is_given_up_by_a_caller_without_one() -> None:
    model = HeldModel()
    memory = manager(model.ask, max_context_tokens=160)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fill(memory))
    loop.run_until_complete(turns())

    memory.add_message_sync(user(99, words=40))

    assert memory.current_tokens <= 160
    assert memory.get_stats()["degraded_count"] >= 1
    loop.run_until_complete(turns())
    assert model.cancelled == 1
    loop.close()


def test_both_ways_come_to_the_same_context_where_each_summary_is_waited_for() -> None:
    one, other = (manager(ScriptedLLM(SUMMARY), background=background) for background in (True, False))
    for number in range(40):
        for memory in (one, other):
            memory.add_message_sync(user(number))
            memory.finish_background_sync()

    assert one.messages == other.messages
    assert one.get_stats() == other.get_stats()


def test_nothing_goes_on_where_it_is_not_asked_for() -> None:
    memory = manager(ScriptedLLM(SUMMARY), background=False)
    for number in range(12):
        memory.add_message_sync(user(number))

    assert not memory.is_compressing
    assert memory.get_stats()["compression_count"] == 1
    assert not memory.finish_background_sync()
    assert not memory.drop_background_sync()
