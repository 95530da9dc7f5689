"""Many processes and one file: nobody waits for ever, nothing is lost, whenever a process ends or forks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from memory.errors import SessionInUseError
from memory.sessions.lease import new_owner
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing.session_turns import Writer, call

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked here")

PATIENCE_SECONDS = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def forked(action: Callable[[], None]) -> int:
    """Run an action in a child of this process; return the child's number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of other threads; they do nothing here
        child = os.fork()
    if child:
        return child
    is_done = False
    try:
        action()
        is_done = True
    finally:  # a child must not go on with the tests, whatever happens
        if not is_done:
            traceback.print_exc()
        os._exit(0 if is_done else 1)


def ended_well(child: int) -> bool:
    """Wait for a child; return whether its action was done."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def write_turns(path: Path, id: str, count: int, *, is_durable: bool = True) -> None:
    with closing(SqliteSessionStore(path)) as store:
        writer = Writer(store, id)
        for number in range(count):
            writer.write(f"message {number}", calls=(call(number + 1),), is_durable=is_durable)


def test_of_twenty_processes_that_write_without_a_pause_none_fails(path: Path) -> None:
    children = [forked(partial(write_turns, path, f"s{n}", 15)) for n in range(20)]

    assert [ended_well(child) for child in children] == [True] * 20

    with closing(SqliteSessionStore(path)) as store:
        assert {one.id: one.heading.last_seq for one in store.sessions()} == {f"s{n}": 15 for n in range(20)}
        for n in range(20):
            assert [one.seq for one in store.messages(f"s{n}")] == list(range(1, 16))
            assert len(store.calls(f"s{n}")) == 15


def test_what_was_acknowledged_survives_a_kill_at_any_moment(path: Path) -> None:
    for attempt in range(12):
        told, tell = os.pipe()
        child = forked(partial(acknowledge_turns, path, f"s{attempt}", tell))
        os.close(tell)
        time.sleep(random.Random(attempt).uniform(0.005, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(told, "rb") as pipe:
            acknowledged = len(pipe.read())

        with closing(SqliteSessionStore(path)) as store:
            kept = found(store, f"s{attempt}")
            assert acknowledged <= kept <= acknowledged + 1
            if kept:
                saved = store.acquire(f"s{attempt}", new_owner())
                assert saved.state == f'{{"seq":{2 * kept}}}'
                assert len(store.messages(f"s{attempt}")) == 2 * kept, "a turn is there whole or not at all"


def acknowledge_turns(path: Path, id: str, tell: int) -> None:
    writer = Writer(SqliteSessionStore(path), id)
    for number in range(10_000):
        writer.write("x" * 3_000, "y", calls=(call(number + 1),))
        os.write(tell, b".")


def found(store: SqliteSessionStore, id: str) -> int:
    """How many turns a session has, by its calls."""
    return len(store.calls(id)) if id in [one.id for one in store.sessions()] else 0


def test_a_process_that_was_killed_leaves_its_session_to_others(path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KEEP_OPEN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child, closing(SqliteSessionStore(path)) as store:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(SessionInUseError) as caught:
            store.acquire("a1", new_owner())
        assert caught.value.process_id == child.pid

        child.kill()
        child.wait()

        assert store.acquire("a1", new_owner()).info.heading.last_seq == 1


KEEP_OPEN = """
import sys
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing.session_turns import Writer
Writer(SqliteSessionStore(sys.argv[1]), "a1").write("one")
print("open", flush=True)
sys.stdin.read()
"""


# --- Forking ----------------------------------------------------------------------------------------------------------


def test_a_store_is_used_on_both_sides_of_a_fork(path: Path) -> None:
    with closing(SqliteSessionStore(path)) as store:
        writer = Writer(store, "a1")
        writer.write("before the fork")

        def in_child() -> None:
            assert [one.id for one in store.sessions()] == ["a1"]
            Writer(store, "b1").write("in the child", is_durable=True)
            store.close()

        child = forked(in_child)
        writer.write("in the parent")

        assert ended_well(child)
        writer.write("after the child")
        assert len(store.messages("a1")) == 3
        assert len(store.messages("b1")) == 1


def write_one(store: SqliteSessionStore, id: str) -> None:
    Writer(store, id).write("one")


def test_a_fork_waits_for_a_turn_that_another_thread_writes(path: Path) -> None:
    with closing(SqliteSessionStore(path)) as store:
        Writer(store, "before").write("one")
        is_over = threading.Event()

        def write_on() -> None:
            writer = Writer(store, "a1")
            while not is_over.is_set():
                writer.write("x" * 2_000)

        thread = threading.Thread(target=write_on)
        thread.start()
        try:
            children = [forked(partial(write_one, store, f"c{n}")) for n in range(5)]
            assert [ended_well(child) for child in children] == [True] * 5
        finally:
            is_over.set()
            thread.join()

        ids = {one.id for one in store.sessions()}
        assert ids == {"before", "a1", *(f"c{n}" for n in range(5))}
        newest = store.load("a1").info.heading.last_seq
        assert [one.seq for one in store.messages("a1")] == list(range(1, newest + 1))


def test_what_is_in_memory_crosses_a_fork_as_a_copy() -> None:
    store = SqliteSessionStore(":memory:")
    Writer(store, "a1").write("one")

    def in_child() -> None:
        Writer(store, "b1").write("one")
        assert {one.id for one in store.sessions()} == {"a1", "b1"}

    assert ended_well(forked(in_child))
    assert [one.id for one in store.sessions()] == ["a1"]


def test_a_store_that_is_gone_does_not_hinder_a_fork(path: Path) -> None:
    store = SqliteSessionStore(path)
    Writer(store, "a1").write("one")
    del store

    assert ended_well(forked(lambda: None))
