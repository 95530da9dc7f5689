"""Sessions in one SQLite file, with nothing but the standard library."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..recall import Document, Found, Query
from . import sqlite_forgetting as forgetting
from . import sqlite_keeping as keeping
from . import sqlite_reading as reading
from . import sqlite_recall as recall
from . import sqlite_writing as writing
from .sqlite_disk import Disk
from .sqlite_file import IN_MEMORY, SqliteFile, readable_path
from .values import (
    DailyUsage,
    Owner,
    Saved,
    SessionInfo,
    StoredCall,
    StoredCompression,
    StoredLayout,
    StoredMessage,
    Turn,
)


class SqliteSessionStore:
    """Keeps sessions in a file, `~/.aloop/sessions.db` unless told otherwise; `":memory:"` keeps them in this object.

    Any number of processes of one machine may use the file; it must not lie on a network disk, whose locks SQLite
    cannot rely on. A durable turn waits for the disk, any other for the operating system only.
    """

    is_remote = False

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        timeout_seconds: float = 30.0,
        waits_for_disk: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep sessions in the file `path`; it is made, with its folder, at the first use.

        Args:
            path: The file; only this account may read one that is made.
            timeout_seconds: How long to wait for other processes that write.
            waits_for_disk: Return from a durable turn when the disk has it. False: it is brought there at once, but
                behind the loop's back; a machine that loses its power may lose the turns of the last milliseconds.
            clock: Tells the time by which leases and ages are reckoned, in seconds since 1970.
        """
        self.path = readable_path(path)
        self._file = SqliteFile(self.path, timeout_seconds=timeout_seconds)
        self._disk = None if waits_for_disk or self.path == IN_MEMORY else Disk(self.path)
        self._clock = clock

    # --- One owner writes ---------------------------------------------------------------------------------------------

    def save(self, turn: Turn) -> None:
        now, disk = self._clock(), self._disk
        if disk is not None:
            disk.check()
        is_durable = turn.is_durable and (disk is None or turn.begins is not None)  # a new file: its folder too
        self._file.write(lambda connection: writing.save(connection, turn, now=now), is_durable=is_durable)
        if disk is not None and turn.is_durable and not is_durable:
            disk.want()

    def acquire(self, session_id: str, owner: Owner, *, takes_over: bool = False) -> Saved:
        now = self._clock()
        return self._file.write(
            lambda connection: writing.acquire(connection, session_id, owner, takes_over=takes_over, now=now)
        )

    def release(self, session_id: str, owner: Owner) -> None:
        self._file.write(lambda connection: writing.release(connection, session_id, owner))

    # --- Anyone reads -------------------------------------------------------------------------------------------------

    def sessions(self, *, limit: int | None = None) -> list[SessionInfo]:
        return self._file.read(lambda connection: reading.sessions(connection, limit))

    def find(self, session: str) -> SessionInfo:
        return self._file.read(lambda connection: reading.find(connection, session))

    def load(self, session_id: str) -> Saved:
        return self._file.read(lambda connection: reading.load(connection, session_id))

    def line(self, session_id: str) -> list[tuple[str, int]]:
        found = self._file.read(lambda connection: reading.line(connection, session_id))
        return [(id, newest) for _, id, newest in found]

    def messages(self, session_id: str, *, first_seq: int = 1, last_seq: int | None = None) -> list[StoredMessage]:
        return self._file.read(
            lambda connection: reading.messages(connection, session_id, first_seq=first_seq, last_seq=last_seq)
        )

    def messages_of(self, session_id: str, seqs: Iterable[int]) -> list[StoredMessage]:
        wanted = tuple(seqs)
        return self._file.read(lambda connection: reading.messages_of(connection, session_id, wanted))

    def blob(self, digest: str) -> bytes:
        return self._file.read(lambda connection: reading.blob(connection, digest))

    def calls(self, session_id: str) -> list[StoredCall]:
        return self._file.read(lambda connection: reading.calls(connection, session_id))

    def compressions(self, session_id: str) -> list[StoredCompression]:
        return self._file.read(lambda c: reading.compressions_in(c, reading.key_of(c, session_id)))

    def layouts(self, session_id: str) -> list[StoredLayout]:
        return self._file.read(lambda c: reading.layouts_in(c, reading.key_of(c, session_id)))

    def daily_usage(self, *, since: float = 0.0) -> list[DailyUsage]:
        return self._file.read(lambda connection: reading.daily_usage(connection, since))

    # --- Keeping house ------------------------------------------------------------------------------------------------

    def rename(self, session_id: str, title: str) -> None:
        self._file.write(lambda connection: keeping.rename(connection, session_id, title))

    def delete(self, session_id: str) -> None:
        now = self._clock()
        self._file.write(lambda connection: keeping.delete(connection, session_id, now=now))

    def forget(self, session_id: str, seqs: Iterable[int]) -> int:
        now, wanted = self._clock(), tuple(seqs)
        count = self._file.write(lambda connection: forgetting.forget(connection, session_id, wanted, now=now))
        self._file.alone(forgetting.erase)
        self._file.alone(forgetting.empty_log)
        return count

    def limit(self, *, max_bytes: int | None = None, max_age_seconds: float | None = None) -> list[str]:
        now = self._clock()
        deleted: list[str] = []
        if max_age_seconds is not None:
            deleted += self._delete_oldest(lambda _: True, before=now - max_age_seconds, now=now)
        if max_bytes is not None:
            deleted += self._delete_oldest(
                lambda connection: keeping.used_bytes(connection) > max_bytes, before=None, now=now
            )
        if deleted or max_bytes is not None:
            self._file.alone(keeping.shrink)
        return deleted

    def _delete_oldest(
        self, is_too_much: Callable[[sqlite3.Connection], bool], *, before: float | None, now: float
    ) -> list[str]:
        """Delete one session at a time, each in a transaction of its own, so that those who write need not wait."""

        def step(connection: sqlite3.Connection) -> str | None:
            id = keeping.oldest(connection, before=before, now=now) if is_too_much(connection) else None
            if id is not None:
                keeping.delete(connection, id, now=now)
            return id

        return list(iter(lambda: self._file.write(step), None))

    # --- Recall -------------------------------------------------------------------------------------------------------

    def unindexed(
        self, session_id: str | None = None, *, limit: int = 1_000
    ) -> list[tuple[SessionInfo, StoredMessage]]:
        return self._file.read(lambda connection: recall.unindexed(connection, session_id, limit))

    def index(self, documents: Sequence[Document]) -> None:
        self._file.write(lambda connection: recall.index(connection, documents), is_durable=False)

    def search(self, query: Query) -> list[Found]:
        return self._file.read(lambda connection: recall.search(connection, query))

    def unembedded(self, embedder: str, session_id: str | None = None, *, limit: int = 1_000) -> list[tuple[str, int]]:
        return self._file.read(lambda connection: recall.unembedded(connection, embedder, session_id, limit))

    def add_vectors(self, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        rows = tuple(vectors)
        self._file.write(lambda connection: recall.add_vectors(connection, embedder, rows), is_durable=False)

    def vectors(
        self, embedder: str, session_id: str | None = None, *, after_row: int = 0
    ) -> list[tuple[int, str, int, bytes]]:
        return self._file.read(lambda connection: recall.vectors(connection, embedder, session_id, after_row))

    def close(self) -> None:
        if self._disk is not None:
            self._disk.wait()
        self._file.close()
