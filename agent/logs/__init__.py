"""Session logs that coding agents keep of their own runs, read into messages of their provider's format.

One file per tool. A log is recognised by its content, never by its name. Tools write for themselves and change what
they write: whatever a reader does not know is left out and counted, and a log that still grows may end in the middle
of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ..jsonl import Located
from . import claude_code, codex, gemini_cli
from .recorded import Recorded, Tool

__all__ = ["Recorded", "Tool", "read_log_values", "tool_of"]

_Wrote: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], bool]
_Read: TypeAlias = Callable[[Sequence[tuple[str, Mapping[str, Any]]]], list[Recorded]]

_READERS: Final[Mapping[Tool, tuple[_Wrote, _Read]]] = {
    claude_code.TOOL: (claude_code.wrote, claude_code.read),
    codex.TOOL: (codex.wrote, codex.read),
    gemini_cli.TOOL: (gemini_cli.wrote, gemini_cli.read),
}


def tool_of(values: Sequence[Located]) -> Tool | None:
    """Return the tool that wrote these JSON values, or None where they are no log of a known one."""
    mappings = [value for _, value in values if isinstance(value, Mapping)]
    return next((tool for tool, (wrote, _) in _READERS.items() if wrote(mappings)), None)


def read_log_values(values: Sequence[Located], tool: Tool) -> list[Recorded]:
    """Return the conversations of a log, in the order in which they began; none where nobody said anything.

    Each is what was really sent: a compaction by the tool ends one conversation and begins the next, whose first
    messages are what the tool kept; a subagent's messages are a conversation of their own; a branch that the user
    left by rewinding is gone.
    """
    _, read = _READERS[tool]
    return read([(where, value) for where, value in values if isinstance(value, Mapping)])
