"""Messages as JSON text and back, exactly: key order, bytes, tuples, lone surrogates, infinite numbers.

Long strings, such as images and giant results, leave the text and become blobs under the hash of what they say, so that
the same file that is read ten times is kept once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ..errors import CorruptStorageError, MessageError
from ..messages import LLMMessage
from ..native import to_wire
from ..patterns import Pattern
from .values import Form

BLOB_CHARACTERS = 8_192
"""A string of this length or more is kept as a blob. Shorter ones cost more apart than they can save."""

LARGEST_BYTES = 900_000_000
"""What one text or blob may have: SQLite takes 1,000,000,000 bytes (https://www.sqlite.org/limits.html, 2026-11),
Postgres a gigabyte (https://www.postgresql.org/docs/18/limits.html, 2026-11)."""

FORGOTTEN = "[forgotten]"
"""What a message says whose words were taken away for good."""

_MARK = "$aloop"
"""The key of what JSON cannot say: `{"$aloop": "bytes", …}`. A mapping of the caller's with that key is wrapped too."""


_SURROGATE_PAIR = Pattern("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A message as it is kept."""

    body: str = field(repr=False)
    form: Form
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By SHA-256 in hexadecimal."""


def encode(message: object) -> Encoded:
    """Return a message as JSON text and blobs.

    Raises:
        MessageError: It holds something that is neither JSON nor bytes, or more than any store takes.
    """
    blobs: dict[str, bytes] = {}
    wire = to_wire(message)
    try:
        plain = _packed(wire, blobs)
    except RecursionError as error:
        raise MessageError("a message is nested too deep to be kept, or holds itself") from error
    form: Form = "llm_message" if isinstance(message, LLMMessage) else "dict" if wire is message else "object"
    body = dumped(plain)
    largest = max(len(body), *map(len, blobs.values())) if blobs else len(body)
    if largest > LARGEST_BYTES:
        raise MessageError(f"a message of {largest:,} bytes cannot be kept; up to {LARGEST_BYTES:,} can")
    return Encoded(body=body, form=form, blobs=blobs)


def decode(body: str, form: Form, blob: Callable[[str], bytes]) -> object:
    """Return the message that was encoded; of an SDK's object its JSON, as a dict.

    Raises:
        CorruptStorageError: The text is none that `encode` wrote, or a blob is missing.
    """
    plain = loaded(body)
    try:
        wire = _unpacked(plain, blob)
        return LLMMessage.from_wire(wire) if form == "llm_message" else wire
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptStorageError(f"a stored message cannot be read ({type(error).__name__})") from error


def dumped(value: object) -> str:
    """Return JSON text of plain values: compact, ASCII (so that lone surrogates are legal in any database)."""
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"cannot be kept as JSON: {error}") from error


_JSON: Final = json.JSONEncoder(separators=(",", ":"))


def storable(text: str) -> str:
    """Return text that any database takes: zero bytes and lone surrogates, which some refuse, become U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def digest_of(content: bytes) -> str:
    """Return the name under which a blob is kept."""
    return sha256(content).hexdigest()


def loaded(text: str) -> Any:
    """Return what JSON text says.

    Raises:
        CorruptStorageError: It is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptStorageError(f"a stored value is no JSON ({error})") from error


def _packed(value: Any, blobs: dict[str, bytes]) -> Any:
    kind = type(value)
    # Nearly every value is one of these; the protocols below cost several times as much to ask for.
    if kind is str:
        return value if len(value) < BLOB_CHARACTERS and value.isascii() else _packed_text(value, blobs)
    if kind is dict:
        return _packed_mapping(value, blobs)
    if kind is list:
        return [_packed(item, blobs) for item in value]
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _packed_text(value, blobs)
        case bytes() | bytearray():
            return _packed_bytes(bytes(value), blobs)
        case tuple():
            return {_MARK: "tuple", "items": [_packed(item, blobs) for item in value]}
        case Mapping():
            return _packed_mapping(value, blobs)
        case Sequence():
            return [_packed(item, blobs) for item in value]
    raise MessageError(f"a message holds a {kind.__name__}, which cannot be kept; JSON values and bytes can")


def _packed_text(value: str, blobs: dict[str, bytes]) -> str | dict[str, str]:
    if len(value) >= BLOB_CHARACTERS:
        return _blob(value.encode("utf-8", "surrogatepass"), "text", blobs)
    if _is_plain(value):
        return value
    return {_MARK: "surrogates", "base64": _base64(value.encode("utf-8", "surrogatepass"))}


def _is_plain(text: str) -> bool:
    """Return whether JSON gives a text back as it is: two surrogates side by side would become one letter."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return not _SURROGATE_PAIR.compiled.search(text)
    return True


def _packed_bytes(value: bytes, blobs: dict[str, bytes]) -> dict[str, str]:
    if len(value) >= BLOB_CHARACTERS:
        return _blob(value, "blob", blobs)
    return {_MARK: "bytes", "base64": _base64(value)}


def _packed_mapping(value: Mapping[Any, Any], blobs: dict[str, bytes]) -> dict[str, Any]:
    if _MARK in value or not all(map(_is_plain_key, value)):
        pairs = [[_packed(key, blobs), _packed(inner, blobs)] for key, inner in value.items()]
        return {_MARK: "mapping", "pairs": pairs}
    return {key: _packed(inner, blobs) for key, inner in value.items()}


def _is_plain_key(key: object) -> bool:
    return isinstance(key, str) and _is_plain(key)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _blob(content: bytes, kind: str, blobs: dict[str, bytes]) -> dict[str, str]:
    digest = digest_of(content)
    blobs[digest] = content
    return {_MARK: kind, "sha256": digest}


def _unpacked(value: Any, blob: Callable[[str], bytes]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, blob) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_MARK):
        case None:
            return {key: _unpacked(inner, blob) for key, inner in value.items()}
        case "text":
            return blob(value["sha256"]).decode("utf-8", "surrogatepass")
        case "blob":
            return blob(value["sha256"])
        case "bytes":
            return base64.b64decode(value["base64"], validate=True)
        case "surrogates":
            return base64.b64decode(value["base64"], validate=True).decode("utf-8", "surrogatepass")
        case "tuple":
            return tuple(_unpacked(item, blob) for item in value["items"])
        case "mapping":
            return {_unpacked(key, blob): _unpacked(inner, blob) for key, inner in value["pairs"]}
        case unknown:
            raise CorruptStorageError(f"a stored message has a part of an unknown kind, {unknown!r}")


def without_marks(value: Any) -> Any:
    """Return stored JSON as plain JSON: an empty text for a blob, a list for a tuple, {} for what is no JSON object."""
    if isinstance(value, list):
        return [without_marks(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_MARK):
        case None:
            return {key: without_marks(inner) for key, inner in value.items()}
        case "tuple":
            return [without_marks(item) for item in value["items"]]
        case "mapping":
            return {}
    return ""


def blobs_of(body: str) -> Iterator[str]:
    """Yield the digests of the blobs that a stored text refers to."""
    yield from _digests(loaded(body))


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _digests(item)
    elif isinstance(value, dict):
        if value.get(_MARK) in ("text", "blob"):
            yield value["sha256"]
        else:
            for inner in value.values():
                yield from _digests(inner)
