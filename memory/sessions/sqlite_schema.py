"""The tables of the SQLite store, and how files of older versions come to have them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from ..errors import CorruptStorageError, NewerStorageError
from ..recall import SCHEMA as RECALL_TABLES
from ..recall.fts5 import require_fts5

APPLICATION_ID: Final = 0x614C6F70
"""Says in the file's header that it is ours (https://www.sqlite.org/pragma.html#pragma_application_id, 2026-11)."""


def _sessions(connection: sqlite3.Connection) -> None:
    """Sessions and what they hold.

    Whatever a session holds is found by the number of the session, `session`, which is shorter than its id. A deleted
    session whose messages a branch still needs stays as a hidden row.
    """
    for statement in _SESSIONS:
        connection.execute(statement)


def _recall(connection: sqlite3.Connection) -> None:
    """The full-text index, and up to which message of a session each reader, the index or an embedder, is done."""
    require_fts5(connection)
    for statement in (*RECALL_TABLES, _MARKS):
        connection.execute(statement)


def _vectors(connection: sqlite3.Connection) -> None:
    """Vectors by embedder. Rows are numbered once and for all, so that a reader can ask for what is new."""
    for statement in _VECTORS:
        connection.execute(statement)


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (_sessions, _recall, _vectors)
"""The n-th leads from version n to version n + 1. Files of every version exist: add to the end, change nothing."""


def is_current(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether a file has all tables; an empty one and one of an older version have not. Writes nothing.

    Raises:
        CorruptStorageError: It is a database, but none of ours.
        NewerStorageError: A newer version of this library wrote it.
    """
    version = _number(connection, "PRAGMA user_version")
    is_ours = _number(connection, "PRAGMA application_id") == APPLICATION_ID
    if not is_ours and (version or _number(connection, "SELECT count(*) FROM sqlite_master")):
        raise CorruptStorageError(f"{path} is a database of another program; name a file of its own for sessions")
    if version > len(MIGRATIONS):
        raise NewerStorageError(
            f"{path} is of version {version}, this library knows versions up to {len(MIGRATIONS)}: "
            "install the newer release that wrote it, or name another file"
        )
    return is_ours and version == len(MIGRATIONS)


def next_migration(connection: sqlite3.Connection) -> bool:
    """Run the next migration of a file that the caller holds the write lock of; return whether there was one.

    The version is read under the lock: another process may have migrated while this one waited.
    """
    version = _number(connection, "PRAGMA user_version")
    if version >= len(MIGRATIONS):
        return False
    MIGRATIONS[version](connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version + 1}")
    return True


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


_SESSIONS: Final = (
    # Small columns first: what stands behind `config` is often on another page, which a list need not read.
    """
    CREATE TABLE sessions (
        session INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, is_hidden INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL, updated_at REAL NOT NULL,
        title TEXT NOT NULL, has_own_title INTEGER NOT NULL DEFAULT 0, dialect TEXT, model TEXT,
        last_seq INTEGER NOT NULL, context_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL,
        cost_usd REAL NOT NULL, compression_count INTEGER NOT NULL,
        parent_id TEXT, parent_seq INTEGER NOT NULL,
        owner_token TEXT, owner_host TEXT, owner_process_id INTEGER, owner_process_started TEXT,
        lease_until REAL NOT NULL DEFAULT 0, config TEXT NOT NULL, state TEXT NOT NULL)
    """,
    "CREATE INDEX sessions_by_parent ON sessions (parent_id) WHERE parent_id IS NOT NULL",
    """
    CREATE TABLE messages (
        session INTEGER NOT NULL, seq INTEGER NOT NULL, role TEXT NOT NULL, tools TEXT NOT NULL, form TEXT NOT NULL,
        blobs TEXT NOT NULL, tokens INTEGER NOT NULL, at REAL NOT NULL, is_written INTEGER NOT NULL,
        is_forgotten INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL, shown TEXT, UNIQUE (session, seq))
    """,
    """
    CREATE TABLE calls (
        session INTEGER NOT NULL, number INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, model TEXT,
        purpose TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL,
        cache_write_1h_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL,
        is_estimate INTEGER NOT NULL, price_is_default INTEGER NOT NULL, PRIMARY KEY (session, number)) WITHOUT ROWID
    """,
    """
    CREATE TABLE compressions (
        session INTEGER NOT NULL, number INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL,
        first_ref TEXT NOT NULL, last_ref TEXT NOT NULL, digest TEXT NOT NULL,
        summary TEXT NOT NULL, event TEXT NOT NULL, plan TEXT NOT NULL, UNIQUE (session, number))
    """,
    """
    CREATE TABLE layouts (
        session INTEGER NOT NULL, number INTEGER NOT NULL, after_seq INTEGER NOT NULL, reason TEXT NOT NULL,
        blobs TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (session, number))
    """,
    "CREATE TABLE blobs (digest TEXT NOT NULL UNIQUE, content BLOB NOT NULL)",
    # What refers to a blob: the message `number`, or the layout `number`. A blob goes with the last of them.
    """
    CREATE TABLE blob_uses (
        session INTEGER NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (session, kind, number, digest)) WITHOUT ROWID
    """,
    "CREATE INDEX blob_uses_by_digest ON blob_uses (digest)",
)

_VECTORS: Final = (
    """
    CREATE TABLE vectors (
        row INTEGER PRIMARY KEY AUTOINCREMENT, embedder INTEGER NOT NULL, session INTEGER NOT NULL,
        seq INTEGER NOT NULL, vector BLOB NOT NULL, UNIQUE (embedder, session, seq))
    """,
    "CREATE TABLE embedders (embedder INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
)

_MARKS: Final = """
    CREATE TABLE recall_marks (
        reader INTEGER NOT NULL, session INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (reader, session))
        WITHOUT ROWID
"""
