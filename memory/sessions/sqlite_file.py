"""One SQLite file: opened when it is needed, used in transactions, and usable again after every failure."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Final, TypeVar

from ..errors import StorageError
from .sqlite_failures import folder_error, is_busy, read_only, storage_error
from .sqlite_schema import is_current, next_migration

T = TypeVar("T")

IN_MEMORY: Final = ":memory:"
_LONGEST_PAUSE_SECONDS: Final = 0.01
_LARGEST_IDLE_LOG_BYTES: Final = 16 * 2**20


class SqliteFile:
    """Runs functions on a connection, each in a transaction of its own. Safe to use from several threads.

    The connection is made at the first use, and anew when the file was deleted or replaced, after a failure, and on
    both sides of a fork (a connection must not cross it: https://www.sqlite.org/howtocorrupt.html, section 2.6,
    2026-11). A file that may only be read can be read.
    """

    def __init__(self, path: str, *, timeout_seconds: float) -> None:
        self.path = path
        self._timeout_seconds = timeout_seconds
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._is_durable = False
        self._is_frozen = False
        self._is_working = False
        self._is_forking = False
        if sys.platform != "win32":
            _watch_forks(self)

    def write(self, work: Callable[[sqlite3.Connection], T], *, is_durable: bool = True) -> T:
        """Run `work` in a transaction that holds the write lock; all that it wrote counts, or nothing.

        `work` runs again where another process is in the way, until the time is up.

        Raises:
            StorageError: The file failed; what `work` raises comes through as it is. Nothing was written.
        """
        return self._run("BEGIN IMMEDIATE", work, is_durable=is_durable)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on one state of the file, whatever others write meanwhile.

        Raises:
            StorageError: The file failed.
        """
        return self._run("BEGIN", work, is_durable=None)

    def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` outside a transaction: what SQLite does not do inside one, as shrinking the file.

        Raises:
            StorageError: The file failed.
        """
        return self._run(None, work, is_durable=True)

    def close(self) -> None:
        """Let go of the file. A later use opens it again."""
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        self._drop()

    def _run(self, begin: str | None, work: Callable[[sqlite3.Connection], T], *, is_durable: bool | None) -> T:
        with self._lock:
            if self._is_working:  # by a signal handler or a finaliser, in the middle of a call of this very thread
                raise StorageError(f"{self.path} is in the middle of another call of this thread; nothing was done")
            self._is_working = True
            try:
                return self._until_done(begin, work, is_durable)
            finally:
                self._is_working = False

    def _until_done(self, begin: str | None, work: Callable[[sqlite3.Connection], T], is_durable: bool | None) -> T:
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                return self._once(begin, work, is_durable)
            except sqlite3.Error as error:
                self._recover(error)
                if not is_busy(error) or time.monotonic() > deadline:
                    raise storage_error(error, self.path, timeout_seconds=self._timeout_seconds) from error
            except BaseException:
                self._roll_back()
                raise
            # SQLite's own waiting sleeps longer with each attempt, so that among many writers the one that waited
            # longest asks least often. Short random pauses give each the same chance.
            time.sleep(os.urandom(1)[0] / 255 * _LONGEST_PAUSE_SECONDS)

    def _once(self, begin: str | None, work: Callable[[sqlite3.Connection], T], is_durable: bool | None) -> T:
        connection = self._opened(is_reading=is_durable is None)
        if is_durable is not None and is_durable != self._is_durable:
            connection.execute("PRAGMA synchronous = FULL" if is_durable else "PRAGMA synchronous = NORMAL")
            self._is_durable = is_durable
        if begin is None:
            return work(connection)
        connection.execute(begin)
        result = work(connection)
        connection.execute("COMMIT")
        return result

    def _recover(self, error: sqlite3.Error) -> None:
        """Leave no transaction open; after anything but a lock, start with a fresh connection."""
        self._roll_back()
        if not is_busy(error) and self.path != IN_MEMORY:
            self._drop()

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None or not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:  # closing ends the transaction too
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- Opening ------------------------------------------------------------------------------------------------------

    def _opened(self, *, is_reading: bool) -> sqlite3.Connection:
        """Return the connection. A file that was deleted or replaced since is noticed before anything is written to it.

        What is written to a deleted file is lost with the process. In the file that stands there now, a session is
        found or is not, like any other.
        """
        if self._connection is not None:
            is_same = self.path == IN_MEMORY or self._file_id == _file_id(self.path)
            if is_same and not self._is_frozen:
                return self._connection
            self._drop()
        self._make()
        self._is_durable = self._is_frozen = False
        try:
            self._connection = self._prepared(self.path)
        except sqlite3.OperationalError as error:
            if not is_reading or not _needs_writing(error):
                raise
            self._connection = self._as_it_is(error)
        self._file_id = _file_id(self.path)
        return self._connection

    def _make(self) -> None:
        """Make the folder and the file where they are missing, for this account alone: conversations are private."""
        if os.path.isdir(self.path):
            raise StorageError(f"{self.path} is a folder; name a file in it")
        if self.path == IN_MEMORY or os.path.exists(self.path):
            # An existing file is never opened here: closing it again would drop SQLite's locks on it
            # (https://www.sqlite.org/howtocorrupt.html, section 2.2, 2026-11).
            return
        try:
            _make_folder(Path(self.path).parent)
            _make_file(self.path)
        except OSError as error:
            raise folder_error(error, self.path) from error

    def _prepared(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            if not is_current(connection, self.path):
                self._migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_IDLE_LOG_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        # In an empty file this decides that it can shrink later; afterwards only a full rewrite could.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        is_behind = True
        while is_behind:
            connection.execute("BEGIN IMMEDIATE")
            is_behind = next_migration(connection)
            connection.execute("COMMIT")

    def _as_it_is(self, error: sqlite3.OperationalError) -> sqlite3.Connection:
        """Return a connection for one reading of a file in whose folder nothing can be written, as on a read-only disk.

        Raises:
            StorageReadOnlyError: Turns stand in the log beside the file, which cannot be read without its folder.
        """
        log = Path(f"{self.path}-wal")
        if not os.path.exists(self.path) or (log.exists() and log.stat().st_size):
            raise read_only(self.path, error.sqlite_errorname) from error
        address = f"{Path(self.path).absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        self._is_frozen = True
        if not is_current(connection, self.path):
            connection.close()
            raise read_only(self.path, "an older version, which must be brought up to date first") from error
        return connection

    # --- Forking ------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let no other thread use the connection until the fork is over, and close it."""
        self._lock.acquire()
        self._is_forking = True
        if self.path != IN_MEMORY:
            self._drop()

    def after_fork(self) -> None:
        """Go on in the parent."""
        if self._is_forking:
            self._is_forking = False
            self._lock.release()

    def after_fork_in_child(self) -> sqlite3.Connection | None:
        """Go on in the child.

        Returns:
            The parent's connection, where a server forked without saying so before. To close it would harm the parent.
        """
        self._is_forking = self._is_working = False
        self._lock = RLock()
        if self.path == IN_MEMORY:
            return None
        connection, self._connection = self._connection, None
        return connection


def _watch_forks(file: SqliteFile) -> None:
    """Tell a file of forks for as long as there is one; what is registered stays for ever."""
    reference = weakref.ref(file)
    strays: list[sqlite3.Connection] = []

    def before() -> None:
        if (alive := reference()) is not None:
            alive.before_fork()

    def after() -> None:
        if (alive := reference()) is not None:
            alive.after_fork()

    def after_in_child() -> None:
        alive = reference()
        if alive is not None and (stray := alive.after_fork_in_child()) is not None:
            strays.append(stray)

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)


def _make_folder(folder: Path) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def _make_file(path: str) -> None:
    with suppress(FileExistsError):  # another process was faster
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _needs_writing(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def readable_path(path: str | Path | None) -> str:
    """Return the path of the file to use: `~/.aloop/sessions.db` unless told otherwise.

    Raises:
        StorageError: The path can be no file's.
    """
    if path == IN_MEMORY:
        return IN_MEMORY
    chosen = str(Path("~/.aloop/sessions.db" if path is None else path).expanduser())
    if "\0" in chosen:
        raise StorageError("a path holds a zero byte; name another file")
    return chosen
