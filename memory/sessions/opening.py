"""Where a memory's session begins or goes on: its store, its id, and everything that writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from ..config import MemoryConfig
from ..dialects import DIALECTS, dialect_named
from ..errors import ConfigError, SessionError
from ..events import Event
from ..messages import Dialect
from .archive import SessionArchive
from .encoding import dumped, loaded
from .lease import is_of_this_process, new_owner
from .news import News, Written
from .parts import Parts
from .recorder import Rest, SessionRecorder
from .resuming import restore
from .shelf import Shelf
from .sqlite import SqliteSessionStore
from .store import SessionStore
from .values import NewSession, Owner, Saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session that a memory is about to be made for."""

    store: SessionStore
    is_own: bool
    """The store was opened for this memory, and is closed with it."""
    session_id: str
    owner: Owner
    archive: SessionArchive
    shelf: Shelf
    saved: Saved | None = None
    """What it goes on from; None for a new one."""
    begins: NewSession | None = None
    title: str = ""

    def attach(self, parts: Parts, config: MemoryConfig, emit: Callable[[Event], None]) -> SessionRecorder:
        """Put a memory that was just made in the session's state, and return what writes it from now on."""
        written, tracker = Written(), parts.accounts.tracker
        tracker.keep_in(self.session_id)
        if self.saved is not None and tracker.calls:
            raise ConfigError("a session is resumed with a tracker that has no calls yet", field="tracker")
        if self.saved is not None:
            written = restore(parts, self.archive, self.shelf, self.saved, self.store)
        news = News(
            self.session_id,
            self.owner,
            parts,
            self.archive,
            begins=self.begins,
            written=written,
            title=self.saved.info.heading.title if self.saved is not None else self.title,
        )
        return SessionRecorder(self.store, news, is_required=config.session_required, emit=emit)


def open_store(address: str | Path | None = None) -> SessionStore:
    """Return the store at an address: a `postgresql://` URL or the path of a file; None: `~/.aloop/sessions.db`.

    Raises:
        StorageError: It cannot be opened.
        MissingDependencyError: The database is Postgres, and psycopg is not installed.
    """
    if isinstance(address, str) and address.startswith(("postgresql://", "postgres://")):
        from .postgres import PostgresSessionStore  # brings in an optional driver

        return PostgresSessionStore(address)
    return SqliteSessionStore(address)


def begin(
    store: SessionStore | None,
    config: MemoryConfig,
    *,
    model: str | None,
    dialect: Dialect | None,
    title: str | None,
    parent: tuple[str, int] | None = None,
) -> Opened | None:
    """Return a new session for a memory; None where none is wanted. Nothing is written before its first message.

    Args:
        store: Where it is kept; None: where the settings say.
        config: The memory's settings, which are kept with the session.
        model: The model that the loop calls.
        dialect: The format of the messages, as far as it is known.
        title: What lists call it; None: the beginning of the first task.
        parent: Of a branch: the session that it leaves, and the last message that both have.
    """
    if store is None and config.session_db is None:
        return None
    place = store or open_store(config.session_db)
    session_id = os.urandom(8).hex()
    shelf = Shelf(place, session_id, dialect or DIALECTS["openai_chat"])
    parent_id, parent_seq = parent or (None, 0)
    return Opened(
        store=place,
        is_own=store is None,
        session_id=session_id,
        owner=new_owner(),
        archive=SessionArchive(shelf),
        shelf=shelf,
        title=title or "",
        begins=NewSession(
            created_at=time.time(),
            config=dumped({"memory": _kept(config), "model": model}),
            parent_id=parent_id,
            parent_seq=parent_seq,
        ),
    )


def go_on(session: str, store: SessionStore | None, config: MemoryConfig | None, *, takes_over: bool) -> Opened:
    """Return a session that is there, with this process as its owner.

    Raises:
        SessionInUseError: Somebody else has it open.
        UnknownSessionError: There is none of that name.
    """
    place = store or open_store(config.session_db if config is not None else None)
    owner = new_owner()
    try:
        saved = place.acquire(place.find(session).id, owner, takes_over=takes_over)
    except SessionError:
        if store is None:
            place.close()
        raise
    name = saved.info.heading.dialect
    shelf = Shelf(place, saved.info.id, dialect_named(name) if name else DIALECTS["openai_chat"])
    return Opened(
        store=place,
        is_own=store is None,
        session_id=saved.info.id,
        owner=owner,
        archive=SessionArchive(shelf),
        shelf=shelf,
        saved=saved,
    )


def _kept(config: MemoryConfig) -> dict[str, Any]:
    """Return the settings as they are kept with a session: not where that is, for the address may hold a password."""
    return {name: value for name, value in config.given().items() if name != "session_db"}


def settings_of(saved: Saved) -> tuple[MemoryConfig, str | None]:
    """Return the settings and the model that a session was begun with."""
    value: Mapping[str, Any] = loaded(saved.info.config)
    return MemoryConfig.from_given(value.get("memory", {})), value.get("model")


def give_up(opened: Opened, rest: Rest | None = None) -> None:
    """Let others have a session, whatever state its store is in: for a memory that ended without being closed.

    What its store could not take, it is given once more.

    It may be collected in the middle of any call of the store. To use the store there once more would end the
    transaction that is under way, so another thread waits for that.

    In a child that was forked nothing happens: the session is its parent's, who goes on with it.
    """
    if not is_of_this_process(opened.owner):
        return
    thread = Thread(target=_release, args=(opened, rest), name="aloop-release", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is about to end, so nothing is under way
        _release(opened, rest)
    else:
        thread.join(_RELEASING_SECONDS)


_RELEASING_SECONDS = 0.2
"""How long a release is waited for: where nothing is in the way, whoever comes next finds the session free."""


def _release(opened: Opened, rest: Rest | None) -> None:
    if rest is not None and rest.turn is not None:
        with suppress(SessionError):
            opened.store.save(rest.turn)
    with suppress(SessionError):
        opened.store.release(opened.session_id, opened.owner)
        if opened.is_own:
            opened.store.close()


def refuse_archive(given: object | None) -> None:
    """Raise ConfigError where an archive is given beside a store, which is one."""
    if given is not None:
        raise ConfigError("give archive or store, not both: a store archives everything", field="archive")
