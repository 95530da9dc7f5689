"""What a failure of Postgres means for whoever keeps sessions there.

Told by SQLSTATE alone (https://www.postgresql.org/docs/18/errcodes-appendix.html, 2026-11): texts are translated by the
server, and their details may quote rows.
"""

from __future__ import annotations

from typing import Final

from ..errors import (
    CorruptStorageError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
)

NOT_OWNED: Final = "LP001"
"""Our own: what `aloop.fence` raises."""
REPEATABLE: Final = frozenset({"40001", "40P01"})
"""serialization_failure, deadlock_detected: nothing is wrong, the same again will do."""

_FULL = (StorageFullError, "is full, or at one of its limits")
_READ_ONLY = (
    StorageReadOnlyError,
    "may not be written to: a standby, or an account without the rights (docs/postgres.md)",
)
_LOCKED = (StorageLockedError, "was kept locked by somebody else for too long, or let a statement run out of its time")
_UNREACHABLE = (StorageUnreachableError, "cannot be reached, or refused us")
_CORRUPT = (CorruptStorageError, "is damaged, or its tables are not ours")
_TAKEN = (
    CorruptStorageError,
    "has another message of that number already: somebody wrote in the name of the session's owner, such as a copy of "
    "the process; branch from what is there",
)
_UNKNOWN = (StorageError, "failed")

_MEANINGS: Final[dict[str, tuple[type[StorageError], str]]] = {
    "53100": _FULL,  # disk_full
    "53400": _FULL,  # configuration_limit_exceeded
    "54": _FULL,  # program_limit_exceeded: a value of more than a gigabyte
    "25006": _READ_ONLY,  # read_only_sql_transaction
    "42501": _READ_ONLY,  # insufficient_privilege
    "40001": _LOCKED,
    "40P01": _LOCKED,
    "55P03": _LOCKED,  # lock_not_available
    "57014": _LOCKED,  # query_canceled: by a timeout, or by an administrator
    "25P03": _UNREACHABLE,  # idle_in_transaction_session_timeout: the connection is gone
    "53": _UNREACHABLE,  # too_many_connections, out_of_memory
    "57P": _UNREACHABLE,  # admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
    "08": _UNREACHABLE,  # connection_exception
    "28": _UNREACHABLE,  # invalid_authorization_specification
    "3D000": _UNREACHABLE,  # invalid_catalog_name: no such database
    "23502": _TAKEN,  # not_null_violation: what `postgres_turns` makes of a message whose number another one has
    "XX001": _CORRUPT,  # data_corrupted
    "XX002": _CORRUPT,  # index_corrupted
    "3F000": _CORRUPT,  # invalid_schema_name
    "42P01": _CORRUPT,  # undefined_table
    "42703": _CORRUPT,  # undefined_column
    "42883": _CORRUPT,  # undefined_function
    "22021": _CORRUPT,  # character_not_in_repertoire: bytes on disk that are no UTF-8
}


class NotOwnedError(Exception):
    """A turn came from a memory that does not own its session. Never leaves the store."""


def meaning(
    sqlstate: str | None, *, place: str, is_connecting: bool, is_writing: bool = True, cause: str = ""
) -> StorageError | NotOwnedError:
    """Return the error of ours.

    Args:
        sqlstate: What the server says; None where it said nothing, because the connection broke or never was.
        place: Names the database without its password.
        is_connecting: The failure is about the connection, where there is no SQLSTATE.
        is_writing: Something was to be written.
        cause: Why there is no connection, in words; empty where that is not known.
    """
    if sqlstate == NOT_OWNED:
        return NotOwnedError(NOT_OWNED)
    if sqlstate is None:
        kind, says = _UNREACHABLE if is_connecting else _UNKNOWN
    else:
        found = (_MEANINGS.get(sqlstate[:size]) for size in (5, 3, 2))
        kind, says = next((one for one in found if one is not None), _UNKNOWN)
    known = f"SQLSTATE {sqlstate}" if sqlstate is not None else cause
    detail = f" ({known})" if known else ""
    # A connection that breaks in the middle of a commit leaves open what became of it.
    outcome = "the same may be written again" if kind is StorageUnreachableError else "nothing was written"
    return kind(f"{place} {says}{detail}{f'; {outcome}' if is_writing else ''}")


def cause_of(words: str) -> str:
    """Return why there is no connection, as far as libpq's English words for it tell; nothing of them is quoted.

    They hold no code, and what they say beside the cause may name whatever stands in the parameters.
    """
    return next((cause for said, cause in _CAUSES.items() if said in words), "")


# What libpq and psycopg 3.3 say, and the C library's words for the system's errors; tried in 2026-11.
_CAUSES: Final[dict[str, str]] = {
    "Connection refused": "connection refused: nothing listens there",
    "failed to resolve host": "there is no host of that name",
    "could not translate host name": "there is no host of that name",
    "timeout expired": "no answer in time",
    "Connection timed out": "no answer in time",
    "Network is unreachable": "there is no way to that network",
    "No route to host": "there is no way to that host",
    "No such file or directory": "there is no socket",
    "password authentication failed": "the password is not accepted",
    "no pg_hba.conf entry": "the server lets this account not in from here",
    "no password supplied": "no password is given",
    "does not exist": "there is no such database or account",
    "server closed the connection": "the server closed the connection",
    "SSL": "encryption cannot be agreed on",
}
