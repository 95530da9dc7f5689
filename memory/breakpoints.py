"""Where a request to Anthropic is cut for its prompt cache: what stands before a mark is read again for a tenth.

Marks are `cache_control` on content blocks; they are no part of the bytes that are compared, so moving one breaks no
prefix. Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (2026-10); validity rule AN-11.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .messages import DialectName, Wire
from .native import like, to_wire
from .prompt_cache import Ttl
from .request_size import RequestSize
from .window import Entry, Kind, Window

MOST_BREAKPOINTS = 4
"""More are refused; system and tools count too."""

_CACHEABLE = frozenset({"text", "image", "document", "search_result", "tool_use", "tool_result"})
"""Blocks that may carry a mark; thinking may not, nor code execution."""

_KEPT_COPIES = 64


class Breakpoints:
    """Hands out a window's context with marks where its layout stays as it is.

    One mark ends what the next compression leaves alone (system, task, summaries), one ends the previous request, one
    ends this request: each finds the cache that an earlier request filled, also where more than the 20 blocks that a
    provider looks back were added. The fourth is left to the caller. The marked messages are copies, the same ones as
    long as their mark is; window, archive and `messages` keep the caller's own objects.

    Nothing is marked for a caller who marks messages, tools or the system prompt.
    """

    def __init__(self, window: Window, size: RequestSize, *, is_wanted: bool) -> None:
        self._window = window
        self._size = size
        self._is_wanted = is_wanted
        self._copies: OrderedDict[int, tuple[object, object]] = OrderedDict()
        """By the id of a message: it, and its marked copy."""

    def are_placed(self, dialect: DialectName | None) -> bool:
        """Whether contexts in this format go out with marks of ours."""
        is_free = not self._window.has_cache_breakpoint and not self._size.has_cache_breakpoint
        return self._is_wanted and dialect == "anthropic" and is_free

    def context(self, dialect: DialectName | None) -> list[Any]:
        """Return what to send in a new list. Cost: a copy of at most three messages."""
        context = self._window.context
        if self.are_placed(dialect):
            for index in {_frozen_end(self._window.entries), *turn_ends(_Roles(self._window.entries))} - {-1}:
                context[index] = self._marked(context[index])
        return context

    def originals(self, messages: Iterable[object]) -> list[object]:
        """Return a list in which copies that were handed out are the messages that they stand for."""
        if not self._copies:
            return list(messages)
        own = {id(copy): message for message, copy in self._copies.values()}
        return [own.get(id(message), message) for message in messages]

    def _marked(self, message: object) -> object:
        known = self._copies.get(id(message))
        if known is None or known[0] is not message:
            wire = to_wire(message)
            marked = with_breakpoint(wire, marker("5m"))
            known = message, message if marked is wire else like(message, dict(marked))
            self._copies[id(message)] = known
        self._copies.move_to_end(id(message))
        while len(self._copies) > _KEPT_COPIES:
            self._copies.popitem(last=False)
        return known[1]


def _frozen_end(entries: Sequence[Entry]) -> int:
    """Return the index of the last message that the next compression leaves as it is, -1 for none.

    Summaries stay until there are many of them (`max_summaries`); the first task and system messages always do.
    """
    has_task = False
    for index, entry in enumerate(entries):
        is_task = entry.reading.role == "user" and not has_task and not entry.is_written
        if not is_task and entry.kind is not Kind.SUMMARY and entry.reading.role != "system":
            return index - 1
        has_task = has_task or is_task
    return len(entries) - 1


class _Roles(Sequence[str]):
    """The roles of a window's messages as the wire has them, looked at from behind."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        role = self._entries[index].reading.role
        return "user" if role == "tool" else role


# --- For every request that is written in this format -----------------------------------------------------------------


def marker(ttl: Ttl) -> Wire:
    """Return what goes under `cache_control`; five minutes need no word."""
    return {"type": "ephemeral"} | ({"ttl": ttl} if ttl != "5m" else {})


def turn_ends(roles: Sequence[str]) -> Iterator[int]:
    """Yield the index of the last message of this request, and of the request before it."""
    if roles:
        yield len(roles) - 1
    index = len(roles) - 1
    for role in ("user", "assistant"):
        while index > 0 and roles[index] == role:
            index -= 1
    if index < len(roles) - 1 and roles[index] == "user":
        yield index


def with_breakpoint(message: Wire, mark: Wire) -> Wire:
    """Return a copy whose last block that may carry a mark does; the message itself if there is none."""
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    for index in range(len(blocks) - 1, -1, -1):
        if _may_carry(blocks[index]):
            blocks[index] = {**blocks[index], "cache_control": mark}
            return {**message, "content": blocks}
    return message


def breakpoint_count(blocks: object) -> int:
    """Count the marks in a list of blocks or tools, those inside tool results too."""
    if not isinstance(blocks, list | tuple):
        return 0
    return sum(
        bool(block.get("cache_control")) + breakpoint_count(block.get("content"))
        for block in blocks
        if isinstance(block, Mapping)
    )


def _may_carry(block: Wire) -> bool:
    return block.get("type") in _CACHEABLE and (block["type"] != "text" or bool(block.get("text")))
