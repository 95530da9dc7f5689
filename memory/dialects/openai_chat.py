"""OpenAI's chat completions format, which most other providers and local servers speak too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import DialectName, Fit, Issue, Reading, Role, ToolCall, ToolResult, Wire
from ..models import binds_thinking
from ._wire import Draft, compact_json, has_role, mapping_at, parts_at, role_of, text_at, wrong
from .openai_chat_rules import check

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_OWN_KEYS = frozenset(
    {"tool_calls", "tool_call_id", "function_call", "refusal", "audio", "reasoning_content", "thinking_blocks"}
)
_SIGNED_FIELDS = frozenset({"thinking_blocks", "reasoning_details"})
"""LiteLLM's, which makes Anthropic's blocks of them (litellm 1.106, prompt_templates/factory.py), and OpenRouter's."""
_OWN_PARTS = frozenset({"image_url", "file"})
_FOREIGN_KEYS = frozenset({"parts", "type"})


class OpenAIChat:
    """Reads and writes chat messages: one message per result, paired by `tool_call_id`."""

    @property
    def name(self) -> DialectName:
        return "openai_chat"

    @property
    def splits_responses(self) -> bool:
        return False

    @property
    def system_is_beside(self) -> bool:
        return False

    def recognise(self, message: Wire) -> Fit:
        """Say how well a message fits: sure by `tool_calls`, a tool role, or an `image_url` part."""
        if not has_role(message, _ROLES) or not _FOREIGN_KEYS.isdisjoint(message):
            return Fit.NO
        if message["role"] in ("tool", "function") or not _OWN_KEYS.isdisjoint(message):
            return Fit.SURE
        kinds = _part_kinds(message.get("content"))
        if not _OWN_PARTS.isdisjoint(kinds):
            return Fit.SURE
        return Fit.MAYBE if kinds <= {"text", "refusal", "input_audio"} else Fit.NO

    def read(self, message: Wire) -> Reading:
        """Take from a message what the core needs; unknown parts are counted, not understood."""
        role = role_of(message, _ROLES, self.name)
        draft = Draft()
        draft.has_cache_breakpoint = _marks_cache(message)
        _read_content(draft, message.get("content"))
        if role == "tool":
            _turn_into_result(draft, message)
        elif role == "assistant":
            _read_assistant(draft, message)
        return draft.finish(role)

    def validate(self, messages: Sequence[Wire]) -> list[Issue]:
        """List every rule that the messages break; the rules stand in openai_chat_rules.py."""
        return check(messages)

    def write_user(self, text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    def replace_results(self, message: Wire, texts: Mapping[int, str]) -> dict[str, Any]:
        """Return the tool message with other content; parts that mark a cache breakpoint keep the mark."""
        if 0 not in texts:
            return dict(message)
        marks = _breakpoint_marks(message.get("content"))
        content = [{"type": "text", "text": texts[0], **marks}] if marks else texts[0]
        return {**message, "content": content}

    def write_results(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[dict[str, Any]]:
        """Build one tool message for each call."""
        return [_result_message(call, result.text) for call, result in zip(calls, results, strict=True)]

    def binds_reasoning(self, model: str | None) -> bool:
        """Whether a gateway sends this on to a Claude that checks thinking against the messages before it (AN-10)."""
        return binds_thinking(model)

    def without_reasoning(self, message: Wire) -> Wire | None:
        """Return a copy without the fields in which gateways hand reasoning through; unsigned it may stay."""
        if _SIGNED_FIELDS.isdisjoint(message):
            return message
        gone = _SIGNED_FIELDS | {"reasoning_content", "reasoning"}
        copy = {key: value for key, value in message.items() if key not in gone}
        return copy if _says_something(copy) else None

    def without(self, message: Wire, *, calls: frozenset[int], results: frozenset[int]) -> dict[str, Any] | None:
        """Return a copy without these; an assistant message that said nothing else goes with its last call."""
        if results:
            return None
        copy = dict(message)
        listed = message.get("tool_calls") or ()
        copy["tool_calls"] = [call for index, call in enumerate(listed) if index not in calls]
        if not copy["tool_calls"]:
            del copy["tool_calls"]
        if len(listed) in calls:
            copy.pop("function_call", None)
        return copy if _says_something(copy) else None


def _part_kinds(content: object) -> frozenset[str]:
    if not isinstance(content, list | tuple):
        return frozenset()
    return frozenset(str(part.get("type")) if isinstance(part, Mapping) else "" for part in content)


def _read_content(draft: Draft, content: object) -> None:
    if content is None or isinstance(content, str):
        draft.say(content or None, "content")
        return
    if not isinstance(content, list | tuple):
        raise wrong("content", content, "text, a list of parts or null")
    for index, part in enumerate(parts_at(content, "content")):
        _read_part(draft, part, f"content[{index}]")


def _read_part(draft: Draft, part: Mapping[str, Any], field: str) -> None:
    draft.has_cache_breakpoint = draft.has_cache_breakpoint or _marks_cache(part)
    match part:
        case {"type": "text", "text": text} | {"type": "refusal", "refusal": text}:
            draft.say(text, f"{field}.{part['type']}")
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            draft.attach("image", url, detail=rest.get("detail"), is_url=True)
        case {"type": "image_url", "image_url": str(url)}:
            # Not OpenAI's own shape, but what several compatible servers send and accept.
            draft.attach("image", url, is_url=True)
        case {"type": "input_audio", "input_audio": {"data": data, **rest}}:
            draft.attach("audio", data, media_type=f"audio/{rest.get('format', 'wav')}")
        case {"type": "file", "file": {**file}}:
            draft.attach("document", file.get("file_data"))
        case _:
            draft.skip(part)


def _turn_into_result(draft: Draft, message: Wire) -> None:
    """Make what a tool message says the result it carries."""
    call_id, name = message.get("tool_call_id"), message.get("name")
    result = ToolResult(
        call_id=None if call_id is None else text_at(call_id, "tool_call_id"),
        name=name if isinstance(name, str) else None,
        text="\n".join(draft.texts),
        # Not on OpenAI's wire; frameworks that keep a mark of failure write it so.
        is_error=message.get("status") == "error",
    )
    draft.texts.clear()
    draft.results.append(result)


def _read_assistant(draft: Draft, message: Wire) -> None:
    draft.say(message.get("refusal"), "refusal")
    _read_reasoning(draft, message)
    if audio := message.get("audio"):
        draft.say(audio.get("transcript") or None, "audio.transcript")
        draft.attach("audio", audio.get("data"))
    calls = message.get("tool_calls")
    for index, call in enumerate(parts_at(calls, "tool_calls") if calls is not None else ()):
        _read_call(draft, call, f"tool_calls[{index}]")
    if (legacy := message.get("function_call")) is not None:
        legacy = mapping_at(legacy, "function_call")
        arguments = compact_json(legacy.get("arguments") or "")
        name = text_at(legacy.get("name"), "function_call.name")
        draft.calls.append(ToolCall(id=None, name=name, arguments=arguments, kind="function_call"))


def _read_reasoning(draft: Draft, message: Wire) -> None:
    """Read what compatible servers add: reasoning text (DeepSeek, OpenRouter) or signed blocks (LiteLLM)."""
    blocks = message.get("thinking_blocks")
    if isinstance(blocks, list | tuple) and blocks:
        for block in blocks:
            draft.think(block.get("thinking"), "thinking_blocks[].thinking")
            draft.sign(block.get("signature"))
            draft.sign(block.get("data"))
        return
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    draft.think(reasoning if isinstance(reasoning, str) else None, "reasoning_content")
    for detail in message.get("reasoning_details") or ():
        draft.sign(detail.get("data"))
        draft.sign(detail.get("signature"))


def _read_call(draft: Draft, call: Mapping[str, Any], field: str) -> None:
    """Read a function or custom tool call; a vendor's thought signature may ride on it (OC-9)."""
    kind = "custom" if "custom" in call else "function"
    body = mapping_at(call.get(kind), f"{field}.{kind}")
    call_id = call.get("id")
    draft.calls.append(
        ToolCall(
            id=None if call_id is None else text_at(call_id, f"{field}.id"),
            name=text_at(body.get("name"), f"{field}.{kind}.name"),
            arguments=compact_json(body.get("input" if kind == "custom" else "arguments") or ""),
            kind="custom" if kind == "custom" else None,
        )
    )
    draft.sign(call.get("extra_content") or call.get("provider_specific_fields"))


def _result_message(call: ToolCall, text: str) -> dict[str, Any]:
    if call.kind == "function_call":
        return {"role": "function", "name": call.name, "content": text}
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def _marks_cache(part: Mapping[str, Any]) -> bool:
    """OpenAI's own breakpoint, or Anthropic's as OpenRouter and LiteLLM pass it on."""
    return bool(part.get("prompt_cache_breakpoint") or part.get("cache_control"))


def _breakpoint_marks(content: object) -> dict[str, Any]:
    parts = content if isinstance(content, list | tuple) else ()
    return {
        key: part[key]
        for part in parts
        for key in ("prompt_cache_breakpoint", "cache_control")
        if isinstance(part, Mapping) and part.get(key)
    }


def _says_something(message: Mapping[str, Any]) -> bool:
    return any(message.get(key) for key in ("content", "refusal", "audio", "tool_calls", "function_call"))
