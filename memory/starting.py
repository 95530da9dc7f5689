"""Asking a model without waiting for its answer: in a thread, or in a task of the running event loop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from .asking import Llm, in_thread
from .errors import SummaryError
from .llm import Meter, ModelCall, ModelReply, required
from .started import CallLostError, Outcome, StartedCall, TooSlowError

if TYPE_CHECKING:
    from asyncio import Task


def start(call: ModelCall, llm: Llm | None, *, meter: Meter | None = None) -> StartedCall:
    """Ask in a thread, and return at once. What the call used is booked when its answer is taken, in this thread."""
    return _begun(call, llm, meter, lambda ask: in_thread(partial(ask.answer, call)))


def astart(call: ModelCall, llm: Llm | None, *, meter: Meter | None = None) -> StartedCall:
    """Ask in a task of the running event loop, and return at once."""
    import asyncio

    def begin(ask: Llm) -> Task[Outcome]:
        task = asyncio.get_running_loop().create_task(_caught(ask, call), name="memory-summary")
        # A loop that is closed under it would complain; to be left behind is what this task is made for.
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - asyncio.gather does so too; no type knows it
        return task

    return _begun(call, llm, meter, begin)


def _begun(
    call: ModelCall, llm: Llm | None, meter: Meter | None, begin: Callable[[Llm], Task[Outcome] | Future[Outcome]]
) -> StartedCall:
    model = llm.model_for(call) if llm is not None else None
    try:
        if meter is not None:
            meter.before(call, model)
        work = begin(required(llm))
        if call.meanwhile is not None:
            in_thread(call.meanwhile)
    except SummaryError as error:  # nobody was asked: it has failed already, and cost nothing
        refused: Future[Outcome] = Future()
        refused.set_result((None, error))
        return StartedCall(call, refused, book=_book_nothing)
    return StartedCall(call, work, book=partial(_book, call, model, meter))


async def _caught(llm: Llm, call: ModelCall) -> Outcome:
    try:
        return await llm.aanswer(call), None
    except SummaryError as error:
        return None, error


def _book(
    call: ModelCall, model: str | None, meter: Meter | None, reply: ModelReply | None, failure: Exception | None
) -> None:
    """Book a call that was answered, took too long, or is waited for by nobody; one that was refused was not billed."""
    if meter is not None and (reply is not None or isinstance(failure, TooSlowError | CallLostError)):
        meter.after(call, reply, model)


def _book_nothing(reply: ModelReply | None, failure: Exception | None) -> None:
    """Nobody was asked."""
