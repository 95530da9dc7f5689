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
_MEANING: Final = "="
"""Stands beside the words for what a vector says; no term is like it."""
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
        self._named = _named(candidates, query)
        self._asks_latest = _ASKS_LATEST.compiled.search(query.text.casefold()) is not None
        said = [term for term in terms if term not in self._named] or terms
        self._values = {term: corpus.rarity(term) ** weights.sharpness for term in said}
        self._total = sum(self._values.values())

    def scores(self) -> dict[_Key, float]:
        own = {key: self._words(one) for key, one in self._candidates.items()}
        self._add_meanings(own)
        bursts, origins, factors = self._bursts(), self._origins(), self._factors()
        scores = {
            key: (said + origins.get(key, 0.0)) * factors.get(key, 1.0)
            + (bursts[key[0], self._candidates[key].burst] if said else 0.0)
            for key, said in ((key, self._with_neighbours(key, own)) for key in self._candidates)
        }
        ceiling = max(scores.values(), default=0.0) + 1.0
        return {key: score + ceiling * self._candidates[key].is_literal for key, score in scores.items()}

    def _words(self, one: Candidate) -> dict[str, float]:
        """Return what each word of the query that a message has is worth in it."""
        if not one.counts:
            return {}
        k1, b = self._weights.k1, self._weights.b
        norm = k1 * (1 - b + b * one.length / (self._corpus.mean_length or 1.0))
        covered = sum(self._values.get(term, 0.0) for term in one.counts) / (self._total or 1.0)
        factor = (1 - self._weights.coverage + self._weights.coverage * covered) * self._source(one) * (k1 + 1)
        return {
            term: factor * self._values[term] * count / (count + norm)
            for term, count in one.counts.items()
            if term in self._values
        }

    def _source(self, one: Candidate) -> float:
        if one.role == "system":
            return self._weights.system
        return self._weights.calls if one.role == "assistant" and one.tools else 1.0

    def _add_meanings(self, own: Mapping[_Key, dict[str, float]]) -> None:
        """Add what a message's vector says: half as much, for the nearest, as words give the one that has most of them.

        A cosine means little by itself, so what counts is by how much it stands out among the candidates.
        """
        near = {key: self._query.similarities[key] for key in own if key in self._query.similarities}
        if not near:
            return
        least, most = sum(near.values()) / len(near), max(near.values())
        best = max(sum(words.values()) for words in own.values()) or 1.0
        for key, similarity in near.items():
            if similarity > least:
                own[key][_MEANING] = self._weights.meaning * best * (similarity - least) / (most - least)

    def _with_neighbours(self, key: _Key, own: Mapping[_Key, dict[str, float]]) -> float:
        """Return the worth of a message's words and of those that its neighbours lend, each word once.

        What vectors say adds up: near to a question is rather the talk around an answer than one message of it.
        """
        namespace, seq = key
        words = own[key].copy()
        for step in NEAR:
            lent = own.get((namespace, seq + step))
            if lent:
                share = self._share_lent((namespace, seq + step), key)
                for term, worth in lent.items():
                    known = words.get(term, 0.0)
                    words[term] = known + share * worth if term == _MEANING else max(known, share * worth)
        return sum(words.values())

    def _share_lent(self, lender: _Key, borrower: _Key) -> float:
        """Return how much of its words' worth a neighbour lends.

        Half of it two messages away. Less where it is the longer one: its words are not all about its neighbour.
        """
        near, one = self._candidates[lender], self._candidates[borrower]
        step = one.seq - near.seq
        answers = self._weights.answers if step == 1 and near.asks else 1.0
        likeness = math.sqrt(min(1.0, (one.length + _SHORT) / (near.length + _SHORT)))
        return self._weights.near / abs(step) * answers * likeness

    def _origins(self) -> dict[_Key, float]:
        """Return what messages get for having had a word first, where an agent may have copied it from there.

        Only among messages of which some are calls and results: people who talk do not copy. And only where all
        messages that have the word are known.
        """
        holders: defaultdict[str, list[Candidate]] = defaultdict(list)
        for one in self._candidates.values():
            for term in one.counts:
                holders[term].append(one)
        origins: defaultdict[_Key, float] = defaultdict(float)
        for term, having in holders.items() if self._is_of_an_agent() and not self._asks_latest else ():
            if self._corpus.frequencies[term] <= min(len(having), _COMMON * self._corpus.documents):
                first = min(having, key=lambda one: (one.role == "assistant", one.at, one.seq))
                origins[_key(first)] += self._weights.origin * self._values.get(term, 0.0)
        return origins

    def _is_of_an_agent(self) -> bool:
        return any(one.role == "tool" or one.tools for one in self._candidates.values())

    def _bursts(self) -> dict[tuple[str, int], float]:
        had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for one in self._candidates.values():
            had[one.namespace, one.burst].update(one.counts)
        return {
            burst: self._weights.burst * sum(self._values.get(term, 0.0) for term in terms)
            for burst, terms in had.items()
        }

    def _factors(self) -> dict[_Key, float]:
        """Return by how much the speaker and the time raise a message."""
        factors: defaultdict[_Key, float] = defaultdict(lambda: 1.0)
        now = max((one.at for one in self._candidates.values()), default=0.0)
        periods = periods_in(self._query.text, now=now if self._query.at is None else self._query.at)
        for key, one in self._candidates.items():
            if self._named and not self._named.isdisjoint(_speaker_terms(one.speaker)):
                factors[key] *= self._weights.speaker
            if periods and any(period.is_told_at(one.at) for period in periods):
                factors[key] *= self._weights.told
        if self._asks_latest:
            having = sorted((key for key, one in self._candidates.items() if one.counts), key=self._time)
            for place, key in enumerate(having, start=1):
                factors[key] *= 1 + (self._weights.newest - 1) * place / len(having)
        return factors

    def _time(self, key: _Key) -> tuple[float, int]:
        return self._candidates[key].at, self._candidates[key].seq


def _key(one: Candidate) -> _Key:
    return one.namespace, one.seq


def _named(candidates: Sequence[Candidate], query: Query) -> frozenset[str]:
    """Return the terms of the query that are names of speakers; no message need have them in its text."""
    speakers = {one.speaker for one in candidates}
    names = frozenset(name for speaker in speakers for name in _speaker_terms(speaker))
    return names.intersection(terms_of(query.text)) if names else frozenset()


@lru_cache(maxsize=1024)
def _speaker_terms(speaker: str) -> frozenset[str]:
    return frozenset(terms_of(speaker))
