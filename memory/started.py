"""A model call that is under way while its memory does other things."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, TypeAlias

from .errors import SummaryError

if TYPE_CHECKING:
    from asyncio import Task

    from .llm import ModelCall, ModelReply

Outcome: TypeAlias = "tuple[ModelReply | None, Exception | None]"
"""What came of a call: an answer, or why there is none."""


class TooSlowError(SummaryError):
    """Our own time limit ran out; the provider goes on, and bills."""


class CallLostError(SummaryError):
    """The call will never be answered: its task was cancelled, or the event loop that it ran in is closed."""


class StartedCall:
    """Looked at, waited for, or dropped by the thread or the event loop that its memory belongs to at the time."""

    def __init__(
        self,
        call: ModelCall,
        work: Task[Outcome] | Future[Outcome],
        *,
        book: Callable[[ModelReply | None, Exception | None], None],
    ) -> None:
        """Take note of a call that has just been started.

        Args:
            call: What was asked.
            work: A task of the running event loop, or the future of a thread; neither ever raises.
            book: Told once what came of it; of one that was lost, that there is no reply.
        """
        self.call = call
        self._work = work
        self._book = book
        self._is_booked = False

    @property
    def is_done(self) -> bool:
        """Whether `take` has something to say: an answer came, or none will come."""
        return self._work.done() or self._is_orphan

    def take(self) -> ModelReply:
        """Return the answer; a call that is not done is let go.

        Raises:
            SummaryError: The call failed.
            CallLostError: It is not done, or never will be.
        """
        if not self._work.done():
            self.drop()
        reply, failure = self._outcome()
        self.book()
        if failure is not None:
            raise failure
        assert reply is not None
        return reply

    def book(self) -> None:
        """Book what a call has used that is done; once, however often this is called."""
        if self.is_done and not self._is_booked:
            self._is_booked = True
            self._book(*self._outcome())

    def drop(self) -> None:
        """Let go of the call. What it has used is booked, as far as that can be known."""
        if not self._work.done() and not self._is_orphan:
            self._work.cancel()
        if not self._is_booked:
            self._is_booked = True
            self._book(*self._outcome())

    def wait(self) -> None:
        """Wait for a thread. A task of an event loop cannot be waited for here: nothing would move it on."""
        if isinstance(self._work, Future):
            wait([self._work])

    async def wait_async(self, *, timeout_seconds: float | None = None) -> None:
        """Wait for a thread, or for a task of the running event loop. To be cancelled here does not end the call."""
        import asyncio

        if isinstance(self._work, Future):
            await asyncio.wait([asyncio.wrap_future(self._work)], timeout=timeout_seconds)
        elif self._work.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._work], timeout=timeout_seconds)

    @property
    def _is_orphan(self) -> bool:
        return not isinstance(self._work, Future) and self._work.get_loop().is_closed()

    def _outcome(self) -> Outcome:
        if self._work.done() and not self._work.cancelled():
            return self._work.result()
        return None, CallLostError("the event loop ended before the summary came")
