"""What a text is indexed under: stems of its words, the parts of its identifiers, and paths and ids whole.

Documents and queries go through the same functions, so whatever they make of a word they make of it on both sides.
A term holds no white space and no `=`; indexes may use both for marks of their own (`role=user`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from ..patterns import Pattern
from .stemming import stem

VERSION: Final = 1
"""Changes whenever the same text gives other terms; an index made under another number must be built again."""

_CHUNK: Final = Pattern(r"\w[\w./\\:@~+#-]*\w|\w")
_WORD: Final = Pattern(r"[^\W_]+")
_PIECE: Final = Pattern(r"[^/\\:@]+")
_DOTTED: Final = Pattern(r"[./\\:@~+#]")
_NAME: Final = Pattern(r"[^\W_]+(?:[_-]+[^\W_]+)+")
_PLAIN: Final = Pattern(r"(?<![\w./\\:@~+#-])[^\W_]+(?![\w/\\:@~+#-]|\.\w)")
_HUMP: Final = Pattern(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_UNSPACED: Final = Pattern(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LONGEST_NAME: Final = 40
_LONGEST_CHARACTERS: Final = 120
"""Longer chunks are data (base64, minified code): their words are indexed, cut to this, the whole is not."""

_STOP_WORDS: Final = (
    "a about after again all also am an and any are aren as at be because been before being both but by can cannot"
    " could couldn d did didn do does doesn doing don down during each else ever few for from further get got had hadn"
    " has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just"
    " ll m may me might more most my myself no nor not now of off on once only or other our ours ourselves out over"
    " own please re s same shall she should shouldn so some such t than that the their theirs them themselves then"
    " there these they this those through to too under until up us ve very was wasn we were weren what when where"
    " which while who whom whose why will with won would wouldn yes you your yours yourself yourselves"
)
"""Words that say how a sentence is built and nothing of what it is about. They are indexed, so that a query of
nothing else still finds something, and left out of every other query."""


def terms_of(text: str) -> list[str]:
    """Return the terms of a text, in its order, with repetitions.

    `src/get_user-name.py` gives the whole, its piece `get_user-name.py`, the name without its joints `getusername`, and
    `src`, `get`, `user`, `name`, `py`; so do `getUserName` and its like. Scripts without spaces between words give
    their characters and each pair of neighbours.
    """
    terms: list[str] = []
    for chunk in _CHUNK.compiled.findall(text):
        terms += _terms_of_chunk(chunk) if len(chunk) <= _LONGEST_CHARACTERS else _terms_of_data(chunk)
    return terms


def query_terms(text: str) -> list[str]:
    """Return the distinct terms to look for: without stop words, unless there is nothing else."""
    every = list(dict.fromkeys(terms_of(text)))
    return [term for term in every if term not in _STOP_TERMS] or every


def spoken_names(text: str) -> list[str]:
    """Return the names that words side by side may be meant for: `cosine reformer` for `cosine_reformer` and its like.

    Distinct terms; most of them are in no document. What has them need not have the query's words one by one.
    """
    words = ["" if stem(word) in _STOP_TERMS else word for word in _PLAIN.compiled.findall(text.casefold())]
    runs = [words[start : start + width] for width in (2, 3) for start in range(len(words) - width + 1)]
    names = ["".join(run) for run in runs if all(run)]
    return list(dict.fromkeys(stem(name) for name in names if len(name) <= _LONGEST_NAME))


@lru_cache(maxsize=1 << 16)
def _terms_of_chunk(chunk: str) -> tuple[str, ...]:
    if chunk.isascii() and chunk.isalpha() and (chunk.islower() or chunk[1:].islower()):
        return (stem(chunk.lower()),)
    return (*_wholes(chunk), *_joined(chunk), *(term for word in _words(chunk) for term in _terms_of_word(word)))


def _terms_of_data(chunk: str) -> list[str]:
    return [term for word in _words(chunk) for term in _terms_of_word(word[:_LONGEST_CHARACTERS])]


def _words(chunk: str) -> list[str]:
    return _WORD.compiled.findall(chunk)


def _wholes(chunk: str) -> Iterator[str]:
    """Yield a chunk as it stands, and those of its pieces (the file of a path), that have dots or slashes in them."""
    folded = chunk.casefold()
    pieces = [folded, *(piece.strip("._-~+#") for piece in _PIECE.compiled.findall(folded))]
    yield from (piece for piece in dict.fromkeys(pieces) if _DOTTED.compiled.search(piece))


def _joined(chunk: str) -> Iterator[str]:
    """Yield names of several words as one word: `cosine_reformer` and `cosine-reformer` are `cosinereformer`."""
    for name in _NAME.compiled.findall(chunk.casefold()):
        yield stem(name.replace("_", "").replace("-", ""))


def _terms_of_word(word: str) -> Iterator[str]:
    folded = word.casefold()
    yield stem(folded)
    if _UNSPACED.compiled.search(folded):
        yield from _characters_and_pairs(folded)
    elif not (word.isalpha() and word[1:].islower()):
        parts = [part.casefold() for part in _HUMP.compiled.findall(word)]
        if len(parts) > 1:
            yield from (stem(part) for part in parts)


def _characters_and_pairs(word: str) -> Iterator[str]:
    yield from word
    yield from (word[index : index + 2] for index in range(len(word) - 1))


_STOP_TERMS: Final = frozenset(stem(word) for word in _STOP_WORDS.split())
