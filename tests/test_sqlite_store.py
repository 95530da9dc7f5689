"""The SQLite store: everything that every store promises, in a file and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.store import SessionStore
from memory.testing.session_contract import SessionStoreContract
from memory.testing.session_ownership import MakeStore
from memory.testing.session_turns import Writer


class TestSqliteStore(SessionStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Iterator[MakeStore]:
        stores: list[SqliteSessionStore] = []

        def make() -> SessionStore:
            stores.append(SqliteSessionStore(tmp_path / "sessions.db"))
            return stores[-1]

        yield make
        for store in stores:
            store.close()


class TestSqliteStoreInMemory(SessionStoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        store = SqliteSessionStore(":memory:")
        return lambda: store

    def test_a_closed_store_leaves_its_sessions_to_their_owners(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")

        store.close()

        assert store.sessions() == [], "what is in memory ends with its store"
