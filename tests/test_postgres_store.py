"""The Postgres store keeps what every store promises, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from memory.sessions.postgres import PostgresSessionStore
from memory.sessions.store import SessionStore
from memory.testing.session_contract import SessionStoreContract


class TestPostgresSessionStore(SessionStoreContract):
    @pytest.fixture
    def make_store(self, postgres_server: str, postgres_schema: str) -> Iterator[Callable[[], SessionStore]]:
        made: list[SessionStore] = []

        def make() -> SessionStore:
            made.append(PostgresSessionStore(postgres_server, schema=postgres_schema))
            return made[-1]

        yield make
        for store in made:
            store.close()
