"""A session as a file and back: JSON lines that hold all of it, or the messages in their provider's own format."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias, get_args

from ..dialects import dialect_named
from ..errors import ConfigError, CorruptStorageError, SessionError, UnknownSessionError
from .layouts import read_layout
from .lease import new_owner
from .resuming import state_of
from .shelf import Shelf
from .store import SessionStore
from .transfer_native import NativeFormat, native_body
from .transfer_reading import HEAD, OF_INFO, VERSION, Export, read_export
from .transfer_rows import embedded, row_as_dict
from .values import (
    NewSession,
    Saved,
    SessionInfo,
    StoredCall,
    StoredCompression,
    StoredLayout,
    StoredMessage,
    Turn,
)

ExportFormat: TypeAlias = Literal["jsonl"] | NativeFormat
FORMATS: Final[tuple[ExportFormat, ...]] = ("jsonl", *get_args(NativeFormat))

_PAGE: Final = 1_000
"""Messages that are read at once."""
_ATTEMPTS: Final = 20


def export_session(store: SessionStore, session_id: str, format: ExportFormat = "jsonl") -> Iterator[str]:
    """Return a session as lines of text, in ASCII.

    `jsonl` is all of it, exactly: `import_session` makes the same session of it, in any store. A branch is exported
    whole, with the messages that it shares; what was paid and compressed before it began stays its parent's. Somebody
    may write to the session meanwhile: what is exported is one turn's end.

    Any other format is one JSON object, a request body with the messages as they came.

    Raises:
        ConfigError: There is no such format, or the session's messages are in another one.
        SessionError: It is being written to so fast that no moment of it can be read.
        UnknownSessionError: There is none of that id.
    """
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}", field="format")
    if format == "jsonl":
        return _signed(_lines(store, _moment(store, session_id)))
    return iter([native_body(store, session_id, format)])


def import_session(store: SessionStore, lines: Iterable[str]) -> SessionInfo:
    """Make a session of the lines that `export_session` gave as `jsonl`, and return it. All or nothing is written.

    It keeps its id where that is free, and gets a new one otherwise.

    Raises:
        CorruptStorageError: The lines are no export, are cut off, or were changed.
        NewerStorageError: A newer version exported them.
        StorageError: The store failed.
    """
    turn = _saved_turn(store, _turn(read_export(lines)))
    store.release(turn.session_id, turn.owner)
    try:
        return _readable(store, turn.session_id)
    except BaseException:
        store.delete(turn.session_id)
        raise


def is_export(first_line: str) -> bool:
    """Return whether a file that begins so is one for `import_session`."""
    return f'"{HEAD}"' in first_line[:200]


# --- Writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """A session at one turn's end, but for its messages, which are never changed."""

    saved: Saved
    calls: list[StoredCall]
    compressions: list[StoredCompression]
    layouts: list[StoredLayout]


def _lines(store: SessionStore, moment: _Moment) -> Iterator[str]:
    saved = moment.saved
    heading = row_as_dict(saved.info.heading)
    yield _line({HEAD: VERSION, **row_as_dict(saved.info, without=OF_INFO), "heading": heading})
    written: set[str] = set()
    for message in _messages(store, saved):
        yield from _blobs(store, message.blobs, written)
        yield _line({"message": row_as_dict(message)})
    for layout in moment.layouts:
        yield from _blobs(store, layout.blobs, written)
    yield from (_line({"call": row_as_dict(one)}) for one in moment.calls)
    yield from (_line({"compression": row_as_dict(one)}) for one in moment.compressions)
    yield from (_line({"layout": row_as_dict(one)}) for one in moment.layouts)
    yield _line({"state": embedded(saved.state)})


def _moment(store: SessionStore, session_id: str) -> _Moment:
    for _ in range(_ATTEMPTS):
        moment = _Moment(
            saved=store.load(session_id),
            calls=store.calls(session_id),
            compressions=store.compressions(session_id),
            layouts=store.layouts(session_id),
        )
        if store.load(session_id) == moment.saved:
            return moment
    raise SessionError(f"the session {session_id} is being written to without a pause; export it when it is closed")


def _messages(store: SessionStore, saved: Saved) -> Iterator[StoredMessage]:
    last = saved.info.heading.last_seq
    for first in range(1, last + 1, _PAGE):
        yield from store.messages(saved.info.id, first_seq=first, last_seq=min(last, first + _PAGE - 1))


def _blobs(store: SessionStore, digests: Iterable[str], written: set[str]) -> Iterator[str]:
    for digest in digests:
        if digest not in written:
            yield _line({"blob": digest, "base64": base64.b64encode(store.blob(digest)).decode()})
            written.add(digest)


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _signed(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines, and one behind them by which a reader notices that some are missing or changed."""
    seen, count = sha256(), 0
    for line in lines:
        seen.update(line.encode("ascii"))
        count += 1
        yield line
    yield _line({"end": count, "sha256": seen.hexdigest()})


# --- Reading ----------------------------------------------------------------------------------------------------------


def _turn(read: Export) -> Turn:
    return Turn(
        session_id=read.info.id,
        owner=new_owner(),
        at=read.info.updated_at,
        begins=NewSession(created_at=read.info.created_at, config=read.info.config),
        heading=read.info.heading,
        messages=tuple(read.messages),
        blobs=read.blobs,
        calls=tuple(read.calls),
        compressions=tuple(read.compressions),
        layouts=tuple(read.layouts),
        state=read.state,
    )


def _saved_turn(store: SessionStore, turn: Turn) -> Turn:
    """Write a session under its own id or, where that is taken, under a new one."""
    if not _is_taken(store, turn.session_id):
        with suppress(UnknownSessionError):  # it was deleted, and a branch still holds on to its messages
            store.save(turn)
            return turn
    turn = replace(turn, session_id=secrets.token_hex(8))
    store.save(turn)
    return turn


def _readable(store: SessionStore, session_id: str) -> SessionInfo:
    """Return a session whose context can be put together: a file can be whole by its own account and make no sense.

    Raises:
        CorruptStorageError: It cannot.
        NewerStorageError: A newer version wrote what it goes on from.
    """
    saved = store.load(session_id)
    shelf = Shelf(store, session_id, dialect_named(saved.info.heading.dialect or "openai_chat"))
    try:
        state_of(saved)
        if saved.layout is not None:
            read_layout(saved.layout, shelf)
        shelf.appended(0, saved.info.heading.last_seq)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CorruptStorageError(f"the export holds no session that could go on ({type(error).__name__})") from error
    return saved.info


def _is_taken(store: SessionStore, session_id: str) -> bool:
    try:
        store.load(session_id)
    except UnknownSessionError:
        return False
    return True
