"""Quoting a text where it matches a query: a line's worth to look at, or a passage of whole lines within a budget."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from .recall import query_terms, terms_of

_EXCERPT_CHARACTERS: Final = 240
_LINES_LOOKED_AT: Final = 5_000
_CUT: Final = "…"


def excerpt(text: str, query: str) -> str:
    """Return up to 240 characters of a text around the first match."""
    start = max(0, _position(text, query) - _EXCERPT_CHARACTERS // 3)
    return text[start : start + _EXCERPT_CHARACTERS].strip()


def passage(text: str, query: str, *, tokens: int, count: Callable[[str], int]) -> str:
    """Return the lines of a text that match a query best and what stands around them; empty if nothing fits.

    The text itself where it fits. Whole lines, but for one that alone is too long: of that the part around the match.

    Args:
        text: What is quoted.
        query: Words to look for; a text without any of them is quoted from its start.
        tokens: The most that it may have.
        count: Tokens of a text.
    """
    if count(text) <= tokens:
        return text
    lines = text.split("\n")
    best = _best_line(lines, query)
    return _grown(lines, best, tokens, count) or _cut_line(lines[best], query, tokens, count)


def _position(text: str, query: str) -> int:
    folded = text.casefold()
    wanted = query.strip().casefold()
    words = sorted({word for word in wanted.split() if len(word) > 1} | set(query_terms(query)), key=len, reverse=True)
    places = (folded.find(word) for word in (wanted, *words) if word)
    found = next((place for place in places if place >= 0), 0)
    if len(folded) != len(text):  # casefolding lengthens some letters (ß to ss), so the position is further on
        found = bisect_left(range(len(text)), found, key=lambda index: len(text[:index].casefold()))
    return found


def _best_line(lines: Sequence[str], query: str) -> int:
    """Return the index of the line with most of the query's words; each weighs less the more lines have it."""
    wanted = set(query_terms(query))
    having = [wanted & set(terms_of(line)) for line in lines[:_LINES_LOOKED_AT]]
    counts = {term: sum(term in terms for terms in having) for term in wanted}
    literal = query.strip().casefold()
    scores = [
        sum(1 / counts[term] for term in terms) + (len(wanted) + 1) * bool(literal and literal in line.casefold())
        for terms, line in zip(having, lines, strict=False)
    ]
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def _grown(lines: Sequence[str], best: int, tokens: int, count: Callable[[str], int]) -> str:
    """Return as many whole lines around the best one as fit, a third of them before it."""
    sizes = [0, *accumulate(len(line) + 1 for line in lines)]
    if count(lines[best]) > tokens:
        return ""
    low, high = 1, len(lines)
    # How many lines fit is found by halving: counting is what costs.
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(lines, sizes, best, middle, tokens, count):
            low = middle
        else:
            high = middle - 1
    start, stop = _around(best, low, len(lines))
    return "\n".join(lines[start:stop])


def _fits(
    lines: Sequence[str], sizes: Sequence[int], best: int, number: int, tokens: int, count: Callable[[str], int]
) -> bool:
    start, stop = _around(best, number, len(lines))
    # No tokenizer makes more than a few dozen characters of one token: what is longer need not be counted.
    return sizes[stop] - sizes[start] <= tokens * _MOST_CHARACTERS and count("\n".join(lines[start:stop])) <= tokens


_MOST_CHARACTERS: Final = 40


def _around(best: int, number: int, length: int) -> tuple[int, int]:
    """Return a range of so many lines that holds the best one, most of them behind it."""
    start = max(0, min(best - number // 3, length - number))
    return start, start + number


def _cut_line(line: str, query: str, tokens: int, count: Callable[[str], int]) -> str:
    """Return the part of one line around its match."""
    place, size = _position(line, query), min(len(line), tokens * 4)
    while size >= 8:
        start = max(0, min(place - size // 3, len(line) - size))
        part = f"{_CUT if start else ''}{line[start : start + size].strip()}{_CUT if start + size < len(line) else ''}"
        if count(part) <= tokens:
            return part
        size = size * 3 // 4
    return ""
