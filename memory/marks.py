"""Marks on messages: fields that say nothing, and that callers move from message to message with each request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

MARKS = frozenset({"cache_control"})

Mark: TypeAlias = list[Any]
"""`[path, place, name, value]` as JSON values: the index of a part of the content, of a part of that one's, and so on;
the place among the fields that stand there; the field."""


def is_same(one: object, other: object) -> bool:
    """Whether two messages say the same: one object, or equal but for the marks that callers move."""
    return one is other or one == other or (_may_differ_in_marks(one, other) and unmarked(one) == unmarked(other))


def unmarked(value: Any) -> Any:
    """Return a copy of a message without the marks on it and on the parts of its content."""
    if isinstance(value, Mapping):
        return {key: unmarked(v) if key == "content" else v for key, v in value.items() if key not in MARKS}
    return [unmarked(part) for part in value] if isinstance(value, (list, tuple)) else value


def has_marks(message: Mapping[str, Any]) -> bool:
    """Return whether a message or a part of its content may be marked. Several times as fast as `marks_of`."""
    if not MARKS.isdisjoint(message):
        return True
    content = message.get("content")
    if not isinstance(content, (list, tuple)):
        return False
    return any(map(has_marks, [part for part in content if isinstance(part, dict)]))


def marks_of(message: Mapping[str, Any]) -> list[Mark]:
    """Return the marks on a message and on the parts of its content. What no provider takes for a mark is none."""
    found: list[Mark] = []
    if has_marks(message):
        _collect(message, [], found)
    return found


def with_marks(message: Mapping[str, Any], marks: Sequence[Mark]) -> dict[str, Any]:
    """Return a copy of a message with these marks and no others, each at its place."""
    copy: dict[str, Any] = unmarked(message)
    for path, place, name, value in marks:
        marked = copy
        for index in path:
            marked = marked["content"][index]
        fields = list(marked.items())
        marked.clear()
        marked.update([*fields[:place], (name, value), *fields[place:]])
    return copy


def _collect(value: Mapping[str, Any], path: list[int], found: list[Mark]) -> None:
    if not MARKS.isdisjoint(value):
        found.extend(_own(value, path))
    content = value.get("content")
    if isinstance(content, (list, tuple)):
        for index, part in enumerate(content):
            if isinstance(part, dict):
                _collect(part, [*path, index], found)


def _own(value: Mapping[str, Any], path: list[int]) -> Iterator[Mark]:
    for place, (name, mark) in enumerate(value.items()):
        if name in MARKS and (mark is None or _is_plain(mark)):
            yield [path, place, name, mark]


def _is_plain(mark: object) -> bool:
    return isinstance(mark, dict) and all(isinstance(text, str) for field in mark.items() for text in field)


def _may_differ_in_marks(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict) and one.get("role") == other.get("role")
