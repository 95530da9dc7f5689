"""Writes a memory's session after each turn, and goes on in memory where the store fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..errors import StorageError, UnknownSessionError
from ..events import Event, SaveFailed, SaveRecovered
from .lease import in_use, is_of_this_process
from .news import News, Pending
from .store import SessionStore

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
        self._is_required = is_required
        self._emit = emit
        self._clock = clock
        self._retry_at = 0.0
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._writing: _Writing | None = None

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
            StorageError: It cannot be written. What is not in the store then is lost with this process.
        """
        self.settle()
        if self.news.begins is None and is_of_this_process(self.news.owner):
            self.store.release(self.news.session_id, self.news.owner)

    def _begin_writing(self, pending: Pending) -> None:
        import asyncio

        self._writing = writing = _Writing(pending=pending)
        asyncio.get_running_loop().run_in_executor(None, lambda: writing.run(self._write))

    async def _wait_for_writing(self) -> None:
        import asyncio

        if self._writing is not None:
            await asyncio.wait([asyncio.wrap_future(self._writing.outcome)])
            self._finish_writing()

    def _finish_writing(self) -> None:
        """Take note of what a thread wrote; wait for it, where the caller that began it was cancelled.

        One turn is written after the other: an older state must never take the place of a newer one.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            self._conclude(writing.pending, writing.outcome.result())

    def _write(self, pending: Pending) -> StorageError | None:
        try:
            self._refuse_fork()
            self.store.save(pending.turn)
        except StorageError as error:
            return error
        except UnknownSessionError as error:  # deleted, or its file was: the loop goes on here too
            return StorageError(f"{error}. What was written of it is gone, and nothing more can be")
        except BaseException:
            self.news.note_failed(pending)
            raise
        return None

    def _refuse_fork(self) -> None:
        """Raise in a child that was forked: the session is still its parent's, whose token it has."""
        if not is_of_this_process(self.news.owner):
            raise in_use(self.news.session_id, self.news.owner)

    def _pending(self) -> Pending | None:
        is_waiting = self.problem is not None and self._clock() < self._retry_at
        return None if is_waiting else self.news.turn()

    def _conclude(self, pending: Pending, failure: StorageError | None) -> None:
        if failure is None:
            self.news.note_written(pending)
            self._recover(len(pending.turn.messages))
        else:
            self.news.note_failed(pending)
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


_FIRST_WAIT_SECONDS = 1.0
"""After a failure: how long the store is left alone. A store that is locked makes each try wait."""

_LONGEST_WAIT_SECONDS = 60.0
