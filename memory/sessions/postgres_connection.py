"""A connection to Postgres that is made when it is needed, and again after it broke.

The only file that imports psycopg. Statements name our tables in the schema `aloop` and pgvector's things in the
schema `pgvector`; where they really are is put in here. Nothing depends on the connection's settings, so that a pooler
which hands out another one for each transaction (PgBouncer, Supabase, Neon) may stand between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from threading import RLock
from time import sleep
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ..errors import ConfigError, MissingDependencyError
from .postgres_errors import REPEATABLE, cause_of, meaning

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]
Values: TypeAlias = Mapping[str, Any]

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_NAMES: Final = re.compile("aloop|pgvector")
_ATTEMPTS: Final = 6
_WAIT_SECONDS: Final = 0.02
_DEFAULTS: Final = {
    # A network that swallows packets must end in an error: libpq waits for ever by default.
    # https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS, 2026-11
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "application_name": "aloop",
    "client_encoding": "UTF8",
}
_SETTINGS: Final = """
    SELECT set_config('lock_timeout', %(timeout)s, true),
           set_config('idle_in_transaction_session_timeout', %(timeout)s, true),
           set_config('synchronous_commit', CASE
               WHEN NOT %(is_durable)s THEN 'off'
               WHEN current_setting('synchronous_commit') = 'off' THEN 'on'
               ELSE current_setting('synchronous_commit') END, true)
"""


class Transaction:
    """What runs inside one transaction. Statements without an answer go out together, in one round trip."""

    def __init__(self, cursor: psycopg.Cursor[Row], names: Callable[[str], bytes]) -> None:
        self._cursor = cursor
        self._names = names

    def run(self, statement: str, values: Values | None = None) -> None:
        self._cursor.execute(self._names(statement), values)

    def run_each(self, statement: str, rows: Iterable[Values]) -> None:
        self._cursor.executemany(self._names(statement), rows)

    def rows(self, statement: str, values: Values | None = None) -> list[Row]:
        return self._cursor.execute(self._names(statement), values).fetchall()


class Connection:
    """One connection for all threads of a store, which take turns."""

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str,
        timeout_seconds: float,
        prepare: Callable[[Connection], None],
    ) -> None:
        """Check the parameters; nothing is connected yet.

        Args:
            conninfo: As libpq takes it: a URL, or `key=value` pairs.
            schema: Where the tables are.
            timeout_seconds: How long to wait for somebody else's lock.
            prepare: Called once, with the first connection that stands.
        """
        if not _SCHEMA.fullmatch(schema):
            raise ConfigError(f"schema must be a plain name in lower case, such as 'aloop', got {schema!r}")
        self._psycopg = _psycopg()
        self._parameters = self._read(conninfo)
        self.place = _place(self._parameters)
        self._schema = schema
        self._extension_schema = "public"
        self._timeout = f"{max(1, round(timeout_seconds * 1000))}ms"
        self._prepare = prepare
        self._is_prepared = False
        self._open: psycopg.Connection[Row] | None = None
        self._process_id = os.getpid()
        self._lock = RLock()

    def read(self, statement: str, values: Values | None = None) -> list[Row]:
        """Return what one statement finds; one round trip."""
        query = self._named(statement)
        return self._attempted(lambda connection: connection.execute(query, values).fetchall(), is_writing=False)

    def write(self, work: Callable[[Transaction], T], *, is_durable: bool = True) -> T:
        """Run `work` in a transaction: all of it is written, or nothing.

        It is run again after a deadlock, and where the connection turns out to be broken; so it must be something that
        does no harm when it was done before.

        Args:
            work: What to do; what it returns is returned.
            is_durable: Return when the disk has it. Otherwise a crash of the server may lose it.

        Raises:
            StorageError: The database failed.
        """
        settings = {"timeout": self._timeout, "is_durable": is_durable}

        def attempt(connection: psycopg.Connection[Row]) -> T:
            with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
                transaction = Transaction(cursor, self._named)
                transaction.run(_SETTINGS, settings)
                return work(transaction)

        return self._attempted(attempt)

    def find_vectors(self, schema: str) -> None:
        """Say in which schema pgvector is."""
        self._extension_schema = schema

    def close(self) -> None:
        self._notice_fork()
        with self._lock:
            if self._open is not None:
                self._open.close()
            self._open = None

    def _attempted(self, attempt: Callable[[psycopg.Connection[Row]], T], *, is_writing: bool = True) -> T:
        self._notice_fork()
        with self._lock:
            for number in range(_ATTEMPTS):
                is_used = self._is_connected()
                try:
                    return attempt(self._connected())
                except self._psycopg.Error as error:
                    is_broken = self._tidied()
                    is_worth_it = (is_used and is_broken) or error.sqlstate in REPEATABLE
                    if number + 1 == _ATTEMPTS or not is_worth_it:
                        raise self._meaning(error, is_writing) from error
                    sleep(0 if is_broken else _WAIT_SECONDS * number)
                except BaseException:
                    self._tidied()  # an interrupt may have left the transaction open
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _notice_fork(self) -> None:
        """In a child, let go of the parent's connection, and of the lock that a thread of the parent may have held."""
        if self._process_id != os.getpid():
            self._lock = RLock()
            self._open = None  # psycopg closes none that another process made
            self._process_id = os.getpid()

    def _connected(self) -> psycopg.Connection[Row]:
        if not self._is_connected():
            # Prepared statements belong to one server connection, which a pooler may take away.
            self._open = self._psycopg.connect(
                **self._parameters, autocommit=True, prepare_threshold=None, row_factory=self._psycopg.rows.dict_row
            )
            # What is read behind a lock must be as it is then, not as it was when the transaction began.
            self._open.isolation_level = self._psycopg.IsolationLevel.READ_COMMITTED
        if not self._is_prepared:
            self._is_prepared = True
            try:
                self._prepare(self)
            except BaseException:
                self._is_prepared = False
                raise
        assert self._open is not None
        return self._open

    def _is_connected(self) -> bool:
        return self._open is not None and not self._open.closed

    def _tidied(self) -> bool:
        """Make the connection fit for the next transaction. Return whether it broke instead."""
        if self._open is not None and not self._open.closed:
            try:
                self._open.rollback()
            except self._psycopg.Error:
                self._open.close()
        return self._open is None or self._open.closed

    def _meaning(self, error: psycopg.Error, is_writing: bool) -> Exception:
        is_connecting = isinstance(error, self._psycopg.OperationalError)
        cause = cause_of(str(error)) if is_connecting else ""
        return meaning(
            error.sqlstate, place=self.place, is_connecting=is_connecting, is_writing=is_writing, cause=cause
        )

    def _named(self, statement: str) -> bytes:
        names = {"aloop": self._schema, "pgvector": self._extension_schema}
        return _NAMES.sub(lambda match: f'"{names[match[0]]}"', statement).encode()

    def _read(self, conninfo: str) -> dict[str, Any]:
        try:
            given = self._psycopg.conninfo.conninfo_to_dict(conninfo)
        except self._psycopg.Error:
            # What libpq says of a text that it cannot read quotes it, and there may be a password in it.
            raise ConfigError(
                "the conninfo cannot be read; it must be like 'postgresql://user:password@host:5432/database' "
                "or 'host=… dbname=… user=…' (special characters of a password in a URL as %xx)"
            ) from None
        return {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}


def _psycopg() -> Any:
    try:
        import psycopg
        import psycopg.conninfo
        import psycopg.rows
    except ImportError as error:
        raise MissingDependencyError(
            "PostgresSessionStore needs psycopg 3: pip install 'aloop-memory[postgres]'", name="psycopg"
        ) from error
    return psycopg


def _place(parameters: Mapping[str, Any]) -> str:
    host = parameters.get("host") or parameters.get("hostaddr") or "the default host"
    port = parameters.get("port") or os.environ.get("PGPORT") or "5432"
    return f"the database {parameters.get('dbname') or 'of the account'} on {host}:{port}"
