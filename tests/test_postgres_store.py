"""The Postgres store, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory.sessions.lease import new_owner
from memory.sessions.postgres import PostgresSessionStore
from memory.sessions.values import Heading, NewSession, Owner, StoredMessage, Turn


@pytest.fixture
def store(postgres_server: str, postgres_schema: str) -> Iterator[PostgresSessionStore]:
    store = PostgresSessionStore(postgres_server, schema=postgres_schema)
    yield store
    store.close()


def message(seq: int, body: str = '{"role":"user","content":"hello"}') -> StoredMessage:
    return StoredMessage(seq=seq, role="user", body=body, tokens=3, at=1000.0 + seq)


def turn(owner: Owner, *seqs: int, session_id: str = "one", begins: NewSession | None = None, title: str = "t") -> Turn:
    return Turn(
        session_id=session_id,
        owner=owner,
        at=1000.0 + seqs[-1],
        begins=begins,
        heading=Heading(
            title=title,
            dialect="openai_chat",
            model="gpt-4o",
            last_seq=seqs[-1],
            context_tokens=10,
            total_tokens=20,
            cost_usd=0.5,
            compression_count=0,
        ),
        messages=tuple(message(seq) for seq in seqs),
        state="{}",
    )


NEW = NewSession(created_at=1000.0, config="{}")


def test_a_session_is_there_after_its_first_turn(store: PostgresSessionStore) -> None:
    owner = new_owner()

    store.save(turn(owner, 1, 2, begins=NEW))

    assert store.messages("one") == [message(1), message(2)]
    assert store.load("one").info.owner == owner
