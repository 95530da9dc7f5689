"""Vectors in Postgres, as pgvector's own type: the server compares them, so that no worker need load them all.

Of sessions that are named each row is compared: an HNSW index does not filter, and gives of one session what is left of
the nearest of all, until pgvector goes on reading (`hnsw.iterative_scan`, since 0.8,
https://github.com/pgvector/pgvector#iterative-index-scans, 2026-11), which takes longer than the session's own rows. Of
everything each row is compared too, unless an administrator made the index that docs/postgres.md gives: it costs
milliseconds for each new message, which only a large database is worth.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from ..errors import StorageError, StorageReadOnlyError
from .encoding import storable
from .postgres_connection import Connection, Row, Transaction
from .postgres_reads import EVERY_LINE, LINE_OF, ON_LINE
from .postgres_schema import VECTORS, migrate

_OLDEST: Final = (0, 8)
_MOST_SEARCHED: Final = 1_000
"""So far `hnsw.ef_search` goes."""
_HOW: Final = (
    "vectors need pgvector 0.8 or later in this database: have `CREATE EXTENSION vector` run by an account that may "
    "(docs/postgres.md), or do without an embedder; sessions and recall by words work without it"
)


class PostgresVectors:
    """The tables of vectors, made when the first vectors come, so that sessions alone need no pgvector."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_ready = False

    def unembedded(self, embedder: str, session_id: str | None, limit: int) -> list[tuple[str, int]]:
        values = {"embedder": storable(embedder), "id": session_id and storable(session_id), "limit": limit}
        line = EVERY_LINE if session_id is None else LINE_OF
        rows = self._connection.read(line + (_MISSING if self.is_there() else _EVERY), values)
        return [(row["session_id"], row["seq"]) for row in rows]

    def add(self, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        rows = [(storable(id), seq, _as_text(vector)) for id, seq, vector in vectors]
        if not rows:
            return
        if not self.is_there():
            self._make()
        ids, seqs, embeddings = (list(column) for column in zip(*rows, strict=True))
        values = {"embedder": storable(embedder), "ids": ids, "seqs": seqs, "embeddings": embeddings}

        def write(transaction: Transaction) -> None:
            for statement in (_NAME, _ADD, _ADVANCE):
                transaction.run(statement, values)

        self._connection.write(write, is_durable=False)

    def vectors(self, embedder: str, session_id: str | None, after_row: int) -> list[tuple[int, str, int, bytes]]:
        if not self.is_there():
            return []
        values = {"embedder": storable(embedder), "id": session_id and storable(session_id), "after": after_row}
        rows = self._connection.read((EVERY_LINE if session_id is None else LINE_OF) + _VECTORS, values)
        return [(row["row"], row["session_id"], row["seq"], _as_bytes(row["embedding"])) for row in rows]

    def similar(
        self, embedder: str, vector: bytes, namespaces: Sequence[str] | None, limit: int
    ) -> dict[tuple[str, int], float]:
        dimensions = len(vector) // 4
        if not dimensions or not self.is_there():
            return {}
        values = {
            "embedder": storable(embedder),
            "vector": _as_text(vector),
            "names": [storable(name) for name in namespaces or ()],
            "limit": limit,
            "searched": max(1, min(limit, _MOST_SEARCHED)),
        }
        statement = (_NEAREST_OF_ALL if namespaces is None else _NEAREST).replace("DIMENSIONS", str(dimensions))

        def read(transaction: Transaction) -> list[Row]:
            transaction.run(_HOW_TO_SEARCH, values)
            return transaction.rows(statement, values)

        rows = self._connection.write(read, is_durable=False)
        # What has no length has no distance.
        near = [row for row in rows if not math.isnan(row["distance"])]
        near.sort(key=lambda row: (row["distance"], row["session_id"], row["seq"]))
        return {(row["session_id"], row["seq"]): 1.0 - row["distance"] for row in near}

    def is_there(self) -> bool:
        """Return whether there are tables, made by whomever; and know where pgvector is."""
        if not self._is_ready:
            [row] = self._connection.read(_THERE)
            if row["schema"] is not None:
                self._connection.find_vectors(row["schema"])
            self._is_ready = row["has_tables"]
        return self._is_ready

    def _make(self) -> None:
        [row] = self._connection.read(_THERE)
        if row["schema"] is None:
            self._make_extension()
            [row] = self._connection.read(_THERE)
        if tuple(map(int, row["version"].split(".")[:2])) < _OLDEST:
            raise StorageError(f"pgvector {row['version']} is too old: {_HOW}")
        self._connection.find_vectors(row["schema"])
        migrate(self._connection, "vectors", VECTORS)
        self._is_ready = True

    def _make_extension(self) -> None:
        def create(transaction: Transaction) -> None:
            # Of two workers that do so at once, the second would be told that it exists, `IF NOT EXISTS` or not.
            transaction.run("SELECT pg_advisory_xact_lock(hashtextextended('CREATE EXTENSION vector', 0))")
            transaction.run("CREATE EXTENSION IF NOT EXISTS vector")

        try:
            self._connection.write(create)
        except StorageReadOnlyError as error:
            raise StorageReadOnlyError(f"this account may not add pgvector to the database: {_HOW}") from error
        except StorageError as error:
            raise StorageError(f"pgvector could not be added to the database: {_HOW}") from error


def _as_text(vector: bytes) -> str:
    """Return little-endian float32 as pgvector reads it; exact, since Python writes out every digit that counts."""
    return f"[{','.join(map(repr, _numbers(vector, 'little')))}]"


def _as_bytes(sent: bytes) -> bytes:
    """Return what `vector_send` gives as little-endian float32. It is big-endian, behind two numbers of 16 bits.

    Source: https://github.com/pgvector/pgvector/blob/v0.8.0/src/vector.c, `vector_send`, 2026-11.
    """
    numbers = _numbers(sent[4:], "big")
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _numbers(content: bytes, order: str) -> array[float]:
    numbers = array("f", content)
    if sys.byteorder != order:
        numbers.byteswap()
    return numbers


_THERE: Final = """
    SELECT to_regclass('aloop.vectors') IS NOT NULL AS has_tables,
        (SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'vector')
            AS schema,
        (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS version
"""
_EVERY: Final = (
    f"SELECT m.session_id, m.seq {ON_LINE} WHERE NOT m.is_forgotten ORDER BY depth DESC, m.seq LIMIT %(limit)s"
)
# One session after the other: joined as a whole, the messages of all would be read where those of few are new.
_MISSING: Final = """
    SELECT line.id AS session_id, missing.seq
    FROM line
    LEFT JOIN aloop.embedders e ON e.name = %(embedder)s
    LEFT JOIN aloop.embedded d ON d.embedder = e.number AND d.session_id = line.id,
    LATERAL (
        SELECT m.seq FROM aloop.messages m
        WHERE m.session_id = line.id AND m.seq > greatest(line.parent_seq, d.seq) AND m.seq <= line.newest
            AND NOT m.is_forgotten AND NOT EXISTS (
                SELECT FROM aloop.vectors v
                WHERE v.embedder = e.number AND v.session_id = m.session_id AND v.seq = m.seq
            )
        OFFSET 0
    ) missing
    WHERE line.newest > greatest(line.parent_seq, d.seq)
    ORDER BY depth DESC, missing.seq LIMIT %(limit)s
"""
_ADVANCE: Final = """
    INSERT INTO aloop.embedded (embedder, session_id, seq)
    SELECT e.number, s.id, coalesce(
        (
            SELECT m.seq - 1 FROM aloop.messages m
            WHERE m.session_id = s.id AND m.seq > coalesce(d.seq, 0) AND NOT m.is_forgotten AND NOT EXISTS (
                SELECT FROM aloop.vectors v
                WHERE v.embedder = e.number AND v.session_id = m.session_id AND v.seq = m.seq
            )
            ORDER BY m.seq LIMIT 1
        ),
        (SELECT max(m.seq) FROM aloop.messages m WHERE m.session_id = s.id),
        0
    )
    FROM aloop.embedders e
    JOIN aloop.sessions s ON s.id = ANY(%(ids)s)
    LEFT JOIN aloop.embedded d ON d.embedder = e.number AND d.session_id = s.id
    WHERE e.name = %(embedder)s
    ORDER BY s.id
    ON CONFLICT (embedder, session_id) DO UPDATE SET seq = greatest(embedded.seq, excluded.seq)
"""
_NAME: Final = """
    INSERT INTO aloop.embedders (name) SELECT %(embedder)s
    WHERE NOT EXISTS (SELECT FROM aloop.embedders WHERE name = %(embedder)s) ON CONFLICT DO NOTHING
"""
# What was deleted or forgotten meanwhile is left out; whoever does so waits for the lock, or is waited for.
_ADD: Final = """
    INSERT INTO aloop.vectors (embedder, session_id, seq, embedding)
    SELECT e.number, m.session_id, m.seq, given.embedding::pgvector.vector
    FROM unnest(%(ids)s::text[], %(seqs)s::bigint[], %(embeddings)s::text[]) WITH ORDINALITY
        AS given (id, seq, embedding, place)
    JOIN aloop.messages m ON m.session_id = given.id AND m.seq = given.seq AND NOT m.is_forgotten
    JOIN aloop.embedders e ON e.name = %(embedder)s
    ORDER BY place
    FOR SHARE OF m
    ON CONFLICT DO NOTHING
"""
_VECTORS: Final = f"""
    SELECT v.row, v.session_id, v.seq, pgvector.vector_send(v.embedding) AS embedding
    {ON_LINE} JOIN aloop.vectors v ON v.session_id = m.session_id AND v.seq = m.seq
    JOIN aloop.embedders e ON e.number = v.embedder
    WHERE e.name = %(embedder)s AND v.row > %(after)s ORDER BY v.row
"""
# Both settings are of an HNSW index. It would give 40 rows at most, and of these only what other conditions leave.
_HOW_TO_SEARCH: Final = """
    SELECT set_config('hnsw.ef_search', %(searched)s::text, true),
        set_config('hnsw.iterative_scan', 'strict_order', true)
"""
_OF_EMBEDDER: Final = """
    v.embedder = (SELECT number FROM aloop.embedders WHERE name = %(embedder)s)
    AND pgvector.vector_dims(v.embedding) = DIMENSIONS
"""
_NEAREST: Final = f"""
    SELECT session_id, seq, embedding OPERATOR(pgvector.<=>) %(vector)s::pgvector.vector AS distance
    FROM aloop.vectors v WHERE v.session_id = ANY(%(names)s) AND {_OF_EMBEDDER}
    ORDER BY distance LIMIT %(limit)s
"""
# Written as the index of docs/postgres.md is: without it the planner compares every row.
_NEAREST_OF_ALL: Final = f"""
    SELECT session_id, seq, embedding::pgvector.vector(DIMENSIONS)
        OPERATOR(pgvector.<=>) %(vector)s::pgvector.vector(DIMENSIONS) AS distance
    FROM aloop.vectors v WHERE {_OF_EMBEDDER}
    ORDER BY distance LIMIT %(limit)s
"""
