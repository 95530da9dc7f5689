"""Sessions in Postgres: for teams whose agents run on many machines, any of which goes on with any session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..errors import CorruptStorageError, UnknownSessionError
from .encoding import storable
from .postgres_connection import Connection
from .postgres_errors import NO_SUCH_PARENT, RefusedError
from .postgres_reads import BY_ID, BY_PREFIX, BY_TITLE, DAILY_USAGE, LINE, MESSAGES, MESSAGES_OF, SESSIONS, own
from .postgres_rows import saved_of, session_of, value_of
from .postgres_schema import SESSIONS as MIGRATIONS
from .postgres_schema import migrate
from .postgres_turns import SAVED, give_up, refusal, take, unknown, write_turn
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
        except RefusedError as error:
            if error.sqlstate == NO_SUCH_PARENT and turn.begins is not None:
                raise unknown(str(turn.begins.parent_id), "a branch of it cannot begin") from error
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

    def close(self) -> None:
        self._connection.close()

    def _rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        return self._connection.read(statement, values)

    def _messages(self, session_id: str, rows: list[dict[str, Any]]) -> list[StoredMessage]:
        if not rows:
            self.line(session_id)  # raises where there is no such session
        return [value_of(StoredMessage, row) for row in rows]

    def _own(self, kind: type[Own], table: str, session_id: str) -> list[Own]:
        rows = self._rows(own(table), id=storable(session_id))
        if not rows:
            self.line(session_id)
        return [value_of(kind, row) for row in rows]


def _by_the_server() -> None:
    """Return no time: the server is asked for it."""
