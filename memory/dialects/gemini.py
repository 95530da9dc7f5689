"""Gemini's contents format: parts, calls paired by id or by name and order, thought signatures.

Keys come in camelCase (REST, the CLI's logs) and snake_case (the Python SDKs); both are read, and what is
written back follows the message at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import MessageError
from ..messages import DialectName, Fit, Issue, Reading, Role, ToolCall, ToolResult, Wire
from ._wire import Draft, compact_json, mapping_at, parts_at, role_of, text_at
from .gemini_rules import check

_ROLES: Mapping[str, Role] = {"user": "user", "model": "assistant", "function": "user", "system": "system"}


class Gemini:
    """Reads and writes Gemini contents."""

    @property
    def name(self) -> DialectName:
        return "gemini"

    @property
    def splits_responses(self) -> bool:
        return False

    @property
    def system_is_beside(self) -> bool:
        return True

    def recognise(self, message: Wire) -> Fit:
        """Say how well a message fits: `parts` and no `content` is nobody else's."""
        if "content" in message or "type" in message:
            return Fit.NO
        return Fit.SURE if "parts" in message or message.get("role") == "model" else Fit.NO

    def read(self, message: Wire) -> Reading:
        """Take from a content what the core needs; unknown parts are counted, not understood."""
        # The SDK's own one-shot requests leave the role out; the API takes them as the user's.
        role = "user" if message.get("role") is None else role_of(message, _ROLES, self.name)
        if "parts" not in message and "content" in message:
            raise MessageError("gemini messages carry `parts`, this one carries `content`: it is of another format")
        draft = Draft()
        parts = parts_at(message.get("parts") or [], "parts")
        for index, part in enumerate(parts):
            _read_part(draft, part, f"parts[{index}]")
        carries_results_only = bool(draft.results) and len(draft.results) == len(parts)
        return draft.finish("tool" if carries_results_only else role)

    def validate(self, messages: Sequence[Wire]) -> list[Issue]:
        """List every rule that the contents break; the rules stand in gemini_rules.py."""
        return check(messages)

    def write_user(self, text: str) -> dict[str, Any]:
        return {"role": "user", "parts": [{"text": text}]}

    def replace_results(self, message: Wire, texts: Mapping[int, str]) -> dict[str, Any]:
        """Return a copy whose i-th functionResponse says another text under the key that it had."""
        numbered = _numbered(message.get("parts") or (), "functionResponse", "function_response")
        return {
            **message,
            "parts": [_say(part, texts[index]) if index in texts else part for part, index in numbered],
        }

    def write_results(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[dict[str, Any]]:
        """Build the one content that carries all responses: as many as there were calls (GE-3)."""
        parts = [_response_part(call, result) for call, result in zip(calls, results, strict=True)]
        return [{"role": "user", "parts": parts}] if parts else []

    def binds_reasoning(self, model: str | None) -> bool:
        """False: a signature belongs to its own part, whatever stands before it (GE-9)."""
        return False

    def without_reasoning(self, message: Wire) -> Wire | None:
        """Return the message itself: the current turn's calls are refused without their signatures (GE-8)."""
        return message

    def without(self, message: Wire, *, calls: frozenset[int], results: frozenset[int]) -> dict[str, Any] | None:
        """Return a copy without these; thoughts alone are nothing, because they belong to what they led to."""
        kept = [
            part for part, index in _numbered(message["parts"], "functionCall", "function_call") if index not in calls
        ]
        kept = [
            part for part, index in _numbered(kept, "functionResponse", "function_response") if index not in results
        ]
        return None if all(part.get("thought") for part in kept) else {**message, "parts": kept}


def _either(part: Mapping[str, Any], camel: str, snake: str) -> Any:
    value = part.get(camel)
    return part.get(snake) if value is None else value


def _read_part(draft: Draft, part: Mapping[str, Any], field: str) -> None:
    draft.sign(_either(part, "thoughtSignature", "thought_signature"))
    if (call := _either(part, "functionCall", "function_call")) is not None:
        draft.calls.append(_read_call(mapping_at(call, f"{field}.functionCall"), f"{field}.functionCall"))
    elif (response := _either(part, "functionResponse", "function_response")) is not None:
        field = f"{field}.functionResponse"
        _read_response(draft, mapping_at(response, field), field)
    elif (text := part.get("text")) is not None:
        (draft.think if part.get("thought") else draft.say)(text, f"{field}.text")
    elif not _read_media(draft, part, field):
        draft.skip({key: value for key, value in part.items() if key not in ("thoughtSignature", "thought_signature")})


def _read_call(call: Mapping[str, Any], field: str) -> ToolCall:
    args = call.get("args")
    return ToolCall(
        id=_optional_text(call.get("id"), f"{field}.id"),
        name=text_at(call.get("name"), f"{field}.name"),
        arguments=compact_json({} if args is None else args),
    )


def _read_response(draft: Draft, response: Mapping[str, Any], field: str) -> None:
    body = response.get("response")
    key = _text_key(body)
    draft.results.append(
        ToolResult(
            call_id=_optional_text(response.get("id"), f"{field}.id"),
            name=text_at(response.get("name"), f"{field}.name"),
            text=body[key] if key and body else "" if body is None else compact_json(body),
            is_error=isinstance(body, Mapping) and body.get("error") is not None and not body.get("output"),
        )
    )
    for index, part in enumerate(parts_at(response.get("parts") or [], f"{field}.parts")):
        if not _read_media(draft, part, f"{field}.parts[{index}]"):
            draft.skip(part)


def _response_part(call: ToolCall, result: ToolResult) -> dict[str, Any]:
    # "output" and "error" are the keys that FunctionResponse.response names (google-genai 3.4, types.py).
    response: dict[str, Any] = {"name": call.name, "response": {"error" if result.is_error else "output": result.text}}
    if call.id is not None:
        response["id"] = call.id
    return {"functionResponse": response}


def _text_key(body: object) -> str | None:
    """Return the key of a response that is one text, as SDKs and frameworks write it.

    "Use 'output' key to specify function output and 'error' key to specify error details": google-genai 3.4
    `types.FunctionResponse`; its own MCP helper writes `result`.
    """
    if isinstance(body, Mapping) and len(body) == 1:
        key, value = next(iter(body.items()))
        if isinstance(value, str) and key in ("output", "result", "error", "content"):
            return str(key)
    return None


def _read_media(draft: Draft, part: Mapping[str, Any], field: str) -> bool:
    """Read inline data or a file reference; return whether the part was one."""
    inline = _either(part, "inlineData", "inline_data")
    source = inline if inline is not None else _either(part, "fileData", "file_data")
    if source is None:
        return False
    source = mapping_at(source, f"{field}.inlineData" if inline is not None else f"{field}.fileData")
    media_type = _either(source, "mimeType", "mime_type")
    # `describe` tells image, sound and film apart by the media type.
    draft.attach(
        "document" if media_type is None else str(media_type).partition("/")[0],
        source.get("data"),
        media_type=media_type,
    )
    return True


def _optional_text(value: object, field: str) -> str | None:
    # Protobuf has no null: an absent id arrives as the empty string.
    return None if value is None or value == "" else text_at(value, field)


def _say(part: Mapping[str, Any], text: str) -> dict[str, Any]:
    key = "functionResponse" if "functionResponse" in part else "function_response"
    response = {name: value for name, value in part[key].items() if name != "parts"}
    body = response.get("response")
    failed = isinstance(body, Mapping) and body.get("error") is not None and not body.get("output")
    response["response"] = {_text_key(body) or ("error" if failed else "output"): text}
    return {**part, key: response}


def _numbered(parts: Sequence[Mapping[str, Any]], camel: str, snake: str) -> Iterable[tuple[Mapping[str, Any], int]]:
    """Yield each part with its index among the parts of one kind, -1 for other kinds."""
    count = 0
    for part in parts:
        is_kind = _either(part, camel, snake) is not None
        yield part, count if is_kind else -1
        count += is_kind
