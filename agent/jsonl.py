"""From a file's bytes to the JSON values in it: one, or one on each line, gzipped or not."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from memory.errors import TranscriptError

Located: TypeAlias = tuple[str, Any]
"""A JSON value and where it stands: `path` or `path:line`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A line that is no JSON."""

    problem: str
    is_last: bool


def content_of(path: str | Path) -> bytes:
    """Return a file's bytes.

    Raises:
        TranscriptError: It cannot be read.
    """
    if not str(path):
        raise TranscriptError("'' cannot be read: name a file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise TranscriptError(f"{str(path)!r} cannot be read: {error}") from error


def values_of(content: bytes, name: str, broken: list[Broken]) -> list[Located]:
    """Return the one JSON value of a file's content, or that of each line that is JSON; the others go to `broken`.

    Raises:
        TranscriptError: The content is empty, not text, or no JSON from its first line on; it names the file.
    """
    return _values(_text(content, name), name, broken)


def refused(broken: Broken) -> TranscriptError:
    """Return what a strict reading says of a broken line."""
    half = " The line seems half written." if broken.is_last else ""
    return TranscriptError(f"{broken.problem}.{half} A lenient reading (--lenient) leaves out such lines and says so")


def _text(content: bytes, name: str) -> str:
    if content.startswith(b"\x1f\x8b"):
        content = _unpacked(content, name)
    if not content.strip():
        raise TranscriptError(f"{name} is empty")
    try:
        # surrogatepass: recorders that write text as models made it write lone surrogates too.
        text = content.decode("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise TranscriptError(f"{name} is not text in UTF-8; a transcript is JSON or JSONL, gzipped or not")
    return text.removeprefix("\ufeff")


def _unpacked(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TranscriptError(f"{name} is a damaged or half-written gzip file: {error}") from error


def _values(text: str, name: str, broken: list[Broken]) -> list[Located]:
    try:
        return [(name, json.loads(text))]
    except RecursionError:
        raise TranscriptError(f"{name} is nested too deeply to be a transcript") from None
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) == 1 or not _is_json(lines[0][1]):
            half = ". The file seems half written" if _ends_too_early(text, error) else ""
            raise TranscriptError(f"{name} is neither JSON nor JSONL: {error}{half}") from None
    return list(_lines(lines, name, broken))


def _ends_too_early(text: str, error: ValueError) -> bool:
    return isinstance(error, json.JSONDecodeError) and (
        error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(lines: Sequence[tuple[int, str]], name: str, broken: list[Broken]) -> Iterator[Located]:
    for number, line in lines:
        try:
            yield f"{name}:{number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = f"{name}:{number} is no JSON ({error})"
            broken.append(Broken(problem=problem, is_last=number == lines[-1][0]))
