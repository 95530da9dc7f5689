"""Anthropic's messages format: content blocks, results inside the next user message, signed thinking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..messages import DialectName, Fit, Issue, Reading, Role, ToolCall, ToolResult, Wire
from ..models import binds_thinking
from ._wire import Draft, compact_json, has_role, mapping_at, parts_at, role_of, text_at, wrong
from .anthropic_rules import THINKING, check

_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_FOREIGN_KEYS = frozenset({"parts", "type", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"})
_OWN_BLOCKS = frozenset(
    {
        "tool_use",
        "tool_result",
        "redacted_thinking",
        "server_tool_use",
        "search_result",
        "container_upload",
        "compaction",
        "image",
        "document",
    }
)


class Anthropic:
    """Reads and writes Anthropic messages. Server tools run at the provider: opaque, never open calls."""

    @property
    def name(self) -> DialectName:
        return "anthropic"

    @property
    def splits_responses(self) -> bool:
        return False

    @property
    def system_is_beside(self) -> bool:
        return True

    def recognise(self, message: Wire) -> Fit:
        """Say how well a message fits: sure by any block type but text that only Anthropic has."""
        if not has_role(message, _ROLES) or not _FOREIGN_KEYS.isdisjoint(message) or "content" not in message:
            return Fit.NO
        content = message["content"]
        if isinstance(content, str):
            return Fit.MAYBE
        if not isinstance(content, list | tuple):
            return Fit.NO
        return min((_recognise_block(block) for block in content), key=_certainty, default=Fit.MAYBE)

    def read(self, message: Wire) -> Reading:
        """Take from a message what the core needs; unknown blocks are counted, not understood."""
        role = role_of(message, _ROLES, self.name)
        draft = Draft()
        content = message.get("content")
        if isinstance(content, str):
            draft.say(content or None, "content")
        elif isinstance(content, list | tuple):
            _read_blocks(draft, content, "content")
        else:
            raise wrong("content", content, "text or a list of content blocks")
        carries_results_only = bool(draft.results) and len(draft.results) == len(content)
        return draft.finish("tool" if carries_results_only else role)

    def validate(self, messages: Sequence[Wire]) -> list[Issue]:
        """List every rule that the messages break; the rules stand in anthropic_rules.py."""
        return check(messages)

    def write_user(self, text: str) -> dict[str, Any]:
        return {"role": "user", "content": [{"type": "text", "text": text}]}

    def replace_results(self, message: Wire, texts: Mapping[int, str]) -> dict[str, Any]:
        """Return a copy whose i-th tool_result says another text; `cache_control` on the block stays."""
        numbered = _numbered(message["content"], "tool_result")
        return {
            **message,
            "content": [{**block, "content": texts[index]} if index in texts else block for block, index in numbered],
        }

    def write_results(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[dict[str, Any]]:
        """Build the one user message that carries all results: they must all stand in the next message (AN-1)."""
        blocks = [_result_block(call, result) for call, result in zip(calls, results, strict=True)]
        return [{"role": "user", "content": blocks}] if blocks else []

    def binds_reasoning(self, model: str | None) -> bool:
        """Whether the API checks a thinking block against the messages before it (AN-10)."""
        return binds_thinking(model)

    def without_reasoning(self, message: Wire) -> Wire | None:
        """Return a copy without thinking; a block is taken out whole or stays as it is (AN-8)."""
        content = message.get("content")
        if not isinstance(content, list | tuple):
            return message
        kept = [block for block in content if block.get("type") not in THINKING]
        if len(kept) == len(content):
            return message
        return {**message, "content": kept} if kept else None

    def without(self, message: Wire, *, calls: frozenset[int], results: frozenset[int]) -> dict[str, Any] | None:
        """Return a copy without these; thinking alone is nothing, because it belongs to what it led to."""
        content = message["content"]
        kept = [block for block, index in _numbered(content, "tool_use") if index not in calls]
        kept = [block for block, index in _numbered(kept, "tool_result") if index not in results]
        if all(block.get("type") in THINKING for block in kept):
            return None
        return {**message, "content": kept}


def _recognise_block(block: object) -> Fit:
    if not isinstance(block, Mapping) or not isinstance(kind := block.get("type"), str):
        return Fit.NO
    if kind == "text":
        return Fit.MAYBE
    if kind == "thinking":
        # Mistral's chat format has a part of that name, whose thinking is a list.
        return Fit.SURE if isinstance(block.get("thinking"), str) else Fit.NO
    return Fit.SURE if kind in _OWN_BLOCKS or kind.endswith("_tool_result") else Fit.NO


def _certainty(fit: Fit) -> int:
    """Order fits so that one impossible block rules the format out, and else one certain block settles it."""
    return {Fit.NO: 0, Fit.SURE: 1, Fit.MAYBE: 2}[fit]


def _read_blocks(draft: Draft, content: object, field: str) -> None:
    for index, block in enumerate(parts_at(content, field)):
        _read_block(draft, block, f"{field}[{index}]")


def _read_block(draft: Draft, block: Mapping[str, Any], field: str) -> None:
    draft.has_cache_breakpoint = draft.has_cache_breakpoint or bool(block.get("cache_control"))
    match block.get("type"):
        case "text":
            draft.say(block.get("text"), f"{field}.text")
        case "tool_use":
            draft.calls.append(_read_call(block, field))
        case "tool_result":
            _read_result(draft, block, field)
        case "thinking":
            draft.think(block.get("thinking"), f"{field}.thinking")
            draft.sign(block.get("signature"))
            draft.is_signed = True
        case "redacted_thinking":
            draft.sign(block.get("data"))
            draft.is_signed = True
        case "image" | "document" as kind:
            if isinstance(block.get("title"), str):
                draft.say(block["title"], f"{field}.title")
            _read_source(draft, kind, mapping_at(block.get("source"), f"{field}.source"), f"{field}.source")
        case "search_result":
            draft.say(block.get("title"), f"{field}.title")
            draft.say(block.get("source"), f"{field}.source")
            _read_blocks(draft, block.get("content"), f"{field}.content")
        case _:
            draft.is_signed = draft.is_signed or bool(block.get("signature") or block.get("encrypted_content"))
            draft.skip(block)


def _read_call(block: Mapping[str, Any], field: str) -> ToolCall:
    return ToolCall(
        id=text_at(block.get("id"), f"{field}.id"),
        name=text_at(block.get("name"), f"{field}.name"),
        arguments=compact_json(block.get("input") if block.get("input") is not None else {}),
    )


def _read_result(draft: Draft, block: Mapping[str, Any], field: str) -> None:
    """Read a result; what it says is its own text, its images belong to the message."""
    content = block.get("content")
    inner = Draft()
    if isinstance(content, str):
        inner.say(content, f"{field}.content")
    elif content is not None:
        for index, part in enumerate(parts_at(content, f"{field}.content")):
            if "type" in part:
                _read_block(inner, part, f"{field}.content[{index}]")
            else:
                # A tool's own object that its agent will turn into text before it sends.
                inner.texts.append(compact_json(part))
    draft.attachments += inner.attachments
    draft.opaque_characters += inner.opaque_characters
    draft.has_cache_breakpoint = draft.has_cache_breakpoint or inner.has_cache_breakpoint
    draft.results.append(
        ToolResult(
            call_id=text_at(block.get("tool_use_id"), f"{field}.tool_use_id"),
            name=None,
            text="\n".join(inner.texts),
            is_error=bool(block.get("is_error")),
            attachments=tuple(inner.attachments),
        )
    )


def _result_block(call: ToolCall, result: ToolResult) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call.id, "content": result.text}
    return block | ({"is_error": True} if result.is_error else {})


def _read_source(draft: Draft, kind: str, source: Mapping[str, Any], field: str) -> None:
    """Read where an image or document comes from; a document of plain text or blocks is text like any other."""
    match source.get("type"):
        case "base64":
            draft.attach(kind, source.get("data"), media_type=source.get("media_type"))
        case "text":
            draft.say(source.get("data"), f"{field}.data")
        case "content" if isinstance(source.get("content"), str):
            draft.say(source["content"], f"{field}.content")
        case "content":
            _read_blocks(draft, source.get("content"), f"{field}.content")
        case _:
            draft.attach(kind, media_type=source.get("media_type"))


def _numbered(content: object, kind: str) -> Iterable[tuple[Mapping[str, Any], int]]:
    """Yield each block with its index among the blocks of one kind, -1 for other kinds."""
    count = 0
    for block in content if isinstance(content, list | tuple) else ({"type": "text", "text": content},):
        is_kind = block.get("type") == kind
        yield block, count if is_kind else -1
        count += is_kind
