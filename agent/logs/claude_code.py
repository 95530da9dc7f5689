"""Claude Code: ~/.claude/projects/<folder>/<session>.jsonl, and the output of `claude -p --output-format stream-json`.

Each line is an event. Those that matter carry a `message` in Anthropic's format. What is known of the rest, which
Anthropic calls internal (https://code.claude.com/docs/en/claude-directory, 2026-10):

* A response is written as one line per content block, all with its `message.id`; only the last line's usage is final
  (https://docs.rs/agent-top-core/0.15.2/src/agent_top_core/harness/claude.rs.html, 2026-09). Results of parallel
  calls stand between them.
* `parentUuid` links the lines. A prompt whose parent has another prompt behind it was typed after a rewind, and what
  was behind is no longer part of the conversation. Results do not tell: parallel ones branch off the same response.
* `isSidechain` marks a subagent, whose lines share an `agentId` or, in older logs, only a chain of parents.
* A `compact_boundary` empties the context; the summary follows as a user message with `isCompactSummary`.
* System prompt and tools are not recorded; of what the tool itself adds (`attachment`), only prompts that the user
  typed while the agent worked are recorded as they were sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .recorded import Draft, Recorded, Tool, mapping_at, named, text_at, time_of

TOOL: Final[Tool] = "Claude Code"

_IDS: Final = ("uuid", "sessionId", "session_id", "parentUuid")
_BOOKKEEPING: Final = frozenset(
    {
        "agent-name", "ai-title", "attachment", "custom-title", "file-history-snapshot", "last-prompt", "mode",
        "permission-mode", "pr-link", "progress", "queue-operation", "rate_limit_event", "result", "stream_event",
        "summary", "system", "tag",
    }
)  # fmt: skip
"""Line types that hold nothing that a model was sent."""


def wrote(values: Sequence[Mapping[str, Any]]) -> bool:
    return any(_is_message(value) or (value.get("type") == "summary" and "leafUuid" in value) for value in values)


def read(lines: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Recorded]:
    session = _Session()
    for where, line in lines:
        session.take(where, line)
    return [recorded for chain in session.chains if (recorded := chain.recorded()) is not None]


def _is_message(value: Mapping[str, Any]) -> bool:
    return (
        value.get("type") in ("user", "assistant")
        and "content" in mapping_at(value, "message")
        and any(key in value for key in _IDS)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    where: str
    role: str
    message: Mapping[str, Any]
    at: float | None
    is_prompt: bool
    """Typed by the user."""


class _Session:
    """The lines of a file, each given to the conversation that it belongs to."""

    def __init__(self) -> None:
        self.chains: list[_Chain] = []
        self._open: dict[str, _Chain] = {}
        self._agents: dict[str, str] = {}
        """uuid of a subagent's line -> the conversation it belongs to."""
        self._seen: set[str] = set()

    def take(self, where: str, line: Mapping[str, Any]) -> None:
        uuid = text_at(line, "uuid")
        if uuid is not None:
            if uuid in self._seen:
                return  # a resumed session may write lines again
            self._seen.add(uuid)
        key = self._key(line, uuid)
        if line.get("subtype") == "compact_boundary":
            self._open.pop(key, None)
        chain = self._open.get(key)
        if chain is None:
            chain = self._open[key] = _Chain()
            self.chains.append(chain)
        chain.take(where, line, uuid)

    def _key(self, line: Mapping[str, Any], uuid: str | None) -> str:
        if not line.get("isSidechain"):
            return ""
        parent = text_at(line, "parentUuid") or ""
        key = text_at(line, "agentId") or self._agents.get(parent) or uuid or "subagent"
        if uuid is not None:
            self._agents[uuid] = key
        return key


@dataclass(slots=True)
class _Chain:
    """One conversation, line by line."""

    lines: list[_Line] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    left: int = 0
    """Messages on branches that were left."""
    _ends: dict[str, int] = field(default_factory=dict)
    """uuid of any line -> how many of `lines` there were when it was written."""

    def take(self, where: str, line: Mapping[str, Any], uuid: str | None) -> None:
        read = _read_line(where, line)
        if read is not None:
            if read.is_prompt:
                self._rewind(text_at(line, "parentUuid"))
            self.lines.append(read)
        elif not _is_message(line) and text_at(line, "type") not in _BOOKKEEPING:
            self.unknown.append(f"a line of the unknown type {named(line.get('type'))}")
        if uuid is not None:
            here = len(self.lines)
            # What says nothing stands where its parent stands: after a rewind, on the new branch.
            self._ends[uuid] = here if read is not None else self._ends.get(text_at(line, "parentUuid") or "", here)

    def _rewind(self, parent: str | None) -> None:
        end = self._ends.get(parent or "", len(self.lines))
        if any(line.is_prompt for line in self.lines[end:]):
            self.left += len(self.lines) - end
            del self.lines[end:]

    def recorded(self) -> Recorded | None:
        draft = Draft("anthropic", self.lines[0].where if self.lines else "")
        for what in self.unknown:
            draft.leave_out(what)
        if self.left:
            draft.leave_out("a message on a branch that was left by a rewind", self.left)
        join = _Join(draft)
        for line in self.lines:
            join.add(line)
        return draft.recorded()


def _read_line(where: str, line: Mapping[str, Any]) -> _Line | None:
    """Return what of a line was sent to the model or came from it, or None."""
    if line.get("type") == "attachment":
        return _queued_prompt(where, line)
    message = mapping_at(line, "message")
    is_made_up = line.get("isApiErrorMessage") or message.get("model") == "<synthetic>"
    is_shown_only = line.get("isVisibleInTranscriptOnly") and not line.get("isCompactSummary")
    if not _is_message(line) or is_made_up or is_shown_only:
        return None
    is_prompt = line["type"] == "user" and not (line.get("isMeta") or line.get("isCompactSummary"))
    return _Line(
        where=where,
        role=line["type"],
        message=message,
        at=time_of(line),
        is_prompt=is_prompt and not any(block.get("type") == "tool_result" for block in _blocks(message)),
    )


def _queued_prompt(where: str, line: Mapping[str, Any]) -> _Line | None:
    """Return the prompt that the user typed while the agent worked, which reaches the model beside the results."""
    attachment = mapping_at(line, "attachment")
    prompt = attachment.get("prompt")
    if attachment.get("type") != "queued_command" or not isinstance(prompt, str | list):
        return None
    # Not a prompt to rewind from: its parents are the results that it travels with.
    return _Line(where=where, role="user", message={"content": prompt}, at=time_of(line), is_prompt=False)


class _Join:
    """Makes messages of lines: one of each response, one of all that the user's side says between two responses."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._response: tuple[str, int] | None = None
        """The id of the last response, and its index."""

    def add(self, line: _Line) -> None:
        if line.role == "assistant":
            self._add_response(line)
        elif self._draft.messages and self._draft.messages[-1]["role"] == "user":
            self._draft.messages[-1]["content"] = _results_first(
                [*_blocks(self._draft.messages[-1]), *_blocks(line.message)]
            )
            self._draft.touch(len(self._draft.messages) - 1, line.at)
        else:
            self._draft.add({"role": "user", "content": line.message["content"]}, line.at)

    def _add_response(self, line: _Line) -> None:
        id = text_at(line.message, "id")
        self._draft.model = self._draft.model or text_at(line.message, "model")
        if self._response is None or id is None or self._response[0] != id:
            self._response = (id or "", len(self._draft.messages))
            self._draft.add({"role": "assistant", "content": _blocks(line.message)}, line.at)
        else:
            content = self._draft.messages[self._response[1]]["content"]
            content.extend(block for block in _blocks(line.message) if block not in content)
            self._draft.touch(self._response[1], line.at)
        self._draft.report(self._response[1], line.message.get("usage"))


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _results_first(blocks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Order a user message as the API demands: results of calls stand before all else."""
    return sorted(blocks, key=lambda block: block.get("type") != "tool_result")
