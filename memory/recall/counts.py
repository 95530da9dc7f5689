"""How often a document has each of its terms, packed: a few bytes a term, read without unpacking the rest."""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

_KEY_BYTES: Final = 4
_MOST: Final = 255
"""Counts end here. BM25 hardly tells ten from a thousand."""


def packed(terms: Iterable[str]) -> bytes:
    """Return the counts of a document's terms: sorted hashes of 32 bits, little-endian, then a byte of count each.

    Two terms of one document with the same hash are counted as one: once in some thousand documents.
    """
    by_key: Counter[int] = Counter()
    for term, count in Counter(terms).items():
        by_key[key_of(term)] += count
    keys = array("I", sorted(by_key))
    counts = bytes(min(by_key[key], _MOST) for key in keys)
    if sys.byteorder == "big":
        keys.byteswap()
    return keys.tobytes() + counts


def counts_in(pack: bytes, keys: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of those terms that the document has; `keys` gives each term's `key_of`."""
    size = len(pack) // (_KEY_BYTES + 1)
    held = array("I", pack[: size * _KEY_BYTES])
    if sys.byteorder == "big":
        held.byteswap()
    found = {}
    for term, key in keys.items():
        place = bisect_left(held, key)
        if place < size and held[place] == key:
            found[term] = pack[size * _KEY_BYTES + place]
    return found


def key_of(term: str) -> int:
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))
