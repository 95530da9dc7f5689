"""The manager as its user meets it: adding, reporting, looking, steering, and what it tells."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from anthropic.types import Message
from google.genai import types as genai
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from memory import (
    Action,
    Compressed,
    CompressionStrategy,
    ConfigError,
    ContextOverflowError,
    Degraded,
    FloorReached,
    LLMMessage,
    MemoryConfig,
    MemoryManager,
    MessageError,
    OverBudget,
    StalePlanError,
    TiktokenCounter,
    UnknownReferenceError,
    WorkingMemoryCompressor,
    format_stats,
)
from memory.events import Event
from memory.messages import DialectName
from memory.testing import FixedSummarizer, WordCounter

from .conversations import DIALECT_NAMES, builder_for

CHAT = builder_for("openai_chat")
CLAUDE = builder_for("anthropic")
PROSE = "and so it goes on for a while with many words that say little " * 4
"""56 words."""


def manager(*, threshold: int = 400, **options: Any) -> MemoryManager:
    settings = {"compression_threshold": threshold, **options.pop("settings", {})}
    defaults: dict[str, Any] = {"counter": WordCounter(), "summarizer": FixedSummarizer(text="They talked.")}
    return MemoryManager(MemoryConfig(**settings), **(defaults | options))


def talk(turns: int, *, start: int = 0) -> list[Any]:
    return [
        message
        for turn in range(start, start + turns)
        for message in (*CHAT.user(f"question {turn} {PROSE}"), *CHAT.assistant(f"answer {turn} {PROSE}"))
    ]


def filled(messages: list[Any], **options: Any) -> MemoryManager:
    memory = manager(**options)
    for message in messages:
        memory.add_message_sync(message)
    return memory


def quiet(messages: list[Any]) -> MemoryManager:
    """A manager that compresses only when it is told to."""
    return filled(messages, threshold=80_000)


# --- Usage, in three styles -------------------------------------------------------------------------------------------

REPORTED = {"input": 1_200, "output": 80}


def chat_response(usage: bool = True) -> ChatCompletion:
    return ChatCompletion.model_validate(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
            "usage": {"prompt_tokens": 1_200, "completion_tokens": 80, "total_tokens": 1_280} if usage else None,
        }
    )


def by_argument(memory: MemoryManager) -> None:
    memory.add_message_sync(CHAT.assistant("ok")[0], actual_tokens=REPORTED)


def by_response(memory: MemoryManager) -> None:
    memory.add_message_sync(chat_response())


def by_argument_with_the_response(memory: MemoryManager) -> None:
    response = chat_response()
    memory.add_message_sync(response.choices[0].message, actual_tokens=response)


def by_record_after(memory: MemoryManager) -> None:
    memory.add_message_sync(CHAT.assistant("ok")[0])
    memory.record_usage(chat_response())


def by_record_before(memory: MemoryManager) -> None:
    memory.record_usage(chat_response())
    memory.add_message_sync(CHAT.assistant("ok")[0])


STYLES = [by_argument, by_response, by_argument_with_the_response, by_record_after, by_record_before]


@pytest.mark.parametrize("report", STYLES)
def test_reported_usage_is_booked_once_whichever_way_it_comes(report: Callable[[MemoryManager], None]) -> None:
    memory = manager(model="gpt-4o")
    for _ in range(2):
        memory.add_message_sync(CHAT.user("go")[0])
        report(memory)
    stats = memory.get_stats()

    assert (stats["total_input_tokens"], stats["total_output_tokens"], stats["request_count"]) == (2_400, 160, 2)
    assert not stats["cost_is_estimate"]
    assert memory.current_tokens > 1_000, "estimates follow what was reported"


@pytest.mark.parametrize("report", STYLES[1:])
def test_the_model_is_taken_from_the_response(report: Callable[[MemoryManager], None]) -> None:
    memory = manager()
    memory.add_message_sync(CHAT.user("go")[0])
    report(memory)
    stats = memory.get_stats()

    assert (stats["model"], stats["unpriced_tokens"]) == ("gpt-4o-2024-08-06", 0)


def test_a_response_that_was_added_and_recorded_is_booked_once() -> None:
    memory, response = manager(model="gpt-4o"), chat_response()
    memory.add_message_sync(CHAT.user("go")[0])
    memory.add_message_sync(response)
    memory.record_usage(response)
    memory.record_usage(response.usage)

    assert memory.get_stats()["request_count"] == 1


def test_a_call_without_an_answer_is_billed() -> None:
    memory = manager(model="gpt-4o")
    memory.add_message_sync(CHAT.user("go")[0])
    memory.record_usage({"input": 1_000, "output": 0})
    by_argument(memory)

    assert memory.get_stats()["total_input_tokens"] == 2_200


@pytest.mark.parametrize("usage", [{}, {"tokens": 5}, 17, "many", {"input": -1, "output": 1}])
def test_usage_that_cannot_be_read_is_an_error_and_nothing_is_added(usage: Any) -> None:
    memory = manager()
    with pytest.raises(MessageError):
        memory.add_message_sync(CHAT.assistant("ok")[0], actual_tokens=usage)
    with pytest.raises(MessageError):
        memory.record_usage(usage)

    assert memory.get_context_for_llm() == []
    assert memory.get_stats()["request_count"] == 0


def test_estimates_approach_what_is_reported() -> None:
    memory = manager(threshold=80_000)
    errors = []
    for message in talk(12):
        memory.add_message_sync(message)
        if message["role"] == "user":
            truth = int(memory._window.tokens * 1.4) + 900  # a dearer tokenizer, and a system prompt we never saw
            errors.append(abs(memory.current_tokens - truth) / truth)
            memory.record_usage({"input": truth, "output": 80})

    assert errors[0] > 0.5
    assert max(errors[3:]) < 0.05


def test_the_threshold_is_kept_in_calibrated_tokens() -> None:
    memory = manager(threshold=2_000)
    for message in talk(20):
        usage = {"input": memory._window.tokens * 2 + 1, "output": 80} if message["role"] == "assistant" else None
        memory.add_message_sync(message, usage)

    assert memory.get_stats()["compression_count"] > 0
    assert memory._window.tokens < 1_100
    assert memory.current_tokens <= 2_000


# --- Preview and apply ------------------------------------------------------------------------------------------------


def test_a_preview_says_per_unit_what_would_happen_and_changes_nothing() -> None:
    memory = quiet(talk(20))
    before = memory.get_context_for_llm()
    plan = memory.preview()

    assert {decision.action for decision in plan.decisions} <= set(Action)
    assert all(decision.reason for decision in plan.decisions)
    assert sum(len(decision.unit.entries) for decision in plan.decisions) == 40
    assert memory.get_context_for_llm() == before
    assert memory.preview() == plan


def test_an_applied_plan_does_what_the_preview_said() -> None:
    memory = filled(talk(20), threshold=80_000, settings={"short_term_size": 4})
    plan = memory.preview()

    assert plan.with_action(Action.SUMMARISE)
    assert memory.apply_sync(plan) is True
    kept = [entry.message for d in plan.with_action(Action.KEEP) for entry in d.unit.entries]
    assert [m for m in memory.get_context_for_llm() if any(m is one for one in kept)] == kept
    assert memory.current_tokens <= plan.tokens_after
    assert memory.was_compressed_last_iteration
    assert memory.last_compression_savings > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda memory: memory.add_message_sync(CHAT.user("more")[0]),
        lambda memory: memory.pin("r3"),
        lambda memory: memory.unpin("r3"),
        lambda memory: memory.compress_sync(),
    ],
    ids=["a message", "a pin", "an unpin", "a compression"],
)
def test_a_plan_is_refused_once_the_window_has_changed(change: Callable[[MemoryManager], object]) -> None:
    memory = filled(talk(20), threshold=80_000, settings={"short_term_size": 4})
    plan = memory.preview()
    change(memory)

    with pytest.raises(StalePlanError, match="preview"):
        memory.apply_sync(plan)


def test_a_plan_is_applied_once() -> None:
    memory = filled(talk(20), threshold=80_000, settings={"short_term_size": 4})
    plan = memory.preview()
    memory.apply_sync(plan)
    context = memory.get_context_for_llm()

    with pytest.raises(StalePlanError):
        memory.apply_sync(plan)
    assert memory.get_context_for_llm() == context


def test_a_plan_of_another_manager_is_refused() -> None:
    one, other = (filled(talk(20), threshold=80_000, settings={"short_term_size": 4}) for _ in range(2))
    context = other.get_context_for_llm()

    with pytest.raises(StalePlanError):
        other.apply_sync(one.preview())
    assert other.get_context_for_llm() == context


@pytest.mark.parametrize("messages", [[], CHAT.user("hi"), [*CHAT.user("hi"), *CHAT.assistant("hello")]])
def test_where_there_is_nothing_to_compress_nothing_changes(messages: list[Any]) -> None:
    memory = quiet(messages)

    assert not memory.preview().changes
    assert memory.compress_sync() is False
    assert asyncio.run(memory.compress()) is False
    assert memory.get_context_for_llm() == messages
    assert memory.compressed_memory is None


class Slow:
    """A model that answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, prompt: str) -> str:
        self.asked.set()
        await self.may_answer.wait()
        return "They talked."


async def compressing() -> tuple[MemoryManager, Slow, asyncio.Task[bool]]:
    """A manager whose compression waits for its model."""
    llm = Slow()
    memory = MemoryManager(MemoryConfig(compression_threshold=80_000, short_term_size=4), llm, counter=WordCounter())
    for message in talk(20):
        await memory.add_message(message)
    task = asyncio.create_task(memory.compress())
    await llm.asked.wait()
    return memory, llm, task


async def test_a_second_compression_is_refused_while_one_runs() -> None:
    memory, llm, task = await compressing()
    with pytest.raises(StalePlanError, match="running"):
        await memory.compress()
    llm.may_answer.set()

    assert await task is True
    assert memory.get_stats()["compression_count"] == 1
    assert memory.original("r5") == talk(20)[4]


async def test_a_message_that_is_pinned_while_a_compression_runs_stays() -> None:
    memory, llm, task = await compressing()
    memory.pin("r6")
    llm.may_answer.set()
    await task

    assert memory.original("r6") in memory.get_context_for_llm()


# --- Steering ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_reference", [True, False])
def test_a_pinned_message_stays_and_an_unpinned_one_goes(by_reference: bool) -> None:
    messages = talk(20)
    memory = filled(messages, threshold=80_000, settings={"short_term_size": 4})
    kept, released = ("r6", "r8") if by_reference else (messages[5], messages[7])

    assert (memory.pin(kept), memory.pin(released), memory.unpin(released)) == ("r6", "r8", "r8")
    assert memory.compress_sync()
    context = memory.get_context_for_llm()
    assert any(message is messages[5] for message in context)
    assert not any(message is messages[7] for message in context)


def test_a_pinned_result_keeps_its_call() -> None:
    pair = [*CHAT.assistant("", [("c", "read", {})]), *CHAT.results([("c", "read", "important words " * 40)])]
    memory = filled([*CHAT.user("go"), *pair, *talk(20)], threshold=80_000, settings={"short_term_size": 4})
    memory.pin(pair[1])
    memory.compress_sync()

    assert memory.get_context_for_llm()[1:3] == pair


@pytest.mark.parametrize("what", ["r99", "nonsense", {"role": "user", "content": "hi"}, None, 17])
def test_what_is_not_in_the_context_cannot_be_pinned(what: Any) -> None:
    memory = quiet(CHAT.user("hi"))

    with pytest.raises(MessageError, match="not in the context"):
        memory.pin(what)
    with pytest.raises(MessageError, match="not in the context"):
        memory.unpin(what)


@pytest.mark.parametrize("strategy", CompressionStrategy)
def test_every_message_is_had_back_by_its_reference(strategy: CompressionStrategy) -> None:
    messages = talk(20)
    memory = filled(messages, settings={"compression_strategy": strategy})

    assert all(memory.original(f"r{seq}") is message for seq, message in enumerate(messages, start=1))


@pytest.mark.parametrize("ref", ["r99", "r0", "", "nonsense"])
def test_an_unknown_reference_is_an_error(ref: str) -> None:
    with pytest.raises(UnknownReferenceError, match="r17"):
        quiet(CHAT.user("hi")).original(ref)


def test_recall_finds_what_left_the_context_best_first() -> None:
    secret = CHAT.assistant("the launch code is 4711")[0]
    memory = filled([*CHAT.user("go"), secret, *talk(10)])
    hits = memory.recall("launch code", limit=3)

    assert not any(message is secret for message in memory.get_context_for_llm())
    assert hits[0].message is secret
    assert memory.recall("nosuchword") == memory.recall("") == []


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_disabled_compression_keeps_counts_and_prices_everything() -> None:
    settings = {"enable_compression": False, "max_context_tokens": 200, "compression_threshold": 100}
    memory = filled(talk(10), settings=settings)
    stats = memory.get_stats()

    assert memory.get_context_for_llm() == talk(10)
    assert (stats["compression_count"], stats["message_count"], stats["request_count"]) == (0, 20, 10)
    assert stats["current_tokens"] > 1_000


def test_an_overflow_names_the_sizes_and_the_largest_and_nothing_is_lost() -> None:
    settings = {"max_context_tokens": 200, "compression_threshold": 100}
    memory = filled([*CHAT.system("be kind"), *CHAT.user("go")], settings=settings)
    giant = CHAT.user("word " * 500)[0]
    with pytest.raises(ContextOverflowError) as overflow:
        memory.add_message_sync(giant)
    error = overflow.value

    assert (error.tokens, error.limit_tokens) == (506, 200)
    assert error.contributors[0] == ("r3", "user", 501)
    assert "max_context_tokens is 200" in str(error)
    assert "r3 (user) 501" in str(error)
    assert memory.messages[-1] is memory.original("r3") is giant
    with pytest.raises(ContextOverflowError):
        memory.get_context_for_llm()


def test_an_overflow_by_the_system_prompt_beside_the_messages_names_it() -> None:
    settings = {"max_context_tokens": 200, "compression_threshold": 100}
    memory = manager(settings=settings, system="word " * 300)

    with pytest.raises(ContextOverflowError) as overflow:
        memory.add_message_sync(CLAUDE.user("go")[0])
    assert overflow.value.contributors[0][1:] == ("system prompt and tools", 300)


def test_tools_and_system_count_towards_every_request() -> None:
    tools = [{"name": "read", "description": "reads a file"}]
    bare, full = manager(), manager(system="be kind", tools=tools)

    assert full.current_tokens - bare.current_tokens == 2 + WordCounter().count_tools(tools)


def test_an_irreducible_context_is_told_once_and_not_fought() -> None:
    events: list[Event] = []
    memory = manager(on_event=events.append)
    memory.add_message_sync(CHAT.user("word " * 600)[0])
    for n in range(10):
        memory.add_message_sync(CHAT.assistant(f"ok {n}")[0])

    (floor,) = events
    assert isinstance(floor, FloorReached)
    assert (floor.threshold_tokens, floor.irreducible_tokens) == (400, 601)
    assert memory.get_stats()["compression_count"] == 0


# --- Events -----------------------------------------------------------------------------------------------------------


def test_events_say_what_happened_without_a_word_of_the_conversation() -> None:
    events: list[Event] = []
    settings = {"max_cost_dollars": 0.0002, "max_context_tokens": 100_000}

    def failing(prompt: str) -> str:
        raise ValueError(prompt)

    memory = manager(llm=failing, summarizer=None, settings=settings, on_event=events.append, model="gpt-4o")
    for turn in range(20):
        memory.add_message_sync(CHAT.user(f"the zebra in src/zebra_{turn}.py costs {turn}47 {PROSE}")[0])

    assert {type(event) for event in events} == {Compressed, Degraded, OverBudget}
    assert "zebra" not in str(events)
    assert "goes" not in str(events)


def test_a_compression_event_has_the_sizes_the_reason_and_the_references() -> None:
    events: list[Event] = []
    memory = filled(talk(4), on_event=events.append)
    event = next(event for event in events if isinstance(event, Compressed))

    assert (event.trigger, event.strategy, event.method) == ("threshold", "sliding_window", "fixed")
    assert event.tokens_before > 400 > event.tokens_after > 0
    assert (event.first_ref, event.summarised_count > 0, event.masked_count, event.dropped_count) == ("r2", True, 0, 0)
    assert memory.get_stats()["compression_count"] == sum(isinstance(e, Compressed) for e in events)


def test_an_event_comes_after_the_new_state_is_in_place() -> None:
    seen: list[int] = []
    memory: MemoryManager = manager(on_event=lambda event: seen.append(memory.get_stats()["compression_count"]))
    for message in talk(4):
        memory.add_message_sync(message)

    assert seen[0] == 1


# --- Messages and formats ---------------------------------------------------------------------------------------------


def test_two_managers_never_meet() -> None:
    one, other = manager(), manager()
    for message in talk(10):
        one.add_message_sync(message)
    before = other.get_stats()
    other.add_message_sync(CLAUDE.user("hi")[0])

    assert (before["message_count"], before["total_cost"], before["compression_count"]) == (0, 0, 0)
    assert (other.get_context_for_llm(), other.recall("question")) == (CLAUDE.user("hi"), [])


def test_the_format_is_found_out_when_a_message_shows_it() -> None:
    memory, seen = manager(), []
    call = [("c", "read", {"path": "a.py"})]
    for message in [*CLAUDE.user("go"), *CLAUDE.assistant("ok"), *CLAUDE.assistant("", call)]:
        memory.add_message_sync(message)
        seen.append(memory.dialect)

    assert seen == [None, None, "anthropic"]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_named_format_is_not_asked_again(dialect: DialectName) -> None:
    assert manager(dialect=dialect).dialect == dialect


def test_a_message_of_another_format_is_refused_and_nothing_is_added() -> None:
    memory = quiet([*CHAT.user("go"), *CHAT.assistant("", [("c", "read", {})])])

    with pytest.raises(MessageError):
        memory.add_message_sync({"role": "model", "parts": [{"text": "hi"}]})
    assert len(memory.get_context_for_llm()) == 2


BROKEN = [None, 17, "hello", [], {}, {"role": "nobody", "content": "x"}, {"content": "x"}, object()]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_message_adds_nothing(broken: Any) -> None:
    memory = manager()
    with pytest.raises(MessageError):
        memory.add_message_sync(broken)

    assert memory.get_context_for_llm() == []
    assert (memory.get_stats()["message_count"], len(memory.short_term), memory.dialect) == (0, 0, None)
    memory.add_message_sync(CHAT.user("hi")[0])
    assert memory.original("r1") == CHAT.user("hi")[0]


def test_a_broken_message_of_a_format_does_not_settle_it() -> None:
    memory = manager()
    with pytest.raises(MessageError):
        memory.add_message_sync({"role": "user", "content": [{"type": "tool_result", "tool_use_id": 17}]})
    assert memory.dialect is None

    memory.add_message_sync(CHAT.assistant("", [("c", "read", {})])[0])
    assert memory.dialect == "openai_chat"


def test_a_response_with_one_broken_item_adds_none() -> None:
    memory = manager()
    output = [*builder_for("openai_responses").assistant("fine"), {"type": "function_call", "call_id": "c"}]
    with pytest.raises(MessageError):
        memory.add_message_sync({"object": "response", "output": output})

    assert memory.get_context_for_llm() == []


class Tagged(dict[str, Any]):
    """A dict with a name of its own, as frameworks make them."""


@pytest.mark.parametrize("kind", [Tagged, OrderedDict])
def test_dict_subclasses_are_messages_and_come_back_as_they_were(kind: type[dict[str, Any]]) -> None:
    messages = [kind(message) for message in talk(20)]
    memory = filled(messages)
    own = {id(message) for message in messages}

    assert memory.get_stats()["compression_count"] > 0
    assert {type(message) for message in memory.get_context_for_llm() if id(message) in own} == {kind}


def test_llm_messages_are_messages() -> None:
    messages = [LLMMessage(**message) for message in talk(20)]
    context = filled(messages).get_context_for_llm()

    assert context[0] is messages[0]
    assert {type(message) for message in context} == {LLMMessage}


# --- SDK objects, end to end ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sdk:
    """How a loop around one SDK's response objects looks."""

    dialect: DialectName
    respond: Callable[[str], Any]
    result: Callable[[str, str], Any]


def openai_chat(id_: str) -> ChatCompletion:
    call = {"id": id_, "type": "function", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choices = [{"index": 0, "finish_reason": "tool_calls", "message": message}]
    usage = {"prompt_tokens": 50, "completion_tokens": 8, "total_tokens": 58}
    whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": choices}
    return ChatCompletion.model_validate({**whole, "usage": usage})


def openai_responses(id_: str) -> Response:
    reasoning = {"type": "reasoning", "id": f"rs_{id_}", "summary": [], "encrypted_content": "abc"}
    call = {"type": "function_call", "call_id": id_, "id": f"fc_{id_}", "name": "read", "arguments": "{}"}
    whole = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-4o", "output": [reasoning, call]}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    details = {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "total_tokens": 58}
    output = {"output_tokens_details": {"reasoning_tokens": 4}}
    usage = {"input_tokens": 50, "output_tokens": 8, **details, **output}
    return Response.model_validate({**whole, **rest, "usage": usage})


def anthropic(id_: str) -> Message:
    call = {"type": "tool_use", "id": id_, "name": "read", "input": {"path": "a.py"}}
    content = [{"type": "thinking", "thinking": "hm", "signature": "s"}, call]
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content}
    usage = {"input_tokens": 50, "output_tokens": 8}
    return Message.model_validate({**whole, "stop_reason": "tool_use", "stop_sequence": None, "usage": usage})


def gemini(id_: str) -> genai.GenerateContentResponse:
    call = {"functionCall": {"id": id_, "name": "read", "args": {"path": "a.py"}}, "thoughtSignature": "AAAA"}
    usage = {"promptTokenCount": 50, "candidatesTokenCount": 4, "thoughtsTokenCount": 4}
    candidates = [{"content": {"role": "model", "parts": [call]}}]
    whole = {"candidates": candidates, "usageMetadata": usage, "modelVersion": "gemini-2.5-pro"}
    return genai.GenerateContentResponse.model_validate(whole)


def gemini_result(id_: str, text: str) -> genai.Content:
    return genai.Content(role="user", parts=[genai.Part.from_function_response(name="read", response={"output": text})])


SDKS = [
    Sdk("openai_chat", openai_chat, lambda id_, text: CHAT.results([(id_, "read", text)])[0]),
    Sdk(
        "openai_responses",
        openai_responses,
        lambda id_, text: builder_for("openai_responses").results([(id_, "read", text)])[0],
    ),
    Sdk("anthropic", anthropic, lambda id_, text: CLAUDE.results([(id_, "read", text)])[0]),
    Sdk("gemini", gemini, gemini_result),
]


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.dialect)
@pytest.mark.parametrize("strategy", CompressionStrategy)
def test_sdk_objects_go_through_a_whole_run(sdk: Sdk, strategy: CompressionStrategy) -> None:
    memory = manager(dialect=sdk.dialect, settings={"compression_strategy": strategy})
    memory.add_message_sync(builder_for(sdk.dialect).user("go")[0])
    for n in range(20):
        memory.add_message_sync(sdk.respond(f"c{n}"))
        memory.add_message_sync(sdk.result(f"c{n}", f"read {n} {PROSE}"))
    stats = memory.get_stats()

    assert stats["compression_count"] > 0
    assert (stats["request_count"], stats["total_input_tokens"], stats["total_output_tokens"]) == (20, 1_000, 160)
    assert not stats["cost_is_estimate"]
    assert stats["degraded_count"] == 0


def test_kept_sdk_objects_are_the_very_objects() -> None:
    memory, response = manager(), openai_chat("c0")
    memory.add_message_sync(CHAT.user("go")[0])
    memory.add_message_sync(response)

    assert memory.get_context_for_llm()[1] is response.choices[0].message
    assert memory.pin(response.choices[0].message) == "r2"


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.dialect)
def test_a_response_is_pinned_as_it_was_added(sdk: Sdk) -> None:
    memory, response = manager(), sdk.respond("c0")
    memory.add_message_sync(builder_for(sdk.dialect).user("go")[0])
    memory.add_message_sync(response)

    assert memory.pin(response) == "r2"


# --- Figures ----------------------------------------------------------------------------------------------------------

KEYS = {
    *("current_tokens", "total_input_tokens", "total_output_tokens", "cached_tokens", "total_cost"),
    *("compression_count", "compression_cost", "total_savings", "net_savings", "net_cost", "savings_percentage"),
    *("short_term_count", "summary_count", "cost_is_estimate", "unpriced_tokens"),
}


@pytest.mark.parametrize("messages", [[], talk(20)], ids=["a new manager", "after a run"])
def test_statistics_have_every_key_and_are_plain_json(messages: list[Any]) -> None:
    stats = filled(messages).get_stats()

    assert stats.keys() >= KEYS
    assert json.loads(json.dumps(stats, allow_nan=False)) == stats


def test_a_new_manager_has_nothing_to_report() -> None:
    stats = manager().get_stats()

    assert {key: value for key, value in stats.items() if value not in (0, 0.0, None, False)} == {
        "max_context_tokens": 100_000
    }


def test_counts_agree_with_what_happened() -> None:
    memory = filled(talk(20))
    stats = memory.get_stats()

    assert stats["message_count"] == 40
    assert stats["context_count"] == len(memory.get_context_for_llm())
    assert stats["summary_count"] == stats["compression_count"] > 0
    assert stats["archived_count"] == len(memory.archive)
    assert stats["short_term_count"] == 20
    assert stats["current_tokens"] == memory.current_tokens


def test_the_block_at_the_end_of_a_run() -> None:
    stats = {
        "total_input_tokens": 44_234,
        "total_output_tokens": 1_000,
        "compression_count": 3,
        "net_savings": 15_678,
        "savings_percentage": 34.66,
        "total_cost": 0.02341,
        "cost_without_memory": 0.03,
        "cost_is_estimate": False,
        "unpriced_tokens": 0,
    }

    assert format_stats(stats) == (
        "--- Memory Statistics ---\n"
        "Total tokens: 45,234\n"
        "Compressions: 3\n"
        "Net savings: 15,678 tokens (34.7%)\n"
        "Total cost: $0.0234\n"
        "Without memory: $0.0300, prompt cache counted"
    )
    marked = format_stats(stats | {"cost_is_estimate": True, "unpriced_tokens": 1_200})
    assert "Total cost: $0.0234 (estimate)" in marked
    assert marked.endswith("Unpriced: 1,200 tokens of an unknown model, at the default price")


# --- What it is made of -----------------------------------------------------------------------------------------------


def test_a_compressor_of_the_users_own_brings_its_configuration_and_archive() -> None:
    own = WorkingMemoryCompressor(None, MemoryConfig(compression_threshold=500), counter=WordCounter())
    memory = MemoryManager(compressor=own)

    assert memory.config is own.config
    assert memory.archive is own.archive


IGNORED = [
    {"config": MemoryConfig(compression_strategy=CompressionStrategy.SELECTIVE)},
    {"llm": str},
    {"summarizer": FixedSummarizer()},
    {"counter": TiktokenCounter()},
]


@pytest.mark.parametrize("arguments", IGNORED, ids=lambda arguments: next(iter(arguments)))
def test_what_a_compressor_of_the_users_own_would_overrule_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="compressor"):
        MemoryManager(compressor=WorkingMemoryCompressor(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"dialect": "cohere"}, "unknown dialect 'cohere'"), ({"llm": "gpt-4o"}, "llm must have")],
)
def test_a_manager_that_cannot_work_is_refused_when_it_is_made(arguments: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        MemoryManager(**arguments)
