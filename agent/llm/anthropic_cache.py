"""Where a request to Anthropic is cut for its prompt cache: what stands before a breakpoint is read again for a tenth.

Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching; validity rule AN-11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from memory.messages import Wire

CacheTtl: TypeAlias = Literal["5m", "1h"]

_MOST_BREAKPOINTS = 4
_CACHEABLE = frozenset({"text", "image", "document", "search_result", "tool_use", "tool_result"})
"""Blocks that may carry a cache breakpoint; thinking may not, nor code execution."""


def mark(body: dict[str, Any], ttl: CacheTtl) -> None:
    """Put breakpoints into a request body; the messages and blocks in it are copied, never changed.

    One ends what never changes (system, else tools), one ends this request, one ended the request before: a cached
    prefix is looked for at most 20 blocks back, and one step of parallel calls may add more than that. Breakpoints that
    are there already are respected: at most four in all, and none of ours before them, because a longer life has to
    come before a shorter one.
    """
    messages: list[Wire] = body["messages"]
    marked = [index for index, message in enumerate(messages) if _breakpoints(message.get("content"))]
    theirs = sum(_breakpoints(message.get("content")) for message in messages)
    theirs += _breakpoints(body.get("tools")) + _breakpoints(body.get("system"))
    room = _MOST_BREAKPOINTS - theirs
    marker = {"type": "ephemeral"} | ({"ttl": ttl} if ttl != "5m" and not theirs else {})
    for index in list(_turn_ends(messages))[: max(room, 0)]:
        if not marked or index > marked[-1]:
            messages[index] = _with_breakpoint(messages[index], marker)
    if not theirs:
        _mark_constant(body, marker)


def _mark_constant(body: dict[str, Any], marker: Wire) -> None:
    """Mark the end of what comes before the messages; the order on the wire is tools, system, messages."""
    if isinstance(system := body.get("system"), str):
        body["system"] = [{"type": "text", "text": system, "cache_control": marker}]
    elif body.get("tools") and not system:
        body["tools"] = [*body["tools"][:-1], {**body["tools"][-1], "cache_control": marker}]


def _turn_ends(messages: Sequence[Wire]) -> Iterator[int]:
    """Yield the index of the last message of this request and of the one before it."""
    if messages:
        yield len(messages) - 1
    roles = [message.get("role") for message in messages]
    index = len(roles) - 1
    for role in ("user", "assistant"):
        while index > 0 and roles[index] == role:
            index -= 1
    if index < len(roles) - 1 and roles[index] == "user":
        yield index


def _with_breakpoint(message: Wire, marker: Wire) -> Wire:
    """Return a copy whose last block that may carry one carries a breakpoint; the message itself if there is none."""
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    for index in range(len(blocks) - 1, -1, -1):
        if _may_carry(blocks[index]):
            blocks[index] = {**blocks[index], "cache_control": marker}
            return {**message, "content": blocks}
    return message


def _may_carry(block: Wire) -> bool:
    return block.get("type") in _CACHEABLE and (block["type"] != "text" or bool(block.get("text")))


def _breakpoints(blocks: object) -> int:
    """Count breakpoints, also of what stands inside tool results."""
    if not isinstance(blocks, list | tuple):
        return 0
    return sum(
        bool(block.get("cache_control")) + _breakpoints(block.get("content"))
        for block in blocks
        if isinstance(block, Mapping)
    )
