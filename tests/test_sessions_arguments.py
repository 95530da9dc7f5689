"""What may be given beside a store, what counts after a resume, and what a memory keeps to itself."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from memory import (
    HistoryError,
    MemoryConfig,
    MemoryManager,
    SessionError,
    SessionInUseError,
    SqliteSessionStore,
    TokenTracker,
    WorkingMemoryCompressor,
)
from memory.errors import ConfigError, StorageLockedError

SMALL = MemoryConfig(max_context_tokens=2_000, compression_threshold=300, short_term_size=4)


@pytest.fixture
def store() -> Iterator[SqliteSessionStore]:
    store = SqliteSessionStore(":memory:")
    yield store
    store.close()


def say(memory: MemoryManager, count: int, word: str = "valve") -> None:
    for number in range(count):
        memory.add_message_sync({"role": "user", "content": f"{word} {number} opens at {number * 7} bar, and closes"})
        memory.add_message_sync({"role": "assistant", "content": f"noted, {word} {number}"})


def test_one_compressor_may_serve_several_sessions(store: SqliteSessionStore) -> None:
    compressor = WorkingMemoryCompressor(None, SMALL)
    first = MemoryManager(compressor=compressor, store=store)
    second = MemoryManager(compressor=compressor, store=store)
    say(first, 20)

    assert len(first.archive) > 0
    assert len(second.archive) == len(compressor.archive) == 0


def test_one_tracker_cannot_serve_two_sessions(store: SqliteSessionStore) -> None:
    tracker = TokenTracker()
    MemoryManager(tracker=tracker, store=store)

    with pytest.raises(ConfigError, match="tracker"):
        MemoryManager(tracker=tracker, store=store)


def test_a_session_is_not_resumed_into_a_tracker_with_calls(store: SqliteSessionStore) -> None:
    memory = MemoryManager(store=store)
    say(memory, 1)
    memory.close()
    used = TokenTracker()
    MemoryManager(tracker=used).add_message_sync({"role": "assistant", "content": "hi"}, {"input": 3, "output": 1})

    with pytest.raises(ConfigError, match="tracker"):
        MemoryManager.resume(store=store, tracker=used)
    MemoryManager.resume(store=store).close()  # and it was given up again


def test_a_closed_memory_does_not_branch(tmp_path: Any) -> None:
    memory = MemoryManager(MemoryConfig(session_db=str(tmp_path / "s.db")))
    say(memory, 1)
    memory.close()

    with pytest.raises(HistoryError, match="closed"):
        memory.branch()


def test_what_is_pinned_stays_pinned_in_a_branch(store: SqliteSessionStore) -> None:
    memory = MemoryManager(SMALL, store=store)
    say(memory, 1)
    code = {"role": "assistant", "content": "The launch code is 4711."}
    memory.add_message_sync(code)
    memory.pin(code)
    branch = memory.branch()
    say(branch, 30)

    assert code in branch.messages


def test_what_is_given_to_resume_counts(store: SqliteSessionStore) -> None:
    memory = MemoryManager(model="gpt-4o-mini", system="old", store=store)
    say(memory, 1)
    memory.close()

    resumed = MemoryManager.resume(store=store, model="gpt-4.1", system="a much longer system prompt than before")

    assert resumed.get_stats()["model"] == "gpt-4.1"
    assert resumed.current_tokens > memory.current_tokens


def test_a_resumed_memory_takes_the_settings_of_its_compressor(store: SqliteSessionStore) -> None:
    memory = MemoryManager(SMALL, store=store)
    say(memory, 1)
    memory.close()
    other = MemoryConfig(compression_threshold=500, max_context_tokens=5_000)

    assert MemoryManager.resume(store=store, compressor=WorkingMemoryCompressor(None, other)).config == other


def test_where_a_session_is_kept_is_not_kept_with_it() -> None:
    secret = MemoryConfig(session_db="postgresql://user:hunter2@host/db")

    assert "hunter2" not in repr(secret)


def test_the_kept_settings_name_no_place(tmp_path: Any) -> None:
    place = str(tmp_path / "secret-place.db")
    memory = MemoryManager(MemoryConfig(session_db=place))
    say(memory, 1)
    memory.close()
    [session] = SqliteSessionStore(place).sessions()

    assert "secret-place" not in session.config


def test_a_dropped_memory_gives_its_session_up_at_once(store: SqliteSessionStore) -> None:
    memory = MemoryManager(store=store)
    say(memory, 1)
    gone = weakref.ref(memory)
    with pytest.raises(SessionInUseError):
        MemoryManager.resume(store=store)
    del memory

    assert gone() is None  # without the garbage collector
    MemoryManager.resume(store=store).close()


def test_automatic_recall_does_without_a_store_that_cannot_be_read(
    store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryManager(
        MemoryConfig(max_context_tokens=2_000, compression_threshold=300, short_term_size=4, auto_recall=True),
        store=store,
    )
    say(memory, 20, word="src/valve_23.py")
    memory.close()
    resumed = MemoryManager.resume(store=store)

    def locked(*arguments: object, **options: object) -> None:
        raise StorageLockedError("locked")

    for method in ("messages", "messages_of", "search", "save"):
        monkeypatch.setattr(store, method, locked)
    resumed.add_message_sync({"role": "user", "content": "What about src/valve_99.py and src/valve_23.py again?"})

    assert resumed.get_stats()["unsaved_count"] == 1


def test_a_closed_memory_refuses_what_would_not_be_kept(store: SqliteSessionStore) -> None:
    memory = MemoryManager(store=store)
    say(memory, 1)
    memory.close()

    with pytest.raises(SessionError, match="closed"):
        say(memory, 1)
    assert len(memory.messages) == 2  # it can still be looked at


def test_a_caller_who_keeps_the_list_goes_on_with_the_history(store: SqliteSessionStore) -> None:
    said: list[object] = [{"role": "user", "content": f"valve {n} opens at {n} bar, then closes"} for n in range(60)]
    memory = MemoryManager(SMALL, store=store)
    memory.follow_sync(said)
    memory.close()
    resumed = MemoryManager.resume(store=store)
    standing = resumed.messages

    messages = resumed.history()
    assert messages == said
    resumed.follow_sync([*messages, {"role": "assistant", "content": "noted"}])

    assert resumed.messages == [*standing, {"role": "assistant", "content": "noted"}]
