"""Finding the strings in a text that nobody can guess again: paths, symbols, ids, codes, numbers.

Everything here is linear in the text: one regular expression whose alternatives each begin differently and
hold one repeated class, then string operations on the pieces it cuts. Nothing looks at meaning or language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from ..patterns import Pattern


class Kind(IntEnum):
    """What a string looks like. The order has no meaning."""

    URL = 0
    PATH = 1
    FILE = 2
    SYMBOL = 3
    """`snake_case`, `camelCase`."""
    DOTTED = 4
    """`object.member`, `Namespace::name`."""
    CONSTANT = 5
    """`UPPER_CASE`."""
    RECORD = 6
    """A name that ends in its number: `order_482913`, `RS-2024-0042`."""
    CODE = 7
    """Letters and digits mixed: `XK7PQ2`, `int64`."""
    HASH = 8
    NUMBER = 9
    WORD = 10
    """`kebab-case` without digits: an option, a package, or only prose."""


MAX_LENGTH = 240
"""A longer string is payload (base64, minified code), nothing that an agent will type again."""

# CJK text has no spaces around identifiers, so its characters end one; so does typographic punctuation.
_CHUNK = Pattern(
    r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'`<>\\\]}|\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"
    r"|\x1b\[[\d;]*[A-Za-z]"  # terminal colours
    r"|^ {0,8}\d+(?:\t|→)"  # line numbers of a listing
    r"|\b[A-Za-z]:\\[^\s\"'`<>|:*?,;]+"
    r"|\\[nrt]"
    r"|[^\s\"'`<>()\[\]{},;|*\\!?\u2010-\u203f\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+",
    re.MULTILINE,
)
_SINGLE_COLON = Pattern(r"(?<!:):(?!:)")
_DATE = Pattern(r"\d{4}-\d\d-\d\d(T[\d.+Z-]*)?$")
_TIMESTAMP = Pattern(r"\d{4}-\d\d-\d\dT\d\d?:\d\d(?::\d\d)?(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?$")
_NUMBER = Pattern(r"[$€£]?[+-]?\d[\d.,]*(?:%|[A-Za-zµ]{1,3})?$")
_HEX = Pattern(r"[0-9a-f]{7,64}$|[0-9A-F]{16,64}$")
_UUID = Pattern(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_CAMEL = Pattern(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")
_EDGES = ".:#&=+~^-/@"
_ENDINGS = """
    adoc bash bat bin c cc cfg cjs class cmake conf cpp cs css csv cxx dart db diff dll dockerfile env erl ex
    exe exs fish gif go gradle graphql gz h hh hpp hs htm html hxx ico ini ipynb java jpeg jpg js json jsonl
    jsx kt less lock log lua m map md mjs mk ml mod mp3 mp4 o onnx parquet patch pdf php pl plist png
    properties proto ps1 py pyi r rb rs rst s sass scala scss sh snap sol sql sqlite sum svelte svg swift tar
    tex tf toml ts tsv tsx ttf txt vue wasm webp xls xlsx xml yaml yml zig zip zsh
"""
_FILE_ENDINGS = frozenset(_ENDINGS.split())


def chunks(text: str) -> list[str]:
    """Cut a text into pieces that may be or hold identifiers; prose words are among them."""
    return _CHUNK.compiled.findall(text)


def parts(name: str) -> list[str]:
    """Return the shorter strings that are surely read where `name` is: a path's ends, a dotted name's members."""
    found: list[str] = []
    if "/" in name:
        rest = name
        while "/" in rest:
            rest = rest.partition("/")[2]
            if rest:
                found.append(rest)
        name = rest
    if "." in name or ":" in name:
        members = re.split(r"[.:]+", name)
        found += members
        found += [".".join(members[:size]) for size in range(2, len(members))]
    return found


def identify(chunk: str) -> tuple[tuple[str, Kind], ...]:
    """Return the identifiers in one chunk, the longest first; nothing for a plain word.

    Each is a substring of the chunk. A dotted name gives its telling members too, as they recur alone.
    """
    if len(chunk) < 3 or chunk[0] == "\x1b" or chunk[-1] in "\t→":
        return ()
    if "://" in chunk:
        url = chunk[chunk.rfind("=", 0, chunk.index("://")) + 1 :].rstrip(".,:;)*!?")
        return ((url, Kind.URL),) if len(url) <= 2 * MAX_LENGTH else ()
    if len(chunk) > 2 * MAX_LENGTH:
        return ()
    return tuple(_pieces(chunk))


def _pieces(chunk: str) -> Iterator[tuple[str, Kind]]:
    if chunk[1:3] == ":\\":
        yield chunk.rstrip(".\\"), Kind.PATH
        return
    if ":" in chunk and chunk[0].isdigit() and _TIMESTAMP.compiled.match(timestamp := chunk.rstrip(".:")):
        yield timestamp, Kind.NUMBER
        return
    for side in re.split(r"[=&^+]+", chunk) if not chunk.isalnum() else (chunk,):
        for piece in _between_colons(side):
            bare = _strip(piece)
            if 3 <= len(bare) <= MAX_LENGTH:
                yield from _classify(bare)


def _between_colons(text: str) -> list[str]:
    """Split `key:value` and `file.py:12:5:`; a number there is a line's, but for the port in `host:8080`."""
    if ":" not in text:
        return [text]
    pieces = _SINGLE_COLON.compiled.split(text)
    if len(pieces) == 2 and pieces[1].isdigit() and "/" not in text and not _is_file(pieces[0]):
        return [pieces[0], text] if pieces[0] and not pieces[0].isdigit() else []
    return [piece for piece in pieces if not piece.isdigit()]


def _is_file(name: str) -> bool:
    return name.rpartition(".")[2].lower() in _FILE_ENDINGS


def _strip(piece: str) -> str:
    """Take punctuation off the ends, but leave what belongs to a name: `/etc`, `./run`, `--all`, `12%`, `@app/x`."""
    name = piece.lstrip("#&=+^%:").rstrip(_EDGES)
    if name.startswith(("./", "../", "~/", "--")):
        return name
    bare = name.lstrip(".~-")
    is_dot_file = name.startswith(".") and bare[:1].isalpha() and len(name) == len(bare) + 1
    return name if is_dot_file else bare


def _classify(text: str) -> Iterator[tuple[str, Kind]]:
    has_digit = any(map(str.isdigit, text))
    has_alpha = any(map(str.isalpha, text))
    if not has_alpha:
        yield from _number(text, has_digit)
    elif "@" in text and "/" not in text:
        yield text, Kind.CODE
    elif "/" in text:
        yield from _path(text, has_digit)
    elif _NUMBER.compiled.match(text) or _DATE.compiled.match(text):
        yield text, Kind.NUMBER
    elif _UUID.compiled.match(text) or (has_digit and _HEX.compiled.match(text)):
        yield text, Kind.HASH
    elif "." in text or "::" in text:
        yield from _dotted(text)
    elif (kind := _simple(text, has_digit)) is not None:
        yield text, kind


def _number(text: str, has_digit: bool) -> Iterator[tuple[str, Kind]]:
    # Small whole numbers are everywhere and mean nothing alone.
    if has_digit and ("." in text or "%" in text or "-" in text or len(text) >= 4 or text[0] in "$€£"):
        yield text, Kind.NUMBER


def _path(text: str, has_digit: bool) -> Iterator[tuple[str, Kind]]:
    depth = text.count("/")
    if depth == 1 and text[0] not in "/~.@" and not has_digit and "." not in text and "_" not in text:
        return  # and/or, client/server
    if text.startswith("//") or "//" in text:
        return
    yield text, Kind.PATH


def _dotted(text: str) -> Iterator[tuple[str, Kind]]:
    if _is_file(text) and "::" not in text:
        yield text, Kind.FILE
        return
    members = text.replace("::", ".").split(".")
    telling = [m for m in members if len(m) >= 4 and _simple(m, any(map(str.isdigit, m))) is not None]
    if all(members) and len(members) <= 6 and (telling or min(map(len, members)) >= 3):
        yield text, Kind.DOTTED
    for member in telling:
        kind = _simple(member, any(map(str.isdigit, member)))
        if kind is not None:
            yield member, kind


def _simple(text: str, has_digit: bool) -> Kind | None:
    if "_" in text.strip("_"):
        if has_digit and text[-3:].isdigit():
            return Kind.RECORD
        return Kind.CONSTANT if text.isupper() else Kind.SYMBOL
    if "-" in text.strip("-"):
        if has_digit:
            return Kind.RECORD if text[-3:].isdigit() else Kind.CODE
        return Kind.WORD if text.islower() else None
    if has_digit:
        return Kind.CODE
    return Kind.SYMBOL if _CAMEL.compiled.search(text) or text[0] == "_" else None
