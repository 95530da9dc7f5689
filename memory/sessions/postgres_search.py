"""One search in the full-text index of Postgres: from words to candidates, and from candidates to an order.

The rarest terms choose the candidates, and only those are ranked, with all terms. Each step is one statement and sees
the tables as they are then: a document that goes in between is not found.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import nlargest, nsmallest
from typing import Any, Final

from ..recall.counts import counts_in, key_of
from ..recall.documents import Found, Query
from ..recall.fts5_search import looked_for, unpressed
from ..recall.ranking import NEAR, Candidate, Corpus, rank
from ..recall.terms import query_terms
from .encoding import loaded, storable
from .postgres_connection import Row, Transaction
from .postgres_index import SEQ_BITS, field_keys, namespace_key, signed_key
from .postgres_rows import from_text

_COUNTED: Final = 1_000
"""Documents of a term that are counted; how many more there are is told from how far one had to go for these."""
_SORTED: Final = 3_000
"""Of a term that more documents have, any are read instead of the newest, for which all would have to be."""
_LARGE_PART: Final = 0.25
_READ_OF_A_TERM: Final = 300
_READ_IN_ALL: Final = 1_200
_CONJOINED: Final = 4
_RANKED: Final = 60
_RANKED_PER_RESULT: Final = 3
_MOST_SIMILAR: Final = 100
_WITH_NEIGHBOURS: Final = 20
_LITERALLY: Final = 40
_NEWEST: Final = 32
_NEWEST_BYTES: Final = 1 << 16
_LONGEST_SEQ: Final = (1 << SEQ_BITS) - 1


class Search:
    """A single search: made, asked once, thrown away."""

    def __init__(self, transaction: Transaction, query: Query) -> None:
        self._transaction = transaction
        self._query = query
        names = query.namespaces
        self._scope = {
            "is_everywhere": names is None,
            "names": [storable(name) for name in names or ()],
            # Of everything the sums are enough, but those that are near by meaning need their numbers.
            "near": [*{storable(name) for name, _ in query.similarities}] if names is None else [],
        }
        self._numbers: list[int] = []
        self._ranked = _RANKED + _RANKED_PER_RESULT * max(0, query.limit)
        transaction.run(_BY_INDEX)
        self._marks = field_keys(query.role, [query.tool] if query.tool else [])

    def found(self) -> list[Found]:
        """Return what matches best, best first."""
        scopes = [row for row in self._rows(_SCOPES, self._scope) if row["documents"]]
        documents = sum(row["documents"] for row in scopes if row["is_searched"])
        if not documents or self._query.limit < 1:
            return []
        self._numbers = [row["number"] for row in scopes if row["is_searched"] and row["number"] is not None]
        self._scope |= {
            "numbers": self._numbers,
            "namespaces": [*map(namespace_key, self._numbers)],
            "is_large_part": documents > _LARGE_PART * scopes[0]["every"],
        }
        frequencies = self._frequencies(looked_for(self._query.text), documents)
        terms = sorted(frequencies, key=lambda term: frequencies[term])
        length = sum(row["terms"] for row in scopes if row["is_searched"]) / documents
        corpus = Corpus(documents=documents, mean_length=length, frequencies=frequencies)
        keys = {key_of(term): term for term in terms}
        chosen = [*dict.fromkeys([*self._chosen(terms, corpus), *self._similar(scopes)])]
        around = [id + step for id in chosen[:_WITH_NEIGHBOURS] for step in NEAR]
        candidates = self._candidates({*chosen, *around}, keys)
        literal = self._literal(candidates)
        candidates |= self._candidates(literal - candidates.keys(), keys)
        final = [replace(one, is_literal=id in literal) for id, one in candidates.items()]
        return rank(final, query=self._query, terms=terms, corpus=corpus)

    # --- Which documents may answer -----------------------------------------------------------------------------------

    def _frequencies(self, terms: Sequence[str], documents: int) -> dict[str, float]:
        """Return how many documents have each term that any has."""
        keys = {signed_key(term): term for term in terms}
        # Branches: of several sessions one cannot tell how far one has come.
        limit = _COUNTED if self._scope["is_everywhere"] or len(self._numbers) == 1 else None
        rows = self._rows(_FREQUENCIES, self._scope | {"keys": [*keys], "limit": limit}) if keys else []
        return {keys[row["key"]]: self._frequency(row, documents, limit) for row in rows}

    def _frequency(self, row: Row, documents: int, limit: int | None) -> float:
        """Return how many documents there are of a term, of which the first were counted, up to a limit."""
        count = int(row["documents"])
        if count != limit:
            return count
        share = row["block"] / row["blocks"] if self._scope["is_everywhere"] else row["span"] / documents
        return max(float(count), min(count / float(share), documents))

    def _chosen(self, terms: Sequence[str], corpus: Corpus) -> list[int]:
        """Return the documents whose terms weigh most, best first; `terms` come rarest first."""
        asked: list[tuple[Sequence[str], int]] = []
        left = _READ_IN_ALL
        for term in terms:
            limit = min(left, _READ_OF_A_TERM)
            asked.append(([term], limit))
            left -= min(limit, math.ceil(corpus.frequencies[term]))
            if left <= 0:
                # Older documents that have several of the common words, which no reading of each alone has reached.
                asked += [(terms[:width], self._ranked) for width in range(2, min(_CONJOINED, len(terms)) + 1)]
                break
        return self._heaviest(asked, corpus)

    def _heaviest(self, asked: Sequence[tuple[Sequence[str], int]], corpus: Corpus) -> list[int]:
        weights: defaultdict[int, float] = defaultdict(float)
        for row in self._newest_with(asked, corpus):
            together = asked[row["part"]][0]
            weight, known = sum(map(corpus.rarity, together)), weights[row["id"]]
            weights[row["id"]] = max(known, weight) if len(together) > 1 else known + weight
        return nlargest(self._ranked, weights, key=lambda id: (weights[id], id))

    def _newest_with(self, asked: Sequence[tuple[Sequence[str], int]], corpus: Corpus) -> list[Row]:
        """Return the newest documents that have all of some terms and the fields asked for, by the `part` asked for."""
        orders = [
            "" if len(terms) == 1 and corpus.frequencies[terms[0]] > _SORTED else "ORDER BY id + 0 DESC"
            for terms, _ in asked
        ]
        until = self._query.until_seq
        values: dict[str, object] = {
            "since": self._query.since_seq or 0,
            "until": _LONGEST_SEQ + 1 if until is None else until,
        }
        for part, (terms, limit) in enumerate(asked):
            values |= {f"keys{part}": [*map(signed_key, terms), *self._marks], f"limit{part}": limit}
        parts = [_NEWEST_WITH.replace("PART", str(part)).replace("ORDER", order) for part, order in enumerate(orders)]
        rows = self._rows(" UNION ALL ".join(parts), self._scope | values) if asked else []
        return sorted(rows, key=lambda row: row["part"])

    def _similar(self, scopes: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the documents nearest by meaning, where they are in reach."""
        similarities = self._query.similarities
        numbers = {row["name"]: row["number"] for row in scopes if row["number"] is not None}
        best = nlargest(_MOST_SIMILAR, similarities, key=lambda key: similarities[key])
        return [(numbers[name] << SEQ_BITS) + seq for name, seq in best if name in numbers]

    # --- What ranking needs to know of them ---------------------------------------------------------------------------

    def _candidates(self, ids: Collection[int], keys: Mapping[int, str]) -> dict[int, Candidate]:
        rows = self._rows(_DOCUMENTS, {"ids": [*ids]}) if ids else []
        return {row["id"]: _candidate(row, keys) for row in rows}

    def _literal(self, candidates: Mapping[int, Candidate]) -> set[int]:
        """Return the documents that contain the query as it stands.

        Looked at are the shortest candidates that have all its words, and the newest documents, for parts of words.
        """
        wanted = self._query.text.strip().casefold()
        if not wanted:
            return set()
        words = set(query_terms(wanted))
        whole = [id for id, one in candidates.items() if words and words <= one.counts.keys()]
        looked_at = {*nsmallest(_LITERALLY, whole, key=lambda id: candidates[id].length), *self._newest()}
        rows = self._rows("SELECT id, content FROM aloop.documents WHERE id = ANY(%(ids)s)", {"ids": [*looked_at]})
        return {row["id"] for row in rows if wanted in unpressed(row["content"]).casefold()}

    def _newest(self) -> Iterator[int]:
        """Yield the newest documents, some kilobytes of them."""
        budget = _NEWEST_BYTES
        for row in self._rows(_NEWEST_ONES, self._scope | {"limit": _NEWEST}):
            budget -= row["size"]
            if budget < 0:
                return
            yield row["id"]

    def _rows(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        return self._transaction.rows(statement, values)


def _candidate(row: Mapping[str, Any], keys: Mapping[int, str]) -> Candidate:
    return Candidate(
        namespace=row["name"],
        seq=row["id"] & _LONGEST_SEQ,
        role=row["role"],
        speaker=from_text(row["speaker"]),
        tools=tuple(loaded(row["tools"])),
        at=row["at"],
        burst=row["burst"],
        asks=row["asks"],
        length=row["length"],
        counts=counts_in(row["counts"], keys),
    )


# The planner knows little of arrays: it takes a word for common, and reads all rows until enough have it.
_BY_INDEX: Final = "SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)"
_SCOPES: Final = """
    SELECT NULL AS number, NULL AS name, true AS is_searched,
        sum(documents)::bigint AS documents, sum(terms)::bigint AS terms, 0 AS every
    FROM aloop.namespaces WHERE %(is_everywhere)s
    UNION ALL
    SELECT number, id, NOT %(is_everywhere)s AND id = ANY(%(names)s), documents, terms,
        -- as of the newest ANALYZE; -1 before the first
        (SELECT reltuples FROM pg_class WHERE oid = 'aloop.documents'::regclass)
    FROM aloop.namespaces JOIN aloop.sessions USING (number) WHERE id = ANY(%(names)s) OR id = ANY(%(near)s)
"""
# A search of some sessions asks for their keys together with the term's, so that GIN passes over what others have; that
# two sessions may have one key is what the number is for. Where theirs is a large part of all there is little to pass
# over, and to read the list of their documents for each term would take longest.
_IN_SCOPE: Final = f"""
    (%(is_everywhere)s
        OR ((%(is_large_part)s OR keys && %(namespaces)s::integer[]) AND id >> {SEQ_BITS} = ANY(%(numbers)s::bigint[])))
"""
_FREQUENCIES: Final = f"""
    SELECT key, count(*) AS documents, max(id) - min(id) + 1 AS span, (max(found.ctid)::text::point)[0] + 1 AS block,
        (SELECT pg_relation_size('aloop.terms') / current_setting('block_size')::bigint)::double precision AS blocks
    FROM unnest(%(keys)s::integer[]) key,
        LATERAL (SELECT id, ctid FROM aloop.terms WHERE keys @> ARRAY[key] AND {_IN_SCOPE} LIMIT %(limit)s) found
    GROUP BY key
"""
# Sorted by an expression: to go down the numbers until enough are found would be to read the table for a rare term.
_NEWEST_WITH: Final = f"""(
    SELECT PART AS part, id FROM aloop.terms
    WHERE keys @> %(keysPART)s::integer[] AND {_IN_SCOPE}
        AND id & {_LONGEST_SEQ} >= %(since)s AND id & {_LONGEST_SEQ} < %(until)s
    ORDER LIMIT %(limitPART)s
)"""
_DOCUMENTS: Final = f"""
    SELECT d.id, s.id AS name, role, speaker, tools, at, burst, asks, length, counts
    FROM aloop.documents d JOIN aloop.sessions s ON s.number = d.id >> {SEQ_BITS}
    WHERE d.id = ANY(%(ids)s)
"""
_NEWEST_ONES: Final = f"""
    SELECT id, octet_length(content) AS size FROM (
        SELECT id, content FROM aloop.documents WHERE %(is_everywhere)s ORDER BY id DESC LIMIT %(limit)s
    ) everywhere
    UNION ALL
    SELECT id, octet_length(content) FROM unnest(%(numbers)s::bigint[]) number, LATERAL (
        SELECT id, content FROM aloop.documents
        WHERE id >= number << {SEQ_BITS} AND id < (number + 1) << {SEQ_BITS} ORDER BY id DESC LIMIT %(limit)s
    ) here
    ORDER BY id DESC LIMIT %(limit)s
"""
