"""What a resumed memory takes back or branches from, after a store that could not be read or written for a while."""

from __future__ import annotations

from typing import Any

import pytest

from memory import MemoryConfig, MemoryManager
from memory.errors import StorageLockedError
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing import WordCounter

from .twins import context_of

CONFIG = MemoryConfig(max_context_tokens=2_000, compression_threshold=300, short_term_size=4)


class Ailing:
    """A store whose named methods fail."""

    def __init__(self) -> None:
        self._store = SqliteSessionStore(":memory:")
        self.failing: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in self.failing:
            return self._refuse
        return getattr(self._store, name)

    def _refuse(self, *_: object, **__: object) -> None:
        raise StorageLockedError("locked")


def memory_in(store: Any) -> MemoryManager:
    return MemoryManager(CONFIG, store=store, counter=WordCounter(), dialect="openai_chat")


def resumed_from(store: Any) -> MemoryManager:
    return MemoryManager.resume(store=store, counter=WordCounter(), takes_over=True)


def turn(number: int) -> list[dict[str, Any]]:
    answer = f"valve {number} opens at {3 * number} bar " + "and so on " * 10
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": f"go on with valve {number + 1}"}]


def compressed(memory: MemoryManager, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let the list grow until it was compressed once more; return it."""
    count = memory.get_stats()["compression_count"]
    while memory.get_stats()["compression_count"] == count:
        messages = [*messages, *turn(len(messages))]
        memory.follow_sync(messages)
    return messages


def test_history_that_could_not_be_read_is_read_the_next_time() -> None:
    store = Ailing()
    with memory_in(store) as memory:
        messages = compressed(memory, [{"role": "user", "content": "look after the valves"}])
        compressed(memory, messages)
        branch = context_of(memory.branch("r4"))
        memory.undo()
        undone = context_of(memory)
    resumed = resumed_from(store)
    store.failing = {"layouts"}
    for take_back in (lambda: resumed.branch("r4"), resumed.undo):
        with pytest.raises(StorageLockedError):
            take_back()
    store.failing = set()

    assert context_of(resumed.branch("r4")) == branch
    assert context_of(resumed) == undone
    resumed.undo()
    assert resumed.get_stats()["undone_count"] == 2


def test_what_was_withdrawn_between_two_compressions_stays_withdrawn_where_both_were_saved_at_once() -> None:
    store = Ailing()
    memory = memory_in(store)
    messages = [{"role": "user", "content": "look after the valves"}]
    memory.follow_sync(messages)
    store.failing = {"save"}
    messages = [*compressed(memory, messages), {"role": "assistant", "content": "wrong"}]
    memory.follow_sync(messages)
    compressed(memory, [*messages[:-1], {"role": "assistant", "content": "right"}])
    store.failing = set()
    memory.close()
    resumed = resumed_from(store)
    resumed.undo()
    memory.undo()

    assert context_of(resumed) == context_of(memory)
    assert "wrong" not in str(context_of(resumed))
