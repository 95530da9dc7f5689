"""An export read back, and refused where it is not what was written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ..errors import CorruptStorageError, NewerStorageError
from .encoding import blobs_of, loaded
from .transfer_rows import row_of, text_of
from .values import Heading, SessionInfo, StoredCall, StoredCompression, StoredLayout, StoredMessage

VERSION: Final = 1
"""Of the JSON lines."""
HEAD: Final = "aloop_session"
"""The key that the first line begins with; its value is the version."""
OF_INFO: Final = ("parent_id", "parent_seq", "owner", "lease_until", "heading")
"""What of a session belongs to its store or stands apart."""


@dataclass(slots=True)
class Export:
    """What an export holds, as far as it was read."""

    info: SessionInfo
    messages: list[StoredMessage] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    calls: list[StoredCall] = field(default_factory=list)
    compressions: list[StoredCompression] = field(default_factory=list)
    layouts: list[StoredLayout] = field(default_factory=list)
    state: str = ""

    def add(self, kind: str, value: Any, where: str) -> None:
        """Take the next part; `where` is its line.

        Raises:
            CorruptStorageError: It is none.
        """
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


def read_export(lines: Iterable[str]) -> Export:
    """Return what an export holds.

    Raises:
        CorruptStorageError: The lines are no export, are cut off, or were changed.
        NewerStorageError: A newer version exported them.
    """
    unsigned = _verified(lines)
    where, first = next(unsigned, ("line 1", {}))
    read = Export(_info(where, first))
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
    version = value.pop(HEAD, None)
    if not isinstance(version, int):
        raise CorruptStorageError(f"{where} does not begin an export of a session ({HEAD!r} is missing)")
    if version > VERSION:
        raise NewerStorageError(f"a newer version wrote this export (format {version}); this one reads {VERSION}")
    heading = row_of(Heading, value.pop("heading", None), what=f"{where}: heading")
    return row_of(SessionInfo, {**value, "heading": heading}, what=where, without=OF_INFO[:-1])


def _blob(value: Mapping[str, Any], where: str) -> tuple[str, bytes]:
    try:
        content = base64.b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStorageError(f"{where} holds a blob that cannot be read") from error
    if sha256(content).hexdigest() != value["blob"]:
        raise CorruptStorageError(f"{where} holds a blob that is not the one that was written")
    return value["blob"], content


def _refuse_gaps(read: Export) -> None:
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
