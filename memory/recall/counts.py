"""How often a document has each of its terms, packed: a few bytes a term, read without unpacking the rest."""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

_KEY_BYTES: Final = 4
_MOST: Final = 255
"""Counts end here. BM25 hardly tells ten from a thousand."""
_SMALL: Final = 10


def packed(terms: Iterable[str]) -> bytes:
    """Return the counts of a document's terms: sorted hashes of 32 bits, little-endian, then a byte of count each.

    Two terms of one document with the same hash count as one: in one of a hundred thousand documents of 300 terms.
    """
    by_key: dict[int, int] = {}
    for term, count in Counter(terms).items():
        key = key_of(term)
        by_key[key] = by_key.get(key, 0) + count
    keys = array("I", sorted(by_key))
    counts = bytes([min(by_key[key], _MOST) for key in keys])
    if sys.byteorder == "big":
        keys.byteswap()
    return keys.tobytes() + counts


def counts_in(pack: bytes, terms: Mapping[int, str]) -> dict[str, int]:
    """Return the counts of those terms that the document has; `terms` holds each under its `key_of`."""
    size = len(pack) // (_KEY_BYTES + 1)
    held = array("I", pack[: size * _KEY_BYTES])
    if sys.byteorder == "big":
        held.byteswap()
    first = size * _KEY_BYTES
    if size < _SMALL * len(terms):  # to look at all of a small document's is faster than to look for each
        return {terms[key]: pack[first + bisect_left(held, key)] for key in terms.keys() & held}
    places = ((key, bisect_left(held, key)) for key in terms)
    return {terms[key]: pack[first + place] for key, place in places if place < size and held[place] == key}


@lru_cache(maxsize=1 << 16)
def key_of(term: str) -> int:
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))
