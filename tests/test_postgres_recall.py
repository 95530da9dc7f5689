"""Recall in Postgres: the same answers as from SQLite, and vectors that the server compares."""

from __future__ import annotations

import math
import random
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from memory.errors import StorageError, StorageReadOnlyError
from memory.recall import Document, Query
from memory.sessions.postgres import PostgresSessionStore
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.store import SessionStore
from memory.testing.session_turns import Writer

WORDS = ["harbour", "lighthouse", "keeper", "sailor", "storm", "lantern", "rope", "anchor", "chart", "island", "gull"]


@pytest.fixture
def store(postgres_server: str, postgres_schema: str) -> Iterator[PostgresSessionStore]:
    store = PostgresSessionStore(postgres_server, schema=postgres_schema)
    yield store
    store.close()


def fill(store: SessionStore, namespace: str, texts: Sequence[str]) -> None:
    Writer(store, namespace).write(*texts)
    store.index(
        [
            Document(
                namespace=namespace, seq=seq, role="user" if seq % 2 else "assistant", at=1e9 + seq * 600, text=text
            )
            for seq, text in enumerate(texts, start=1)
        ]
    )


def found(store: SessionStore, query: Query) -> list[tuple[str, int]]:
    return [(one.namespace, one.seq) for one in store.search(query)]


# --- Words ------------------------------------------------------------------------------------------------------------


def test_answers_and_their_order_are_those_of_sqlite(store: PostgresSessionStore) -> None:
    chosen = random.Random(7)
    texts = [" ".join(chosen.choices(WORDS, k=chosen.randint(3, 9))) for _ in range(80)]
    other = SqliteSessionStore(":memory:")
    for one in (store, other):
        fill(one, "a1", texts[:40])
        fill(one, "b1", texts[40:])

    for _ in range(12):
        text = " ".join(chosen.choices(WORDS, k=3))
        for query in (
            Query(text=text, namespaces=("a1",)),
            Query(text=text, namespaces=("a1", "b1"), role="user"),
            Query(text=text, since_seq=9, until_seq=30, namespaces=("b1",)),
            Query(text=text, namespaces=("b1",), similarities={("b1", 5): 0.9, ("b1", 37): 0.5, ("a1", 3): 1.0}),
        ):
            assert found(store, query) == found(other, query)


def test_a_common_word_is_found_in_a_long_session(store: PostgresSessionStore) -> None:
    fill(store, "a1", [f"harbour {number}" for number in range(1, 1_301)])
    fill(store, "b1", ["harbour lighthouse"])

    assert found(store, Query(text="harbour 1300", namespaces=("a1",)))[0] == ("a1", 1_300)
    assert found(store, Query(text="lighthouse in the harbour"))[0] == ("b1", 1)
    assert found(store, Query(text="harbour", namespaces=("b1",))) == [("b1", 1)]


def test_two_workers_that_index_the_same_count_it_once(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore
) -> None:
    fill(store, "a1", ["harbour"])
    fill_again = Document(namespace="a1", seq=1, role="user", at=1e9, text="another text")

    store.index([fill_again, fill_again])

    with psycopg.connect(postgres_server) as connection:
        query = f"SELECT documents, terms FROM {postgres_schema}.namespaces"
        assert connection.execute(query.encode()).fetchall() == [(1, 1)]
    assert found(store, Query(text="another text")) == []


# --- Vectors ----------------------------------------------------------------------------------------------------------


def vector(*numbers: float) -> bytes:
    length = math.hypot(*numbers)
    return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))


def test_any_vector_comes_back_to_the_bit(store: PostgresSessionStore) -> None:
    chosen = random.Random(3)
    vectors = [struct.pack("<384f", *(chosen.gauss(0, 1) * 10.0 ** chosen.randint(-30, 5) for _ in range(384)))] * 2
    Writer(store, "a1").write("one", "two")

    store.add_vectors("mini", [("a1", seq, one) for seq, one in enumerate(vectors, start=1)])

    assert [row[3] for row in store.vectors("mini")] == vectors


def test_the_server_finds_the_nearest_of_some_sessions_and_of_all(store: PostgresSessionStore) -> None:
    for id in ("a1", "b1"):
        Writer(store, id).write("one", "two")
    store.add_vectors("mini", [("a1", 1, vector(1, 0)), ("a1", 2, vector(1, 1)), ("b1", 1, vector(0, 1))])
    store.add_vectors("other", [("b1", 2, vector(1, 0))])
    store.add_vectors("mini", [("b1", 2, vector(1, 0, 0))])

    everywhere = store.similar("mini", vector(2, 0))
    here = store.similar("mini", vector(2, 0), namespaces=["b1", "nosuch"])

    assert list(everywhere) == [("a1", 1), ("a1", 2), ("b1", 1)]
    assert list(everywhere.values()) == pytest.approx([1.0, math.sqrt(0.5), 0.0], abs=1e-6)
    assert list(here) == [("b1", 1)]
    assert list(store.similar("mini", vector(2, 0), limit=1)) == [("a1", 1)]
    assert store.similar("nosuch", vector(1, 0)) == store.similar("mini", vector(1, 0), namespaces=[]) == {}


def test_a_vector_without_a_length_is_near_nothing(store: PostgresSessionStore) -> None:
    Writer(store, "a1").write("one", "two")
    store.add_vectors("mini", [("a1", 1, bytes(8)), ("a1", 2, vector(1, 0))])

    assert list(store.similar("mini", vector(1, 0))) == [("a1", 2)]
    assert store.similar("mini", bytes(8)) == store.similar("mini", b"") == {}


def test_what_is_similar_may_be_searched_with(store: PostgresSessionStore) -> None:
    fill(store, "a1", ["harbour", "lighthouse"])
    store.add_vectors("mini", [("a1", 1, vector(1, 0)), ("a1", 2, vector(0, 1))])

    similar = store.similar("mini", vector(0, 1), namespaces=["a1"])

    assert found(store, Query(text="a tower with a lamp", similarities=similar))[0] == ("a1", 2)


def test_an_index_of_an_administrator_finds_the_nearest_of_one_embedder_among_those_of_others(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "postgres.md").read_text(encoding="utf-8")
    (statement,) = re.findall(r"CREATE INDEX ON aloop.vectors USING hnsw.*;", page)
    statement = statement.replace("aloop.", f"{postgres_schema}.").replace("384", "8")
    chosen = random.Random(5)
    vectors = [vector(*(chosen.gauss(0, 1) for _ in range(8))) for _ in range(400)]
    Writer(store, "a1").write(*map(str, range(400)))
    store.add_vectors("rare", [("a1", seq, one) for seq, one in enumerate(vectors[:20], start=1)])
    store.add_vectors("common", [("a1", seq, one) for seq, one in enumerate(vectors, start=1)])
    exact = store.similar("rare", vectors[30], limit=20)

    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(statement.encode())
        connection.execute(f"ANALYZE {postgres_schema}.vectors".encode())
        conninfo = psycopg.conninfo.make_conninfo(postgres_server, options="-c enable_seqscan=off")
        with_index = PostgresSessionStore(conninfo, schema=postgres_schema)
        found = with_index.similar("rare", vectors[30], limit=20)
        with_index.close()
        index = f"'{postgres_schema}.vectors_embedding_idx'::regclass"
        used = f"SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelid = {index}"
        wait_for(lambda: connection.execute(used.encode()).fetchone() == (1,))

    assert found == exact
    assert len(found) == 20


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait for what the server tells only when a connection of it ends."""
    for _ in range(200):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to hold")


@pytest.fixture
def bare_database(postgres_server: str, postgres_schema: str) -> Iterator[str]:
    """The conninfo of a database without pgvector, for an account that may make a schema in it and no more."""
    name, role = f"{postgres_schema}_db", f"{postgres_schema}_role"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        yield psycopg.conninfo.make_conninfo(postgres_server, dbname=name, user=role)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        connection.execute(f"DROP ROLE {role}".encode())


def as_administrator(conninfo: str, statement: str) -> None:
    with psycopg.connect(psycopg.conninfo.make_conninfo(conninfo, user="postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())


def test_without_pgvector_all_works_but_vectors(bare_database: str, postgres_schema: str) -> None:
    as_administrator(bare_database, f"CREATE SCHEMA aloop AUTHORIZATION {postgres_schema}_role")
    store = PostgresSessionStore(bare_database)
    fill(store, "a1", ["harbour"])

    assert found(store, Query(text="harbour")) == [("a1", 1)]
    assert store.vectors("mini") == []
    assert store.similar("mini", vector(1, 0)) == {}
    assert store.unembedded("mini") == store.unembedded("mini", "a1") == [("a1", 1)]
    with pytest.raises(StorageReadOnlyError, match="CREATE EXTENSION vector"):
        store.add_vectors("mini", [("a1", 1, vector(1, 0))])
    assert len(store.messages("a1")) == 1
    store.close()


def test_pgvector_may_be_in_a_schema_of_its_own(bare_database: str, postgres_schema: str) -> None:
    as_administrator(bare_database, f"CREATE SCHEMA aloop AUTHORIZATION {postgres_schema}_role")
    as_administrator(bare_database, "CREATE SCHEMA extensions")
    as_administrator(bare_database, "CREATE EXTENSION vector SCHEMA extensions")
    as_administrator(bare_database, f"GRANT USAGE ON SCHEMA extensions TO {postgres_schema}_role")
    store = PostgresSessionStore(bare_database)
    Writer(store, "a1").write("one")

    store.add_vectors("mini", [("a1", 1, vector(1, 0))])

    assert store.similar("mini", vector(1, 0)) == {("a1", 1): pytest.approx(1.0)}
    store.close()


def test_a_pgvector_that_is_too_old_is_told_of(bare_database: str, postgres_schema: str) -> None:
    as_administrator(bare_database, f"CREATE SCHEMA aloop AUTHORIZATION {postgres_schema}_role")
    as_administrator(bare_database, "CREATE EXTENSION vector")
    as_administrator(bare_database, "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    store = PostgresSessionStore(bare_database)

    with pytest.raises(StorageError, match=r"0\.7\.4 is too old"):
        store.add_vectors("mini", [("a1", 1, vector(1, 0))])
    store.close()
