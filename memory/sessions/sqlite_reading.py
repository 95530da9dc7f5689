"""Reading sessions. Every function runs inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from ..errors import CorruptStorageError, UnknownSessionError
from .encoding import storable
from .sqlite_rows import (
    CALL,
    COMPRESSION,
    INFO,
    LAYOUT,
    MESSAGE,
    OWNER,
    call_of,
    compression_of,
    info_of,
    layout_of,
    message_of,
    owner_of_row,
    usage_of,
)
from .values import (
    DailyUsage,
    Owner,
    Saved,
    SessionInfo,
    StoredCall,
    StoredCompression,
    StoredLayout,
    StoredMessage,
)

_AT_ONCE = 500
"""Values in one statement; SQLite of before 3.32 takes 999."""


def key_of(connection: sqlite3.Connection, session_id: str) -> int:
    """Return the number under which the rows of a session stand.

    Raises:
        UnknownSessionError: There is none of that id, or it was deleted.
    """
    row = connection.execute(
        "SELECT session FROM sessions WHERE id = ? AND NOT is_hidden", (storable(session_id),)
    ).fetchone()
    if row is None:
        raise unknown(session_id, "no session has this id")
    return int(row[0])


def unknown(session: str, why: str) -> UnknownSessionError:
    """Return the error for a session that is not there."""
    return UnknownSessionError(f"{session!r}: {why}; `aloop sessions list` names those that are there")


def owner_of(connection: sqlite3.Connection, session: int) -> tuple[Owner | None, float]:
    """Return who has a session, and until when that holds."""
    row = connection.execute(f"SELECT {OWNER} FROM sessions WHERE session = ?", (session,)).fetchone()
    return owner_of_row(row)


def sessions(connection: sqlite3.Connection, limit: int | None) -> list[SessionInfo]:
    """Return the sessions that were not deleted, the newest first."""
    rows = connection.execute(
        f"SELECT {INFO} FROM sessions WHERE NOT is_hidden ORDER BY updated_at DESC, session DESC LIMIT ?",
        (-1 if limit is None else limit,),
    )
    return [info_of(row) for row in rows]


def find(connection: sqlite3.Connection, session: str) -> SessionInfo:
    """Return the one session that a name means: id before prefix before title."""
    if session == "latest":
        newest = sessions(connection, 1)
        if not newest:
            raise UnknownSessionError("there is no latest session: none was kept yet")
        return newest[0]
    for candidates in (_by_id(connection, session), _by_prefix(connection, session), _by_title(connection, session)):
        if len(candidates) == 1:
            return candidates[0]
    several = _by_prefix(connection, session) or _by_title(connection, session)
    names = ", ".join(one.id for one in several[:5])
    raise unknown(session, f"{len(several)} sessions are called so: {names}" if several else "no session is called so")


def load(connection: sqlite3.Connection, session_id: str) -> Saved:
    """Return a session as it is."""
    key_of(connection, session_id)
    return saved(connection, session_id)


def saved(connection: sqlite3.Connection, session_id: str) -> Saved:
    """Return a session that is known to be there."""
    session, state, *info = connection.execute(
        f"SELECT session, state, {INFO} FROM sessions WHERE id = ?", (session_id,)
    ).fetchone()
    newest = connection.execute(
        f"SELECT {LAYOUT} FROM layouts WHERE session = ? ORDER BY number DESC LIMIT 1", (session,)
    ).fetchone()
    return Saved(info=info_of(info), state=state, layout=layout_of(newest) if newest else None)


def line(connection: sqlite3.Connection, session_id: str) -> list[tuple[int, str, int]]:
    """Return (number of the session, id, newest message that counts), the oldest ancestor first.

    Also of a deleted session, as far as branches need it: its messages are in the index under its id.
    """
    found: list[tuple[int, str, int]] = []
    at: str | None = storable(session_id)
    bound: int | None = None
    while at is not None:
        row = connection.execute(
            "SELECT session, last_seq, parent_id, parent_seq FROM sessions WHERE id = ?", (at,)
        ).fetchone()
        if row is None:
            raise unknown(session_id, "no session has this id")
        session, last_seq, parent_id, parent_seq = row
        bound = last_seq if bound is None else bound
        found.append((session, at, bound))
        at, bound = parent_id, min(bound, parent_seq)
    return found[::-1]


def parts(
    connection: sqlite3.Connection, session_id: str, *, first_seq: int = 1, last_seq: int | None = None
) -> Iterator[tuple[int, str, int, int]]:
    """Yield where the messages of a session stand: (number, id, first message, last message), none of them empty."""
    behind = 0
    for session, id, newest in line(connection, session_id):
        first = max(behind + 1, first_seq)
        last = newest if last_seq is None else min(newest, last_seq)
        if first <= last:
            yield session, id, first, last
        behind = newest


def messages(
    connection: sqlite3.Connection, session_id: str, *, first_seq: int, last_seq: int | None
) -> list[StoredMessage]:
    """Return the messages of a session and of what it shares."""
    found: list[StoredMessage] = []
    for session, _, first, last in parts(connection, session_id, first_seq=first_seq, last_seq=last_seq):
        rows = connection.execute(
            f"SELECT {MESSAGE} FROM messages WHERE session = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (session, first, last),
        )
        found += map(message_of, rows)
    return found


def messages_of(connection: sqlite3.Connection, session_id: str, seqs: Iterable[int]) -> list[StoredMessage]:
    """Return messages by their numbers."""
    wanted = sorted(set(seqs))
    found: list[StoredMessage] = []
    for session, _, first, last in parts(connection, session_id):
        found += picked(connection, session, [seq for seq in wanted if first <= seq <= last])
    return found


def picked(connection: sqlite3.Connection, session: int, seqs: Sequence[int]) -> list[StoredMessage]:
    """Return messages of one session by their ascending numbers."""
    found: list[StoredMessage] = []
    for start in range(0, len(seqs), _AT_ONCE):
        some = seqs[start : start + _AT_ONCE]
        rows = connection.execute(
            f"SELECT {MESSAGE} FROM messages WHERE session = ? AND seq IN ({', '.join('?' * len(some))}) ORDER BY seq",
            (session, *some),
        )
        found += map(message_of, rows)
    return found


def blob(connection: sqlite3.Connection, digest: str) -> bytes:
    """Return a blob."""
    row = connection.execute("SELECT content FROM blobs WHERE digest = ?", (storable(digest),)).fetchone()
    if row is None:
        raise CorruptStorageError(f"the blob {digest[:64]!r} is gone, though a message refers to it")
    return bytes(row[0])


def calls(connection: sqlite3.Connection, session_id: str) -> list[StoredCall]:
    """Return the calls of a session."""
    session = key_of(connection, session_id)
    rows = connection.execute(f"SELECT {CALL} FROM calls WHERE session = ? ORDER BY number", (session,))
    return [call_of(row) for row in rows]


def compressions_in(connection: sqlite3.Connection, session: int) -> list[StoredCompression]:
    """Return the compressions of the session of a number."""
    rows = connection.execute(f"SELECT {COMPRESSION} FROM compressions WHERE session = ? ORDER BY number", (session,))
    return [compression_of(row) for row in rows]


def layouts_in(connection: sqlite3.Connection, session: int) -> list[StoredLayout]:
    """Return the layouts of the session of a number."""
    rows = connection.execute(f"SELECT {LAYOUT} FROM layouts WHERE session = ? ORDER BY number", (session,))
    return [layout_of(row) for row in rows]


def daily_usage(connection: sqlite3.Connection, since: float) -> list[DailyUsage]:
    """Return sums of calls by day and model; those of hidden sessions are gone with them."""
    rows = connection.execute(
        "SELECT date(at, 'unixepoch'), model, count(*), count(DISTINCT session), sum(input_tokens), "
        "sum(cache_read_tokens), sum(output_tokens), total(cost_usd), "
        "total(iif(purpose = 'summary', cost_usd, 0)), max(is_estimate OR price_is_default) FROM calls "
        "WHERE at >= ? GROUP BY 1, 2 ORDER BY 1, 2",
        (since,),
    )
    return [usage_of(row) for row in rows]


def _by_id(connection: sqlite3.Connection, session: str) -> list[SessionInfo]:
    return _matching(connection, "id = ?", storable(session))


def _by_prefix(connection: sqlite3.Connection, session: str) -> list[SessionInfo]:
    if not session:
        return []
    prefix = storable(session)
    return _matching(connection, "id >= ? AND id < ?", prefix, prefix + "\U0010ffff")


def _by_title(connection: sqlite3.Connection, session: str) -> list[SessionInfo]:
    return _matching(connection, "title = ?", storable(session))


def _matching(connection: sqlite3.Connection, condition: str, *values: str) -> list[SessionInfo]:
    rows = connection.execute(
        f"SELECT {INFO} FROM sessions WHERE NOT is_hidden AND {condition} ORDER BY updated_at DESC LIMIT 6", values
    )
    return [info_of(row) for row in rows]
