"""A file that is brought to the disk behind the loop: nothing is waited for, and a disk that fails is told of."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from memory import MemoryManager
from memory.errors import StorageError
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.sqlite_disk import Disk


def test_a_session_that_was_synced_behind_the_loop_is_there(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "sessions.db", waits_for_disk=False)
    with MemoryManager(store=store) as memory:
        for number in range(20):
            memory.add_message_sync({"role": "user", "content": f"part {number}"})
        expected = memory.messages
    store.close()
    again = SqliteSessionStore(tmp_path / "sessions.db")
    assert MemoryManager.resume(store=again).messages == expected


def test_waiting_returns_once_all_that_was_wanted_is_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "sessions.db-wal").write_bytes(b"turns")
    disk = Disk(str(tmp_path / "sessions.db"))
    for _ in range(3):
        disk.want()
        disk.wait()
    disk.check()


def test_a_disk_that_failed_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("memory.sessions.sqlite_disk._sync_content", fail)
    (tmp_path / "sessions.db-wal").write_bytes(b"turns")
    disk = Disk(str(tmp_path / "sessions.db"))
    disk.want()
    disk.wait()
    with pytest.raises(StorageError, match="EIO"):
        disk.check()
    disk.check()


def test_a_log_that_is_gone_needs_no_disk(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path / "sessions.db"))
    disk.want()
    disk.wait()
    disk.check()
