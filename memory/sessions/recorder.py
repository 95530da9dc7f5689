"""Writes a memory's session after each turn, and goes on in memory where the store fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from ..errors import MessageError, StorageError, UnknownSessionError
from ..events import Event, SaveFailed, SaveRecovered
from .lease import in_use, is_of_this_process
from .news import News, Pending
from .store import SessionStore
from .values import Turn

logger = logging.getLogger(__name__)


class SessionRecorder:
    """Brings what is new in one memory to its store.

    Where the store fails, nothing is dropped: the failure is told once, the loop goes on, and later turns try again,
    less and less often, with everything that is missing.
    """

    def __init__(
        self,
        store: SessionStore,
        news: News,
        *,
        is_required: bool,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is written, and where to.

        Args:
            store: Where to.
            news: Knows what is new.
            is_required: Raise where the store fails, once the memory itself is in order.
            emit: Told of failures and recoveries.
            clock: Seconds; how long a store that failed is left alone goes by it.
        """
        self.store = store
        self.news = news
        self.problem: StorageError | None = None
        """Why the newest turns are in memory only; None where all is well."""
        self.rest = Rest()
        self._is_required = is_required
        self._emit = emit
        self._clock = clock
        self._retry_at = 0.0
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._writing: _Writing | None = None
        self._after: float | None = None

    def save(self) -> None:
        """Write what is new, if anything is and if the store has not failed a moment ago.

        Raises:
            SessionInUseError: Another memory took the session over.
            StorageError: The store failed, and `session_required` is set.
        """
        self._finish_writing()
        pending = self._pending()
        if pending is not None:
            self._conclude(pending, self._write(pending))

    async def save_async(self) -> None:
        """Write what is new like `save`. A store that is elsewhere is waited for in a thread.

        To be cancelled here does not end the writing; the next save waits for it.
        """
        if not self.store.is_remote:
            self.save()
            return
        await self._wait_for_writing()
        pending = self._pending()
        if pending is not None:
            self._begin_writing(pending)
            await self._wait_for_writing()

    def save_soon(self) -> None:
        """Write what is new like `save`. Where an event loop runs, a store that is elsewhere is not waited for.

        What is new while an earlier turn is being written goes with the next one.
        """
        if not (self.store.is_remote and _is_in_event_loop()):
            self.save()
        elif self._writing is None or self._writing.outcome.done():
            self._finish_writing()
            pending = self._pending()
            if pending is not None:
                self._begin_writing(pending)

    def begin(self) -> None:
        """Write the first turn now. A session that cannot begin never does: whoever asked for it learns that.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            self.settle()
        except BaseException:
            self.rest.turn = None
            raise

    def settle(self) -> None:
        """Write what is new now, however lately the store failed.

        Raises:
            StorageError: It cannot be written.
        """
        self._retry_at = 0.0
        self.save()
        if self.problem is not None:
            raise self.problem

    def close(self) -> None:
        """Write what is left, and give the session up for others.

        Raises:
            StorageError: It cannot be written. The session stays this memory's, so that this can be tried again.
        """
        self.settle()
        if self.news.begins is None and is_of_this_process(self.news.owner):
            self.store.release(self.news.session_id, self.news.owner)

    def _begin_writing(self, pending: Pending) -> None:
        import asyncio

        writing = _Writing(pending=pending)
        try:
            asyncio.get_running_loop().run_in_executor(None, lambda: writing.run(self._write))
        except RuntimeError:  # the loop is about to end, and its threads take no more work
            self._conclude(pending, self._write(pending))
        else:
            self._writing = writing

    async def _wait_for_writing(self) -> None:
        """Wait until nothing is being written. Of several who wait for a turn, the first to wake takes note of it."""
        import asyncio

        while (writing := self._writing) is not None:
            await asyncio.wait([asyncio.wrap_future(writing.outcome)])
            if writing is self._writing:
                self._finish_writing()

    def _finish_writing(self) -> None:
        """Take note of what a thread wrote; wait for it, where the caller that began it was cancelled.

        One turn is written after the other: an older state must never take the place of a newer one.
        """
        writing, self._writing = self._writing, None
        if writing is not None and is_of_this_process(self.news.owner):  # threads do not come along into a child
            self._conclude(writing.pending, writing.outcome.result())

    def _write(self, pending: Pending) -> StorageError | None:
        try:
            self._refuse_fork()
            self.store.save(self._dated(pending.turn))
        except StorageError as error:
            return error
        except UnknownSessionError as error:  # deleted, or its file was: the loop goes on here too
            return StorageError(f"{error}. What was written of it is gone, and nothing more can be")
        except BaseException:
            self._put_back(pending)
            raise
        return None

    def _dated(self, turn: Turn) -> Turn:
        """Return a turn that is newer than all that the store had before this memory wrote to it.

        What is the latest goes by the time of writing; a clock may be set back, and another machine's may be ahead.
        """
        if self._after is None:
            self._after = max((one.updated_at for one in self.store.sessions(limit=1)), default=0.0)
        return turn if turn.at > self._after else replace(turn, at=self._after + _TICK_SECONDS)

    def _refuse_fork(self) -> None:
        """Raise in a child that was forked: the session is still its parent's, whose token it has."""
        if not is_of_this_process(self.news.owner):
            raise in_use(self.news.session_id, self.news.owner)

    def _pending(self) -> Pending | None:
        is_waiting = self.problem is not None and self._clock() < self._retry_at
        try:
            pending = self.news.turn()
        except MessageError as error:  # something was put into a message after it was added
            if not is_waiting:
                self._fail(StorageError(f"what is new cannot be kept: {error}"))
            return None
        if pending is None or not is_waiting:
            return pending
        self._put_back(pending)
        return None

    def _put_back(self, pending: Pending) -> None:
        self.news.note_failed(pending)
        self.rest.turn = pending.turn

    def _conclude(self, pending: Pending, failure: StorageError | None) -> None:
        if failure is None:
            self.rest.turn = None
            self.news.note_written(pending)
            self._recover(len(pending.turn.messages))
        else:
            self._put_back(pending)
            self._fail(failure)

    def _recover(self, saved_count: int) -> None:
        if self.problem is None:
            return
        self.problem, self._wait_seconds = None, _FIRST_WAIT_SECONDS
        logger.warning("session=%s saved=%d | session saved again", self.news.session_id, saved_count)
        self._emit(SaveRecovered(saved_count=saved_count))

    def _fail(self, error: StorageError) -> None:
        is_news, self.problem = self.problem is None, error
        self._retry_at = self._clock() + self._wait_seconds
        self._wait_seconds = min(2 * self._wait_seconds, _LONGEST_WAIT_SECONDS)
        if is_news:
            kind, count = type(error).__name__, self.news.unsaved_count
            logger.warning(
                "session=%s error=%s unsaved=%d | cannot save, going on in memory", self.news.session_id, kind, count
            )
            self._emit(SaveFailed(error=kind, unsaved_count=count))
        if self._is_required:
            raise error


@dataclass(slots=True)
class Rest:
    """What the store lacks, for whoever lets go of a memory that was dropped: it knows nothing of that memory."""

    turn: Turn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writing:
    """A turn that a thread writes."""

    pending: Pending
    outcome: Future[StorageError | None] = field(default_factory=Future)

    def run(self, write: Callable[[Pending], StorageError | None]) -> None:
        try:
            self.outcome.set_result(write(self.pending))
        except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
            self.outcome.set_exception(error)


def _is_in_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_FIRST_WAIT_SECONDS = 1.0
"""After a failure: how long the store is left alone. A store that is locked makes each try wait."""

_TICK_SECONDS = 0.001
"""What is certainly later, at the precision of a time of this century in seconds."""

_LONGEST_WAIT_SECONDS = 60.0
