"""The file itself: private, small again after deleting, without what was forgotten."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from memory.errors import SessionInUseError
from memory.recall import Document, Query
from memory.sessions.lease import LEASE_SECONDS, new_owner
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.values import SessionInfo, StoredMessage
from memory.testing.session_turns import START, Writer, compression, layout, owner_elsewhere

SECRET = "xylophone-4711"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "sessions.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteSessionStore]:
    with closing(SqliteSessionStore(path)) as store:
        yield store


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.suffix != ".db-shm")


def holds(path: Path, words: str) -> bool:
    return any(words.encode() in file.read_bytes() for file in path.parent.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="rights are others on Windows")
def test_only_this_account_may_read_what_is_made(store: SqliteSessionStore, path: Path) -> None:
    before = os.umask(0)
    try:
        Writer(store, "a1").write("one")
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_without_a_path_it_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    with closing(SqliteSessionStore()) as store:
        Writer(store, "a1").write("one")

    assert (tmp_path / ".aloop" / "sessions.db").exists()


def test_nothing_is_made_before_it_is_used(path: Path) -> None:
    SqliteSessionStore(path).close()

    assert not path.parent.exists()


def test_a_path_may_hold_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "what? 50% of #1 – ü.db"

    with closing(SqliteSessionStore(str(path))) as store:
        Writer(store, "a1").write("one")

    assert path.exists()


def test_a_closed_store_opens_again_when_it_is_used(store: SqliteSessionStore) -> None:
    writer = Writer(store, "a1")
    writer.write("one")

    store.close()
    writer.write("two")

    assert len(store.messages("a1")) == 2


def test_a_closed_file_stands_alone(store: SqliteSessionStore, path: Path) -> None:
    Writer(store, "a1").write("one")

    store.close()

    assert [one.name for one in path.parent.iterdir()] == [path.name], "no log is left beside it"


# --- Leases -----------------------------------------------------------------------------------------------------------


def test_the_lease_of_another_machine_runs_out_and_each_turn_prolongs_it(path: Path) -> None:
    time = [START]
    with closing(SqliteSessionStore(path, clock=lambda: time[0])) as store:
        writer = Writer(store, "a1", owner=owner_elsewhere())
        writer.write("one")
        time[0] += LEASE_SECONDS - 1
        writer.write("two")
        time[0] += LEASE_SECONDS - 1
        with pytest.raises(SessionInUseError):
            store.acquire("a1", new_owner())

        time[0] += 1
        store.acquire("a1", new_owner())

        with pytest.raises(SessionInUseError):
            writer.write("three")


# --- Keeping house ----------------------------------------------------------------------------------------------------


def test_a_size_limit_makes_the_file_smaller(store: SqliteSessionStore, path: Path) -> None:
    for number in range(4):
        writer = Writer(store, f"session-{number}", at=START + number)
        writer.write(*(bytes([number]) * 500_000 for _ in range(2)), "x" * 5_000)
        writer.write("y" * 500_000)
        writer.release()
    assert size(path) > 2_000_000

    deleted = store.limit(max_bytes=1_800_000)

    assert size(path) <= 1_800_000
    assert deleted == ["session-0", "session-1"]
    assert len(store.messages("session-3")) == 4


def test_a_file_within_its_limit_is_left_alone(store: SqliteSessionStore) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    writer.release()

    assert store.limit(max_bytes=1_000_000) == []


def test_a_deleted_session_leaves_no_rows(store: SqliteSessionStore, path: Path) -> None:
    empty = rows(path) if store.sessions() == [] else {}
    trunk = Writer(store, "a1")
    trunk.write("x" * 10_000, "two", layouts=(layout(1),), compressions=(compression(1),))
    branch = trunk.branch("b1", seq=1)
    branch.write("b2")
    store.index([document(*one) for one in store.unindexed()])
    store.add_vectors("mini", [(id, seq, bytes(8)) for id, seq in store.unembedded("mini")])
    for writer in (trunk, branch):
        writer.release()

    store.delete("a1")
    store.delete("b1")

    left = {table: count for table, count in rows(path).items() if count != empty.get(table)}
    assert left.keys() <= {"embedders", "sqlite_sequence", "recall_terms_data", "recall_terms_idx"}


def rows(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    with closing(sqlite3.connect(path)) as connection:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        names = [name for (name,) in connection.execute(tables)]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def document(info: SessionInfo, row: StoredMessage) -> Document:
    return Document(namespace=info.id, seq=row.seq, role=row.role, at=row.at, text=row.body)


# --- Forgetting -------------------------------------------------------------------------------------------------------


def test_of_what_was_forgotten_no_byte_is_left(store: SqliteSessionStore, path: Path) -> None:
    writer = Writer(store, "a1", title=SECRET)
    writer.write(f"about the {SECRET}", "kept", f"{SECRET} " * 1_000, compressions=(compression(1, summary=SECRET),))
    for number in range(50):
        writer.write(f"filler {number}")
    store.index([document(*one) for one in store.unindexed()])
    writer.release()
    assert holds(path, SECRET)

    assert store.forget("a1", [1, 3]) == 2

    assert not holds(path, SECRET)
    assert not holds(path, "xylophone"), "nor in the index, which cuts words"
    assert store.search(Query(text="xylophone")) == []
    assert store.search(Query(text="kept"))[0].seq == 2
