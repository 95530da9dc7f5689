"""The one door to a model, and the two drivers that run a generator through it.

The core does no I/O: whatever needs a model is a generator that yields a `ModelCall` and is sent a `ModelReply`.
`drive` and `adrive` run such a generator; `Llm` turns what the user passed as `llm` into answers.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from .errors import ConfigError, SummaryError
from .messages import LLMMessage

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A request to a model: no tools, bounded output, bounded time."""

    instructions: str
    prompt: str
    max_output_tokens: int
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What the model answered."""

    text: str
    stop_reason: str | None = None
    response: object | None = None
    """The model's own response object, where it has one: its usage is read from here."""


Steps: TypeAlias = Generator[ModelCall, ModelReply, Result]
"""Work that may ask a model; its return value is the result."""


class Meter(Protocol):
    """Is told of every call to a model, and may refuse it."""

    def before(self, call: ModelCall, model: str | None) -> None:
        """Raise `SummaryError` to refuse the call."""
        ...

    def after(self, call: ModelCall, reply: ModelReply | None, model: str | None) -> None:
        """Take note of a call that was made; no reply: it ran out of time."""
        ...


def drive(run: Steps[Result], llm: Llm | None, *, meter: Meter | None = None) -> Result:
    """Run a generator to its end, answering each call it yields; a failed call is raised inside it."""
    with closing(run):
        step: Callable[[], ModelCall] = partial(next, run)
        while True:
            try:
                call = step()
            except StopIteration as stop:
                return cast(Result, stop.value)
            try:
                with _metered(call, llm, meter) as answered:
                    answered.reply = _required(llm).answer(call)
                step = partial(run.send, answered.reply)
            except SummaryError as error:
                step = partial(run.throw, error)


async def adrive(run: Steps[Result], llm: Llm | None, *, meter: Meter | None = None) -> Result:
    """Run a generator to its end like `drive`, awaiting each answer."""
    with closing(run):  # a cancelled task must not leave the generator's `finally` to the garbage collector
        step: Callable[[], ModelCall] = partial(next, run)
        while True:
            try:
                call = step()
            except StopIteration as stop:
                return cast(Result, stop.value)
            try:
                with _metered(call, llm, meter) as answered:
                    answered.reply = await _required(llm).aanswer(call)
                step = partial(run.send, answered.reply)
            except SummaryError as error:
                step = partial(run.throw, error)


@dataclass(slots=True)
class _Answered:
    reply: ModelReply | None = None


@contextmanager
def _metered(call: ModelCall, llm: Llm | None, meter: Meter | None) -> Iterator[_Answered]:
    """Ask the meter before a call and tell it after; a call that ran out of time was billed, one refused was not."""
    answered = _Answered()
    model = llm.model if llm is not None else None
    if meter is not None:
        meter.before(call, model)
    try:
        yield answered
    except SummaryError as error:
        if meter is not None and isinstance(error, _TooSlowError):
            meter.after(call, None, model)
        raise
    if meter is not None:
        meter.after(call, answered.reply, model)


def _required(llm: Llm | None) -> Llm:
    """Return the model.

    Raises:
        SummaryError: There is none, but a summariser of the user's own asks for one.
    """
    if llm is None:
        raise SummaryError("the summariser asks for a model, and the memory was given none (llm=None)")
    return llm


class Llm:
    """What the user passed as `llm`: an agent's model (`call_async`), or any callable from a prompt to a text."""

    def __init__(self, target: object, *, model: str | None = None) -> None:
        """Take the target as it is.

        Args:
            target: An object with `call_async(messages, tools=None, max_tokens=…)`, or a callable, sync or async,
                from a prompt to a text.
            model: Use this model instead of the target's own; an agent's model must offer `with_model(name)`. A
                callable is asked as it is, and this is the model that its calls are priced as.

        Raises:
            ConfigError: The target is neither, or `model` is given and an agent's model cannot switch.
        """
        given = target
        call_async = getattr(target, "call_async", None)
        if call_async is None and not callable(target):
            raise ConfigError(
                f"llm must have `call_async(messages, tools=None, max_tokens=…)` or be a callable from a prompt to a "
                f"text, got {type(target).__name__}; pass None to use no model at all"
            )
        if model is not None and call_async is not None:
            target = _switched(target, model)
        self._given = given
        self._target = target
        self._call_async: Callable[..., Awaitable[Any]] | None = getattr(target, "call_async", None)
        own_model = getattr(target, "model", None)
        self.model: str | None = model or (own_model if isinstance(own_model, str) else None)

    def is_made_of(self, llm: object) -> bool:
        """Whether this was made of that model."""
        return self._given is llm

    def answer(self, call: ModelCall) -> ModelReply:
        """Ask a synchronous model, waiting at most `timeout_seconds`.

        Raises:
            SummaryError: It failed, took too long, or only answers asynchronously.
        """
        if self._call_async is not None or inspect.iscoroutinefunction(self._target):
            raise SummaryError(_ONLY_ASYNC)
        ask = cast(Callable[[str], object], self._target)
        try:
            answer, failure = _started(partial(ask, _one_prompt(call))).result(call.timeout_seconds)
        except TimeoutError as error:
            raise _too_slow(call) from error
        if failure is not None:
            raise _failed(failure) from failure
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()  # or Python warns that nobody awaited it
            raise SummaryError(_ONLY_ASYNC)
        return _reply(answer)

    async def aanswer(self, call: ModelCall) -> ModelReply:
        """Ask the model, waiting at most `timeout_seconds`; a synchronous one is asked in a thread.

        Raises:
            SummaryError: It failed or took too long. Cancellation passes through.
        """
        import asyncio  # a third of what `import memory` would cost; whoever awaits this has it loaded

        try:
            async with asyncio.timeout(call.timeout_seconds) as limit:
                return _reply(await self._ask(call))
        except SummaryError:
            raise
        except TimeoutError as error:
            # The model's own client may time out too: that is a failure like any other.
            raise (_too_slow(call) if limit.expired() else _failed(error)) from error
        except Exception as error:  # the user's model: anything may come out of it
            raise _failed(error) from error

    async def _ask(self, call: ModelCall) -> object:
        if self._call_async is not None:
            messages = [LLMMessage("system", call.instructions), LLMMessage("user", call.prompt)]
            return await self._call_async(messages, tools=None, max_tokens=call.max_output_tokens)
        ask = cast(Callable[[str], object], self._target)
        if inspect.iscoroutinefunction(ask):
            return await cast(Awaitable[object], ask(_one_prompt(call)))
        from asyncio import wrap_future

        # Also for an object whose `__call__` is asynchronous: the thread only makes its coroutine.
        answer, failure = await wrap_future(_started(partial(ask, _one_prompt(call))))
        if failure is not None:
            raise failure
        return await answer if inspect.isawaitable(answer) else answer


def _switched(target: object, model: str) -> object:
    with_model = getattr(target, "with_model", None)
    if with_model is not None:
        return with_model(model)
    if getattr(target, "model", None) == model:
        return target
    raise ConfigError(
        f"compression_model={model!r} cannot be used: this llm ({type(target).__name__}) has no `with_model(name)`. "
        "Give it one, or pass `summarizer=ModelSummarizer(…)` with a model of its own."
    )


def _one_prompt(call: ModelCall) -> str:
    return f"{call.instructions}\n\n{call.prompt}"


def _started(ask: Callable[[], object]) -> Future[_Outcome]:
    """Run a blocking call in a daemon thread, so that one that never returns costs the timeout and no more.

    Not in the loop's executor: `asyncio.run` would wait for its threads at the end.
    """
    future: Future[_Outcome] = Future()
    future.set_running_or_notify_cancel()  # from here on nobody can cancel it, and its result always finds a place

    def run() -> None:
        try:
            future.set_result((ask(), None))
        except Exception as error:  # noqa: BLE001 - the user's model: anything may come out of it
            future.set_result((None, error))

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="memory-summary", daemon=True).start()
    return future


_Outcome: TypeAlias = tuple[object, Exception | None]


_ONLY_ASYNC = "this llm answers only asynchronously; use `await add_message(…)` to have it asked"


class _TooSlowError(SummaryError):
    """Our own time limit ran out; the provider goes on, and bills."""


def _failed(error: Exception) -> SummaryError:
    return SummaryError(f"the model call failed with {type(error).__name__}")


def _too_slow(call: ModelCall) -> SummaryError:
    return _TooSlowError(f"the model did not answer within {call.timeout_seconds:g} seconds")


def _reply(answer: object) -> ModelReply:
    if isinstance(answer, str):
        return ModelReply(text=answer)
    content = getattr(answer, "content", None)
    stop_reason = getattr(answer, "stop_reason", None)
    return ModelReply(
        text=_text(content),
        stop_reason=stop_reason if isinstance(stop_reason, str) else None,
        response=answer,
    )


def _text(content: object) -> str:
    """Return the text of a response's content: a string, None, or a list of parts with `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content)
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""
