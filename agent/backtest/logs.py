"""The session logs that coding agents left on this machine: where they lie, and reading one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

from memory.errors import TranscriptError

from ..logs import Tool
from ..transcripts import Transcript, read_transcripts


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLog:
    """A file that a tool keeps where its session logs are; not opened yet."""

    path: Path
    tool: Tool
    modified_at: datetime
    """In UTC."""
    size_bytes: int


def find_logs(home: Path | None = None) -> list[FoundLog]:
    """Return the session logs of Claude Code, Codex and Gemini CLI below a home folder, the newest first.

    No file is opened, no link to a folder followed; what may not be read is passed over. Rollouts that Codex has
    compressed (`.jsonl.zst`) are not found.

    Args:
        home: The folder that holds `.claude`, `.codex` and `.gemini`; None: the user's own, and there
            `CLAUDE_CONFIG_DIR`, `CODEX_HOME` and `GEMINI_CLI_HOME` name other places, as they do for the tools.
    """
    environment = os.environ if home is None else {}
    found = {log.path: log for log in _logs(home or Path.home(), environment)}
    return sorted(found.values(), key=lambda log: (log.modified_at, log.path), reverse=True)


def read_log(path: str | Path) -> list[Transcript]:
    """Return the conversations of a session log; several after a compaction or with subagents.

    Raises:
        TranscriptError: The file cannot be read, or it is no session log of a known tool.
    """
    found = read_transcripts(path, is_lenient=True)
    if found[0].tool is None:
        raise TranscriptError(f"{path} is a transcript, but no session log of Claude Code, Codex or Gemini CLI")
    return found


def _logs(home: Path, environment: Mapping[str, str]) -> Iterator[FoundLog]:
    """Yield every log.

    Sources of the places: https://code.claude.com/docs/en/claude-directory, which names `CLAUDE_CONFIG_DIR`;
    releases of mid-2025 used ~/.config/claude; codex-rs/rollout/src/list.rs; Gemini CLI's
    packages/core/src/utils/paths.ts (2026-10).
    """
    claude = [_place(environment, "CLAUDE_CONFIG_DIR", home / ".claude"), home / ".config" / "claude"]
    codex = _place(environment, "CODEX_HOME", home / ".codex")
    gemini = _place(environment, "GEMINI_CLI_HOME", home) / ".gemini" / "tmp"
    for folder in claude:
        yield from _below(folder / "projects", "Claude Code")
    for name in ("sessions", "archived_sessions"):
        yield from _below(codex / name, "Codex")
    yield from _below(gemini, "Gemini CLI")


def _place(environment: Mapping[str, str], name: str, usual: Path) -> Path:
    return Path(environment[name]) if environment.get(name) else usual


def _below(folder: Path, tool: Tool) -> Iterator[FoundLog]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if _is_log(path.relative_to(folder), tool) and (found := _found(path, tool)) is not None:
                yield found


def _is_log(path: Path, tool: Tool) -> bool:
    """Say by its name whether a file is a session log; a tool keeps others beside them."""
    match tool:
        case "Claude Code":
            # Deeper ones are subagents'; their journal and workflows are no conversations.
            is_subagent = "subagents" in path.parts and path.name.startswith("agent-")
            return path.suffix == ".jsonl" and (len(path.parts) == 2 or is_subagent)
        case "Codex":
            return path.name.startswith("rollout-") and path.suffix in {".jsonl", ".json"}
        case "Gemini CLI":
            return "chats" in path.parts[:-1] and path.suffix in {".jsonl", ".json"}


def _found(path: Path, tool: Tool) -> FoundLog | None:
    try:
        status = path.stat()
    except OSError:  # gone since, or a link to nowhere
        return None
    if not S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
        return None
    modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return FoundLog(path=path, tool=tool, modified_at=modified_at, size_bytes=status.st_size)
