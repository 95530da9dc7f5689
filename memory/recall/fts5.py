"""An index in SQLite: FTS5 finds candidates, Python ranks them. Its tables can stand beside others in one file.

Why not FTS5's own ranking: `bm25()` and `fts5vocab` read the whole list of documents of every word of the query, in
all namespaces, so that a common word costs hundreds of milliseconds in a large file
(https://www.sqlite.org/fts5.html, section 5.1.1; fts5_aux.c, `fts5Bm25GetData`; 2026-11). Here FTS5 holds only which
document has which term. A document's number is its namespace's number and its `seq` in one integer, so the
documents of a namespace are one range, and FTS5 seeks to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from math import log
from typing import Final

from ..errors import MissingDependencyError
from .counts import packed
from .documents import Document, Found, Query
from .fts5_search import SEQ_BITS, Search, marks, pressed, unpressed
from .ranking import asks_something
from .terms import terms_of
from .weights import WEIGHTS, Weights

SCHEMA: Final[tuple[str, ...]] = (
    "CREATE TABLE IF NOT EXISTS recall_namespaces ("
    "id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, documents INTEGER NOT NULL, terms INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS recall_documents ("
    "id INTEGER PRIMARY KEY, role TEXT NOT NULL, speaker TEXT NOT NULL, tools TEXT NOT NULL, at REAL NOT NULL, "
    "burst INTEGER NOT NULL, asks INTEGER NOT NULL, length INTEGER NOT NULL, counts BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS recall_texts (id INTEGER PRIMARY KEY, text BLOB NOT NULL)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS recall_terms USING fts5("
    "terms, content='', columnsize=0, detail=none, tokenize=\"ascii tokenchars '_./\\:@~+#-='\")",
)
"""Statements that make the tables, in order. `Fts5Index` runs them; a store's migration may have run them before."""

_TIDY_FROM: Final = 10_000
"""Documents. Fewer are found fast enough wherever they stand."""

BURST_GAP_SECONDS: Final = 1800.0
"""Half an hour of silence ends a stretch of talk: the customary bound of a visit in web analytics."""


class Fts5Index:
    """An index whose tables live in a connection's database.

    Transactions are the caller's: inside one, `add` and `remove` take part in it and are committed or rolled back
    with it (a failing one undoes its own part); outside one, each is a transaction of its own that takes the write
    lock first, so that several processes may add to one file. Nothing is kept in memory between two calls.
    """

    def __init__(self, connection: sqlite3.Connection, *, weights: Weights = WEIGHTS) -> None:
        """Make the tables where they are missing.

        Raises:
            MissingDependencyError: This build of SQLite has no FTS5.
        """
        self._connection = connection
        self._weights = weights
        require_fts5(connection)
        for statement in SCHEMA:
            connection.execute(statement)

    def add(self, documents: Iterable[Document]) -> None:
        ordered = sorted(documents, key=lambda one: (one.namespace, one.seq))
        if ordered:
            with self._transaction():
                before = self._count()
                for namespace, group in groupby(ordered, key=lambda one: one.namespace):
                    self._add_to(namespace, list(group))
                self._tidy(before)

    def newest_seq(self, namespace: str) -> int:
        number = self._number(namespace)
        if number is None:
            return -1
        first = number << SEQ_BITS
        newest = self._one("SELECT max(id) FROM recall_documents WHERE id BETWEEN ? AND ?", first, _last(number))
        return -1 if newest is None else int(newest) - first

    def search(self, query: Query) -> list[Found]:
        return Search(self._connection, query, self._weights).found()

    def remove(self, namespace: str, seqs: Sequence[int] | None = None) -> None:
        with self._transaction():
            number = self._number(namespace)
            if number is None:
                return
            first = number << SEQ_BITS
            ids = self._all_ids(number) if seqs is None else [first + seq for seq in dict.fromkeys(seqs)]
            for id in ids:
                self._remove(number, id)
            if seqs is None:
                self._connection.execute("DELETE FROM recall_namespaces WHERE id = ?", (number,))

    def _tidy(self, count_before: int) -> None:
        """Bring the words of all documents into one place whenever the index has grown by a quarter.

        FTS5 keeps what was added at different times in segments of their own, and a search looks into each: among a
        million documents in ten segments it took six times as long as in one. Merging costs 2 µs a document.
        Source: https://www.sqlite.org/fts5.html#the_optimize_command (2026-11).
        """
        count = self._count()
        if count >= _TIDY_FROM and _step(count_before) != _step(count):
            self._connection.execute("INSERT INTO recall_terms (recall_terms) VALUES ('optimize')")

    def _count(self) -> int:
        return self._one("SELECT sum(documents) FROM recall_namespaces") or 0

    def _add_to(self, namespace: str, documents: Sequence[Document]) -> None:
        number = self._number_or_new(namespace)
        first = number << SEQ_BITS
        known = self._known(first + documents[0].seq, first + documents[-1].seq)
        new = list({one.seq: one for one in documents if first + one.seq not in known}.values())
        rows = [(first + one.seq, one, terms_of(one.text)) for one in new]
        bursts = self._bursts(number, new)
        self._connection.executemany(
            "INSERT INTO recall_documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_row(id, one, burst, terms) for (id, one, terms), burst in zip(rows, bursts, strict=True)),
        )
        self._connection.executemany(
            "INSERT INTO recall_texts VALUES (?, ?)", ((id, pressed(one.text)) for id, one, _ in rows)
        )
        self._connection.executemany(
            "INSERT INTO recall_terms (rowid, terms) VALUES (?, ?)",
            ((id, _indexed(terms, one.role, one.tools)) for id, one, terms in rows),
        )
        self._connection.execute(
            "UPDATE recall_namespaces SET documents = documents + ?, terms = terms + ? WHERE id = ?",
            (len(rows), sum(len(terms) for _, _, terms in rows), number),
        )

    def _bursts(self, number: int, documents: Sequence[Document]) -> Iterator[int]:
        """Yield the stretch of talk of each document; those that come late join the one of the document before."""
        if not documents:
            return
        row = self._connection.execute(
            "SELECT at, burst FROM recall_documents WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1",
            (number << SEQ_BITS, (number << SEQ_BITS) + documents[0].seq),
        ).fetchone()
        at, burst = row or (documents[0].at, 0)
        for one in documents:
            burst += abs(one.at - at) > BURST_GAP_SECONDS
            at = one.at
            yield burst

    def _remove(self, number: int, id: int) -> None:
        row = self._connection.execute(
            "SELECT role, tools, length, text FROM recall_documents JOIN recall_texts USING (id) WHERE id = ?", (id,)
        ).fetchone()
        if row is None:
            return
        role, tools, length, text = row
        # A table without content forgets a document only when told each of its terms.
        self._connection.execute(
            "INSERT INTO recall_terms (recall_terms, rowid, terms) VALUES ('delete', ?, ?)",
            (id, _indexed(terms_of(unpressed(text)), role, tools.split("\n") if tools else ())),
        )
        self._connection.execute("DELETE FROM recall_documents WHERE id = ?", (id,))
        self._connection.execute("DELETE FROM recall_texts WHERE id = ?", (id,))
        self._connection.execute(
            "UPDATE recall_namespaces SET documents = documents - 1, terms = terms - ? WHERE id = ?", (length, number)
        )

    def _number_or_new(self, namespace: str) -> int:
        self._connection.execute(
            "INSERT INTO recall_namespaces (name, documents, terms) VALUES (?, 0, 0) ON CONFLICT (name) DO NOTHING",
            (namespace,),
        )
        number = self._number(namespace)
        assert number is not None, "it has just been inserted"
        return number

    def _number(self, namespace: str) -> int | None:
        return self._one("SELECT id FROM recall_namespaces WHERE name = ?", namespace)

    def _known(self, first: int, last: int) -> set[int]:
        rows = self._connection.execute("SELECT id FROM recall_documents WHERE id BETWEEN ? AND ?", (first, last))
        return {id for (id,) in rows}

    def _all_ids(self, number: int) -> list[int]:
        return sorted(self._known(number << SEQ_BITS, _last(number)))

    def _one(self, statement: str, *values: object) -> int | None:
        row = self._connection.execute(statement, values).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        nested = self._connection.in_transaction
        begin, end, undo = _NESTED if nested else _OUTER
        self._connection.execute(begin)
        try:
            yield
        except BaseException:
            for statement in undo:
                self._connection.execute(statement)
            raise
        self._connection.execute(end)


_OUTER: Final = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_NESTED: Final = ("SAVEPOINT recall", "RELEASE recall", ("ROLLBACK TO recall", "RELEASE recall"))


def require_fts5(connection: sqlite3.Connection) -> None:
    """Check that full-text search is there.

    Raises:
        MissingDependencyError: It is not.
    """
    try:
        connection.execute("SELECT fts5_source_id()")
    except sqlite3.OperationalError as error:
        if "no such function" not in str(error):
            raise
        raise MissingDependencyError(
            "this Python's SQLite is built without FTS5, which recall needs; use a Python whose sqlite3 has it "
            "(those of python.org, Debian, Ubuntu, Homebrew, conda-forge and uv do), or the Postgres store"
        ) from error


def _row(id: int, one: Document, burst: int, terms: Sequence[str]) -> tuple[object, ...]:
    asks = asks_something(one.text, one.tools, one.role)
    return id, one.role, one.speaker, "\n".join(one.tools), one.at, burst, asks, len(terms), packed(terms)


def _indexed(terms: Iterable[str], role: str, tools: Iterable[str]) -> str:
    """Return what FTS5 takes: each term once (it counts nothing here), and marks for the fields one filters by."""
    return " ".join(dict.fromkeys([*terms, *marks(roles=[role], tools=tools)]))


def _step(count: int) -> int:
    """Return how often a growth by a quarter leads from one document to this many."""
    return int(log(count, 1.25)) if count else -1


def _last(number: int) -> int:
    return ((number + 1) << SEQ_BITS) - 1
