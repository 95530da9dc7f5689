"""Puts candidates in order: BM25 over their terms, and what stands around them.

Pure: an index of any kind finds the candidates, this decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .documents import Found, Query

# Okapi BM25 with the usual constants; Robertson & Zaragoza, "The Probabilistic Relevance Framework", 2009.
_K1: Final = 1.2
_B: Final = 0.75

NEAR: Final = {-2: 0.1, -1: 0.3, 1: 0.3, 2: 0.1}
"""Share of a neighbour's own score that a message gets, by distance. An answer seldom repeats its question's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A document that may answer a query, as far as ranking needs to know it."""

    namespace: str
    seq: int
    role: str
    speaker: str
    tools: tuple[str, ...]
    at: float
    burst: int
    """Number of the stretch of talk it belongs to, ascending within its namespace."""
    length: int
    """Number of its terms."""
    counts: Mapping[str, int]
    """How often it has each term of the query; absent ones are left out."""
    is_literal: bool = False
    """It contains the whole query as it stands, but for case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What ranking needs to know of all documents that were searched."""

    documents: int
    mean_length: float
    """Terms per document."""
    frequencies: Mapping[str, float] = field(default_factory=dict)
    """How many of them have each term of the query; estimates will do."""

    def rarity(self, term: str) -> float:
        """Return the term's weight, above 0: the rarer the heavier."""
        frequency = min(self.frequencies.get(term, 0.0), self.documents)
        return math.log(1 + (self.documents - frequency + 0.5) / (frequency + 0.5))


def rank(candidates: Sequence[Candidate], *, query: Query, terms: Sequence[str], corpus: Corpus) -> list[Found]:
    """Return the best candidates, best first; equally good ones newest first.

    Candidates should include the neighbours of the promising ones (`NEAR`), whether they have a term or not,
    and those that the query filters out: they count as neighbours only.
    """
    own = {(one.namespace, one.seq): _bm25(one, terms, corpus) for one in candidates}
    scores = {key: score + _around(key, own) for key, score in own.items()}
    ceiling = max(scores.values(), default=0.0) + 1.0
    eligible = [one for one in candidates if _is_wanted(one, query)]
    scored = [(scores[one.namespace, one.seq] + ceiling * one.is_literal, one) for one in eligible]
    scored.sort(key=lambda pair: (-pair[0], -pair[1].at, -pair[1].seq))
    return [
        Found(namespace=one.namespace, seq=one.seq, score=score) for score, one in scored[: query.limit] if score > 0
    ]


def _is_wanted(one: Candidate, query: Query) -> bool:
    """Whether a candidate passes the query's filters; as a neighbour it counts in any case."""
    return (
        (query.role is None or one.role == query.role)
        and (query.tool is None or query.tool in one.tools)
        and (query.since_seq is None or one.seq >= query.since_seq)
        and (query.until_seq is None or one.seq < query.until_seq)
    )


def _bm25(candidate: Candidate, terms: Sequence[str], corpus: Corpus) -> float:
    norm = _K1 * (1 - _B + _B * candidate.length / (corpus.mean_length or 1.0))
    score = 0.0
    for term in terms:
        count = candidate.counts.get(term, 0)
        if count:
            score += corpus.rarity(term) * count * (_K1 + 1) / (count + norm)
    return score


def _around(key: tuple[str, int], own: Mapping[tuple[str, int], float]) -> float:
    namespace, seq = key
    return sum(weight * own.get((namespace, seq + step), 0.0) for step, weight in NEAR.items())
