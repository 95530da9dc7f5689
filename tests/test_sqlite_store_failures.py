"""Where the file fails: which error, nothing written, and usable again once the cause is gone."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from memory.errors import (
    CorruptStorageError,
    NewerStorageError,
    SessionError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
    UnknownSessionError,
)
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.sqlite_failures import storage_error
from memory.sessions.values import StoredMessage
from memory.testing.session_turns import Writer

NOBODY = 65_534
SECRET = "the launch code is 4711"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    """The owner of a session with one message."""
    with closing(SqliteSessionStore(path, timeout_seconds=0.05)) as store:
        writer = Writer(store, "a1")
        writer.write("one")
        yield writer


def numbers(path: Path, id: str = "a1") -> list[int]:
    with closing(SqliteSessionStore(path)) as store:
        return [one.seq for one in store.messages(id)]


# --- Locked -----------------------------------------------------------------------------------------------------------


def test_a_file_that_somebody_keeps_locked_is_waited_for_and_then_told(writer: Writer, path: Path) -> None:
    turn = writer.turn(SECRET)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StorageLockedError) as caught:
            writer.store.save(turn)

        assert str(path) in str(caught.value)
        assert "0.05 seconds" in str(caught.value)
        assert "4711" not in str(caught.value)
        assert [one.seq for one in writer.store.messages("a1")] == [1], "who reads need not wait"
        other.execute("ROLLBACK")

    writer.store.save(turn)
    assert numbers(path) == [1, 2]


class Messages(tuple[StoredMessage, ...]):
    """Messages that release their session while the store reads them, as a finaliser might at any moment."""

    writer: Writer

    def __iter__(self) -> Iterator[StoredMessage]:
        with pytest.raises(StorageError, match="another call"):
            self.writer.release()
        return super().__iter__()


def test_a_call_from_within_a_call_is_refused_and_harms_nothing(writer: Writer, path: Path) -> None:
    turn = writer.turn("two")
    messages = Messages(turn.messages)
    messages.writer = writer

    writer.store.save(replace(turn, messages=messages))

    assert numbers(path) == [1, 2]
    writer.write("three")


# --- Full -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give each new connection room for so many pages, as a full disk would."""
    connect = sqlite3.connect
    room = [10**9]

    def connect_small(*arguments: object, **more: object) -> sqlite3.Connection:
        connection = connect(*arguments, **more)  # type: ignore[call-overload]  # passed on as they are
        connection.execute(f"PRAGMA max_page_count = {room[0]}")
        return connection  # type: ignore[no-any-return]  # as above

    def make_room(pages: int) -> None:
        room[0] = pages

    monkeypatch.setattr(sqlite3, "connect", connect_small)
    return make_room


def test_a_full_disk_is_told_and_room_helps(path: Path, small_disk: Callable[[int], None]) -> None:
    store = SqliteSessionStore(path)
    writer = Writer(store, "a1")
    writer.write("one")
    store.close()
    small_disk(path.stat().st_size // 4096 + 4)
    turn = writer.turn(SECRET * 10_000, "three")

    for _ in range(2):
        with pytest.raises(StorageFullError) as caught:
            store.save(turn)

    assert str(path) in str(caught.value)
    assert "4711" not in str(caught.value)
    assert [one.seq for one in store.messages("a1")] == [1], "of a turn that failed nothing is written"

    small_disk(10**9)
    store.close()
    store.save(turn)

    assert [one.seq for one in store.messages("a1")] == [1, 2, 3]
    store.close()


ON_A_SMALL_DISK = """
import sys, os
from memory.errors import StorageFullError
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing.session_turns import Writer
folder = sys.argv[1]
store = SqliteSessionStore(folder + "/sessions.db")
writer = Writer(store, "a1")
writer.write("one")
ballast = folder + "/ballast"
with open(ballast, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
failed = saved = 0
pending = writer.turn("x" * 5_000)
for attempt in range(60):
    try:
        store.save(pending)
    except StorageFullError:
        failed += 1
        if failed == 3:
            os.remove(ballast)
    else:
        saved += 1
        pending = writer.turn("x" * 5_000)
assert failed == 3, failed
assert [one.seq for one in store.messages("a1")] == list(range(1, saved + 2))
print("as it should be")
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no way to mount a small disk here")
def test_a_disk_that_is_really_full_is_told_and_room_helps(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ON_A_SMALL_DISK)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=4m none {disk} || exit 77; exec {sys.executable} {script} {disk}"

    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )

    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a small disk")
    assert done.stdout.strip() == "as it should be", done.stderr


# --- Read-only --------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(writer: Writer, path: Path) -> Path:
    """A file with one session that nobody has open, in a folder that anyone may enter."""
    writer.release()
    writer.store.close()
    if sys.platform == "win32":
        pytest.skip("rights are others on Windows")
    if os.geteuid() == 0:
        for folder in path.parents:
            folder.chmod(folder.stat().st_mode | 0o055)  # the group stays that of root
    return path


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Do without the rights of root, who may write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.fixture
def read_only_file(closed: Path) -> Path:
    closed.chmod(0o444)
    closed.parent.chmod(0o777)
    return closed


@pytest.fixture
def read_only_folder(closed: Path) -> Iterator[Path]:
    closed.chmod(0o666)
    closed.parent.chmod(0o555)
    yield closed
    closed.parent.chmod(0o755)


def test_a_read_only_file_is_read_and_not_written(read_only_file: Path, as_nobody: None) -> None:
    with closing(SqliteSessionStore(read_only_file)) as store:
        assert [one.id for one in store.sessions()] == ["a1"]

        with pytest.raises(StorageReadOnlyError) as caught:
            Writer(store, "b1").write(SECRET)

        assert str(read_only_file) in str(caught.value)
        assert "4711" not in str(caught.value)
        assert [one.id for one in store.sessions()] == ["a1"], "and it can still be read"


def test_in_a_read_only_folder_sessions_are_read_and_not_written(read_only_folder: Path, as_nobody: None) -> None:
    with closing(SqliteSessionStore(read_only_folder)) as store:
        assert [one.id for one in store.sessions()] == ["a1"]
        assert [one.seq for one in store.messages("a1")] == [1]

        with pytest.raises(StorageReadOnlyError):
            Writer(store, "b1").write("one")

        assert store.find("a1").id == "a1"


def test_a_folder_that_becomes_writable_helps(read_only_folder: Path) -> None:
    with closing(SqliteSessionStore(read_only_folder)) as store:
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(StorageReadOnlyError):
                Writer(store, "b1").write("one")
        finally:
            if as_root:
                os.seteuid(0)
        read_only_folder.parent.chmod(0o755)

        Writer(store, "b1").write("one")

        assert {one.id for one in store.sessions()} == {"a1", "b1"}


def test_where_no_file_can_be_made_that_is_told(closed: Path, as_nobody: None) -> None:
    for missing in (closed.parent / "other.db", closed.parent / "deeper" / "other.db"):
        with closing(SqliteSessionStore(missing)) as store, pytest.raises(StorageReadOnlyError):
            store.sessions()


# --- Damaged, and not ours --------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_told_and_left_alone(path: Path) -> None:
    content = b"no database at all\n" * 1_000
    path.write_bytes(content)
    with closing(SqliteSessionStore(path)) as store:
        for action in (store.sessions, Writer(store, "a1").write):
            with pytest.raises(CorruptStorageError, match="no database"):
                action()
        assert path.read_bytes() == content

        path.unlink()

        Writer(store, "a1").write("one")
    assert numbers(path) == [1]


def test_a_database_of_another_program_is_told_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE sessions (id TEXT)")
        other.commit()
    content = path.read_bytes()

    with closing(SqliteSessionStore(path)) as store, pytest.raises(CorruptStorageError, match="another program"):
        Writer(store, "a1").write("one")

    assert path.read_bytes() == content
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_file_of_a_newer_version_is_told_and_left_alone(writer: Writer, path: Path) -> None:
    writer.store.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    content = path.read_bytes()

    with pytest.raises(NewerStorageError, match="99"):
        writer.write("two")

    assert path.read_bytes() == content


def test_a_damaged_file_is_told(path: Path) -> None:
    with closing(SqliteSessionStore(path)) as store:
        Writer(store, "a1").write(*("x" * 3_000 for _ in range(50)))
    content = bytearray(path.read_bytes())
    content[8192:] = bytes(len(content) - 8192)
    path.write_bytes(content)

    with closing(SqliteSessionStore(path)) as store, pytest.raises(CorruptStorageError, match=r"\.recover"):
        store.messages("a1")


# --- Gone -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["sessions.db"], ["sessions.db", "sessions.db-wal", "sessions.db-shm"]])
def test_a_file_that_was_deleted_meanwhile_is_noticed_by_the_next_turn(
    writer: Writer, path: Path, names: list[str]
) -> None:
    for name in names:
        (path.parent / name).unlink()

    with pytest.raises(UnknownSessionError):
        writer.write("two")

    Writer(writer.store, "b1").write("one")
    assert numbers(path, "b1") == [1]


def test_a_file_that_was_replaced_meanwhile_is_what_counts(writer: Writer, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(SqliteSessionStore(other)) as store:
        Writer(store, "b1").write("one")
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink()
    os.replace(other, path)

    assert [one.id for one in writer.store.sessions()] == ["b1"]
    with pytest.raises(UnknownSessionError):
        writer.write("two")


def test_a_copy_that_was_put_back_is_written_on(writer: Writer, path: Path, tmp_path: Path) -> None:
    writer.store.close()
    shutil.copy(path, tmp_path / "copy.db")
    os.replace(tmp_path / "copy.db", path)

    writer.write("two")

    assert numbers(path) == [1, 2]


def test_an_older_copy_that_was_put_back_is_not_written_on(writer: Writer, path: Path, tmp_path: Path) -> None:
    writer.store.close()
    shutil.copy(path, tmp_path / "copy.db")
    writer.write("two")
    writer.store.close()
    os.replace(tmp_path / "copy.db", path)

    for texts in (["three"], []):
        with pytest.raises(CorruptStorageError, match="older copy"):
            writer.write(*texts)

    assert numbers(path) == [1]


def test_a_folder_that_is_gone_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "sessions.db"
    with closing(SqliteSessionStore(path)) as store:
        Writer(store, "a1").write("one")
        shutil.rmtree(path.parent)

        Writer(store, "a1").write("one")

    assert numbers(path) == [1]


@pytest.mark.parametrize("name", ["", "file/sessions.db", "file/deeper/sessions.db"])
def test_a_path_that_can_be_no_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")

    with closing(SqliteSessionStore(tmp_path / name)) as store, pytest.raises(StorageError, match="name a"):
        store.sessions()


def test_a_path_with_a_zero_byte_is_told() -> None:
    with pytest.raises(StorageError, match="zero byte"):
        SqliteSessionStore("a\0b")


# --- The table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFullError),
        (sqlite3.SQLITE_READONLY, StorageReadOnlyError),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageReadOnlyError),
        (sqlite3.SQLITE_PERM, StorageReadOnlyError),
        (sqlite3.SQLITE_BUSY, StorageLockedError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageLockedError),
        (sqlite3.SQLITE_LOCKED, StorageLockedError),
        (sqlite3.SQLITE_PROTOCOL, StorageLockedError),
        (sqlite3.SQLITE_CORRUPT, CorruptStorageError),
        (sqlite3.SQLITE_CORRUPT_INDEX, CorruptStorageError),
        (sqlite3.SQLITE_NOTADB, CorruptStorageError),
        (sqlite3.SQLITE_IOERR_WRITE, StorageError),
        (sqlite3.SQLITE_CANTOPEN, StorageError),
        (sqlite3.SQLITE_TOOBIG, StorageError),
    ],
)
def test_each_failure_of_sqlite_has_its_error(code: int, kind: type[SessionError], path: Path) -> None:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_SOMETHING"

    told = storage_error(error, str(path), timeout_seconds=1.0)

    assert type(told) is kind
    assert str(path) in str(told)
    assert "SQLITE_SOMETHING" in str(told)
