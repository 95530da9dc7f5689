"""A session as a file and back: JSON lines that hold all of it, or the messages in their provider's own format."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias, get_args

from ..errors import ConfigError, CorruptStorageError, NewerStorageError, SessionError, UnknownSessionError
from .encoding import blobs_of, loaded
from .lease import new_owner
from .store import SessionStore
from .transfer_native import NativeFormat, native_body
from .transfer_rows import embedded, row_as_dict, row_of, text_of
from .values import (
    Heading,
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

VERSION: Final = 1
"""Of the JSON lines."""
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
    turn = _saved_turn(store, _turn(_read(lines)))
    store.release(turn.session_id, turn.owner)
    return store.load(turn.session_id).info


def is_export(first_line: str) -> bool:
    """Return whether a file that begins so is one for `import_session`."""
    return f'"{_HEAD}"' in first_line[:200]


# --- Writing ----------------------------------------------------------------------------------------------------------

_HEAD: Final = "aloop_session"
_OF_INFO: Final = ("parent_id", "parent_seq", "owner", "lease_until", "heading")
"""What of a session belongs to its store or stands apart."""


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
    yield _line({_HEAD: VERSION, **row_as_dict(saved.info, without=_OF_INFO), "heading": heading})
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


@dataclass(slots=True)
class _Read:
    """What the lines said so far."""

    info: SessionInfo
    messages: list[StoredMessage] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[StoredCall] = field(default_factory=list)
    compressions: list[StoredCompression] = field(default_factory=list)
    layouts: list[StoredLayout] = field(default_factory=list)
    state: str = ""

    def add(self, kind: str, value: Any, where: str) -> None:
        match kind:
            case "message":
                self.messages.append(row_of(StoredMessage, value, what=where))
            case "call":
                self.calls.append(row_of(StoredCall, value, what=where))
            case "compression":
                self.compressions.append(row_of(StoredCompression, value, what=where))
            case "layout":
                self.layouts.append(row_of(StoredLayout, value, what=where))
            case "state" if isinstance(text := text_of(value), str):
                self.state = text
            case _:
                raise CorruptStorageError(f"{where} is no part of a session")


def _read(lines: Iterable[str]) -> _Read:
    unsigned = _verified(lines)
    where, first = next(unsigned, ("line 1", {}))
    read = _Read(_info(where, first))
    for where, value in unsigned:
        if "blob" in value:
            digest, content = _blob(value, where)
            read.blobs[digest] = content
        else:
            kind = next(iter(value), "")
            read.add(kind, value.get(kind), where)
    _refuse_gaps(read)
    return read


def _verified(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line's object and where it stands.

    Raises:
        CorruptStorageError: A line is no JSON object; or they end before the last one, or are not what was written.
    """
    seen, count, is_whole = sha256(), 0, False
    for number, text in enumerate(filter(str.strip, lines), start=1):
        value = _object(text, number)
        if is_whole:
            raise CorruptStorageError(f"line {number} stands behind the end of the export")
        if "end" in value and count:
            is_whole = _is_end(value, count, seen.hexdigest())
            continue
        seen.update(f"{text.strip()}\n".encode("utf-8", "surrogatepass"))
        count += 1
        yield f"line {number}", value
    if not is_whole:
        raise CorruptStorageError("the export is cut off: its last line is missing")


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptStorageError(f"line {number} is no JSON: the export is cut off, or no export") from error
    if not isinstance(value, dict):
        raise CorruptStorageError(f"line {number} is no JSON object, so this is no export of a session")
    return value


def _is_end(value: Mapping[str, Any], count: int, digest: str) -> bool:
    if value["end"] != count or value.get("sha256") != digest:
        raise CorruptStorageError("the export is damaged: its lines are not those that were written")
    return True


def _info(where: str, value: dict[str, Any]) -> SessionInfo:
    version = value.pop(_HEAD, None)
    if not isinstance(version, int):
        raise CorruptStorageError(f"{where} does not begin an export of a session ({_HEAD!r} is missing)")
    if version > VERSION:
        raise NewerStorageError(f"a newer version wrote this export (format {version}); this one reads {VERSION}")
    heading = row_of(Heading, value.pop("heading", None), what=f"{where}: heading")
    return row_of(SessionInfo, {**value, "heading": heading}, what=where, without=_OF_INFO[:-1])


def _blob(value: Mapping[str, Any], where: str) -> tuple[str, bytes]:
    try:
        content = base64.b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStorageError(f"{where} holds a blob that cannot be read") from error
    if sha256(content).hexdigest() != value["blob"]:
        raise CorruptStorageError(f"{where} holds a blob that is not the one that was written")
    return value["blob"], content


def _refuse_gaps(read: _Read) -> None:
    """Raise CorruptStorageError if what was read does not belong together."""
    if [message.seq for message in read.messages] != list(range(1, read.info.heading.last_seq + 1)):
        raise CorruptStorageError(f"the export does not hold the messages 1 to {read.info.heading.last_seq}")
    for message in read.messages:
        if {*message.blobs, *blobs_of(message.body)} - read.blobs.keys():
            raise CorruptStorageError(f"message {message.seq} refers to a blob that is not there")
    for layout in read.layouts:
        if set(layout.blobs) - read.blobs.keys():
            raise CorruptStorageError("what stood in the context refers to a blob that is not there")
    for text in (read.state, *(layout.body for layout in read.layouts)):
        if not isinstance(loaded(text or "null"), dict):
            raise CorruptStorageError("the export has no state, so nothing could go on from it")


def _turn(read: _Read) -> Turn:
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


def _is_taken(store: SessionStore, session_id: str) -> bool:
    try:
        store.load(session_id)
    except UnknownSessionError:
        return False
    return True
