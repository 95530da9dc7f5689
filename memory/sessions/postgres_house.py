"""Keeping house: titles, deleting, limits. Whoever deletes locks the session, and so waits for whoever writes to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .encoding import storable
from .postgres_connection import Row, Transaction
from .postgres_index import remove_documents
from .postgres_turns import HOLD_BLOBS, NOW, check_not_open, is_open, unknown


def rename(transaction: Transaction, session_id: str, title: str) -> None:
    """Set a title that turns leave alone."""
    if not transaction.rows(_TITLE, {"id": storable(session_id), "title": storable(title)}):
        raise unknown(session_id)


def delete(transaction: Transaction, session_id: str, *, has_vectors: bool, now: float | None) -> int:
    """Hide a session, and drop whatever no branch needs of it and of the hidden ones that it needed itself.

    Return how many bytes of `used_bytes` that was.
    """
    key = {"id": storable(session_id), "now": now}
    transaction.run(HOLD_BLOBS)
    rows = transaction.rows(_LOCKED, key)
    if not rows:
        raise unknown(session_id)
    check_not_open(rows[0])
    gone = [row for table in _OWN for row in transaction.rows(_drop(table), key)]
    transaction.run(_HIDE, key)
    gone += _prune(transaction, storable(session_id), has_vectors=has_vectors)
    return sum(int(row["bytes"]) for row in gone) + drop_blobs(transaction, gone)


def drop_blobs(transaction: Transaction, rows: Sequence[Mapping[str, Any]]) -> int:
    """Drop those `blobs` of rows that nobody refers to any more; the caller holds all blobs. Return their bytes."""
    digests = {digest for row in rows for digest in row["blobs"]}
    gone = transaction.rows(_DROP_BLOBS, {"digests": [*digests]}) if digests else []
    return sum(int(row["bytes"]) for row in gone)


def used_bytes(transaction: Transaction, *, has_vectors: bool) -> int:
    """Return the size of all that is kept, before the database compresses it.

    Of the room that the database's files have to spare nothing is said here: it is used again, not given back.
    """
    tables = [table for table in _BYTES if has_vectors or table != "vectors"]
    every = " UNION ALL ".join(f"SELECT sum({_BYTES[table]}) AS bytes FROM aloop.{table}" for table in tables)
    [row] = transaction.rows(f"SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM ({every}) sums")
    return int(row["bytes"])


def oldest(transaction: Transaction, *, max_age_seconds: float | None, now: float | None) -> list[str]:
    """Return the sessions that nobody has open, the one first that was not written to for longest.

    With `max_age_seconds`, only those that were not written to for longer.
    """
    rows = transaction.rows(_OLDEST, {"now": now, "age": max_age_seconds})
    return [row["id"] for row in rows if not is_open(row)]


def _prune(transaction: Transaction, session_id: str | None, *, has_vectors: bool) -> list[Row]:
    """Drop what no branch needs of a hidden session, then look at its parent. Return `blobs` and `bytes` of it."""
    dropped: list[Row] = []
    while session_id is not None:
        key: dict[str, Any] = {"id": session_id}
        transaction.run(_LOCK, key)
        [row] = transaction.rows(_NEEDED, key)
        if not row["is_deleted"]:
            break
        key["seq"] = row["seq"] or 0
        if has_vectors:
            dropped += transaction.rows(_drop("vectors", "AND seq > %(seq)s"), key)
        gone = transaction.rows(_drop("messages", "AND seq > %(seq)s"), key)
        dropped += gone + remove_documents(transaction, session_id, [one["seq"] for one in gone])
        transaction.run(_END if row["seq"] is None else _CUT, key)
        session_id = row["parent_id"]
    return dropped


_BYTES: Final = {
    "calls": "200",
    "compressions": "octet_length(summary) + octet_length(event) + octet_length(plan)",
    "layouts": "octet_length(body)",
    "messages": "octet_length(body) + coalesce(octet_length(shown), 0) + 200",
    "blobs": "octet_length(content)",
    "documents": "octet_length(content) + octet_length(counts)",
    "vectors": "4 * pgvector.vector_dims(embedding)",
}
"""The size of a row by its table; of small things about."""


def _drop(table: str, condition: str = "") -> str:
    """Return the statement that deletes a session's rows and returns what `drop_blobs` and the sum of bytes need."""
    blobs = "blobs" if table in ("layouts", "messages") else "'{}'::text[] AS blobs"
    seq = "seq, " if table == "messages" else ""
    return (
        f"DELETE FROM aloop.{table} WHERE session_id = %(id)s {condition} "
        f"RETURNING {seq}{blobs}, ({_BYTES[table]})::bigint AS bytes"
    )


_OWN: Final = ("calls", "compressions", "layouts")
"""Tables of which branches share nothing."""
_TITLE: Final = """
    UPDATE aloop.sessions SET title = %(title)s, is_named = true WHERE id = %(id)s AND NOT is_deleted RETURNING id
"""
_LOCKED: Final = f"SELECT *, {NOW} AS now FROM aloop.sessions WHERE id = %(id)s AND NOT is_deleted FOR UPDATE"
_LOCK: Final = "SELECT FROM aloop.sessions WHERE id = %(id)s FOR UPDATE"
_HIDE: Final = """
    UPDATE aloop.sessions
    SET is_deleted = true, title = '', config = '{}', state = '', owner_token = NULL, lease_until = 0
    WHERE id = %(id)s
"""
_END: Final = "DELETE FROM aloop.sessions WHERE id = %(id)s"
_CUT: Final = "UPDATE aloop.sessions SET last_seq = %(seq)s WHERE id = %(id)s"
# What the branches need of a session that is no more, and the branches of branches.
_NEEDED: Final = """
    WITH RECURSIVE below (id, seq, is_deleted) AS (
        SELECT id, parent_seq, is_deleted FROM aloop.sessions WHERE parent_id = %(id)s
        UNION ALL
        SELECT s.id, least(below.seq, s.parent_seq), s.is_deleted
        FROM below JOIN aloop.sessions s ON s.parent_id = below.id
    )
    SELECT s.parent_id, s.is_deleted, (SELECT max(seq) FROM below WHERE NOT is_deleted) AS seq
    FROM aloop.sessions s WHERE s.id = %(id)s
"""
_DROP_BLOBS: Final = """
    DELETE FROM aloop.blobs b WHERE digest = ANY(%(digests)s)
        AND NOT EXISTS (SELECT FROM aloop.messages m WHERE m.blobs <> '{}' AND m.blobs @> ARRAY[b.digest])
        AND NOT EXISTS (SELECT FROM aloop.layouts l WHERE l.blobs <> '{}' AND l.blobs @> ARRAY[b.digest])
    RETURNING octet_length(content)::bigint AS bytes
"""
_OLDEST: Final = f"""
    SELECT *, {NOW} AS now FROM aloop.sessions
    WHERE NOT is_deleted AND (%(age)s::double precision IS NULL OR updated_at < {NOW} - %(age)s::double precision)
    ORDER BY updated_at, number
"""
