"""One search in the full-text index of Postgres: from words to candidates, and from candidates to an order.

The rarest terms choose the candidates, and only those are ranked, with all terms. Each step is one statement and sees
the tables as they are then: a document that goes in between is not found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nlargest
from typing import Any, Final

from ..recall.counts import counts_in, key_of
from ..recall.documents import Found, Query
from ..recall.fts5_search import unpressed
from ..recall.ranking import NEAR, Candidate, Corpus, rank
from ..recall.terms import query_terms
from .encoding import storable
from .postgres_connection import Transaction
from .postgres_index import SEQ_BITS, field_keys, namespace_key, signed_key
from .postgres_rows import from_text

_MOST_TERMS: Final = 48
_COUNTED: Final = 5_000
"""Documents of a term that are counted where everything is searched; from there on their share is told from these."""
_READ_OF_A_TERM: Final = 1_000
_READ_IN_ALL: Final = 4_000
_CONJOINED: Final = 4
_RANKED: Final = 200
_MOST_SIMILAR: Final = 100
_WITH_NEIGHBOURS: Final = 50
_LITERALLY: Final = 40
_NEWEST: Final = 64
_NEWEST_BYTES: Final = 1 << 17
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
            "similar": [*{storable(name) for name, _ in query.similarities}],
        }
        transaction.run(_BY_INDEX)
        self._newest: list[int] = []
        self._marks = field_keys(query.role, [query.tool] if query.tool else [])

    def found(self) -> list[Found]:
        """Return what matches best, best first."""
        scopes = [row for row in self._rows(_SCOPES, self._scope) if row["documents"]]
        documents = sum(row["documents"] for row in scopes if row["is_searched"])
        if not documents or self._query.limit < 1:
            return []
        numbers = [row["number"] for row in scopes if row["is_searched"] and row["number"] is not None]
        self._scope |= {"numbers": numbers, "namespaces": [namespace_key(number) for number in numbers]}
        # A pasted page is a legal query too. Long words are the rare ones (Zipf's law of abbreviation).
        wanted = sorted(query_terms(self._query.text), key=len, reverse=True)[:_MOST_TERMS]
        frequencies = self._frequencies(wanted)
        terms = sorted((term for term in wanted if frequencies[term]), key=lambda term: frequencies[term])
        length = sum(row["terms"] for row in scopes if row["is_searched"]) / documents
        corpus = Corpus(documents=documents, mean_length=length, frequencies=frequencies)
        chosen = dict.fromkeys([*self._chosen(terms, corpus), *self._similar(scopes)])
        candidates = self._candidates([*chosen], terms)
        literal = self._literal(candidates, terms if len(terms) == len(wanted) else None)
        final = [replace(one, is_literal=id in literal) for id, one in candidates.items()]
        return rank(final, query=self._query, terms=terms, corpus=corpus)

    # --- Which documents may answer -----------------------------------------------------------------------------------

    def _frequencies(self, terms: Sequence[str]) -> dict[str, float]:
        """Return how many documents have each term. Of a session all are counted, of everything the first of them."""
        keys = {term: signed_key(term) for term in terms}
        limit = _COUNTED if self._scope["is_everywhere"] else None
        rows = self._rows(_FREQUENCIES, self._scope | {"keys": [*keys.values()], "limit": limit}) if keys else []
        # They were read from the beginning of the table, up to a block.
        shares = {row["key"]: row["block"] / row["blocks"] if row["documents"] == limit else 1.0 for row in rows}
        found = {row["key"]: row["documents"] / shares[row["key"]] for row in rows}
        return {term: found.get(key, 0.0) for term, key in keys.items()}

    def _chosen(self, terms: Sequence[str], corpus: Corpus) -> list[int]:
        """Return the documents whose terms weigh most, best first; `terms` come rarest first."""
        asked: list[tuple[Sequence[str], int]] = []
        left = float(_READ_IN_ALL)
        for term in terms:
            if left > 0:
                asked.append(([term], _READ_OF_A_TERM))
            left -= min(corpus.frequencies[term], _READ_OF_A_TERM)
        if left <= 0:
            # Older documents that have several of the common words, which no reading of each alone has reached.
            asked += [(terms[:width], _RANKED) for width in range(2, min(_CONJOINED, len(terms)) + 1)]
        return self._heaviest(asked, corpus)

    def _heaviest(self, asked: Sequence[tuple[Sequence[str], int]], corpus: Corpus) -> list[int]:
        weights: defaultdict[int, float] = defaultdict(float)
        for together, limit in asked:
            weight = sum(map(corpus.rarity, together))
            for id in self._with_all(together, limit):
                weights[id] = max(weights[id], weight) if len(together) > 1 else weights[id] + weight
        return nlargest(_RANKED, weights, key=lambda id: (weights[id], id))

    def _with_all(self, terms: Sequence[str], limit: int) -> list[int]:
        """Return documents that have all these terms and the fields asked for, the newest first."""
        values = {
            "keys": [*map(signed_key, terms), *self._marks],
            "since": self._query.since_seq or 0,
            "until": _LONGEST_SEQ + 1 if self._query.until_seq is None else self._query.until_seq,
            "limit": limit,
        }
        return [row["id"] for row in self._rows(_WITH_ALL, self._scope | values)]

    def _similar(self, scopes: Sequence[Mapping[str, Any]]) -> list[int]:
        similarities = self._query.similarities
        numbers = {row["name"]: row["number"] for row in scopes if row["number"] is not None}
        best = nlargest(_MOST_SIMILAR, similarities, key=lambda key: similarities[key])
        return [(numbers[name] << SEQ_BITS) + seq for name, seq in best if name in numbers]

    # --- What ranking needs to know of them ---------------------------------------------------------------------------

    def _candidates(self, chosen: Sequence[int], terms: Sequence[str]) -> dict[int, Candidate]:
        """Return the chosen documents, the neighbours of the first of them, and the newest."""
        around = [id + step for id in chosen[:_WITH_NEIGHBOURS] for step in NEAR]
        keys = {key_of(term): term for term in terms}
        self._newest = self._newest_ids()
        rows = self._rows(_DOCUMENTS, {"ids": [*{*chosen, *around, *self._newest}]})
        return {row["id"]: _candidate(row, keys) for row in rows}

    def _newest_ids(self) -> list[int]:
        """Return the newest documents: parts of words are looked for in them alone."""
        ids, budget = [], _NEWEST_BYTES
        for row in self._rows(_NEWEST_ONES, self._scope | {"limit": _NEWEST}):
            budget -= row["size"]
            if budget < 0:
                break
            ids.append(row["id"])
        return ids

    def _literal(self, candidates: Mapping[int, Candidate], terms: Sequence[str] | None) -> set[int]:
        """Return the candidates that contain the query as it stands; `terms`: None if no message has them all."""
        wanted = self._query.text.strip().casefold()
        if not wanted:
            return set()
        whole = [id for id, one in candidates.items() if terms and len(one.counts) == len(terms)]
        looked_at = {*nlargest(_LITERALLY, whole, key=lambda id: (-candidates[id].length, id)), *self._newest}
        rows = self._rows("SELECT id, content FROM aloop.documents WHERE id = ANY(%(ids)s)", {"ids": [*looked_at]})
        return {row["id"] for row in rows if wanted in unpressed(row["content"]).casefold()}

    def _rows(self, statement: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
        return self._transaction.rows(statement, values)


def _candidate(row: Mapping[str, Any], keys: Mapping[int, str]) -> Candidate:
    return Candidate(
        namespace=row["name"],
        seq=row["id"] & _LONGEST_SEQ,
        role=row["role"],
        speaker=from_text(row["speaker"]),
        tools=tuple(map(from_text, row["tools"])),
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
        sum(documents)::bigint AS documents, sum(terms)::bigint AS terms
    FROM aloop.namespaces WHERE %(is_everywhere)s
    UNION ALL
    SELECT number, id, NOT %(is_everywhere)s AND id = ANY(%(names)s), documents, terms
    FROM aloop.namespaces JOIN aloop.sessions USING (number) WHERE id = ANY(%(names)s) OR id = ANY(%(similar)s)
"""
# A search of some sessions asks for their keys together with the term's, so that GIN passes over what others have; that
# two sessions may have one key is what the number is for.
_IN_SCOPE: Final = f"""
    (%(is_everywhere)s OR (keys && %(namespaces)s::integer[] AND id >> {SEQ_BITS} = ANY(%(numbers)s::bigint[])))
"""
_FREQUENCIES: Final = f"""
    SELECT key, count(*) AS documents, max((found.ctid::text::point)[0]) + 1 AS block,
        (SELECT pg_relation_size('aloop.terms') / current_setting('block_size')::bigint)::double precision AS blocks
    FROM unnest(%(keys)s::integer[]) key,
        LATERAL (SELECT ctid FROM aloop.terms WHERE keys @> ARRAY[key] AND {_IN_SCOPE} LIMIT %(limit)s) found
    GROUP BY key
"""
# Sorted by an expression: to go down the numbers until enough are found would be to read the table for a rare term.
_WITH_ALL: Final = f"""
    SELECT id FROM aloop.terms
    WHERE keys @> %(keys)s::integer[] AND {_IN_SCOPE}
        AND id & {_LONGEST_SEQ} >= %(since)s AND id & {_LONGEST_SEQ} < %(until)s
    ORDER BY id + 0 DESC LIMIT %(limit)s
"""
_DOCUMENTS: Final = f"""
    SELECT d.*, s.id AS name FROM aloop.documents d JOIN aloop.sessions s ON s.number = d.id >> {SEQ_BITS}
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
