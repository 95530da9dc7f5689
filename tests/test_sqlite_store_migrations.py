"""Files of older versions are brought up to date, by one of many processes, with all that they hold."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from memory.recall import Document, Query
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.sqlite_schema import APPLICATION_ID, MIGRATIONS
from memory.testing.session_turns import START, Writer

DATA = Path(__file__).parent / "data"
OLDER = range(1, len(MIGRATIONS))
NEWEST = len(MIGRATIONS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def write_older(path: Path, version: int) -> None:
    """Make the file that the library of that version left behind, with two sessions in it."""
    with opened(path) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript((DATA / f"sessions_v{version}.sql").read_text(encoding="utf-8"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def version_of(path: Path) -> int:
    with opened(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def schema_of(path: Path) -> dict[str, str]:
    """Every table and index with the statement that made it, spaces apart."""
    with opened(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: " ".join(sql.split()) for name, sql in rows}


@pytest.mark.parametrize("version", OLDER)
def test_a_file_of_an_older_version_is_brought_up_to_date_with_all_that_it_holds(path: Path, version: int) -> None:
    write_older(path, version)

    with closing(SqliteSessionStore(path)) as store:
        branch, trunk = store.sessions()
        assert (trunk.id, trunk.heading.title, trunk.created_at) == ("a1", "a title", START)
        assert (branch.id, branch.parent_id, branch.parent_seq) == ("b1", "a1", 2)
        assert [one.seq for one in store.messages("b1")] == [1, 2, 3]
        assert '"message 2"' in store.messages("a1")[1].body
        assert [one.cost_usd for one in store.calls("a1")] == [0.25]
        assert [one.summary for one in store.compressions("a1")] == ["a summary"]
        assert store.load("a1").layout == store.layouts("a1")[-1]
        assert len(store.blob(store.messages("a1")[2].blobs[0])) == 10_000
    assert version_of(path) == NEWEST


@pytest.mark.parametrize("version", OLDER)
def test_such_a_file_does_everything_that_a_new_one_does(path: Path, tmp_path: Path, version: int) -> None:
    write_older(path, version)
    with closing(SqliteSessionStore(path)) as store, closing(SqliteSessionStore(tmp_path / "new.db")) as new:
        writer = Writer(store, "a1", seq=3, is_new=False)
        store.acquire("a1", writer.owner)
        writer.write("the lighthouse")
        assert len(store.unindexed("a1")) == 4
        store.index([Document(namespace="a1", seq=4, role="user", at=START, text="the lighthouse")])
        store.add_vectors("mini", [("a1", 4, bytes(8))])
        assert store.search(Query(text="lighthouse"))[0].seq == 4
        assert len(store.vectors("mini")) == 1
        new.sessions()

    assert schema_of(path) == schema_of(tmp_path / "new.db")


@pytest.mark.parametrize("version", OLDER)
def test_what_an_older_version_was_is_never_changed(path: Path, tmp_path: Path, version: int) -> None:
    write_older(path, version)
    with opened(tmp_path / "again.db") as connection:
        for migration in MIGRATIONS[:version]:
            migration(connection)

    assert schema_of(tmp_path / "again.db") == schema_of(path)


def test_each_migration_counts_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half_done (x)")
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("memory.sessions.sqlite_schema.MIGRATIONS", (*MIGRATIONS[:1], fail))
        with closing(SqliteSessionStore(path)) as store, pytest.raises(ZeroDivisionError):
            store.sessions()
    assert version_of(path) == 1, "the first one is done, of the second there is nothing"
    assert "half_done" not in schema_of(path)

    with closing(SqliteSessionStore(path)) as store:
        assert store.sessions() == []
    assert version_of(path) == NEWEST


OPEN = """
import sys
from memory.sessions.sqlite import SqliteSessionStore
sys.stdin.readline()
print([one.id for one in SqliteSessionStore(sys.argv[1]).sessions()])
"""


@pytest.mark.parametrize("version", [0, 1])
def test_several_processes_may_bring_a_file_up_to_date_at_once(path: Path, version: int) -> None:
    if version:
        write_older(path, version)
    command = [sys.executable, "-c", OPEN, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]

    said = [process.communicate("go\n") for process in processes]

    assert said == [("['b1', 'a1']\n" if version else "[]\n", "")] * 4
    assert version_of(path) == NEWEST
