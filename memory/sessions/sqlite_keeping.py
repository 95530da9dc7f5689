"""Keeping house: titles, deleting, limits. Every function runs inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from .encoding import storable
from .lease import in_use, is_alive
from .sqlite_blobs import drop_uses
from .sqlite_reading import key_of, owner_of
from .sqlite_recall import drop_recall

_HELD = ("compressions", "layouts", "calls")


def rename(connection: sqlite3.Connection, session_id: str, title: str) -> None:
    """Set a title that turns leave alone."""
    connection.execute(
        "UPDATE sessions SET title = ?, has_own_title = 1 WHERE session = ?",
        (storable(title), key_of(connection, session_id)),
    )


def delete(connection: sqlite3.Connection, session_id: str, *, now: float) -> None:
    """Hide a session, and drop whatever no branch needs of it and of the hidden ones that it needed itself."""
    session = key_of(connection, session_id)
    refuse_open(connection, [session], now=now)
    for table in _HELD:
        connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))
    drop_uses(connection, session, "layout", behind=0)
    connection.execute(
        "UPDATE sessions SET is_hidden = 1, title = '', config = '{}', state = '', owner_token = NULL, "
        "lease_until = 0 WHERE session = ?",
        (session,),
    )
    _prune(connection, storable(session_id))


def oldest(connection: sqlite3.Connection, *, before: float | None, now: float) -> str | None:
    """Return the session that was not written to for longest and is not open; with `before`, only one older than it."""
    rows = connection.execute(
        "SELECT session, id FROM sessions WHERE NOT is_hidden AND updated_at < ? ORDER BY updated_at, session",
        (float("inf") if before is None else before,),
    )
    return next((id for session, id in rows if not _is_open(connection, session, now=now)), None)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of the file once it is shrunk."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def shrink(connection: sqlite3.Connection) -> None:
    """Give free pages back to the disk, those of the log too. Outside a transaction."""
    connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free a single page
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def refuse_open(connection: sqlite3.Connection, sessions: Iterable[int], *, now: float) -> None:
    """Raise where somebody has one of these sessions open.

    Raises:
        SessionInUseError: Somebody has.
    """
    for session in sessions:
        owner, lease_until = owner_of(connection, session)
        if owner is not None and is_alive(owner, lease_until=lease_until, now=now):
            (id,) = connection.execute("SELECT id FROM sessions WHERE session = ?", (session,)).fetchone()
            raise in_use(id, owner)


def _is_open(connection: sqlite3.Connection, session: int, *, now: float) -> bool:
    owner, lease_until = owner_of(connection, session)
    return owner is not None and is_alive(owner, lease_until=lease_until, now=now)


def _prune(connection: sqlite3.Connection, session_id: str | None) -> None:
    """Drop what no branch needs of a hidden session, then look at its parent."""
    while session_id is not None:
        session, is_hidden, parent_id = connection.execute(
            "SELECT session, is_hidden, parent_id FROM sessions WHERE id = ?", (session_id,)
        ).fetchone()
        if not is_hidden:
            return
        needed = _needed_seq(connection, session_id)
        _drop_messages(connection, session, session_id, behind=needed or 0)
        if needed is None:
            connection.execute("DELETE FROM sessions WHERE session = ?", (session,))
        session_id = parent_id


def _needed_seq(connection: sqlite3.Connection, session_id: str) -> int | None:
    """Return the newest message that branches need, branches of branches too; None where there are no branches."""
    row = connection.execute(
        "WITH RECURSIVE below (id, seq, is_hidden) AS ("
        "SELECT id, parent_seq, is_hidden FROM sessions WHERE parent_id = ? UNION ALL "
        "SELECT sessions.id, min(below.seq, parent_seq), sessions.is_hidden FROM sessions, below "
        "WHERE parent_id = below.id) SELECT max(seq) FROM below WHERE NOT is_hidden",
        (session_id,),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _drop_messages(connection: sqlite3.Connection, session: int, id: str, *, behind: int) -> None:
    drop_recall(connection, session, id, behind=behind)
    drop_uses(connection, session, "message", behind=behind)
    connection.execute("DELETE FROM messages WHERE session = ? AND seq > ?", (session, behind))
    connection.execute("UPDATE sessions SET last_seq = min(last_seq, ?) WHERE session = ?", (behind, session))
