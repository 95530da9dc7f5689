"""Where sessions are kept, and the store that reads that place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from config import load
from memory.errors import ConfigError
from memory.sessions.lease import new_owner
from memory.sessions.opening import open_store
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.store import SessionStore

_POSTGRES: Final = ("postgresql", "postgres")


@contextmanager
def opened(db: str | None, *, is_writing: bool = False) -> Iterator[SessionStore]:
    """Open the store of a place for as long as the block runs.

    Args:
        db: A file, or a `postgresql://` address; None for the one that is configured.
        is_writing: The file may be made. Else the configured one is as good as empty where it is not there.

    Raises:
        ConfigError: It is neither, or there is no such file.
        MissingDependencyError: It is a database whose package is not installed.
    """
    store = _store(_place(db), is_named=db is not None, is_writing=is_writing)
    try:
        yield store
    finally:
        store.close()


def refuse_unwritable(store: SessionStore) -> None:
    """Write nothing of account to a store, so that a place that cannot work is found at once. A file is made.

    Raises:
        StorageError: Nothing can be kept there.
    """
    store.release("", new_owner())


def place_shown(db: str | None) -> str:
    """Return the place as it may be printed: an address without its password."""
    place = _place(db)
    if not _is_postgres(place):
        return place
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _place(db: str | None) -> str:
    if db is not None and not db.strip():
        raise ConfigError("--db must name a file or a postgresql:// address, got ''", field="db")
    return db or load().memory.session_db or SqliteSessionStore().path


def _store(place: str, *, is_named: bool, is_writing: bool) -> SessionStore:
    if not _is_postgres(place):
        if "://" in place:
            scheme = place.split(":", 1)[0][:20]
            raise ConfigError(
                f"sessions are kept in a file or a postgresql:// address, and {scheme}:// is neither", field="db"
            )
        path = Path(place).expanduser()
        if is_named and not is_writing and not path.exists():
            raise ConfigError(f"--db: there is no file {place!r}", field="db")
        place = str(path) if is_writing or path.exists() else ":memory:"
    return open_store(place)


def _is_postgres(place: str) -> bool:
    return place.split(":", 1)[0] in _POSTGRES and "://" in place
