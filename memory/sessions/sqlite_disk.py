"""Bringing SQLite's log to the disk behind the back of whoever wrote it: a turn need not wait for that."""

from __future__ import annotations

import errno
import os
from threading import Condition, Thread
from typing import Final

from ..errors import StorageError

_IDLE_SECONDS: Final = 2.0
"""How long the thread waits for another turn before it ends."""


class Disk:
    """Syncs the log of one file in a thread of its own, again and again for as long as something new is in it.

    What was committed survives the end of the process in any case. A machine that loses its power loses what was
    committed within the last milliseconds, for as long as the disk takes to sync.

    The log may be opened and closed beside SQLite, which holds its locks on other files
    (https://www.sqlite.org/wal.html, section 2.4, and https://www.sqlite.org/howtocorrupt.html, 2.2, 2026-11).
    """

    def __init__(self, path: str) -> None:
        self._log = f"{path}-wal"
        self._process_id = os.getpid()
        self._condition = Condition()
        self._is_running = False
        self._is_wanted = False
        self._is_syncing = False
        self._failure: OSError | None = None

    def check(self) -> None:
        """Return if all went well so far.

        Raises:
            StorageError: The disk failed since this was last asked.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            name = errno.errorcode.get(failure.errno or 0, "unknown")
            raise StorageError(
                f"{self._log} did not reach the disk ({name}): the newest turns may be lost"
            ) from failure

    def want(self) -> None:
        """Have everything that is in the log now brought to the disk soon. Returns at once."""
        if self._process_id != os.getpid():  # in the child of a fork the thread does not run
            self._process_id, self._condition = os.getpid(), Condition()
            self._is_running = False
        with self._condition:
            self._is_wanted = True
            self._condition.notify_all()
            if not self._is_running:
                self._is_running = True
                Thread(target=self._run, name="aloop-disk", daemon=True).start()

    def wait(self) -> None:
        """Return when all that was wanted is on the disk, or failed to get there."""
        if self._process_id == os.getpid():
            with self._condition:
                self._condition.wait_for(lambda: not (self._is_running and (self._is_wanted or self._is_syncing)))

    def _run(self) -> None:
        while self._has_work():
            failure = self._sync()
            with self._condition:
                self._is_syncing, self._failure = False, failure or self._failure
                self._condition.notify_all()

    def _has_work(self) -> bool:
        """Wait for work. After a while without any, the thread ends."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_wanted, timeout=_IDLE_SECONDS)
            self._is_running = self._is_syncing = self._is_wanted
            self._is_wanted = False
            return self._is_running

    def _sync(self) -> OSError | None:
        try:
            descriptor = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:  # its content went to the file itself, and was synced there
            return None
        except OSError as error:
            return error
        try:
            _sync_content(descriptor)
        except OSError as error:
            return error
        finally:
            os.close(descriptor)
        return None


_sync_content = getattr(os, "fdatasync", os.fsync)
