"""Taking words out of a file for good. Runs inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable

from .encoding import FORGOTTEN, dumped
from .forgetting import forgotten_compression, forgotten_layout, forgotten_message
from .sqlite_blobs import put_blobs, use_other_blobs
from .sqlite_keeping import refuse_open
from .sqlite_reading import compressions_in, layouts_in, parts, picked
from .sqlite_recall import forget_recall


def forget(connection: sqlite3.Connection, session_id: str, seqs: Iterable[int], *, now: float) -> int:
    """Take the words of messages away wherever they stand; return how many messages there were."""
    wanted = sorted(set(seqs))
    count = 0
    for session, id, first, last in list(parts(connection, session_id)):
        here = [seq for seq in wanted if first <= seq <= last]
        if here:
            sharing = _sharing(connection, id, here[0])
            refuse_open(connection, sharing, now=now)
            count += _forget_messages(connection, session, id, here)
            for one in sharing:
                _forget_quotes(connection, one, here)
    return count


def erase(connection: sqlite3.Connection) -> None:
    """Rewrite the file without what was deleted: SQLite leaves that where it stood until the place is used again.

    Outside a transaction. Takes as long as to copy the file, and as much room.
    """
    connection.execute("VACUUM")


def empty_log(connection: sqlite3.Connection) -> None:
    """Move everything from the log to the file and empty it: until then both have what the file had before.

    Outside a transaction.

    Raises:
        sqlite3.OperationalError: Busy: somebody reads what stood there before.
    """
    (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        error = sqlite3.OperationalError("the log is in use")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
        raise error


def _sharing(connection: sqlite3.Connection, session_id: str, seq: int) -> list[int]:
    """Return the numbers of the session and of all branches, and their branches, that share the message `seq`."""
    rows = connection.execute(
        "WITH RECURSIVE below (session, id) AS ("
        "SELECT session, id FROM sessions WHERE id = ? UNION ALL "
        "SELECT sessions.session, sessions.id FROM sessions, below "
        "WHERE parent_id = below.id AND parent_seq >= ?) SELECT session FROM below",
        (session_id, seq),
    )
    return [session for (session,) in rows]


def _forget_messages(connection: sqlite3.Connection, session: int, id: str, seqs: list[int]) -> int:
    messages = picked(connection, session, seqs)
    for message in map(forgotten_message, messages):
        connection.execute(
            "UPDATE messages SET body = ?, shown = ?, blobs = '', is_forgotten = 1 WHERE session = ? AND seq = ?",
            (message.body, message.shown, session, message.seq),
        )
        use_other_blobs(connection, session, "message", message.seq, ())
    forget_recall(connection, session, id, [one.seq for one in messages])
    # The index keeps the words of what it forgot until its parts are merged (https://www.sqlite.org/fts5.html,
    # section 6.8, 2026-11).
    connection.execute("INSERT INTO recall_terms (recall_terms) VALUES ('optimize')")
    return len(messages)


def _forget_quotes(connection: sqlite3.Connection, session: int, seqs: Collection[int]) -> None:
    _forget_title(connection, session, seqs)
    for compression in compressions_in(connection, session):
        connection.execute(
            "UPDATE compressions SET summary = ? WHERE session = ? AND number = ?",
            (dumped(forgotten_compression(compression, seqs).summary), session, compression.number),
        )
    for layout in layouts_in(connection, session):
        forgotten = forgotten_layout(layout, seqs)
        put_blobs(connection, forgotten.blobs)
        connection.execute(
            "UPDATE layouts SET body = ?, blobs = ? WHERE session = ? AND number = ?",
            (forgotten.layout.body, " ".join(forgotten.layout.blobs), session, layout.number),
        )
        use_other_blobs(connection, session, "layout", layout.number, forgotten.layout.blobs)


def _forget_title(connection: sqlite3.Connection, session: int, seqs: Collection[int]) -> None:
    """Take the title away where it may quote: one that nobody gave is made of the first message of the user."""
    session_id, has_own_title, is_hidden = connection.execute(
        "SELECT id, has_own_title, is_hidden FROM sessions WHERE session = ?", (session,)
    ).fetchone()
    if has_own_title or is_hidden:
        return
    firsts = [_first_of_user(connection, *place) for place in parts(connection, session_id)]
    first = next((seq for seq in firsts if seq is not None), None)
    if first in seqs:
        connection.execute("UPDATE sessions SET title = ? WHERE session = ?", (FORGOTTEN, session))


def _first_of_user(connection: sqlite3.Connection, session: int, id: str, first: int, last: int) -> int | None:
    row = connection.execute(
        "SELECT min(seq) FROM messages WHERE session = ? AND seq BETWEEN ? AND ? AND role = 'user'",
        (session, first, last),
    ).fetchone()
    return None if row is None else row[0]
