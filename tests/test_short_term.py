"""The last N messages, by count, as the callers' own objects."""

from __future__ import annotations

from typing import Any

import pytest

from memory import ConfigError, MemoryConfig, MemoryManager, ShortTermMemory
from memory.testing import WordCounter


def filled(count: int, *, size: int = 3) -> ShortTermMemory:
    memory = ShortTermMemory(size)
    for number in range(count):
        memory.add_message(number)
    return memory


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (2, [0, 1]), (3, [0, 1, 2]), (4, [1, 2, 3]), (10, [7, 8, 9])],
)
def test_it_holds_the_last_messages_oldest_first(count: int, expected: list[int]) -> None:
    memory = filled(count)

    assert memory.get_all() == expected
    assert list(memory) == expected
    assert len(memory) == len(expected)


@pytest.mark.parametrize(("count", "expected"), [(2, False), (3, True), (4, True)])
def test_it_is_full_when_the_next_message_drops_the_oldest(count: int, expected: bool) -> None:
    assert filled(count).is_full is expected


def test_messages_are_the_callers_own_objects() -> None:
    message = {"role": "user", "content": "hi"}
    memory = ShortTermMemory()
    memory.add_message(message)

    assert memory.get_all()[0] is message


def test_clearing_returns_what_it_held() -> None:
    memory = filled(4)

    assert memory.clear() == [1, 2, 3]
    assert memory.get_all() == memory.clear() == []
    assert not memory.is_full


def test_the_list_it_gives_is_the_callers_to_change() -> None:
    memory = filled(2)
    memory.get_all().clear()

    assert len(memory) == 2


def test_messages_may_come_while_it_is_iterated() -> None:
    memory = filled(3)
    for _ in memory:
        memory.add_message("late")

    assert memory.get_all() == ["late"] * 3


def test_twenty_messages_are_the_default() -> None:
    assert ShortTermMemory().max_size == MemoryConfig().short_term_size == 20


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None, True, float("nan")])
def test_a_size_that_is_no_count_is_refused_with_its_value(size: Any) -> None:
    with pytest.raises(ConfigError, match="short_term_size") as refusal:
        ShortTermMemory(size)

    assert repr(size) in str(refusal.value)


def test_inside_the_manager_nothing_is_lost_by_count() -> None:
    memory = MemoryManager(MemoryConfig(short_term_size=2), counter=WordCounter())
    messages = [{"role": "user", "content": str(number)} for number in range(5)]
    for message in messages:
        memory.add_message_sync(message)

    assert memory.short_term.get_all() == messages[-2:]
    assert memory.get_context_for_llm() == messages
