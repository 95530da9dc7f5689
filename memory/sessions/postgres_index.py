"""Messages in the full-text index of Postgres: the same terms as anywhere, as arrays of hashes under a GIN index.

Not Postgres' own text search: its parser knows neither identifiers nor paths as `recall.terms` does, and `ts_rank` not
how rare a word is. So the database finds which documents have which terms, and `recall.ranking` puts them in order, as
with SQLite.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from ..recall.counts import key_of, packed
from ..recall.documents import Document
from ..recall.fts5 import BURST_GAP_SECONDS
from ..recall.fts5_search import marks, pressed
from ..recall.ranking import asks_something
from ..recall.terms import terms_of
from .encoding import dumped, storable
from .postgres_connection import Row, Transaction
from .postgres_reads import LINE_OF, ON_LINE
from .postgres_rows import to_text

SEQ_BITS: Final = 32
"""A document's number is `number of the session << SEQ_BITS | seq`."""


def add_documents(transaction: Transaction, documents: Iterable[Document]) -> None:
    """Index documents of messages that are there and not indexed yet."""
    by_place = {(storable(one.namespace), one.seq): one for one in documents}
    places = {"ids": [id for id, _ in by_place], "seqs": [seq for _, seq in by_place]}
    # Whoever deletes or forgets waits for the session, whoever indexes too for its part of the index.
    transaction.run(_HOLD, places)
    transaction.run(_HELD, places)
    rows = transaction.rows(_NEW, places)
    if rows:
        new = [(row, by_place[row["id"], row["seq"]]) for row in rows]
        prepared = [_row(row, one, burst) for (row, one), burst in zip(new, _bursts(transaction, new), strict=True)]
        columns = {name: [one[name] for one in prepared] for name in prepared[0]}
        transaction.run(_ADD, columns)
        transaction.run_each(_COUNT, _sums(prepared))
    transaction.run(_MARK, places)


def remove_documents(transaction: Transaction, session_id: str, seqs: Sequence[int]) -> list[Row]:
    """Take documents out of the index; the caller holds the session. Return their `bytes`."""
    return transaction.rows(_REMOVE, {"id": session_id, "seqs": [*seqs]}) if seqs else []


def field_keys(role: str | None, tools: Iterable[str]) -> list[int]:
    """Return the keys under which a document's fields stand among its terms."""
    return [signed_key(mark) for mark in marks(roles=[role] if role else [], tools=tools)]


def namespace_key(number: int) -> int:
    """Return the key under which the documents of a session stand among its terms."""
    return signed_key(f"session={number}")


def signed_key(term: str) -> int:
    """Return the hash of a term as an `integer` of Postgres, which has a sign."""
    key = key_of(term)
    return key - (1 << 32) if key >> 31 else key


def _row(row: Mapping[str, Any], one: Document, burst: int) -> dict[str, Any]:
    terms = terms_of(one.text)
    keys = [*map(signed_key, dict.fromkeys(terms)), *field_keys(one.role, one.tools), namespace_key(row["number"])]
    return {
        "id": (row["number"] << SEQ_BITS) + one.seq,
        "role": one.role,
        "speaker": to_text(one.speaker),
        "tools": dumped(one.tools),
        "at": one.at,
        "burst": burst,
        "asks": asks_something(one.text, one.tools, one.role),
        "length": len(terms),
        "counts": packed(terms),
        "content": pressed(one.text),
        "keys": f"{{{','.join(map(str, keys))}}}",  # unnest makes one column of arrays of arrays
    }


def _bursts(transaction: Transaction, new: Sequence[tuple[Mapping[str, Any], Document]]) -> Iterator[int]:
    """Yield the stretch of talk of each document; those that come late join the one of the document before."""
    for number, group in groupby(new, key=lambda pair: pair[0]["number"]):
        documents = [one for _, one in group]
        first = number << SEQ_BITS
        before = transaction.rows(_BEFORE, {"first": first, "id": first + documents[0].seq})
        at, burst = (before[0]["at"], before[0]["burst"]) if before else (documents[0].at, 0)
        for one in documents:
            burst += abs(one.at - at) > BURST_GAP_SECONDS
            at = one.at
            yield burst


def _sums(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, int]]:
    sums: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows:
        sums[row["id"] >> SEQ_BITS].append(row["length"])
    return [{"number": one, "documents": len(found), "terms": sum(found)} for one, found in sorted(sums.items())]


_HOLD: Final = """
    INSERT INTO aloop.namespaces (number, documents, terms)
    SELECT number, 0, 0 FROM aloop.sessions WHERE id = ANY(%(ids)s) ORDER BY number FOR KEY SHARE
    ON CONFLICT DO NOTHING
"""
_HELD: Final = """
    SELECT FROM aloop.namespaces n JOIN aloop.sessions s USING (number) WHERE s.id = ANY(%(ids)s)
    ORDER BY number FOR UPDATE OF n
"""
_NEW: Final = f"""
    SELECT s.id, s.number, m.seq
    FROM unnest(%(ids)s::text[], %(seqs)s::bigint[]) AS wanted (id, seq)
    JOIN aloop.sessions s ON s.id = wanted.id
    JOIN aloop.messages m ON m.session_id = s.id AND m.seq = wanted.seq
    WHERE NOT m.is_forgotten
        AND NOT EXISTS (SELECT FROM aloop.documents d WHERE d.id = (s.number << {SEQ_BITS}) + m.seq)
    ORDER BY s.number, m.seq
"""
_BEFORE: Final = """
    SELECT at, burst FROM aloop.documents WHERE id >= %(first)s AND id < %(id)s ORDER BY id DESC LIMIT 1
"""
_COLUMNS: Final = {
    "id": "bigint",
    "role": "text",
    "speaker": "text",
    "tools": "text",
    "at": "double precision",
    "burst": "bigint",
    "asks": "boolean",
    "length": "bigint",
    "counts": "bytea",
    "content": "bytea",
}
_ADD: Final = f"""
    WITH new AS (
        SELECT * FROM unnest({", ".join(f"%({name})s::{kind}[]" for name, kind in _COLUMNS.items())}, %(keys)s::text[])
            AS given ({", ".join(_COLUMNS)}, keys)
    ), document AS (
        INSERT INTO aloop.documents ({", ".join(_COLUMNS)}) SELECT {", ".join(_COLUMNS)} FROM new
    )
    INSERT INTO aloop.terms (id, keys) SELECT id, keys::integer[] FROM new
"""
_COUNT: Final = """
    UPDATE aloop.namespaces SET documents = documents + %(documents)s, terms = terms + %(terms)s
    WHERE number = %(number)s
"""
_MARK: Final = """
    UPDATE aloop.messages m SET is_indexed = true
    FROM unnest(%(ids)s::text[], %(seqs)s::bigint[]) AS done (id, seq)
    WHERE m.session_id = done.id AND m.seq = done.seq AND NOT m.is_indexed
"""
_REMOVE: Final = """
    WITH gone AS (
        DELETE FROM aloop.documents d USING aloop.sessions s
        WHERE s.id = %(id)s AND d.id IN (SELECT (s.number << 32) + seq FROM unnest(%(seqs)s::bigint[]) seq)
        RETURNING s.number, d.length, octet_length(d.content) + octet_length(d.counts) AS bytes
    )
    UPDATE aloop.namespaces n SET documents = n.documents - sums.documents, terms = n.terms - sums.terms
    FROM (
        SELECT number, count(*) AS documents, sum(length) AS terms, sum(bytes) AS bytes FROM gone GROUP BY number
    ) sums
    WHERE n.number = sums.number
    RETURNING sums.bytes::bigint AS bytes, '{}'::text[] AS blobs
"""
UNINDEXED: Final = """
    SELECT s.*, m.* FROM aloop.messages m JOIN aloop.sessions s ON s.id = m.session_id
    WHERE NOT m.is_indexed ORDER BY s.number, m.seq LIMIT %(limit)s
"""
UNINDEXED_OF: Final = f"""{LINE_OF}
    SELECT s.*, m.* {ON_LINE} JOIN aloop.sessions s ON s.id = m.session_id
    WHERE NOT m.is_indexed ORDER BY m.seq LIMIT %(limit)s
"""
