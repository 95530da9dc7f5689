"""Puts candidates in order: BM25 over their terms, and what stands around them.

Pure: an index of any kind finds the candidates, this decides.
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
from .weights import WEIGHTS, Weights

NEAR: Final = (-2, -1, 1, 2)
"""Steps to the messages that lend to one between them."""
_SHORT: Final = 20
"""Terms. Among messages as short as this, twice as long is about the same."""
_COMMON: Final = 0.5
"""A word that a larger share of the documents has came from nowhere in particular."""
_LOOKED_AT: Final = 3
"""Copies are looked for among so many times the results that are asked for."""
_COPY_TERMS: Final = 100
"""Shorter messages are alike by chance."""
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


def rank(
    candidates: Sequence[Candidate],
    *,
    query: Query,
    terms: Sequence[str],
    corpus: Corpus,
    weights: Weights = WEIGHTS,
) -> list[Found]:
    """Return the best candidates, best first; equally good ones newest first.

    Candidates should include the neighbours of the promising ones (`NEAR`), whether they have a term or not,
    and those that the query filters out: they count as neighbours only.
    """
    scores = _Scoring(candidates, query, terms, corpus, weights).scores()
    wanted = sorted(
        (one for one in candidates if _is_wanted(one, query)),
        key=lambda one: (-scores[_key(one)], -one.at, -one.seq),
    )
    some = [(scores[_key(one)], one) for one in wanted[: _LOOKED_AT * max(0, query.limit)]]
    best = sorted(_with_copies_lowered([pair for pair in some if pair[0] > 0], weights.copy), key=lambda pair: -pair[0])
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


def _with_copies_lowered(scored: Sequence[tuple[float, Candidate]], factor: float) -> list[tuple[float, Candidate]]:
    """Lower all but the best of those that have the same length and the same words of the query, each as often."""
    seen: set[object] = set()
    lowered = []
    for score, one in scored:
        looks = (one.namespace, one.role, one.length, tuple(sorted(one.counts.items())))
        is_copy = looks in seen and one.length >= _COPY_TERMS and not one.is_literal
        seen.add(looks)
        lowered.append((score * factor if is_copy else score, one))
    return lowered


class _Scoring:
    """The signals, one method each, over one set of candidates."""

    def __init__(
        self, candidates: Sequence[Candidate], query: Query, terms: Sequence[str], corpus: Corpus, weights: Weights
    ) -> None:
        self._candidates = {_key(one): one for one in candidates}
        self._query = query
        self._corpus = corpus
        self._weights = weights
        self._named = _named(candidates, terms)
        said = [term for term in terms if term not in self._named] or terms
        self._values = {term: corpus.rarity(term) ** weights.sharpness for term in said}
        self._total = sum(self._values.values())

    def scores(self) -> dict[_Key, float]:
        own = self._meanings({key: self._words(one) for key, one in self._candidates.items()})
        bursts, origins, factors = self._bursts(), self._origins(), self._factors()
        stated = {key: score + self._around(key, own) for key, score in own.items()}
        scores = {
            key: score * factors.get(key, 1.0)
            + origins.get(key, 0.0)
            + (bursts[key[0], self._candidates[key].burst] if score else 0.0)
            for key, score in stated.items()
        }
        ceiling = max(scores.values(), default=0.0) + 1.0
        return {key: score + ceiling * self._candidates[key].is_literal for key, score in scores.items()}

    def _words(self, one: Candidate) -> float:
        if not one.counts:
            return 0.0
        k1, b = self._weights.k1, self._weights.b
        norm = k1 * (1 - b + b * one.length / (self._corpus.mean_length or 1.0))
        score = covered = 0.0
        for term, count in one.counts.items():
            weight = self._values.get(term, 0.0)
            score += weight * count * (k1 + 1) / (count + norm)
            covered += weight
        together = 1 - self._weights.coverage + self._weights.coverage * covered / (self._total or 1.0)
        return score * together * self._source(one)

    def _source(self, one: Candidate) -> float:
        if one.role == "system":
            return self._weights.system
        return self._weights.calls if one.role == "assistant" and one.tools else 1.0

    def _meanings(self, words: dict[_Key, float]) -> dict[_Key, float]:
        """Add what a message's vector says: as much, for the nearest, as words give the message that has most of them.

        A cosine means little by itself, so what counts is by how much it stands out among the candidates.
        """
        near = {key: self._query.similarities[key] for key in words if key in self._query.similarities}
        if not near:
            return words
        least, most = sum(near.values()) / len(near), max(near.values())
        unit = self._weights.meaning * (max(words.values()) or 1.0) / ((most - least) or 1.0)
        return {key: score + unit * max(0.0, near.get(key, least) - least) for key, score in words.items()}

    def _around(self, key: _Key, own: Mapping[_Key, float]) -> float:
        """Return what the neighbours lend. A long one's words are not about a short one beside it."""
        namespace, seq = key
        length = self._candidates[key].length + _SHORT
        lent = 0.0
        for step in NEAR:
            score = own.get((namespace, seq + step))
            if score:
                near = self._candidates[namespace, seq + step]
                answers = self._weights.answers if step == -1 and near.asks else 1.0
                lent += (
                    self._weights.near / abs(step) * score * answers * min(1.0, length / (near.length + _SHORT)) ** 0.5
                )
        return lent

    def _origins(self) -> dict[_Key, float]:
        """Return what messages get for having had a word first, where all that have it are known."""
        holders: defaultdict[str, list[Candidate]] = defaultdict(list)
        for one in self._candidates.values():
            for term in one.counts:
                holders[term].append(one)
        origins: defaultdict[_Key, float] = defaultdict(float)
        for term, having in holders.items():
            if self._corpus.frequencies[term] <= min(len(having), _COMMON * self._corpus.documents):
                first = min(having, key=lambda one: (one.at, one.seq))
                origins[_key(first)] += self._weights.origin * self._values.get(term, 0.0)
        return origins

    def _bursts(self) -> dict[tuple[str, int], float]:
        had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for one in self._candidates.values():
            had[one.namespace, one.burst].update(one.counts)
        return {
            burst: self._weights.burst * sum(self._values.get(term, 0.0) for term in terms)
            for burst, terms in had.items()
        }

    def _factors(self) -> dict[_Key, float]:
        """Return by how much the speaker, the time and the newness raise a message."""
        factors: defaultdict[_Key, float] = defaultdict(lambda: 1.0)
        now = max((one.at for one in self._candidates.values()), default=0.0)
        periods = periods_in(self._query.text, now=now if self._query.at is None else self._query.at)
        for key, one in self._candidates.items():
            if self._named and not self._named.isdisjoint(_speaker_terms(one.speaker)):
                factors[key] *= self._weights.speaker
            if periods and any(period.is_told_at(one.at) for period in periods):
                factors[key] *= self._weights.told
        if _ASKS_LATEST.compiled.search(self._query.text.casefold()):
            for place, key in enumerate(sorted(self._candidates, key=lambda key: self._candidates[key].at)):
                factors[key] *= 1 + (self._weights.newest - 1) * place / len(self._candidates)
        return factors


def _key(one: Candidate) -> _Key:
    return one.namespace, one.seq


def _named(candidates: Sequence[Candidate], terms: Sequence[str]) -> frozenset[str]:
    """Return the terms of the query that are names of speakers."""
    speakers = {one.speaker for one in candidates}
    return frozenset(terms) & {name for speaker in speakers for name in _speaker_terms(speaker)}


@lru_cache(maxsize=1024)
def _speaker_terms(speaker: str) -> frozenset[str]:
    return frozenset(terms_of(speaker))
