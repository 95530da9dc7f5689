"""Blobs: each kept once, for as long as a message or a layout refers to it. Runs inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from .values import StoredMessage

Kind = Literal["message", "layout"]


def put_blobs(connection: sqlite3.Connection, blobs: Mapping[str, bytes]) -> None:
    """Keep blobs; those that are there already stay as they are.

    They are not compressed: for a text of 100 kB that takes longer than to write it, and images gain nothing.
    """
    connection.executemany("INSERT OR IGNORE INTO blobs (digest, content) VALUES (?, ?)", blobs.items())


def use_blobs(connection: sqlite3.Connection, session: int, messages: Iterable[StoredMessage]) -> None:
    """Note which blobs messages refer to."""
    uses = [(session, "message", one.seq, digest) for one in messages for digest in one.blobs]
    if uses:
        connection.executemany(_ADD_USE, uses)


def use_other_blobs(
    connection: sqlite3.Connection, session: int, kind: Kind, number: int, digests: Sequence[str]
) -> None:
    """Note that a message or layout refers to these blobs and to no others."""
    place = (session, kind, number)
    earlier = connection.execute(f"SELECT digest FROM blob_uses WHERE {_PLACE}", place).fetchall()
    connection.execute(f"DELETE FROM blob_uses WHERE {_PLACE}", place)
    connection.executemany(_ADD_USE, [(*place, digest) for digest in digests])
    _drop_unused(connection, earlier)


def drop_uses(connection: sqlite3.Connection, session: int, kind: Kind, *, behind: int) -> None:
    """Forget what the messages or layouts of numbers behind `behind` refer to, and the blobs that nothing else does."""
    condition = "session = ? AND kind = ? AND number > ?"
    earlier = connection.execute(f"SELECT digest FROM blob_uses WHERE {condition}", (session, kind, behind)).fetchall()
    connection.execute(f"DELETE FROM blob_uses WHERE {condition}", (session, kind, behind))
    _drop_unused(connection, earlier)


_PLACE = "session = ? AND kind = ? AND number = ?"
_ADD_USE = "INSERT OR IGNORE INTO blob_uses (session, kind, number, digest) VALUES (?, ?, ?, ?)"


def _drop_unused(connection: sqlite3.Connection, digests: Iterable[tuple[str]]) -> None:
    connection.executemany(
        "DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE digest = ?1)", set(digests)
    )
