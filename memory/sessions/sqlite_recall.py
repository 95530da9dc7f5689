"""The full-text index and the vectors of a file. Every function runs inside a transaction of the caller's.

A reader (the index, or an embedder) takes messages in their order, mostly. Its mark says up to which number of a
session nothing is left, so that what is new is found without looking through what is old, and writing a turn costs
nothing for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from ..recall import Document, Found, Fts5Index, Query
from ..recall.fts5_search import SEQ_BITS
from .encoding import storable
from .sqlite_reading import parts
from .sqlite_rows import INFO, MESSAGE, info_of, message_of
from .values import SessionInfo, StoredMessage

_INDEX: Final = 0
"""The index as a reader; embedders count from 1."""


def unindexed(
    connection: sqlite3.Connection, session_id: str | None, limit: int
) -> list[tuple[SessionInfo, StoredMessage]]:
    """Return messages that are in no index."""
    places = list(islice(_pending(connection, _INDEX, session_id), limit))
    return [
        (info, _message(connection, session, seq))
        for session, rows in groupby(places, key=lambda place: place[0])
        for info in [_info(connection, session)]
        for _, _, seq in rows
    ]


def index(connection: sqlite3.Connection, documents: Sequence[Document]) -> None:
    """Index the documents of messages that are still there."""
    by_session = {one.namespace: _number(connection, one.namespace) for one in documents}
    known = [
        one
        for one in documents
        if (session := by_session[one.namespace]) is not None and _is_there(connection, session, one.seq)
    ]
    Fts5Index(connection).add(known)
    for id, session in by_session.items():
        if session is not None:
            _advance(connection, _INDEX, session, id)


def search(connection: sqlite3.Connection, query: Query) -> list[Found]:
    """Return what the index finds."""
    return Fts5Index(connection).search(query)


def unembedded(
    connection: sqlite3.Connection, embedder: str, session_id: str | None, limit: int
) -> list[tuple[str, int]]:
    """Return messages without a vector."""
    reader = _embedder(connection, embedder)
    return [(id, seq) for _, id, seq in islice(_pending(connection, reader, session_id), limit)]


def add_vectors(connection: sqlite3.Connection, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
    """Keep vectors of messages that are still there."""
    connection.execute("INSERT OR IGNORE INTO embedders (name) VALUES (?)", (storable(embedder),))
    reader = _embedder(connection, embedder)
    touched: dict[str, int] = {}
    for id, seq, vector in vectors:
        session = touched[id] if id in touched else _number(connection, id)
        if session is None or not _is_there(connection, session, seq):
            continue
        touched[id] = session
        connection.execute(
            "INSERT OR IGNORE INTO vectors (embedder, session, seq, vector) VALUES (?, ?, ?, ?)",
            (reader, session, seq, vector),
        )
    for id, session in touched.items():
        _advance(connection, reader, session, id)


def vectors(
    connection: sqlite3.Connection, embedder: str, session_id: str | None, after_row: int
) -> list[tuple[int, str, int, bytes]]:
    """Return vectors by ascending row."""
    reader = _embedder(connection, embedder)
    if session_id is None:
        # By the row, not by an index: the few that are new are behind all others.
        return connection.execute(
            "SELECT row, id, seq, vector FROM vectors NOT INDEXED CROSS JOIN sessions USING (session) "
            "WHERE embedder = ? AND row > ? ORDER BY row",
            (reader, after_row),
        ).fetchall()
    found: list[tuple[int, str, int, bytes]] = []
    for session, id, first, last in parts(connection, session_id):
        rows = connection.execute(
            "SELECT row, seq, vector FROM vectors WHERE embedder = ? AND session = ? AND seq BETWEEN ? AND ? "
            "AND row > ?",
            (reader, session, first, last, after_row),
        )
        found += [(row, id, seq, vector) for row, seq, vector in rows]
    return sorted(found)


def drop_recall(connection: sqlite3.Connection, session: int, id: str, *, behind: int) -> None:
    """Take the messages of higher numbers out of the index, and their vectors."""
    rows = connection.execute("SELECT seq FROM messages WHERE session = ? AND seq > ?", (session, behind)).fetchall()
    forget_recall(connection, session, id, [seq for (seq,) in rows])
    connection.execute("UPDATE recall_marks SET seq = min(seq, ?) WHERE session = ?", (behind, session))
    if behind == 0:
        Fts5Index(connection).remove(id)
        connection.execute("DELETE FROM recall_marks WHERE session = ?", (session,))


def forget_recall(connection: sqlite3.Connection, session: int, id: str, seqs: Sequence[int]) -> None:
    """Take messages out of the index, and their vectors."""
    Fts5Index(connection).remove(id, seqs)
    connection.executemany(
        "DELETE FROM vectors WHERE embedder IN (SELECT embedder FROM embedders) AND session = ? AND seq = ?",
        [(session, seq) for seq in seqs],
    )


def _pending(connection: sqlite3.Connection, reader: int, session_id: str | None) -> Iterator[tuple[int, str, int]]:
    """Yield (number of the session, id, message) of what a reader has not got yet."""
    for session, id, first, last in _unread(connection, reader, session_id):
        rows = connection.execute(
            "SELECT seq FROM messages WHERE session = ? AND seq BETWEEN ? AND ? AND NOT is_forgotten "
            f"AND NOT EXISTS ({_has_read(reader)}) ORDER BY seq",
            (session, first, last, *_had(reader, session, id)),
        )
        yield from ((session, id, seq) for (seq,) in rows)


def _unread(connection: sqlite3.Connection, reader: int, session_id: str | None) -> Iterator[tuple[int, str, int, int]]:
    """Yield (number of the session, id, first message, last message) behind a reader's mark."""
    if session_id is None:
        yield from connection.execute(
            "SELECT sessions.session, id, coalesce(seq, 0) + 1, last_seq FROM sessions LEFT JOIN recall_marks "
            "ON reader = ? AND recall_marks.session = sessions.session WHERE last_seq > coalesce(seq, parent_seq) "
            "ORDER BY sessions.session",
            (reader,),
        ).fetchall()
        return
    for session, id, first, last in parts(connection, session_id):
        yield session, id, max(first, _mark(connection, reader, session) + 1), last


def _advance(connection: sqlite3.Connection, reader: int, session: int, id: str) -> None:
    """Move a reader's mark to where something is left again."""
    (last,) = connection.execute("SELECT last_seq FROM sessions WHERE session = ?", (session,)).fetchone()
    row = connection.execute(
        "SELECT seq FROM messages WHERE session = ? AND seq BETWEEN ? AND ? AND NOT is_forgotten "
        f"AND NOT EXISTS ({_has_read(reader)}) ORDER BY seq LIMIT 1",
        (session, _mark(connection, reader, session) + 1, last, *_had(reader, session, id)),
    ).fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO recall_marks (reader, session, seq) VALUES (?, ?, ?)",
        (reader, session, last if row is None else row[0] - 1),
    )


def _mark(connection: sqlite3.Connection, reader: int, session: int) -> int:
    row = connection.execute("SELECT seq FROM recall_marks WHERE reader = ? AND session = ?", (reader, session))
    found = row.fetchone()
    return 0 if found is None else int(found[0])


def _has_read(reader: int) -> str:
    """Return the query for what a reader has of the message `seq`; its values are `_had`."""
    if reader == _INDEX:
        return (
            f"SELECT 1 FROM recall_documents WHERE id = messages.seq + "
            f"((SELECT id FROM recall_namespaces WHERE name = ?) << {SEQ_BITS})"
        )
    return "SELECT 1 FROM vectors WHERE embedder = ? AND session = ? AND vectors.seq = messages.seq"


def _had(reader: int, session: int, id: str) -> tuple[object, ...]:
    return (id,) if reader == _INDEX else (reader, session)


def _embedder(connection: sqlite3.Connection, name: str) -> int:
    """Return the number of an embedder; -1 for one that never gave a vector."""
    row = connection.execute("SELECT embedder FROM embedders WHERE name = ?", (storable(name),)).fetchone()
    return -1 if row is None else int(row[0])


def _number(connection: sqlite3.Connection, session_id: str) -> int | None:
    """Return the number of a session, a deleted one whose messages are still needed included."""
    row = connection.execute("SELECT session FROM sessions WHERE id = ?", (storable(session_id),)).fetchone()
    return None if row is None else int(row[0])


def _is_there(connection: sqlite3.Connection, session: int, seq: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM messages WHERE session = ? AND seq = ? AND NOT is_forgotten", (session, seq)
    ).fetchone()
    return row is not None


def _info(connection: sqlite3.Connection, session: int) -> SessionInfo:
    return info_of(connection.execute(f"SELECT {INFO} FROM sessions WHERE session = ?", (session,)).fetchone())


def _message(connection: sqlite3.Connection, session: int, seq: int) -> StoredMessage:
    row = connection.execute(f"SELECT {MESSAGE} FROM messages WHERE session = ? AND seq = ?", (session, seq))
    return message_of(row.fetchone())
