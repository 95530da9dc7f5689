"""Repeats: results that a newer result replaces, and results that say what another one says.

Nothing here knows a tool or a format: it looks at names, arguments and texts. Linear in the texts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..messages import ToolCall
from ..patterns import Pattern
from ..units import Unit
from ..window import Entry
from .placeholders import Place, is_whole, maskable_results


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """The results that need not stand a second time, each with what its placeholder says of the other one."""

    superseded: dict[Place, str] = field(default_factory=dict)
    """The very same call was made again, and that result stands whole."""
    repeated: dict[Place, str] = field(default_factory=dict)
    """A newer result stands whole that says (nearly) all of it."""


def find_repeats(units: Sequence[Unit]) -> Repeats:
    """Look through the window from its end, so that the newest of several is the one that stands."""
    found = Repeats()
    newest: dict[tuple[str, str], str] = {}
    homes: dict[str, str] = {}
    for entry, index, call in _results_backwards(units):
        place, result = (entry.seq, index), entry.reading.results[index]
        key = (call.name, _canonical(call.arguments)) if call is not None else None
        pieces = _pieces(result.text)
        if key is not None and key in newest:
            found.superseded[place] = f"a newer result of the same call is {newest[key]}"
        elif not entry.reading.attachments and (says := _said_by(pieces, homes)) is not None:
            found.repeated[place] = says
        else:
            homes |= {piece: entry.ref for piece in pieces if piece not in homes}
            if key is not None and not result.is_error:
                newest[key] = entry.ref
    return found


def _results_backwards(units: Sequence[Unit]) -> Iterator[tuple[Entry, int, ToolCall | None]]:
    """Yield the results that stand whole and are long enough to matter, the newest first."""
    for unit in reversed(units):
        callers = unit.callers()
        for entry in reversed(unit.entries):
            for index in reversed(maskable_results(entry)):
                if is_whole(entry, index):
                    yield entry, index, callers.get((entry.seq, index))


def _canonical(arguments: str) -> str:
    """Return JSON arguments the same however they are spaced and ordered."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):  # models write anything
        return arguments


def _pieces(text: str) -> Counter[str]:
    """Return the pieces of a text, lines or parts of them, each with its share of the characters."""
    pieces: Counter[str] = Counter()
    for match in _PIECE.compiled.finditer(text):
        if piece := match.group().strip():
            pieces[piece] += len(piece)
    return pieces


_PIECE = Pattern(r"[^\n,;]+")


def _said_by(pieces: Counter[str], homes: dict[str, str]) -> str | None:
    """Say which result has nearly all of these pieces; None if none has."""
    total = pieces.total()
    shares: Counter[str] = Counter()
    for piece, size in pieces.items():
        if (home := homes.get(piece)) is not None:
            shares[home] += size
    best = max(shares, key=lambda ref: shares[ref], default=None)
    if best is None or shares[best] < total * _NEARLY_ALL:
        return None
    return f"{best} says {'the same' if shares[best] == total else 'nearly the same'}"


_NEARLY_ALL = 0.95
"""Of a text's characters: a clock or a counter may differ."""
