"""Where the place of a session fails, the loop goes on in memory, says so once, and loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from memory import MemoryConfig, MemoryManager
from memory.errors import (
    CorruptStorageError,
    MessageError,
    SessionInUseError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
)
from memory.events import Event, SaveFailed, SaveRecovered
from memory.sessions import encoding
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.values import Turn

SECRET = "the-secret-of-the-pump"
"""Stands in every message, and must stand in no log and no error."""


class Run:
    """A loop whose session is kept in a file that will fail."""

    def __init__(self, path: Path, *, is_required: bool = False) -> None:
        self.path = path
        self.events: list[Event] = []
        self.store = SqliteSessionStore(path, timeout_seconds=0.05)
        config = MemoryConfig(session_required=is_required, compression_threshold=3_000)
        self.memory = MemoryManager(config, store=self.store, on_event=self.events.append)
        self.count = 0
        self.add()

    def add(self, size: int = 20) -> None:
        self.count += 1
        self.memory.add_message_sync({"role": "user", "content": f"{SECRET} {self.count} " + "word " * size})

    @property
    def told(self) -> list[str]:
        return [type(event).__name__ for event in self.events if isinstance(event, SaveFailed | SaveRecovered)]

    @property
    def unsaved_count(self) -> int:
        return int(self.memory.get_stats()["unsaved_count"])

    @property
    def is_saved(self) -> bool:
        return self.memory.session_problem is None and self.unsaved_count == 0

    def retry_now(self) -> None:
        """Let the time pass for which a store that failed is left alone."""
        assert self.memory._session is not None
        self.memory._session._retry_at = 0.0

    def saved(self) -> list[Any]:
        """Return the messages that somebody else finds."""
        store = SqliteSessionStore(self.path)
        found = store.messages(self.memory.session_id or "")
        store.close()
        return [message.seq for message in found]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "sessions.db")


@contextmanager
def full(run: Run) -> Iterator[None]:
    """No file of this process may grow any more, as on a full disk."""
    import signal

    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = max(os.path.getsize(path) for path in run.path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@contextmanager
def limited(run: Run) -> Iterator[None]:
    """The database may have no more pages."""
    connection = run.store._file._opened(is_reading=False)
    [before] = connection.execute("PRAGMA max_page_count").fetchone()
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    with suppress(sqlite3.Error):  # the store has dropped the connection, and the limit with it
        connection.execute(f"PRAGMA max_page_count = {before}")


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Somebody else is writing, and does not end."""
    other = sqlite3.connect(run.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def read_only(run: Run) -> Iterator[None]:
    """The connection may only read; the account that runs tests may write to any file, whatever its mode."""
    connection = run.store._file._opened(is_reading=False)
    connection.execute("PRAGMA query_only = ON")
    yield
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA query_only = OFF")


@contextmanager
def corrupt(run: Run) -> Iterator[None]:
    """The file is overwritten by something else, and is there again later."""
    run.store.close()
    good = run.path.read_bytes()
    run.path.write_bytes(b"this is no database" * 500)
    yield
    run.store.close()
    for name in ("-wal", "-shm"):
        run.path.with_name(run.path.name + name).unlink(missing_ok=True)
    run.path.write_bytes(good)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (full, StorageError),
        (limited, StorageFullError),
        (locked, StorageLockedError),
        (read_only, StorageReadOnlyError),
        (corrupt, CorruptStorageError),
    ],
)
def test_the_loop_goes_on_in_memory_and_everything_is_written_later(
    failing: Any, error: type[StorageError], run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(run):
        run.add(5_000)
        assert isinstance(run.memory.session_problem, error)
        run.add()
        run.add()
        assert (run.told, run.unsaved_count) == (["SaveFailed"], 3)
        assert len(run.memory.messages) == run.count
    run.retry_now()
    run.add()
    assert run.told == ["SaveFailed", "SaveRecovered"]
    assert run.is_saved
    assert run.saved() == list(range(1, run.count + 1))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert not any(SECRET in line or "word" in line for line in warnings)
    again = MemoryManager.resume(store=SqliteSessionStore(run.path), takes_over=True)
    assert again.messages == run.memory.messages


def test_a_store_that_failed_is_left_alone_for_a_moment(run: Run) -> None:
    with locked(run):
        run.add()
    run.add()
    assert run.saved() == [1]
    run.retry_now()
    run.add()
    assert run.saved() == [1, 2, 3, 4]


def test_a_file_that_was_deleted_stops_no_loop_and_a_close_says_what_is_lost(run: Run) -> None:
    for path in run.path.parent.iterdir():
        path.unlink()
    run.add()
    run.add()
    assert (run.told, run.unsaved_count, len(run.memory.messages)) == (["SaveFailed"], 2, 3)
    with pytest.raises(StorageError):
        run.memory.close()


def test_a_file_that_is_put_back_is_gone_on_with(run: Run) -> None:
    run.store.close()
    there = run.path.rename(run.path.with_name("elsewhere.db"))
    run.add()
    assert run.told == ["SaveFailed"]
    run.store.close()
    there.replace(run.path)
    run.retry_now()
    run.add()
    assert (run.told, run.saved()) == (["SaveFailed", "SaveRecovered"], [1, 2, 3])


@pytest.mark.parametrize("failing", [locked, read_only, corrupt])
def test_a_session_that_is_required_stops_the_loop_with_the_memory_in_order(failing: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "sessions.db", is_required=True)
    with failing(run):
        with pytest.raises(StorageError) as raised:
            run.add()
        assert SECRET not in str(raised.value)
        assert len(run.memory.messages) == 2
    run.retry_now()
    run.add()
    assert run.saved() == [1, 2, 3]


def test_what_happens_while_the_store_fails_can_be_taken_back(run: Run) -> None:
    for _ in range(3):
        run.add(800)
    run.memory.compress_sync()
    with locked(run):
        run.add(2_000)
        run.memory.compress_sync()
        run.memory.undo()
        run.add(10)
    run.retry_now()
    run.add()
    run.memory.close()
    again = MemoryManager.resume(store=SqliteSessionStore(run.path))
    assert again.messages == run.memory.messages
    again.undo()
    run.memory.undo()
    assert again.messages == run.memory.messages


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 3, 6])
def test_a_session_that_misses_a_message_is_not_resumed_without_it(seq: int, run: Run) -> None:
    for _ in range(5):
        run.add()
    run.memory.close()
    run.store.close()
    with closing(sqlite3.connect(run.path, isolation_level=None)) as other:
        other.execute("DELETE FROM messages WHERE seq = ?", (seq,))
    with pytest.raises(CorruptStorageError, match=f"r{seq}"):
        MemoryManager.resume(store=SqliteSessionStore(run.path))


# --- Two owners -------------------------------------------------------------------------------------------------------


def test_a_second_owner_is_refused_with_the_first_ones_process(run: Run) -> None:
    with pytest.raises(SessionInUseError) as raised:
        MemoryManager.resume(store=SqliteSessionStore(run.path))
    assert str(os.getpid()) in str(raised.value)
    run.add()
    assert run.saved() == [1, 2]


def test_whoever_is_taken_over_learns_it_and_keeps_its_memory(run: Run) -> None:
    other = MemoryManager.resume(store=SqliteSessionStore(run.path), takes_over=True)
    with pytest.raises(SessionInUseError):
        run.add()
    assert len(run.memory.messages) == 2
    other.add_message_sync({"role": "user", "content": "mine now"})
    assert run.saved() == [1, 2]
    assert run.unsaved_count == 1


def test_a_memory_that_is_dropped_gives_its_session_up(run: Run) -> None:
    path, run.memory = run.path, MemoryManager()
    gc.collect()
    MemoryManager.resume(store=SqliteSessionStore(path)).close()


# --- Letting go -------------------------------------------------------------------------------------------------------


def test_a_close_that_fails_can_be_repeated(run: Run) -> None:
    with locked(run):
        run.add()
        for _ in range(2):
            with pytest.raises(StorageLockedError):
                run.memory.close()
        assert run.unsaved_count == 1
    run.memory.close()
    assert MemoryManager.resume(store=SqliteSessionStore(run.path)).messages == run.memory.messages


def test_what_a_memory_could_not_save_is_saved_when_it_is_dropped(run: Run) -> None:
    with locked(run):
        run.add()
    run.add()
    messages, run.memory = run.memory.messages, MemoryManager()
    gc.collect()
    assert MemoryManager.resume(store=SqliteSessionStore(run.path)).messages == messages


class FullStore(SqliteSessionStore):
    """A store that takes no turn while it is full."""

    is_full = False

    def save(self, turn: Turn) -> None:
        if self.is_full:
            raise StorageFullError("full")
        super().save(turn)


def test_a_dropped_memory_that_cannot_save_gives_its_session_up_all_the_same(tmp_path: Path) -> None:
    store = FullStore(tmp_path / "sessions.db")
    memory = MemoryManager(store=store)
    memory.add_message_sync({"role": "user", "content": "one"})
    store.is_full = True
    memory.add_message_sync({"role": "user", "content": "two"})
    del memory
    gc.collect()
    assert len(MemoryManager.resume(store=store).messages) == 1


def test_usage_that_is_reported_after_its_answer_is_kept(run: Run) -> None:
    run.memory.get_context_for_llm()
    run.memory.add_message_sync({"role": "assistant", "content": "done"})
    run.memory.record_usage({"input": 1_234, "output": 99})
    stats, run.memory = run.memory.get_stats(), MemoryManager()
    gc.collect()
    assert MemoryManager.resume(store=SqliteSessionStore(run.path)).get_stats() == stats


def test_a_branch_that_cannot_begin_says_so_and_never_does(tmp_path: Path) -> None:
    store = FullStore(tmp_path / "sessions.db")
    memory = MemoryManager(store=store)
    memory.add_message_sync({"role": "user", "content": "one"})
    store.is_full = True
    with pytest.raises(StorageFullError):
        memory.branch()
    store.is_full = False
    gc.collect()
    assert [one.id for one in store.sessions()] == [memory.session_id]
    memory.add_message_sync({"role": "user", "content": "two"})
    assert memory.branch().messages == memory.messages


def test_the_latest_session_is_the_one_that_was_written_to_last_though_the_clock_was_set_back(run: Run) -> None:
    first = run.memory.session_id or ""
    run.memory.close()
    for expected in (None, first):
        memory = MemoryManager(store=run.store) if expected is None else MemoryManager.resume(first, store=run.store)
        assert memory._session is not None
        memory._session.news._clock = lambda: 1_000_000.0
        memory.add_message_sync({"role": "user", "content": "hours ago"})
        assert run.store.find("latest").id == memory.session_id
        memory.close()


# --- Forks ------------------------------------------------------------------------------------------------------------


def in_child(action: Callable[[], object]) -> bool:
    """Run an action in a forked child that then exits as processes do; return whether that went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of other threads; they do nothing here
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        action()
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # what the interpreter runs at its end
        os._exit(0)
    finally:
        os._exit(1)


def test_a_forked_child_is_refused_and_its_parent_goes_on(run: Run) -> None:
    def write() -> None:
        with pytest.raises(SessionInUseError):
            run.add()
        with pytest.raises(SessionInUseError):
            run.memory.close()

    assert in_child(write)
    run.add()
    assert run.is_saved
    assert run.saved() == [1, 2]


@pytest.mark.parametrize("ending", [lambda run: None, lambda run: run.memory.close()], ids=["exit", "close"])
def test_a_forked_child_that_ends_leaves_the_session_to_its_parent(ending: Callable[[Run], None], run: Run) -> None:
    assert in_child(lambda: ending(run))
    run.add()
    assert run.is_saved
    assert run.saved() == [1, 2]


# --- Cancelling -------------------------------------------------------------------------------------------------------


class SlowStore:
    """A store that is far away, and answers when the test lets it."""

    is_remote = True

    def __init__(self, path: Path) -> None:
        self._store = SqliteSessionStore(path)
        self.may_answer = threading.Event()
        self.has_begun = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def save(self, turn: Turn) -> None:
        self.has_begun.set()
        assert self.may_answer.wait(5)
        self._store.save(turn)


@pytest.mark.parametrize("next_call", ["add", "pin", "close"])
async def test_a_cancelled_turn_is_written_and_the_next_one_behind_it(next_call: str, tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "sessions.db")
    memory = MemoryManager(store=store)
    task = asyncio.create_task(memory.add_message({"role": "user", "content": "one"}))
    await asyncio.to_thread(store.has_begun.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert memory.get_stats()["unsaved_count"] == 1
    store.may_answer.set()
    session = memory.session_id or ""
    if next_call == "pin":
        memory.pin("r1")
    if next_call != "close":
        await memory.add_message({"role": "user", "content": "two"})
        assert memory.get_stats()["unsaved_count"] == 0
    memory.close()
    resumed = MemoryManager.resume(session, store=SqliteSessionStore(tmp_path / "sessions.db"))
    assert [message["content"] for message in resumed.messages] == ["one", "two"][: len(resumed.messages)]
    assert len(resumed.messages) == (1 if next_call == "close" else 2)


class AskingStore(SqliteSessionStore):
    """A store that is far away, and gets its answers from the event loop that waits for it."""

    is_remote = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.loop = asyncio.get_running_loop()

    def save(self, turn: Turn) -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(2)
        super().save(turn)


async def test_several_turns_at_once_leave_the_event_loop_free(tmp_path: Path) -> None:
    store = AskingStore(tmp_path / "sessions.db")
    memory = MemoryManager(store=store)
    await asyncio.gather(*(memory.add_message({"role": "user", "content": name}) for name in "abcd"))
    assert memory.get_stats()["unsaved_count"] == 0
    assert [one.seq for one in store.messages(memory.session_id or "")] == [1, 2, 3, 4]
    memory.close()


async def test_reported_usage_leaves_the_event_loop_free(tmp_path: Path) -> None:
    store = AskingStore(tmp_path / "sessions.db")
    memory = MemoryManager(store=store)
    await memory.add_message({"role": "user", "content": "a"})
    for number in range(3):
        memory.record_usage({"input": 100 + number, "output": 9})
    await memory.add_message({"role": "assistant", "content": "b"})
    assert len(store.calls(memory.session_id or "")) == len(memory.tracker.calls)
    memory.close()


async def test_a_loop_whose_threads_take_no_more_work_still_saves(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "sessions.db")
    store.may_answer.set()
    memory = MemoryManager(store=store)
    await memory.add_message({"role": "user", "content": "one"})
    await asyncio.get_running_loop().shutdown_default_executor()
    await memory.add_message({"role": "user", "content": "two"})
    assert memory.get_stats()["unsaved_count"] == 0
    memory.close()


# --- What cannot be kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [object(), {1, 2}, complex(1, 2)])
def test_a_message_that_cannot_be_kept_is_refused_before_it_is_added(thing: object, run: Run) -> None:
    before, stats = run.memory.messages, run.memory.get_stats()
    with pytest.raises(MessageError) as raised:
        run.memory.add_message_sync({"role": "user", "content": SECRET, "extra": thing})
    assert SECRET not in str(raised.value)
    assert (run.memory.messages, run.memory.get_stats()) == (before, stats)
    run.add()
    assert run.saved() == [1, 2]


@pytest.mark.parametrize("content", ["x" * 9_000, [{"type": "text", "text": "y" * 90}] * 100])
def test_a_message_that_no_store_takes_is_refused_before_it_is_added(
    content: object, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "LARGEST_BYTES", 8_999)  # a real one would need two gigabytes here
    with pytest.raises(MessageError, match="8,999"):
        run.memory.add_message_sync({"role": "user", "content": content})
    run.add()
    assert run.saved() == [1, 2]


def test_what_is_put_into_a_message_later_keeps_no_later_message_out(run: Run) -> None:
    run.memory.messages[0]["extra"] = object()
    for _ in range(5):
        run.add(800)
    run.memory.compress_sync()
    run.add()
    assert run.memory.messages[0]["extra"], "it is still sent"
    assert run.memory.get_stats()["compression_count"]
    assert run.is_saved
    assert run.saved() == list(range(1, run.count + 1))


def test_what_cannot_be_encoded_when_it_is_written_stops_no_loop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.memory._session is not None
    with monkeypatch.context() as patch:
        patch.setattr(run.memory._session.news, "turn", lambda: encoding.encode({"role": "user", "extra": object()}))
        run.add()
        assert isinstance(run.memory.session_problem, StorageError)
        assert (run.told, run.unsaved_count) == (["SaveFailed"], 1)
    run.retry_now()
    run.add()
    assert (run.is_saved, run.saved()) == (True, [1, 2, 3])
