"""Marks for the prompt cache in a request body of the agent's own; `memory.breakpoints` knows where they may stand."""

from __future__ import annotations

from typing import Any

from memory.breakpoints import MOST_BREAKPOINTS, breakpoint_count, marker, turn_ends, with_breakpoint
from memory.messages import Wire
from memory.prompt_cache import Ttl


def mark(body: dict[str, Any], ttl: Ttl) -> None:
    """Put breakpoints into a request body; the messages and blocks in it are copied, never changed.

    One ends what never changes (system, else tools), one ends this request, one ended the request before: a cached
    prefix is looked for at most 20 blocks back, and one step of parallel calls may add more than that. Breakpoints that
    are there already are respected: at most four in all, and none of ours before them, because a longer life has to
    come before a shorter one.
    """
    messages: list[Wire] = body["messages"]
    marked = [index for index, message in enumerate(messages) if breakpoint_count(message.get("content"))]
    theirs = sum(breakpoint_count(message.get("content")) for message in messages)
    theirs += breakpoint_count(body.get("tools")) + breakpoint_count(body.get("system"))
    ours = marker("5m" if theirs else ttl)
    for index in list(turn_ends([str(message.get("role")) for message in messages]))[
        : max(MOST_BREAKPOINTS - theirs, 0)
    ]:
        if not marked or index > marked[-1]:
            messages[index] = with_breakpoint(messages[index], ours)
    if not theirs:
        _mark_constant(body, ours)


def _mark_constant(body: dict[str, Any], ours: Wire) -> None:
    """Mark the end of what comes before the messages; the order on the wire is tools, system, messages."""
    if isinstance(system := body.get("system"), str):
        body["system"] = [{"type": "text", "text": system, "cache_control": ours}]
    elif body.get("tools") and not system:
        body["tools"] = [*body["tools"][:-1], {**body["tools"][-1], "cache_control": ours}]
