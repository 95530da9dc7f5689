"""Following a list that the caller keeps: what of it is new, and where it departs from what was there before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARKS = frozenset({"cache_control"})
"""Fields that callers move from message to message with each request. They mark; they are no part of what is said."""


@dataclass(frozen=True, slots=True)
class _Item:
    message: object
    first_seq: int
    """Number of the first message that this item of the list became; a response may be several."""


class Followed:
    """The caller's list as it was seen last. It compares; it adds and removes nothing in the memory."""

    def __init__(self) -> None:
        self._items: list[_Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def common(self, messages: Sequence[object]) -> int:
        """Return how many leading messages are the ones that were there before. O(n), by identity where it holds."""
        for index, (item, message) in enumerate(zip(self._items, messages, strict=False)):
            if not is_same(item.message, message):
                return index
        return min(len(self._items), len(messages))

    def swap(self, messages: Sequence[object]) -> dict[int, object]:
        """Remember the objects of this list in place of equal ones. Return those that are new, by their number."""
        swapped: dict[int, object] = {}
        for index, (item, message) in enumerate(zip(self._items, messages, strict=False)):
            if item.message is not message:
                self._items[index] = _Item(message, item.first_seq)
                swapped[item.first_seq] = message
        return swapped

    def add(self, message: object, *, first_seq: int) -> None:
        """Take note of the next message."""
        self._items.append(_Item(message, first_seq))

    def clear(self) -> None:
        """Forget the list."""
        self._items.clear()

    def cut(self, length: int) -> int:
        """Forget what stands at `length` and behind. Return the number of the first message that departs."""
        first_seq = self._items[length].first_seq
        del self._items[length:]
        return first_seq


def is_same(one: object, other: object) -> bool:
    """Whether two messages say the same: one object, or equal but for the marks that callers move."""
    return one is other or one == other or (_has_marks(one, other) and _unmarked(one) == _unmarked(other))


def _has_marks(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict) and one.get("role") == other.get("role")


def _unmarked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unmarked(inner) for key, inner in value.items() if key not in MARKS}
    if isinstance(value, (list, tuple)):
        return [_unmarked(inner) for inner in value]
    return value
