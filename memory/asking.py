"""What the user passed as `llm`, turned into answers: an agent's model, or any callable from a prompt to a text."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

from .errors import ConfigError, SummaryError
from .llm import ModelCall, ModelReply, Prefix
from .messages import DialectName, LLMMessage
from .started import TooSlowError

Answer = TypeVar("Answer")


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
        self.model: str | None = model or _named(target)
        """What writes summaries of messages that are quoted to it."""
        self.own_model = _named(given)
        """The model of what was given, before any `compression_model`."""

    def extends(self, dialect: DialectName) -> bool:
        """Whether it takes an agent's own messages in this format, so that a call may have a prefix of them."""
        takes = getattr(self._given, "call_async", None) is not None
        return takes and getattr(self._given, "dialect", None) == dialect

    def model_for(self, call: ModelCall) -> str | None:
        """Return the model that answers a call."""
        return self.model if call.prefix is None else self.own_model

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
            answer, failure = in_thread(partial(ask, _one_prompt(call))).result(call.timeout_seconds)
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
        if call.prefix is not None:
            return await self._ask_behind(call.prefix, call.max_output_tokens)
        if self._call_async is not None:
            messages = [LLMMessage("system", call.instructions), LLMMessage("user", call.prompt)]
            return await self._call_async(messages, tools=None, max_tokens=call.max_output_tokens)
        ask = cast(Callable[[str], object], self._target)
        if inspect.iscoroutinefunction(ask):
            return await cast(Awaitable[object], ask(_one_prompt(call)))
        from asyncio import wrap_future

        # Also for an object whose `__call__` is asynchronous: the thread only makes its coroutine.
        answer, failure = await wrap_future(in_thread(partial(ask, _one_prompt(call))))
        if failure is not None:
            raise failure
        return await answer if inspect.isawaitable(answer) else answer

    async def _ask_behind(self, prefix: Prefix, max_output_tokens: int) -> object:
        """Ask the agent's own model just as the agent does, so that the provider finds the prefix in its cache."""
        options = {"system": prefix.system} if prefix.system else {}
        ask: Callable[..., Awaitable[Any]] = self._given.call_async  # type: ignore[attr-defined]  # see extends
        messages = [*prefix.messages, prefix.instruction]
        return await ask(messages, tools=prefix.tools or None, max_tokens=max_output_tokens, **options)


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


def _named(target: object) -> str | None:
    name = getattr(target, "model", None)
    return name if isinstance(name, str) else None


def _one_prompt(call: ModelCall) -> str:
    return f"{call.instructions}\n\n{call.prompt}"


def in_thread(ask: Callable[[], Answer]) -> Future[tuple[Answer | None, Exception | None]]:
    """Run a blocking call in a daemon thread, so that one that never returns costs the timeout and no more.

    Not in the loop's executor: `asyncio.run` would wait for its threads at the end.
    """
    future: Future[tuple[Answer | None, Exception | None]] = Future()
    future.set_running_or_notify_cancel()  # from here on nobody can cancel it, and its result always finds a place

    def run() -> None:
        try:
            future.set_result((ask(), None))
        except Exception as error:  # noqa: BLE001 - the user's model: anything may come out of it
            future.set_result((None, error))

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="memory-summary", daemon=True).start()
    return future


_ONLY_ASYNC = "this llm answers only asynchronously; use `await add_message(…)` to have it asked"


def _failed(error: Exception) -> SummaryError:
    return SummaryError(f"the model call failed with {type(error).__name__}")


def _too_slow(call: ModelCall) -> SummaryError:
    return TooSlowError(f"the model did not answer within {call.timeout_seconds:g} seconds")


def _reply(answer: object) -> ModelReply:
    if isinstance(answer, str):
        return ModelReply(text=answer)
    content = getattr(answer, "content", None)
    stop_reason = getattr(answer, "stop_reason", None)
    return ModelReply(
        text=_text(content),
        stop_reason=stop_reason if isinstance(stop_reason, str) else None,
        response=answer,
        has_calls=bool(getattr(answer, "tool_calls", None)),
    )


def _text(content: object) -> str:
    """Return the text of a response's content: a string, None, or a list of parts with `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content)
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""
