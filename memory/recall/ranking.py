"""Puts candidates in order: BM25 over their terms, and what stands around them.

Pure: an index of any kind finds the candidates, this decides. No weight was fitted to data; each is a round number
behind a reason, and the order hardly changes with any of them (`benchmarks/recall.py` leaves each out in turn).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from .dates import periods_in
from .documents import Found, Query
from .terms import terms_of

_K1: Final = 0.9
_B: Final = 0.4
"""BM25 with the constants that Anserini takes for texts of mixed kinds (Trotman, Puurula & Burgess, "Improvements to
BM25 and language models examined", 2014): a long tool result is not worse for being long."""

NEAR: Final = {-2: 0.25, -1: 0.5, 1: 0.5, 2: 0.25}
"""Share of a neighbour's own score that a message gets, by the neighbour's distance: half, and half again. An answer
seldom repeats its question's words, nor a result its call's."""
_ANSWERS: Final = 1.5
"""What a message gets from the one before it counts so much more if that one asks a question or calls a tool."""
_COVERAGE: Final = 0.5
"""So much of a score is for having the query's words at all, the rest for having them together."""
_SPEAKER: Final = 1.3
"""Who is named in a query is more often the one who says it than the one it is said to."""
_TOLD: Final = 1.5
"""For a message of the time that the query speaks of."""
_BURST: Final = 0.3
"""Share of the rarities of all words of the query that a stretch of talk has anywhere, for each of its messages."""


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
    asks: bool
    """It asks a question or calls a tool; `asks_something` tells."""
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
    scores = _Scoring(candidates, query, terms, corpus).scores()
    ceiling = max(scores.values(), default=0.0) + 1.0
    wanted = [one for one in candidates if _is_wanted(one, query)]
    scored = [(scores[one.namespace, one.seq] + ceiling * one.is_literal, one) for one in wanted]
    scored.sort(key=lambda pair: (-pair[0], -pair[1].at, -pair[1].seq))
    best = [(score, one) for score, one in scored[: max(0, query.limit)] if score > 0]
    return [Found(namespace=one.namespace, seq=one.seq, score=score) for score, one in best]


def _is_wanted(one: Candidate, query: Query) -> bool:
    return (
        (query.role is None or one.role == query.role)
        and (query.tool is None or query.tool in one.tools)
        and (query.since_seq is None or one.seq >= query.since_seq)
        and (query.until_seq is None or one.seq < query.until_seq)
    )


class _Scoring:
    """The signals, one method each, over one set of candidates."""

    def __init__(self, candidates: Sequence[Candidate], query: Query, terms: Sequence[str], corpus: Corpus) -> None:
        self._candidates = {(one.namespace, one.seq): one for one in candidates}
        self._query = query
        self._corpus = corpus
        self._named = _named(candidates, terms)
        said = [term for term in terms if term not in self._named] or terms
        self._rarities = {term: corpus.rarity(term) for term in said}
        self._total = sum(self._rarities.values())

    def scores(self) -> dict[tuple[str, int], float]:
        own = {key: self._words(one) for key, one in self._candidates.items()}
        bursts = self._bursts()
        times = self._times()
        return {
            key: (own[key] + self._around(key, own)) * self._speaker(one) * times.get(key, 1.0)
            + _BURST * bursts[one.namespace, one.burst]
            for key, one in self._candidates.items()
        }

    def _words(self, one: Candidate) -> float:
        norm = _K1 * (1 - _B + _B * one.length / (self._corpus.mean_length or 1.0))
        score = covered = 0.0
        for term, count in one.counts.items():
            rarity = self._rarities.get(term)
            if rarity:
                score += rarity * count * (_K1 + 1) / (count + norm)
                covered += rarity
        return score * (1 - _COVERAGE + _COVERAGE * covered / self._total) if covered else 0.0

    def _around(self, key: tuple[str, int], own: Mapping[tuple[str, int], float]) -> float:
        namespace, seq = key
        lent = 0.0
        for step, share in NEAR.items():
            score = own.get((namespace, seq + step), 0.0)
            if score:
                answers = step == -1 and self._candidates[namespace, seq - 1].asks
                lent += share * score * (_ANSWERS if answers else 1.0)
        return lent

    def _speaker(self, one: Candidate) -> float:
        return _SPEAKER if self._named and not self._named.isdisjoint(_speaker_terms(one.speaker)) else 1.0

    def _times(self) -> dict[tuple[str, int], float]:
        now = self._query.at
        if now is None:
            now = max((one.at for one in self._candidates.values()), default=0.0)
        periods = periods_in(self._query.text, now=now)
        return {
            key: _TOLD
            for key, one in (self._candidates.items() if periods else ())
            if any(period.is_told_at(one.at) for period in periods)
        }

    def _bursts(self) -> dict[tuple[str, int], float]:
        had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for one in self._candidates.values():
            had[one.namespace, one.burst].update(one.counts)
        return {burst: sum(self._rarities.get(term, 0.0) for term in terms) for burst, terms in had.items()}


def asks_something(text: str, tools: Sequence[str], role: str) -> bool:
    """Whether a message waits for an answer: the question at its end, or the calls of an assistant."""
    return text.rstrip().endswith(("?", "？", "؟")) or (role == "assistant" and bool(tools))


def _named(candidates: Sequence[Candidate], terms: Sequence[str]) -> frozenset[str]:
    """Return the terms of the query that are names of speakers."""
    speakers = {one.speaker for one in candidates}
    return frozenset(terms) & {name for speaker in speakers for name in _speaker_terms(speaker)}


@lru_cache(maxsize=1024)
def _speaker_terms(speaker: str) -> frozenset[str]:
    return frozenset(terms_of(speaker))
