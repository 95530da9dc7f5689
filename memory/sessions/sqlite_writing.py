"""Writing to sessions as their owner. Every function runs inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..errors import CorruptStorageError, SessionError
from .encoding import dumped, storable
from .lease import LEASE_SECONDS, in_use, is_alive
from .sqlite_blobs import put_blobs, use_blobs, use_other_blobs
from .sqlite_reading import key_of, owner_of, picked, saved, unknown
from .values import Owner, Saved, StoredCall, StoredCompression, StoredLayout, StoredMessage, Turn


def save(connection: sqlite3.Connection, turn: Turn, *, now: float) -> None:
    """Write what is new and make the session's row say so."""
    row = connection.execute(
        "SELECT session, owner_token, last_seq FROM sessions WHERE id = ? AND NOT is_hidden", (turn.session_id,)
    ).fetchone()
    if row is None:
        session = _begin(connection, turn)
    else:
        session, token, last_seq = row
        if token != turn.owner.token:
            raise _not_owner(connection, turn)
        _refuse_gap(turn, last_seq)
    _update(connection, session, turn, now + LEASE_SECONDS)
    if turn.blobs:
        put_blobs(connection, turn.blobs)
    if turn.messages:
        _add_messages(connection, session, turn.messages)
    if turn.calls:
        connection.executemany(_ADD_CALL, [_call(session, call) for call in turn.calls])
    if turn.compressions:
        connection.executemany(_ADD_COMPRESSION, [_compression(session, one) for one in turn.compressions])
    for layout in turn.layouts:
        _put_layout(connection, session, layout)


def acquire(connection: sqlite3.Connection, session_id: str, owner: Owner, *, takes_over: bool, now: float) -> Saved:
    """Make `owner` the owner and return what is there."""
    session = key_of(connection, session_id)
    holder, lease_until = owner_of(connection, session)
    others = holder if holder and holder.token != owner.token else None
    if others and not takes_over and is_alive(others, lease_until=lease_until, now=now):
        raise in_use(session_id, others)
    connection.execute(
        "UPDATE sessions SET owner_token = ?, owner_host = ?, owner_process_id = ?, owner_process_started = ?, "
        "lease_until = ? WHERE session = ?",
        (owner.token, owner.host, owner.process_id, owner.process_started, now + LEASE_SECONDS, session),
    )
    return saved(connection, session_id)


def release(connection: sqlite3.Connection, session_id: str, owner: Owner) -> None:
    """Leave the session to whoever asks next."""
    connection.execute(
        "UPDATE sessions SET owner_token = NULL, lease_until = 0 WHERE id = ? AND owner_token = ?",
        (storable(session_id), owner.token),
    )


def _begin(connection: sqlite3.Connection, turn: Turn) -> int:
    """Add the row of a session; return its number."""
    new = turn.begins
    if new is None:
        raise unknown(turn.session_id, "it was deleted")
    if new.parent_id is not None:
        key_of(connection, new.parent_id)
    try:
        row = connection.execute(
            "INSERT INTO sessions (id, created_at, updated_at, title, last_seq, context_tokens, total_tokens, "
            "cost_usd, compression_count, parent_id, parent_seq, owner_token, owner_host, owner_process_id, "
            "owner_process_started, config, state) VALUES (?, ?, ?, '', 0, 0, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, '')",
            (turn.session_id, new.created_at, turn.at, new.parent_id, new.parent_seq, *_owner(turn.owner), new.config),
        )
    except sqlite3.IntegrityError as error:  # the row is hidden: branches still need its messages
        raise unknown(turn.session_id, "it was deleted") from error
    assert row.lastrowid is not None
    return row.lastrowid


def _not_owner(connection: sqlite3.Connection, turn: Turn) -> SessionError:
    holder, _ = owner_of(connection, key_of(connection, turn.session_id))
    if holder is not None:
        return in_use(turn.session_id, holder)
    return SessionError(f"the session {turn.session_id} was given up by its owner; resume it to write to it")


def _refuse_gap(turn: Turn, last_seq: int) -> None:
    """Raise where messages that were written are gone: somebody put an older copy of the file back."""
    first = turn.messages[0].seq if turn.messages else turn.heading.last_seq + 1
    if first > last_seq + 1:
        raise CorruptStorageError(
            f"the session {turn.session_id} ends with message {last_seq} and goes on with {first}: an older copy of "
            "the file was put back while it was open. Put the newer one back, or branch from what is there"
        )


def _update(connection: sqlite3.Connection, session: int, turn: Turn, lease_until: float) -> None:
    heading = turn.heading
    connection.execute(
        "UPDATE sessions SET updated_at = ?, title = iif(has_own_title, title, ?), dialect = ?, model = ?, "
        "last_seq = ?, context_tokens = ?, total_tokens = ?, cost_usd = ?, compression_count = ?, lease_until = ?, "
        "state = ? WHERE session = ?",
        (
            turn.at,
            storable(heading.title),
            heading.dialect,
            heading.model and storable(heading.model),
            heading.last_seq,
            heading.context_tokens,
            heading.total_tokens,
            heading.cost_usd,
            heading.compression_count,
            lease_until,
            turn.state,
            session,
        ),
    )


_ADD_MESSAGE = (
    "INSERT OR IGNORE INTO messages (session, seq, role, tools, form, blobs, tokens, at, is_written, body, shown) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD_CALL = "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_COMPRESSION = "INSERT OR IGNORE INTO compressions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _add_messages(connection: sqlite3.Connection, session: int, messages: Sequence[StoredMessage]) -> None:
    added = connection.executemany(_ADD_MESSAGE, [_message(session, one) for one in messages])
    if added.rowcount < len(messages):
        _refuse_others(connection, session, messages)
    use_blobs(connection, session, messages)


def _refuse_others(connection: sqlite3.Connection, session: int, messages: Sequence[StoredMessage]) -> None:
    """Raise where other messages have these numbers; the same ones are a turn that is written again."""
    wanted = {one.seq: one.body for one in messages}
    for stored in picked(connection, session, list(wanted)):
        if stored.body != wanted[stored.seq]:
            raise CorruptStorageError(
                f"the session has another message {stored.seq} already: somebody wrote to it in the name of its owner, "
                "such as a copy of the process. Branch from what is there; nothing was written"
            )


def _put_layout(connection: sqlite3.Connection, session: int, layout: StoredLayout) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO layouts (session, number, after_seq, reason, blobs, body) VALUES (?, ?, ?, ?, ?, ?)",
        (session, layout.number, layout.after_seq, layout.reason, " ".join(layout.blobs), layout.body),
    )
    use_other_blobs(connection, session, "layout", layout.number, layout.blobs)


def _message(session: int, one: StoredMessage) -> tuple[object, ...]:
    tools = dumped(one.tools) if one.tools else ""
    blobs = " ".join(one.blobs)
    place = (session, one.seq, one.role, tools, one.form, blobs)
    return (*place, one.tokens, one.at, one.is_written, one.body, one.shown)


def _call(session: int, one: StoredCall) -> tuple[object, ...]:
    return (
        session,
        one.number,
        one.seq,
        one.at,
        one.model and storable(one.model),
        one.purpose,
        one.input_tokens,
        one.output_tokens,
        one.cache_read_tokens,
        one.cache_write_tokens,
        one.cache_write_1h_tokens,
        one.reasoning_tokens,
        one.cost_usd,
        one.is_estimate,
        one.price_is_default,
    )


def _compression(session: int, one: StoredCompression) -> tuple[object, ...]:
    place = (session, one.number, one.seq, one.at, one.first_ref, one.last_ref, one.digest)
    return (*place, dumped(one.summary), one.event, one.plan)


def _owner(owner: Owner) -> tuple[object, ...]:
    return owner.token, owner.host, owner.process_id, owner.process_started
