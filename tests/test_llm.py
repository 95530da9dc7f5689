"""Every kind of model that a user may pass, with and without an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from memory import ConfigError, LLMMessage, MemoryConfig, SummaryError, WorkingMemoryCompressor
from memory.asking import Llm
from memory.llm import ModelCall, ModelReply, Steps, adrive, drive

CALL = ModelCall(instructions="Be brief.", prompt="What was said?", max_output_tokens=256, timeout_seconds=20)
HASTY = ModelCall(instructions="Be brief.", prompt="What was said?", max_output_tokens=256, timeout_seconds=0.02)
BOTH = "Be brief.\n\nWhat was said?"


@dataclass
class AgentModel:
    """A model as the agent loop has it."""

    reply: Any = field(default_factory=lambda: SimpleNamespace(content="a summary", stop_reason="stop"))
    model: str = "big-model"
    asked: list[Any] = field(default_factory=list)

    async def call_async(self, messages: Sequence[LLMMessage], tools: Any = None, max_tokens: int = 0) -> Any:
        self.asked.append((messages, tools, max_tokens))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


class SwitchingModel(AgentModel):
    def with_model(self, name: str) -> SwitchingModel:
        return SwitchingModel(model=name, asked=self.asked)


class AsyncCallable:
    async def __call__(self, prompt: str) -> str:
        return f"async object: {prompt}"


async def coroutine_function(prompt: str) -> str:
    return f"async: {prompt}"


def plain_function(prompt: str) -> str:
    return f"sync: {prompt}"


def returns_coroutine(prompt: str) -> Any:
    return coroutine_function(prompt)


def ask(target: object, call: ModelCall = CALL) -> ModelReply:
    return Llm(target).answer(call)


def ask_async(target: object, call: ModelCall = CALL) -> ModelReply:
    return asyncio.run(Llm(target).aanswer(call))


# --- Kinds of models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (AgentModel(), "a summary"),
        (plain_function, f"sync: {BOTH}"),
        (coroutine_function, f"async: {BOTH}"),
        (AsyncCallable(), f"async object: {BOTH}"),
        (returns_coroutine, f"async: {BOTH}"),
    ],
    ids=["call_async", "function", "coroutine function", "object with async call", "returns a coroutine"],
)
def test_every_kind_of_model_is_asked_in_an_event_loop(target: object, expected: str) -> None:
    assert ask_async(target).text == expected


def test_a_plain_function_is_asked_without_an_event_loop() -> None:
    assert ask(plain_function).text == f"sync: {BOTH}"


ONLY_ASYNC = [AgentModel(), coroutine_function, AsyncCallable(), returns_coroutine]


@pytest.mark.parametrize("target", ONLY_ASYNC, ids=["call_async", "function", "object", "returns a coroutine"])
def test_a_model_that_only_answers_asynchronously_says_what_to_use_instead(target: object) -> None:
    with pytest.raises(SummaryError, match="await add_message"):
        ask(target)


@pytest.mark.parametrize("target", ONLY_ASYNC, ids=["call_async", "function", "object", "returns a coroutine"])
def test_a_refused_asynchronous_answer_leaves_no_warning_behind(target: object) -> None:
    gc.collect()  # what other tests have left behind warns now, not below
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(SummaryError):
            ask(target)
        gc.collect()

    assert [str(warning.message) for warning in caught] == []


def test_an_agents_model_gets_two_messages_no_tools_and_a_bound() -> None:
    model = AgentModel()
    ask_async(model)

    assert model.asked == [([LLMMessage("system", "Be brief."), LLMMessage("user", "What was said?")], None, 256)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "one"}, {"type": "tool_use"}, SimpleNamespace(text="two")], "one\ntwo"),
        ([SimpleNamespace(thinking="hm", text=None), SimpleNamespace(text="said")], "said"),
        (17, ""),
    ],
)
def test_the_text_of_a_response_is_read_from_any_content(content: object, text: str) -> None:
    response = SimpleNamespace(content=content, stop_reason="stop")
    reply = ask_async(AgentModel(response))

    assert (reply.text, reply.stop_reason, reply.response) == (text, "stop", response)


@pytest.mark.parametrize("target", [object(), 17, "gpt-4o", [], {}])
def test_what_is_no_model_is_a_configuration_error(target: object) -> None:
    with pytest.raises(ConfigError, match="call_async") as refusal:
        Llm(target)

    assert type(target).__name__ in str(refusal.value)


# --- Which model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "wanted", "model"),
    [
        (AgentModel(), None, "big-model"),
        (plain_function, None, None),
        (SimpleNamespace(call_async=coroutine_function, model=17), None, None),
        (SwitchingModel(), "small-model", "small-model"),
        (AgentModel(), "big-model", "big-model"),
        (plain_function, "small-model", "small-model"),
    ],
    ids=["its own", "a function", "no name", "switched", "the same", "a function that is said to be one"],
)
def test_the_models_name_is_known_where_there_is_one(target: object, wanted: str | None, model: str | None) -> None:
    assert Llm(target, model=wanted).model == model


def test_the_switched_model_is_the_one_that_is_asked() -> None:
    model = SwitchingModel()
    asyncio.run(Llm(model, model="small-model").aanswer(CALL))

    assert len(model.asked) == 1
    assert model.model == "big-model"


def test_a_model_that_cannot_switch_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="with_model") as refusal:
        WorkingMemoryCompressor(AgentModel(), MemoryConfig(compression_model="small-model"))

    assert "'small-model'" in str(refusal.value)


# --- Failures and time ------------------------------------------------------------------------------------------------


def failing(error: Exception) -> Callable[[str], str]:
    def ask_it(prompt: str) -> str:
        raise error

    return ask_it


@pytest.mark.parametrize("asking", [ask, ask_async])
def test_a_failing_model_is_a_summary_error_without_its_text(asking: Callable[..., ModelReply]) -> None:
    error = ValueError("the password is hunter2")
    with pytest.raises(SummaryError, match="ValueError") as failure:
        asking(failing(error))

    assert failure.value.__cause__ is error
    assert "hunter2" not in str(failure.value)


@dataclass
class Blocking:
    """A synchronous model that never answers in time."""

    may_end: threading.Event = field(default_factory=threading.Event)
    ended: bool = False

    def __call__(self, prompt: str) -> str:
        self.may_end.wait(10)
        self.ended = True
        return "too late"


@pytest.mark.parametrize("asking", [ask, ask_async])
def test_a_blocking_model_costs_the_timeout_and_no_more(asking: Callable[..., ModelReply]) -> None:
    model = Blocking()
    with pytest.raises(SummaryError, match=r"within 0\.02 seconds"):
        asking(model, HASTY)
    ended = model.ended
    model.may_end.set()

    assert not ended, "the caller waited for the model after its time was up"


def test_an_asynchronous_model_is_given_up_at_the_timeout() -> None:
    async def never(prompt: str) -> str:
        return await asyncio.Future()

    with pytest.raises(SummaryError, match=r"within 0\.02 seconds") as failure:
        ask_async(never, HASTY)

    assert isinstance(failure.value.__cause__, TimeoutError)


async def test_cancelling_the_caller_passes_through() -> None:
    async def never(prompt: str) -> str:
        return await asyncio.Future()

    task = asyncio.create_task(Llm(never).aanswer(CALL))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


# --- The drivers ------------------------------------------------------------------------------------------------------


def two_calls() -> Steps[list[str]]:
    first = yield CALL
    try:
        second = yield CALL
    except SummaryError as error:
        return [first.text, type(error).__name__]
    return [first.text, second.text]


@dataclass
class Flaky:
    """Answers once, then fails."""

    answered: int = 0

    def __call__(self, prompt: str) -> str:
        self.answered += 1
        if self.answered > 1:
            raise OSError
        return "first"


def test_a_failed_call_is_raised_where_it_was_made() -> None:
    assert drive(two_calls(), Llm(Flaky())) == ["first", "SummaryError"]
    assert asyncio.run(adrive(two_calls(), Llm(Flaky()))) == ["first", "SummaryError"]


def test_a_call_without_a_model_is_a_summary_error() -> None:
    with pytest.raises(SummaryError, match="llm=None"):
        drive(two_calls(), None)
    with pytest.raises(SummaryError, match="llm=None"):
        asyncio.run(adrive(two_calls(), None))


@dataclass
class Watching:
    """A meter that notes what it is told; it refuses where it is told to."""

    refuses: bool = False
    told: list[Any] = field(default_factory=list)

    def before(self, call: ModelCall, model: str | None) -> None:
        self.told.append("before")
        if self.refuses:
            raise SummaryError("too dear")

    def after(self, call: ModelCall, reply: ModelReply | None, model: str | None) -> None:
        self.told.append(reply.text if reply else None)


@pytest.mark.parametrize(
    ("target", "refuses", "told"),
    [
        (lambda prompt: "yes", False, ["before", "yes"]),
        (lambda prompt: "yes", True, ["before"]),
        (failing(OSError()), False, ["before"]),
        (failing(TimeoutError("connect timed out")), False, ["before"]),
        (lambda prompt: threading.Event().wait(5), False, ["before", None]),
    ],
    ids=["answered", "refused", "failed", "gave up by itself", "ran out of time"],
)
def test_the_meter_is_told_of_every_call_that_may_be_billed(target: object, refuses: bool, told: list[Any]) -> None:
    def one_call() -> Steps[str]:
        return (yield replace(CALL, timeout_seconds=0.1)).text

    for runner in (drive, lambda *a, **k: asyncio.run(adrive(*a, **k))):
        meter = Watching(refuses)
        if told[-1] == "yes":
            assert runner(one_call(), Llm(target), meter=meter) == "yes"
        else:
            with pytest.raises(SummaryError):
                runner(one_call(), Llm(target), meter=meter)
        assert meter.told == told
