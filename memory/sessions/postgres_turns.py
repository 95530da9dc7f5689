"""The writes of a session's one owner.

Whether it is still the owner, a statement of the transaction asks, which fails where it is not and takes the turn with
it: so a whole turn goes out in one round trip. Leases run by the server's clock: owners on many machines have as many
clocks, and one that is ahead by minutes would take what is not free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..errors import SessionError, UnknownSessionError
from .encoding import storable
from .lease import LEASE_SECONDS, in_use, is_alive
from .postgres_connection import Transaction
from .postgres_rows import columns_of, heading_row, owner_of, owner_row, row_of, saved_of, to_text
from .values import Heading, Owner, Saved, StoredCall, StoredCompression, StoredLayout, StoredMessage, Turn

NOW: Final = "coalesce(%(now)s::double precision, extract(epoch FROM clock_timestamp())::double precision)"
"""Seconds since 1970, by the clock of the server unless another is given."""

_LAYOUT: Final = ", ".join(f"l.{name} AS layout_{name}" for name in columns_of(StoredLayout))
SAVED: Final = f"""
    SELECT s.*, {NOW} AS now, {_LAYOUT}
    FROM aloop.sessions s
    LEFT JOIN LATERAL (SELECT * FROM aloop.layouts WHERE session_id = s.id ORDER BY number DESC LIMIT 1) l ON true
    WHERE s.id = %(id)s AND NOT s.is_deleted
"""
"""A session and its newest layout."""

_LOCK: Final = "SELECT FROM aloop.sessions WHERE id = %(id)s FOR UPDATE"
_TAKE: Final = """
    UPDATE aloop.sessions
    SET owner_token = %(owner_token)s, owner_host = %(owner_host)s, owner_process_id = %(owner_process_id)s,
        owner_process_started = %(owner_process_started)s, lease_until = %(lease_until)s
    WHERE id = %(id)s
"""
_GIVE_UP: Final = """
    UPDATE aloop.sessions SET owner_token = NULL, lease_until = 0 WHERE id = %(id)s AND owner_token = %(token)s
"""
_SHARE_BLOBS: Final = "SELECT pg_advisory_xact_lock_shared(hashtextextended('aloop.blobs', 0))"
HOLD_BLOBS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('aloop.blobs', 0))"
"""Whoever deletes blobs that nobody refers to any more keeps out those who are about to refer to one."""


def write_turn(transaction: Transaction, turn: Turn, *, now: float | None) -> None:
    """Write all that is new; the statement that asks for the owner fails where it is another one by now."""
    session = {"id": storable(turn.session_id), "now": now, **owner_row(turn.owner)}
    if turn.blobs:
        transaction.run(_SHARE_BLOBS)
    if turn.begins is not None:
        transaction.run(_BEGIN, session | _beginning(turn))
    transaction.run(_HEAD, session | _heading(turn))
    transaction.run("SELECT aloop.fence(%(id)s, %(owner_token)s)", session)
    put_blobs(transaction, turn.blobs)
    of = {"session_id": session["id"]}
    _write(transaction, _MESSAGES, [row_of(one, **of) for one in turn.messages])
    _write(transaction, _CALLS, [row_of(one, **of) for one in turn.calls])
    _write(transaction, _COMPRESSIONS, [row_of(one, **of) for one in turn.compressions])
    _write(transaction, _LAYOUTS, [row_of(one, **of) for one in turn.layouts])


def take(transaction: Transaction, session_id: str, owner: Owner, *, takes_over: bool, now: float | None) -> Saved:
    """Make `owner` the one who may write, and return what it goes on from.

    Raises:
        SessionInUseError: Another owner has it.
        UnknownSessionError: There is none of that id.
    """
    # Locked first, and read by a statement of its own: one that waits for a lock sees the row as it is then, and what
    # it is joined with as it was before.
    key = {"id": storable(session_id), "now": now}
    transaction.run(_LOCK, key)
    rows = transaction.rows(SAVED, key)
    if not rows:
        raise unknown(session_id)
    holder = owner_of(rows[0])
    if not takes_over and holder is not None and holder.token != owner.token:
        check_not_open(rows[0])
    lease_until = rows[0]["now"] + LEASE_SECONDS
    transaction.run(_TAKE, {"id": rows[0]["id"], "lease_until": lease_until, **owner_row(owner)})
    saved = saved_of(rows[0])
    return replace(saved, info=replace(saved.info, owner=owner, lease_until=lease_until))


def give_up(transaction: Transaction, session_id: str, owner: Owner) -> None:
    transaction.run(_GIVE_UP, {"id": storable(session_id), "token": owner.token})


def is_open(row: Mapping[str, Any]) -> bool:
    """Return whether somebody has the session of a row (with `now`) open."""
    owner = owner_of(row)
    return owner is not None and is_alive(owner, lease_until=row["lease_until"], now=row["now"])


def check_not_open(row: Mapping[str, Any]) -> None:
    """Raise `SessionInUseError` if somebody has the session of a row (with `now`) open."""
    owner = owner_of(row)
    if owner is not None and is_open(row):
        raise in_use(row["id"], owner)


def refusal(rows: Sequence[Mapping[str, Any]], turn: Turn) -> SessionError:
    """Return why a turn was not taken, given the row of its session as it is now."""
    if not rows:
        why = "" if turn.begins is None or turn.begins.parent_id is None else "it or its parent was deleted"
        return unknown(turn.session_id, why)
    owner = owner_of(rows[0])
    if owner is None:
        return SessionError(f"the session {turn.session_id} was given up by its owner; resume it to write to it")
    return in_use(turn.session_id, owner)


def unknown(session: str, why: str = "") -> UnknownSessionError:
    """Return the error for a session that is not there."""
    says = why or "no session is called so, or it was deleted"
    return UnknownSessionError(f"{session!r}: {says}; `aloop sessions list` names those that are there")


def put_blobs(transaction: Transaction, blobs: Mapping[str, bytes]) -> None:
    """Keep blobs; those that are there already stay as they are."""
    # In one order for all, so that of two turns with the same blobs one waits for the other, not each for the other.
    _write(transaction, _BLOBS, [{"digest": digest, "content": blobs[digest]} for digest in sorted(blobs)])


def _beginning(turn: Turn) -> dict[str, object]:
    assert turn.begins is not None
    return {
        "created_at": turn.begins.created_at,
        "config": to_text(turn.begins.config),
        "parent_id": turn.begins.parent_id and storable(turn.begins.parent_id),
        "parent_seq": turn.begins.parent_seq,
    }


def _heading(turn: Turn) -> dict[str, object]:
    return {
        "updated_at": turn.at,
        "state": to_text(turn.state),
        "lease_seconds": LEASE_SECONDS,
        **heading_row(turn.heading),
    }


def _write(transaction: Transaction, statement: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        transaction.run_each(statement, rows)


def _insert(table: str, columns: Sequence[str], on_conflict: str) -> str:
    values = ", ".join(f"%({name})s" for name in columns)
    return f"INSERT INTO aloop.{table} ({', '.join(columns)}) VALUES ({values}) {on_conflict}"


def _newest_wins(columns: Sequence[str]) -> str:
    settings = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "number")
    return f"ON CONFLICT (session_id, number) DO UPDATE SET {settings}"


_HEADING: Final = columns_of(Heading)
_OWNER: Final = [f"owner_{name}" for name in columns_of(Owner)]
_FIRST_WINS: Final = "ON CONFLICT DO NOTHING"
_BEGIN: Final = f"""
    INSERT INTO aloop.sessions (id, created_at, updated_at, config, parent_id, parent_seq, title, last_seq,
        context_tokens, total_tokens, cost_usd, compression_count, state, {", ".join(_OWNER)}, lease_until)
    SELECT %(id)s, %(created_at)s, 0, %(config)s, %(parent_id)s, %(parent_seq)s, '', 0, 0,
        0, 0, 0, '', {", ".join(f"%({name})s" for name in _OWNER)}, 0
    WHERE %(parent_id)s::text IS NULL
        OR EXISTS (SELECT FROM aloop.sessions WHERE id = %(parent_id)s AND NOT is_deleted FOR SHARE)
    ON CONFLICT DO NOTHING
"""
_HEAD: Final = f"""
    UPDATE aloop.sessions
    SET updated_at = %(updated_at)s, state = %(state)s, lease_until = {NOW} + %(lease_seconds)s,
        title = CASE WHEN is_named THEN title ELSE %(title)s END,
        {", ".join(f"{name} = %({name})s" for name in _HEADING if name != "title")}
    WHERE id = %(id)s AND owner_token = %(owner_token)s AND NOT is_deleted
"""
_BLOBS: Final = _insert("blobs", ["digest", "content"], _FIRST_WINS)
# A turn may come twice. Another message of the same number breaks a rule of the table, so that the turn is refused
# without a round trip of its own; `shown` is emptied too, as the server's error quotes the row.
_MESSAGES: Final = _insert(
    "messages",
    ["session_id", *columns_of(StoredMessage)],
    "ON CONFLICT (session_id, seq) DO UPDATE SET body = NULL, shown = NULL "
    "WHERE messages.body IS DISTINCT FROM excluded.body",
)
_CALLS: Final = _insert("calls", ["session_id", *columns_of(StoredCall)], _newest_wins(columns_of(StoredCall)))
_COMPRESSIONS: Final = _insert("compressions", ["session_id", *columns_of(StoredCompression)], _FIRST_WINS)
_LAYOUTS: Final = _insert(
    "layouts",
    ["session_id", *columns_of(StoredLayout)],
    _newest_wins(columns_of(StoredLayout)),
)
