"""Taking words out of the tables for good."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from .encoding import FORGOTTEN, storable
from .forgetting import forgotten_compression, forgotten_layout, forgotten_message
from .postgres_connection import Row, Transaction
from .postgres_house import drop_blobs
from .postgres_index import remove_documents
from .postgres_reads import LINE, LINE_OF, ON_LINE, own
from .postgres_rows import row_of, value_of
from .postgres_turns import HOLD_BLOBS, NOW, check_not_open, put_blobs, unknown
from .values import StoredCompression, StoredLayout, StoredMessage


def forget(
    transaction: Transaction, session_id: str, seqs: Iterable[int], *, has_vectors: bool, now: float | None
) -> int:
    """Take the words of messages away wherever they stand; return how many messages there were.

    Raises:
        SessionInUseError: Somebody has the session open, or a branch that shares one of the messages.
        UnknownSessionError: There is none of that id.
    """
    wanted = sorted(set(seqs))
    transaction.run(HOLD_BLOBS)
    line = transaction.rows(LINE, {"id": storable(session_id)})
    if not line:
        raise unknown(session_id)
    count = 0
    dropped: list[Row] = []
    behind = 0
    for row in line:
        here = [seq for seq in wanted if behind < seq <= row["newest"]]
        behind = row["newest"]
        if here:
            sharing = _sharing(transaction, row["id"], here[0], now=now)
            gone = _forget_messages(transaction, row["id"], here, has_vectors=has_vectors)
            count += len(gone)
            dropped += gone
            for session in sharing:
                dropped += _forget_quotes(transaction, session, here)
    drop_blobs(transaction, dropped)
    return count


def _sharing(transaction: Transaction, session_id: str, seq: int, *, now: float | None) -> list[Row]:
    """Return the session and all branches, and their branches, that share the message `seq`; none of them is open."""
    rows = transaction.rows(_SHARING, {"id": session_id, "seq": seq})
    sessions = transaction.rows(_LOCKED, {"ids": [row["id"] for row in rows], "now": now})
    for session in sessions:
        check_not_open(session)
    return sessions


def _forget_messages(transaction: Transaction, session_id: str, seqs: Sequence[int], *, has_vectors: bool) -> list[Row]:
    """Forget messages; return them as they were."""
    key = {"id": session_id, "seqs": [*seqs]}
    rows = transaction.rows(_MESSAGES, key)
    emptied = [row_of(forgotten_message(value_of(StoredMessage, row)), session_id=session_id) for row in rows]
    transaction.run_each(_EMPTY, emptied)
    remove_documents(transaction, session_id, seqs)
    if has_vectors:
        transaction.run("DELETE FROM aloop.vectors WHERE session_id = %(id)s AND seq = ANY(%(seqs)s::bigint[])", key)
    return rows


def _forget_quotes(transaction: Transaction, session: Row, seqs: Collection[int]) -> list[Row]:
    """Take away what a session quotes of these messages; return the layouts as they were."""
    key = {"id": session["id"]}
    _forget_title(transaction, session, seqs)
    for row in transaction.rows(own("compressions"), key):
        compression = forgotten_compression(value_of(StoredCompression, row), seqs)
        transaction.run(_EMPTY_COMPRESSION, row_of(compression, session_id=session["id"]))
    layouts = transaction.rows(own("layouts"), key)
    for row in layouts:
        forgotten = forgotten_layout(value_of(StoredLayout, row), seqs)
        put_blobs(transaction, forgotten.blobs)
        transaction.run(_EMPTY_LAYOUT, row_of(forgotten.layout, session_id=session["id"]))
    return layouts


def _forget_title(transaction: Transaction, session: Row, seqs: Collection[int]) -> None:
    """Take the title away where it may quote: one that nobody gave is made of the first message of the user."""
    if session["is_named"] or session["is_deleted"]:
        return
    [row] = transaction.rows(_FIRST_OF_USER, {"id": session["id"]})
    if row["seq"] in seqs:
        transaction.run(_EMPTY_TITLE, {"id": session["id"], "title": FORGOTTEN})


_SHARING: Final = """
    WITH RECURSIVE below (id) AS (
        SELECT id FROM aloop.sessions WHERE id = %(id)s
        UNION ALL
        SELECT s.id FROM below JOIN aloop.sessions s ON s.parent_id = below.id AND s.parent_seq >= %(seq)s
    )
    SELECT id FROM below
"""
_LOCKED: Final = f"SELECT *, {NOW} AS now FROM aloop.sessions WHERE id = ANY(%(ids)s) ORDER BY number FOR UPDATE"
_MESSAGES: Final = """
    SELECT * FROM aloop.messages WHERE session_id = %(id)s AND seq = ANY(%(seqs)s::bigint[]) ORDER BY seq
"""
_EMPTY: Final = """
    UPDATE aloop.messages
    SET body = %(body)s, shown = %(shown)s, blobs = '{}', is_indexed = true, is_forgotten = true
    WHERE session_id = %(session_id)s AND seq = %(seq)s
"""
_EMPTY_COMPRESSION: Final = """
    UPDATE aloop.compressions SET summary = %(summary)s WHERE session_id = %(session_id)s AND number = %(number)s
"""
_EMPTY_LAYOUT: Final = """
    UPDATE aloop.layouts SET body = %(body)s, blobs = %(blobs)s
    WHERE session_id = %(session_id)s AND number = %(number)s
"""
_EMPTY_TITLE: Final = "UPDATE aloop.sessions SET title = %(title)s WHERE id = %(id)s"
_FIRST_OF_USER: Final = f"{LINE_OF} SELECT min(m.seq) AS seq {ON_LINE} WHERE m.role = 'user'"
