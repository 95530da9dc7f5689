"""Sessions in Postgres: for teams whose agents run on many machines, any of which goes on with any session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ..errors import CorruptStorageError, SessionInUseError, UnknownSessionError
from ..recall.documents import Document, Found, Query
from .encoding import storable
from .postgres_connection import Connection, Row
from .postgres_errors import NotOwnedError
from .postgres_forgetting import forget
from .postgres_house import delete, oldest, rename, used_bytes
from .postgres_index import UNINDEXED, UNINDEXED_OF, add_documents
from .postgres_reads import BY_ID, BY_PREFIX, BY_TITLE, DAILY_USAGE, LINE, MESSAGES, MESSAGES_OF, SESSIONS, own
from .postgres_rows import saved_of, session_of, value_of
from .postgres_schema import SESSIONS as MIGRATIONS
from .postgres_schema import migrate
from .postgres_search import Search
from .postgres_turns import SAVED, give_up, refusal, take, unknown, write_turn
from .postgres_vectors import PostgresVectors
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

Own = TypeVar("Own", StoredCall, StoredCompression, StoredLayout)


class PostgresSessionStore:
    """Keeps sessions in the tables of one schema, which it makes itself. A `SessionStore`.

    It connects with its first call, and again after the connection broke. Threads take turns on its one connection;
    processes have one each.
    """

    is_remote = True

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str = "aloop",
        timeout_seconds: float = 30.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Check the parameters; nothing is connected yet.

        Args:
            conninfo: As libpq takes it: `postgresql://user:password@host:5432/database`, or `host=… dbname=…`. What it
                leaves out comes from the environment (`PGPASSWORD`, `PGSSLMODE`, …) and `~/.pgpass`.
            schema: Where the tables are; one for each team, if they are to know nothing of each other.
            timeout_seconds: How long to wait where somebody else holds a lock.
            clock: Tells the time by which leases and ages are reckoned, in seconds since 1970. None asks the server,
                whose clock is the same for all machines.

        Raises:
            ConfigError: The conninfo cannot be read, or the schema is no plain name.
            MissingDependencyError: psycopg is not installed.
        """
        self._connection = Connection(
            conninfo,
            schema=schema,
            timeout_seconds=timeout_seconds,
            prepare=lambda connection: migrate(connection, "sessions", MIGRATIONS),
        )
        self._vectors = PostgresVectors(self._connection)
        self._schema = schema
        self._clock: Callable[[], float | None] = clock or _by_the_server

    def __repr__(self) -> str:
        return f"<PostgresSessionStore: schema {self._schema} in {self._connection.place}>"

    # --- One owner writes ---------------------------------------------------------------------------------------------

    def save(self, turn: Turn) -> None:
        now = self._clock()
        try:
            self._connection.write(
                lambda transaction: write_turn(transaction, turn, now=now), is_durable=turn.is_durable
            )
        except NotOwnedError as error:
            raise refusal(self._rows(SAVED, id=storable(turn.session_id), now=now), turn) from error

    def acquire(self, session_id: str, owner: Owner, *, takes_over: bool = False) -> Saved:
        now = self._clock()
        return self._connection.write(
            lambda transaction: take(transaction, session_id, owner, takes_over=takes_over, now=now)
        )

    def release(self, session_id: str, owner: Owner) -> None:
        self._connection.write(lambda transaction: give_up(transaction, session_id, owner))

    # --- Anyone reads -------------------------------------------------------------------------------------------------

    def sessions(self, *, limit: int | None = None) -> list[SessionInfo]:
        return [session_of(row) for row in self._rows(SESSIONS, limit=limit)]

    def find(self, session: str) -> SessionInfo:
        if session == "latest":
            newest = self.sessions(limit=1)
            if not newest:
                raise UnknownSessionError("there is no latest session: none was kept yet")
            return newest[0]
        named = [self._rows(statement, name=storable(session)) for statement in (BY_ID, BY_PREFIX, BY_TITLE)]
        for rows in named:
            if len(rows) == 1:
                return session_of(rows[0])
        several = [row["id"] for rows in named for row in rows]
        raise unknown(session, f"several sessions are called so: {', '.join(several[:5])}" if several else "")

    def load(self, session_id: str) -> Saved:
        rows = self._rows(SAVED, id=storable(session_id), now=None)
        if not rows:
            raise unknown(session_id)
        return saved_of(rows[0])

    def line(self, session_id: str) -> list[tuple[str, int]]:
        rows = self._rows(LINE, id=storable(session_id))
        if not rows:
            raise unknown(session_id)
        return [(row["id"], row["newest"]) for row in rows]

    def messages(self, session_id: str, *, first_seq: int = 1, last_seq: int | None = None) -> list[StoredMessage]:
        rows = self._rows(MESSAGES, id=storable(session_id), first_seq=first_seq, last_seq=last_seq)
        return self._messages(session_id, rows)

    def messages_of(self, session_id: str, seqs: Iterable[int]) -> list[StoredMessage]:
        return self._messages(session_id, self._rows(MESSAGES_OF, id=storable(session_id), seqs=[*seqs]))

    def blob(self, digest: str) -> bytes:
        rows = self._rows("SELECT content FROM aloop.blobs WHERE digest = %(digest)s", digest=storable(digest))
        if not rows:
            raise CorruptStorageError(f"the blob {digest[:64]!r} is gone, though a message refers to it")
        return bytes(rows[0]["content"])

    def calls(self, session_id: str) -> list[StoredCall]:
        return self._own(StoredCall, "calls", session_id)

    def compressions(self, session_id: str) -> list[StoredCompression]:
        return self._own(StoredCompression, "compressions", session_id)

    def layouts(self, session_id: str) -> list[StoredLayout]:
        return self._own(StoredLayout, "layouts", session_id)

    def daily_usage(self, *, since: float = 0.0) -> list[DailyUsage]:
        return [value_of(DailyUsage, row) for row in self._rows(DAILY_USAGE, since=since)]

    # --- Keeping house ------------------------------------------------------------------------------------------------

    def rename(self, session_id: str, title: str) -> None:
        self._connection.write(lambda transaction: rename(transaction, session_id, title))

    def delete(self, session_id: str) -> None:
        self._delete(session_id)

    def forget(self, session_id: str, seqs: Iterable[int]) -> int:
        wanted, now, has_vectors = [*seqs], self._clock(), self._vectors.is_there()
        return self._connection.write(
            lambda transaction: forget(transaction, session_id, wanted, has_vectors=has_vectors, now=now)
        )

    def limit(self, *, max_bytes: int | None = None, max_age_seconds: float | None = None) -> list[str]:
        deleted: list[str] = []
        if max_age_seconds is not None:
            deleted += [id for id in self._oldest(max_age_seconds) if self._deleted_bytes(id) is not None]
        if max_bytes is not None:
            deleted += self._shrink(max_bytes)
        return deleted

    # --- Recall -------------------------------------------------------------------------------------------------------

    def unindexed(
        self, session_id: str | None = None, *, limit: int = 1_000
    ) -> list[tuple[SessionInfo, StoredMessage]]:
        statement = UNINDEXED if session_id is None else UNINDEXED_OF
        rows = self._rows(statement, id=session_id and storable(session_id), limit=limit)
        sessions = {row["id"]: row for row in rows}
        infos = {id: session_of(row) for id, row in sessions.items()}
        return [(infos[row["id"]], value_of(StoredMessage, row)) for row in rows]

    def index(self, documents: Sequence[Document]) -> None:
        if documents:
            self._connection.write(lambda transaction: add_documents(transaction, documents), is_durable=False)

    def search(self, query: Query) -> list[Found]:
        return self._connection.write(lambda transaction: Search(transaction, query).found(), is_durable=False)

    def unembedded(self, embedder: str, session_id: str | None = None, *, limit: int = 1_000) -> list[tuple[str, int]]:
        return self._vectors.unembedded(embedder, session_id, limit)

    def add_vectors(self, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        self._vectors.add(embedder, vectors)

    def vectors(
        self, embedder: str, session_id: str | None = None, *, after_row: int = 0
    ) -> list[tuple[int, str, int, bytes]]:
        return self._vectors.vectors(embedder, session_id, after_row)

    def similar(
        self, embedder: str, vector: bytes, *, namespaces: Sequence[str] | None = None, limit: int = 100
    ) -> dict[tuple[str, int], float]:
        """Return the cosine of the nearest messages by (session, number), the nearest first; exact.

        The server compares, so no vector travels. What it returns is what `Query.similarities` wants.

        Args:
            embedder: Whose vectors.
            vector: Of the query; little-endian float32.
            namespaces: Ids of sessions; None takes all.
            limit: How many, at most.
        """
        return self._vectors.similar(embedder, vector, namespaces, limit)

    def close(self) -> None:
        self._connection.close()

    def _delete(self, session_id: str) -> int:
        """Delete a session; return the bytes that it took."""
        now, has_vectors = self._clock(), self._vectors.is_there()
        return self._connection.write(
            lambda transaction: delete(transaction, session_id, has_vectors=has_vectors, now=now)
        )

    def _oldest(self, max_age_seconds: float | None) -> list[str]:
        now = self._clock()
        return self._connection.write(lambda transaction: oldest(transaction, max_age_seconds=max_age_seconds, now=now))

    def _shrink(self, max_bytes: int) -> list[str]:
        """Delete one session at a time, each in a transaction of its own, so that those who write need not wait."""
        has_vectors, deleted = self._vectors.is_there(), []
        used = self._connection.write(lambda transaction: used_bytes(transaction, has_vectors=has_vectors))
        for id in self._oldest(None) if used > max_bytes else ():
            freed = self._deleted_bytes(id)
            if freed is not None:
                used -= freed
                deleted.append(id)
            if used <= max_bytes:
                break
        return deleted

    def _deleted_bytes(self, session_id: str) -> int | None:
        """Delete a session and return the bytes that it took; None where somebody was faster to open or delete it."""
        try:
            return self._delete(session_id)
        except (SessionInUseError, UnknownSessionError):
            return None

    def _rows(self, statement: str, **values: object) -> list[Row]:
        return self._connection.read(statement, values)

    def _messages(self, session_id: str, rows: list[Row]) -> list[StoredMessage]:
        if not rows:
            self.line(session_id)  # raises where there is no such session
        return [value_of(StoredMessage, row) for row in rows]

    def _own(self, kind: type[Own], table: str, session_id: str) -> list[Own]:
        rows = self._rows(own(table), id=storable(session_id))
        if not rows:
            self.load(session_id)  # raises where there is no such session
        return [value_of(kind, row) for row in rows]


def _by_the_server() -> None:
    """Return no time: the server is asked for it."""
