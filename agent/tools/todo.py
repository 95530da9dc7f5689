"""A todo list that the model keeps, and that the memory never compresses away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .tool import Tool, ToolError

TodoStatus: TypeAlias = Literal["open", "doing", "done", "dropped"]

_MOST_ITEMS = 100
_MOST_CHARACTERS = 500
_MARKS: dict[TodoStatus, str] = {"open": "[ ]", "doing": "[>]", "done": "[x]", "dropped": "[-]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TodoItem:
    """One thing to do."""

    text: str
    status: TodoStatus = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class TodoChange:
    """What is to change in one item of the list."""

    number: int
    """Of the item, from 1."""
    status: TodoStatus | None = None
    text: str | None = None


class TodoList:
    """What a model has set itself to do. Each use of its tool returns the whole list.

    The tool says `keeps_newest`: an agent pins the newest result, so that the list stands in the context after every
    compression. Without an agent of ours, `memory.pin` the newest result and `memory.unpin` the one before.
    """

    def __init__(self, items: tuple[TodoItem, ...] = ()) -> None:
        self.items = items
        """As they stand now."""

    def tool(self) -> Tool:
        """Return the tool `todo`."""
        return Tool.from_function(self._todo, name="todo", keeps_newest=True)

    def __str__(self) -> str:
        """Return the list as the model reads it."""
        if not self.items:
            return "The todo list is empty."
        done = sum(item.status in ("done", "dropped") for item in self.items)
        lines = [f"{number}. {_MARKS[item.status]} {item.text}" for number, item in enumerate(self.items, start=1)]
        return "\n".join([f"Todo list, {done} of {len(self.items)} done:", *lines])

    # Asynchronous, so that two calls of one answer change the list one after the other.
    async def _todo(self, items: list[TodoItem] | None = None, changes: list[TodoChange] | None = None) -> str:
        """Keep your todo list: write it when a task has several steps, and mark each step when you begin and end it.

        The list stays in sight however long the conversation grows. Without arguments it is only shown.

        Args:
            items: The whole list anew; leave it out to keep the one there is.
            changes: What to change in single items, by their numbers.
        """
        # All or nothing: a change that is refused leaves the list as it was.
        self.items = _checked(_changed(self.items if items is None else tuple(items), changes or []))
        return str(self)


def _changed(items: tuple[TodoItem, ...], changes: list[TodoChange]) -> tuple[TodoItem, ...]:
    new = list(items)
    for change in changes:
        if not 1 <= change.number <= len(new):
            raise ToolError(f"there is no item {change.number}; the list has {len(new)}")
        item = new[change.number - 1]
        new[change.number - 1] = replace(item, status=change.status or item.status, text=change.text or item.text)
    return tuple(new)


def _checked(items: tuple[TodoItem, ...]) -> tuple[TodoItem, ...]:
    """Return the items if they may stay in the context for good: each costs tokens with every request."""
    if len(items) > _MOST_ITEMS:
        raise ToolError(f"{len(items)} items are too many; at most {_MOST_ITEMS}")
    for number, item in enumerate(items, start=1):
        if not item.text.strip():
            raise ToolError(f"item {number} is empty")
        if len(item.text) > _MOST_CHARACTERS:
            raise ToolError(f"item {number} has {len(item.text)} characters; at most {_MOST_CHARACTERS}")
    return items
