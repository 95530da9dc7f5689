"""Puts candidates in order: BM25 over their terms, and what stands around them.

Pure: an index of any kind finds the candidates, this decides. No weight was fitted to data: each is a round number
behind a reason, and the order hardly changes with any of them (`benchmarks/recall.py --ablate` leaves each out).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from ..patterns import Pattern
from .dates import periods_in
from .documents import Found, Query
from .terms import terms_of

_K1: Final = 0.9
_B: Final = 0.4
"""BM25 with the constants that Anserini takes for texts of mixed kinds (Trotman, Puurula & Burgess, "Improvements to
BM25 and language models examined", 2014): a long tool result is not worse for being long."""
_SHARPNESS: Final = 1.5
"""Power of a word's rarity: a query may be thirty words, and the many common ones must not outweigh its one name."""
_COVERAGE: Final = 0.5
"""So much of a score is for having the query's words at all, the rest for having them together."""
_CALLS: Final = 0.3
"""A call repeats what was known; what it brought stands in its result."""
_SYSTEM: Final = 0.5
"""A system prompt names everything a little, and never left the context."""

NEAR: Final = {-2: 0.25, -1: 0.5, 1: 0.5, 2: 0.25}
"""Share of a neighbour's own score that a message gets, by the neighbour's distance: half, and half again. An answer
seldom repeats its question's words, nor a result its call's."""
_ANSWERS: Final = 1.5
"""What a message gets from the one before it counts so much more if that one asks a question or calls a tool."""
_SPEAKER: Final = 1.3
"""Who is named in a query is more often the one who says it than the one it is said to."""
_TOLD: Final = 1.5
"""For a message of the time that the query speaks of."""
_NEWEST: Final = 1.5
"""For the newest candidate where the query asks for what is latest; the oldest gets 1."""
_ORIGIN: Final = 2.0
"""Times a word's weight, for the message that had it first: the others had it from there."""
_ORIGIN_SHARE: Final = 0.5
"""A word that more of the documents have came from nowhere in particular."""
_COPY: Final = 0.5
"""For what stands above already in other words of the same length: a file that was read twice."""
_LOOKED_AT: Final = 3
"""Copies are looked for among so many times the results that are asked for."""
_COPY_TERMS: Final = 100
"""Shorter messages are alike by chance."""
_BURST: Final = 0.3
"""Share of the weights of all words of the query that a stretch of talk has anywhere, for each of its messages."""
_SHORT: Final = 20
"""Terms. Among messages as short as this, twice as long is about the same."""
_ASKS_LATEST: Final = Pattern(r"\b(?:latest|newest|most recent(?:ly)?|up[- ]to[- ]date)\b")


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


_Key: TypeAlias = tuple[str, int]


def rank(candidates: Sequence[Candidate], *, query: Query, terms: Sequence[str], corpus: Corpus) -> list[Found]:
    """Return the best candidates, best first; equally good ones newest first.

    Candidates should include the neighbours of the promising ones (`NEAR`), whether they have a term or not,
    and those that the query filters out: they count as neighbours only.
    """
    scores = _Scoring(candidates, query, terms, corpus).scores()
    wanted = sorted(
        (one for one in candidates if _is_wanted(one, query)),
        key=lambda one: (-scores[_key(one)], -one.at, -one.seq),
    )
    some = [(scores[_key(one)], one) for one in wanted[: _LOOKED_AT * max(0, query.limit)]]
    best = sorted(_with_copies_lowered([pair for pair in some if pair[0] > 0]), key=lambda pair: -pair[0])
    return [Found(namespace=one.namespace, seq=one.seq, score=score) for score, one in best[: max(0, query.limit)]]


def asks_something(text: str, tools: Sequence[str], role: str) -> bool:
    """Whether a message waits for an answer: the question at its end, or the calls of an assistant."""
    return text.rstrip().endswith(("?", "？", "؟")) or (role == "assistant" and bool(tools))


def _is_wanted(one: Candidate, query: Query) -> bool:
    return (
        (query.role is None or one.role == query.role)
        and (query.tool is None or query.tool in one.tools)
        and (query.since_seq is None or one.seq >= query.since_seq)
        and (query.until_seq is None or one.seq < query.until_seq)
    )


def _with_copies_lowered(scored: Sequence[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
    """Lower all but the best of those that have the same length and the same words of the query, each as often."""
    seen: set[object] = set()
    lowered = []
    for score, one in scored:
        looks = (one.namespace, one.role, one.length, tuple(sorted(one.counts.items())))
        is_copy = looks in seen and one.length >= _COPY_TERMS and not one.is_literal
        seen.add(looks)
        lowered.append((score * _COPY if is_copy else score, one))
    return lowered


class _Scoring:
    """The signals, one method each, over one set of candidates."""

    def __init__(self, candidates: Sequence[Candidate], query: Query, terms: Sequence[str], corpus: Corpus) -> None:
        self._candidates = {_key(one): one for one in candidates}
        self._query = query
        self._corpus = corpus
        self._named = _named(candidates, terms)
        said = [term for term in terms if term not in self._named] or terms
        self._weights = {term: corpus.rarity(term) ** _SHARPNESS for term in said}
        self._total = sum(self._weights.values())

    def scores(self) -> dict[_Key, float]:
        own = {key: self._words(one) for key, one in self._candidates.items()}
        bursts, origins, factors = self._bursts(), self._origins(), self._factors()
        scores = {
            key: (own[key] + self._around(key, own)) * factors.get(key, 1.0)
            + origins.get(key, 0.0)
            + bursts[one.namespace, one.burst]
            for key, one in self._candidates.items()
        }
        ceiling = max(scores.values(), default=0.0) + 1.0
        return {key: score + ceiling * self._candidates[key].is_literal for key, score in scores.items()}

    def _words(self, one: Candidate) -> float:
        if not one.counts:
            return 0.0
        norm = _K1 * (1 - _B + _B * one.length / (self._corpus.mean_length or 1.0))
        score = covered = 0.0
        for term, count in one.counts.items():
            weight = self._weights.get(term, 0.0)
            score += weight * count * (_K1 + 1) / (count + norm)
            covered += weight
        together = 1 - _COVERAGE + _COVERAGE * covered / (self._total or 1.0)
        return score * together * _source(one)

    def _around(self, key: _Key, own: Mapping[_Key, float]) -> float:
        """Return what the neighbours lend. A long one's words are not about a short one beside it."""
        namespace, seq = key
        length = self._candidates[key].length + _SHORT
        lent = 0.0
        for step, share in NEAR.items():
            score = own.get((namespace, seq + step))
            if score:
                near = self._candidates[namespace, seq + step]
                answers = _ANSWERS if step == -1 and near.asks else 1.0
                lent += share * score * answers * min(1.0, length / (near.length + _SHORT)) ** 0.5
        return lent

    def _origins(self) -> dict[_Key, float]:
        """Return what messages get for having had a word first, where all that have it are known."""
        holders: defaultdict[str, list[Candidate]] = defaultdict(list)
        for one in self._candidates.values():
            for term in one.counts:
                holders[term].append(one)
        origins: defaultdict[_Key, float] = defaultdict(float)
        for term, having in holders.items():
            if self._corpus.frequencies[term] <= min(len(having), _ORIGIN_SHARE * self._corpus.documents):
                first = min(having, key=lambda one: (one.at, one.seq))
                origins[_key(first)] += _ORIGIN * self._weights.get(term, 0.0)
        return origins

    def _bursts(self) -> dict[tuple[str, int], float]:
        had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for one in self._candidates.values():
            had[one.namespace, one.burst].update(one.counts)
        return {burst: _BURST * sum(self._weights.get(term, 0.0) for term in terms) for burst, terms in had.items()}

    def _factors(self) -> dict[_Key, float]:
        """Return by how much the speaker, the time and the newness raise a message."""
        factors: defaultdict[_Key, float] = defaultdict(lambda: 1.0)
        now = max((one.at for one in self._candidates.values()), default=0.0)
        periods = periods_in(self._query.text, now=now if self._query.at is None else self._query.at)
        for key, one in self._candidates.items():
            if self._named and not self._named.isdisjoint(_speaker_terms(one.speaker)):
                factors[key] *= _SPEAKER
            if periods and any(period.is_told_at(one.at) for period in periods):
                factors[key] *= _TOLD
        if _ASKS_LATEST.compiled.search(self._query.text.casefold()):
            for place, key in enumerate(sorted(self._candidates, key=lambda key: self._candidates[key].at)):
                factors[key] *= 1 + (_NEWEST - 1) * place / len(self._candidates)
        return factors


def _key(one: Candidate) -> _Key:
    return one.namespace, one.seq


def _source(one: Candidate) -> float:
    """Return how far a message speaks for itself."""
    if one.role == "system":
        return _SYSTEM
    return _CALLS if one.role == "assistant" and one.tools else 1.0


def _named(candidates: Sequence[Candidate], terms: Sequence[str]) -> frozenset[str]:
    """Return the terms of the query that are names of speakers."""
    speakers = {one.speaker for one in candidates}
    return frozenset(terms) & {name for speaker in speakers for name in _speaker_terms(speaker)}


@lru_cache(maxsize=1024)
def _speaker_terms(speaker: str) -> frozenset[str]:
    return frozenset(terms_of(speaker))
