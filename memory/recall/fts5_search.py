"""One search in the tables of `Fts5Index`: from words to candidates, and from candidates to an order.

Of each term the newest documents are looked at, up to a bound; the rarest terms choose the candidates, and only those
are ranked, with all terms. So the cost grows with the query, not with the file.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from typing import Any, Final

from ..patterns import Pattern
from .counts import counts_in, key_of
from .documents import Found, Query
from .ranking import NEAR, Candidate, Corpus, rank
from .terms import query_terms, spoken_names
from .weights import Weights

SEQ_BITS: Final = 32
"""A document's number is `namespace's number << SEQ_BITS | seq`."""

_READ_OF_A_TERM: Final = 200
_READ_IN_ALL: Final = 1000
_RANKED: Final = 60
_RANKED_PER_RESULT: Final = 3
_RANKED_AT_MOST: Final = 2000
_WITH_NEIGHBOURS: Final = 20
_CONJOINED: Final = 4
_MOST_TERMS: Final = 24
_MOST_SIMILAR: Final = 100
_LITERALLY: Final = 40
_NEWEST: Final = 32
_NEWEST_BYTES: Final = 1 << 16
_AT_ONCE: Final = 500
_UNMARKABLE: Final = Pattern(r"[^\w.:/@~+#-]")

_NEWEST_WITH: Final = (
    "SELECT rowid FROM recall_terms WHERE recall_terms MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?"
)
_DOCUMENTS: Final = (
    "SELECT recall_documents.id, name, role, speaker, tools, at, burst, asks, length, counts FROM recall_documents "
    f"JOIN recall_namespaces ON recall_namespaces.id = recall_documents.id >> {SEQ_BITS} "
    "WHERE recall_documents.id IN ({})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """A range of document numbers to search, both ends included, and what its namespaces hold."""

    low: int
    high: int
    documents: int
    terms: int


class Search:
    """A single search: made, asked once, thrown away."""

    def __init__(self, connection: sqlite3.Connection, query: Query, weights: Weights) -> None:
        self._connection = connection
        self._query = query
        self._weights = weights
        self._ranked = min(_RANKED + _RANKED_PER_RESULT * max(0, query.limit), _RANKED_AT_MOST)
        self._marks = marks(roles=[query.role] if query.role else [], tools=[query.tool] if query.tool else [])
        self._scopes = self._find_scopes()
        self._documents = sum(scope.documents for scope in self._scopes)

    def found(self) -> list[Found]:
        if self._documents < 1 or self._query.limit < 1:
            return []
        frequencies = {term: self._frequency(term) for term in looked_for(self._query.text)}
        terms = sorted((term for term in frequencies if frequencies[term]), key=lambda term: frequencies[term])
        corpus = Corpus(
            documents=self._documents,
            mean_length=sum(scope.terms for scope in self._scopes) / self._documents,
            frequencies=frequencies,
        )
        keys = {key_of(term): term for term in terms}
        chosen = dict.fromkeys([*self._chosen(terms, corpus), *self._similar()])
        around = [id + step for id in [*chosen][:_WITH_NEIGHBOURS] for step in NEAR]
        candidates = self._candidates([*dict.fromkeys([*chosen, *around])], keys)
        literal = self._literal(candidates)
        candidates |= self._candidates([id for id in literal if id not in candidates], keys)
        for id in literal:
            candidates[id] = replace(candidates[id], is_literal=True)
        return rank([*candidates.values()], query=self._query, terms=terms, corpus=corpus, weights=self._weights)

    # --- where to look ------------------------------------------------------------------------------------------------

    def _find_scopes(self) -> list[_Scope]:
        names = self._query.namespaces
        if names is None:
            rows = self._rows("SELECT min(id), max(id), sum(documents), sum(terms) FROM recall_namespaces")
        else:
            rows = self._rows_in("SELECT id, id, documents, terms FROM recall_namespaces WHERE name IN ({})", names)
        return [self._scope(*row) for row in rows if row[0] is not None]

    def _scope(self, first: int, last: int, documents: int, terms: int) -> _Scope:
        return _Scope(low=first << SEQ_BITS, high=((last + 1) << SEQ_BITS) - 1, documents=documents, terms=terms)

    # --- which documents may answer -----------------------------------------------------------------------------------

    def _frequency(self, term: str) -> float:
        return sum(self._frequency_in(scope, term) for scope in self._scopes)

    def _frequency_in(self, scope: _Scope, term: str) -> float:
        """Return how many documents have a term; where they are many, judging by the newest and the oldest of them."""
        count, first, _ = self._some_with(term, scope, "DESC")
        if count < _READ_OF_A_TERM:
            return float(count)
        _, _, last = self._some_with(term, scope, "ASC")
        # Two statements: SQLite seeks for a lone minimum or maximum, and reads everything for both.
        ((oldest,),) = self._rows("SELECT min(id) FROM recall_documents WHERE id >= ?", scope.low)
        ((newest,),) = self._rows("SELECT max(id) FROM recall_documents WHERE id <= ?", scope.high)
        among = self._documents_between(first, newest) + self._documents_between(oldest, last)
        return float(scope.documents * min(1.0, 2 * count / among))

    def _some_with(self, term: str, scope: _Scope, order: str) -> tuple[int, int, int]:
        """Return how many documents were read that have a term, at most so many, and the ends of what they span."""
        some = _NEWEST_WITH.replace("DESC", order)
        ((count, first, last),) = self._rows(
            f"SELECT count(*), min(rowid), max(rowid) FROM ({some})",
            _all_of([term]),
            scope.low,
            scope.high,
            _READ_OF_A_TERM,
        )
        return count, first, last

    def _documents_between(self, first: int, last: int) -> int:
        """Return about how many documents there are from one to another; numbers may have gaps."""
        if first >> SEQ_BITS == last >> SEQ_BITS:
            return last - first + 1
        ((between,),) = self._rows(
            "SELECT sum(documents) FROM recall_namespaces WHERE id BETWEEN ? AND ?", first >> SEQ_BITS, last >> SEQ_BITS
        )
        return int(between)

    def _chosen(self, terms: Sequence[str], corpus: Corpus) -> list[int]:
        """Return the documents whose terms weigh most, best first; `terms` come rarest first."""
        weights: defaultdict[int, float] = defaultdict(float)
        left = _READ_IN_ALL
        for term in terms:
            ids = self._newest_with([term], limit=min(left, _READ_OF_A_TERM))
            left -= len(ids)
            rarity = corpus.rarity(term)
            for id in ids:
                weights[id] += rarity
            if left <= 0:
                break
        self._add_older([term for term in terms if corpus.frequencies[term] >= _READ_OF_A_TERM], corpus, weights)
        return nlargest(self._ranked, weights, key=lambda id: (weights[id], id))

    def _add_older(self, terms: Sequence[str], corpus: Corpus, weights: dict[int, float]) -> None:
        """Add older documents, that have several of words so common that reading of each alone has not reached them."""
        for width in range(2, min(_CONJOINED, len(terms)) + 1):
            weight = sum(map(corpus.rarity, terms[:width]))
            for id in self._newest_with(terms[:width], limit=self._ranked):
                weights[id] = max(weights.get(id, 0.0), weight)

    def _newest_with(self, terms: Sequence[str], *, limit: int) -> list[int]:
        match = _all_of([*terms, *self._marks])
        since, until = self._query.since_seq, self._query.until_seq
        return [
            id
            for scope in self._scopes
            for (id,) in self._rows(_NEWEST_WITH, match, *_within(scope, since, until), max(0, limit))
        ]

    def _similar(self) -> list[int]:
        """Return the documents nearest by meaning, where they are in reach."""
        similarities = self._query.similarities
        names = {namespace for namespace, _ in similarities}
        reach = names if self._query.namespaces is None else names.intersection(self._query.namespaces)
        numbers = dict(self._rows_in("SELECT name, id FROM recall_namespaces WHERE name IN ({})", [*reach]))
        best = nlargest(_MOST_SIMILAR, similarities, key=lambda key: similarities[key])
        return [(numbers[name] << SEQ_BITS) + seq for name, seq in best if name in numbers]

    # --- what ranking needs to know of them ---------------------------------------------------------------------------

    def _candidates(self, ids: Sequence[int], keys: Mapping[int, str]) -> dict[int, Candidate]:
        return {row[0]: self._candidate(row, keys) for row in self._rows_in(_DOCUMENTS, ids)}

    def _candidate(self, row: Sequence[Any], keys: Mapping[int, str]) -> Candidate:
        id, name, role, speaker, tools, at, burst, asks, length, counts = row
        return Candidate(
            namespace=name,
            seq=id & ((1 << SEQ_BITS) - 1),
            role=role,
            speaker=speaker,
            tools=tuple(tools.split("\n")) if tools else (),
            at=at,
            burst=burst,
            asks=bool(asks),
            length=length,
            counts=counts_in(counts, keys),
        )

    def _newest(self) -> list[int]:
        """Return the newest documents: parts of words are looked for in them alone."""
        rows = [
            row
            for scope in self._scopes
            for row in self._rows(
                "SELECT id, length(text) FROM recall_texts WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?",
                scope.low,
                scope.high,
                _NEWEST,
            )
        ]
        return _while_fits(sorted(rows, reverse=True)[:_NEWEST], _NEWEST_BYTES)

    def _literal(self, candidates: Mapping[int, Candidate]) -> list[int]:
        """Return the documents that contain the query as it stands.

        Looked at are the shortest candidates that have all its words, and the newest documents, for parts of words.
        """
        wanted = self._query.text.strip().casefold()
        words = set(query_terms(wanted))
        whole = [id for id, one in candidates.items() if words and words <= one.counts.keys()]
        looked_at = {*nsmallest(_LITERALLY, whole, key=lambda id: candidates[id].length), *self._newest()}
        rows = self._rows_in("SELECT id, text FROM recall_texts WHERE id IN ({})", [*looked_at]) if wanted else []
        return [id for id, text in rows if wanted in unpressed(text).casefold()]

    # --- SQL ----------------------------------------------------------------------------------------------------------

    def _rows(self, statement: str, *values: object) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _rows_in(self, statement: str, values: Sequence[object]) -> list[Any]:
        """Run a statement for each some hundred of the values: SQLite bounds their number."""
        rows: list[Any] = []
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            rows += self._rows(statement.format(", ".join("?" * len(some))), *some)
        return rows


def looked_for(text: str) -> list[str]:
    """Return the terms to look for. A pasted page is a legal query: of that the long words, which are the rare ones.

    G. K. Zipf, "Human Behavior and the Principle of Least Effort", 1949: the law of abbreviation.
    """
    terms = query_terms(text)
    if len(terms) > _MOST_TERMS:
        return sorted(terms, key=len, reverse=True)[:_MOST_TERMS]
    return list(dict.fromkeys([*terms, *spoken_names(text)]))[:_MOST_TERMS]


def marks(*, roles: Iterable[str], tools: Iterable[str]) -> list[str]:
    """Return the terms under which a document's fields are indexed; no text has such terms."""
    plain = _UNMARKABLE.compiled
    return [
        *(f"role={plain.sub('_', role.casefold())}" for role in roles),
        *(f"tool={plain.sub('_', tool.casefold())}" for tool in tools),
    ]


def pressed(text: str) -> bytes:
    """Return a text as `recall_texts` holds it; lone surrogates survive."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpressed(stored: bytes) -> str:
    return zlib.decompress(stored).decode("utf-8", "surrogatepass")


def _all_of(terms: Iterable[str]) -> str:
    """Return an FTS5 expression. Terms hold no quotation marks, and each is one token to the index's tokenizer."""
    return " AND ".join(f'"{term}"' for term in terms)


def _within(scope: _Scope, since: int | None, until: int | None) -> tuple[int, int]:
    if scope.low >> SEQ_BITS != scope.high >> SEQ_BITS:
        return scope.low, scope.high
    return scope.low + (since or 0), scope.high if until is None else scope.low + until - 1


def _while_fits(rows: Sequence[tuple[int, int]], budget: int) -> list[int]:
    ids = []
    for id, size in rows:
        budget -= size
        if budget < 0:
            break
        ids.append(id)
    return ids
