"""OpenAI's Responses format: a flat list of items, one per message, call, result or reasoning.

One response of the model arrives as several items. The item types are those of openai 3.52
`types/responses/response_input_item_param.py`; a type that is not known here is kept as an opaque item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..messages import DialectName, Fit, Issue, Reading, Role, ToolCall, ToolResult, Wire
from ._wire import Draft, compact_json, has_role, mapping_at, parts_at, payload_length, role_of, text_at, wrong
from .openai_responses_items import CALLS, RESULT_IDS, RESULTS, result_id
from .openai_responses_rules import check

_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_PARTS = frozenset({"input_text", "output_text", "input_image", "input_file", "summary_text", "reasoning_text"})
_BLANK_IMAGE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
"""One pixel: a computer call's output must be a screenshot, so its placeholder must be one too."""


_SERVER_ITEMS = frozenset(
    {
        "file_search_call",
        "web_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "compaction",
        "item_reference",
    }
)
"""What the provider ran or keeps itself: calls that carry their own output, and state of the server."""
_SYSTEM_ITEMS = frozenset({"additional_tools", "configuration_update"})
_NAMED_AFTER_REASONING = frozenset({"message", "function_call", "custom_tool_call"})
"""Items that may be sent without the id that the server gave them; a call is paired by its `call_id`."""
_KNOWN = frozenset({"message", "reasoning", *CALLS, *RESULTS, *_SERVER_ITEMS, *_SYSTEM_ITEMS})


class OpenAIResponses:
    """Reads and writes Responses items."""

    @property
    def name(self) -> DialectName:
        return "openai_responses"

    @property
    def splits_responses(self) -> bool:
        return True

    @property
    def system_is_beside(self) -> bool:
        return False

    def recognise(self, message: Wire) -> Fit:
        """Say how well an item fits: sure by its type, or by a content part that only Responses has."""
        if "parts" in message or "tool_calls" in message or "tool_call_id" in message:
            return Fit.NO
        if (kind := message.get("type")) is not None:
            return (Fit.SURE if kind in _KNOWN else Fit.MAYBE) if isinstance(kind, str) else Fit.NO
        if not has_role(message, _ROLES):
            return Fit.NO
        content = message.get("content")
        if isinstance(content, str):
            return Fit.MAYBE
        if not isinstance(content, list | tuple | None):
            return Fit.NO
        kinds = {str(part.get("type")) for part in content or () if isinstance(part, Mapping)}
        return Fit.SURE if kinds & _PARTS else Fit.MAYBE if kinds <= {"refusal", "input_audio"} else Fit.NO

    def read(self, message: Wire) -> Reading:
        """Take from an item what the core needs; an unknown item is the assistant's and opaque."""
        kind = message.get("type", "message" if "role" in message else None)
        if not isinstance(kind, str):
            raise wrong("type", kind, "an item type, or a role beside content")
        draft = Draft()
        if kind == "message":
            role = role_of(message, _ROLES, self.name)
            _read_content(draft, message.get("content"), "content")
            return draft.finish(role)
        if kind in CALLS and message.get(CALLS[kind].id) is not None:
            draft.calls.append(_read_call(kind, message))
            draft.opaque_characters += payload_length(message["fingerprint"]) if "fingerprint" in message else 0
            return draft.finish("assistant")
        if kind in RESULTS and result_id(kind, message) is not None:
            _read_result(draft, kind, message)
            return draft.finish("tool")
        if kind == "reasoning":
            return _read_reasoning(draft, message)
        if kind == "function_call_output":
            # Without a call id it answers nothing: something outside tells the model what happened.
            _read_output(draft, message)
            return draft.finish("user")
        _read_opaque(draft, kind, message)
        return draft.finish("system" if kind in _SYSTEM_ITEMS else "assistant")

    def validate(self, messages: Sequence[Wire]) -> list[Issue]:
        """List every rule that the items break; the rules stand in openai_responses_rules.py."""
        return check(messages)

    def write_user(self, text: str) -> dict[str, Any]:
        return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}

    def replace_results(self, message: Wire, texts: Mapping[int, str]) -> dict[str, Any]:
        """Return the result item with other output, in the shape that its type demands.

        A screenshot becomes one blank pixel, because the type knows no text; `tool_search_output` stays, because
        it defines tools that later calls use.
        """
        if 0 not in texts:
            return dict(message)
        return {**message, **_OUTPUT_FIELDS.get(message["type"], _text_output)(message, texts[0])}

    def write_results(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[dict[str, Any]]:
        """Build one output item for each call, of the type that the call's own type demands."""
        return [_result_item(call, result.text) for call, result in zip(calls, results, strict=True)]

    def binds_reasoning(self, model: str | None) -> bool:
        """False: a reasoning item needs the item that it led to behind it, not the same messages before it (OR-3)."""
        return False

    def without_reasoning(self, message: Wire) -> Wire | None:
        """Return None for a reasoning item; what it led to loses its id, which is not valid without it (OR-4)."""
        kind = message.get("type", "message" if "role" in message else None)
        if kind == "reasoning":
            return None
        if kind not in _NAMED_AFTER_REASONING or message.get("id") is None:
            return message
        return {key: value for key, value in message.items() if key != "id"}

    def without(self, message: Wire, *, calls: frozenset[int], results: frozenset[int]) -> dict[str, Any] | None:
        """Return None if the item's one call or result is to go, else a copy."""
        return None if 0 in calls or 0 in results else dict(message)


def _read_content(draft: Draft, content: object, field: str) -> None:
    if isinstance(content, str):
        draft.say(content or None, field)
        return
    for index, part in enumerate(parts_at(content, field)):
        _read_part(draft, part, f"{field}[{index}]")


def _read_part(draft: Draft, part: Mapping[str, Any], field: str) -> None:
    draft.has_cache_breakpoint = draft.has_cache_breakpoint or bool(part.get("prompt_cache_breakpoint"))
    match part.get("type"):
        case "input_text" | "output_text" | "text" | "summary_text":
            draft.say(part.get("text"), f"{field}.text")
        case "refusal":
            draft.say(part.get("refusal"), f"{field}.refusal")
        case "input_image" | "computer_screenshot":
            draft.attach("image", part.get("image_url"), detail=part.get("detail"), is_url=True)
        case "input_file":
            draft.attach("document", part.get("file_data"), detail=part.get("detail"))
        case "input_audio":
            audio = mapping_at(part.get("input_audio"), f"{field}.input_audio")
            draft.attach("audio", audio.get("data"), media_type=f"audio/{audio.get('format', 'wav')}")
        case _:
            draft.skip(part)


def _read_call(kind: str, item: Wire) -> ToolCall:
    shape = CALLS[kind]
    arguments = item.get(shape.arguments)
    if kind == "computer_call" and arguments is None:
        arguments = item.get("actions")
    return ToolCall(
        id=text_at(item[shape.id], shape.id),
        name=kind if shape.name is None else text_at(item.get(shape.name), shape.name),
        arguments=compact_json({} if arguments is None else arguments),
        kind=None if kind == "function_call" else kind,
    )


def _read_result(draft: Draft, kind: str, item: Wire) -> None:
    inner = Draft()
    _RESULT_READERS.get(kind, _read_output)(inner, item)
    text = "\n".join(inner.texts)
    inner.texts.clear()
    draft.attachments, draft.opaque_characters = inner.attachments, inner.opaque_characters
    draft.has_cache_breakpoint = inner.has_cache_breakpoint
    name = item.get("name")
    draft.results.append(
        ToolResult(
            call_id=text_at(result_id(kind, item), "call_id"),
            name=name if isinstance(name, str) else None,
            text=text,
            is_error=item.get("status") == "failed",
        )
    )


def _read_output(draft: Draft, item: Wire) -> None:
    output = item.get("output")
    if isinstance(output, Mapping):
        _read_part(draft, output, "output")
    elif output is not None:
        _read_content(draft, output, "output")


def _read_shell_output(draft: Draft, item: Wire) -> None:
    for index, chunk in enumerate(parts_at(item.get("output") or [], "output")):
        draft.say(chunk.get("stdout") or None, f"output[{index}].stdout")
        draft.say(chunk.get("stderr") or None, f"output[{index}].stderr")
        if (code := (chunk.get("outcome") or {}).get("exit_code")) not in (None, 0):
            draft.texts.append(f"[exit code {code}]")


def _read_approval(draft: Draft, item: Wire) -> None:
    draft.texts.append("approved" if item.get("approve") else "denied")
    draft.say(item.get("reason"), "reason")


def _read_program_output(draft: Draft, item: Wire) -> None:
    draft.say(item.get("result"), "result")


def _read_found_tools(draft: Draft, item: Wire) -> None:
    """Count tool definitions as opaque: they are in force from here on, so nobody may put a placeholder there."""
    draft.skip(item.get("tools"))


_RESULT_READERS: Mapping[str, Callable[[Draft, Wire], None]] = {
    "shell_call_output": _read_shell_output,
    "mcp_approval_response": _read_approval,
    "program_output": _read_program_output,
    "tool_search_output": _read_found_tools,
}


def _read_reasoning(draft: Draft, item: Wire) -> Reading:
    for field in ("summary", "content"):
        for index, part in enumerate(parts_at(item.get(field) or [], field)):
            draft.think(part.get("text"), f"{field}[{index}].text")
    draft.sign(item.get("encrypted_content"))
    return draft.finish("assistant", binds_next=True)


def _read_opaque(draft: Draft, kind: str, item: Wire) -> None:
    """Count what is sent of an item that is not ours to read; a generated image is an image, not its base64."""
    if kind == "image_generation_call" and isinstance(item.get("result"), str):
        draft.attach("image", item["result"])
        item = {key: value for key, value in item.items() if key != "result"}
    draft.is_signed = bool(item.get("encrypted_content"))
    draft.skip(item)


def _result_item(call: ToolCall, text: str) -> dict[str, Any]:
    kind = CALLS[call.kind or "function_call"].result_type
    item = {"type": kind, RESULT_IDS.get(kind, ("call_id",))[0]: call.id}
    if kind == "apply_patch_call_output":
        item["status"] = "failed"
    if kind == "mcp_approval_response":
        return {**item, "approve": False, "reason": text}
    if kind == "tool_search_output":
        return {**item, "tools": []}
    if kind == "program_output":
        item |= {"id": call.id, "status": "incomplete"}
    return {**item, **_OUTPUT_FIELDS.get(kind, _text_output)(item, text)}


def _text_output(item: Wire, text: str) -> dict[str, Any]:
    """Return the output as text; a cache breakpoint among the old output's parts is kept."""
    output = item.get("output")
    marks = (
        [part["prompt_cache_breakpoint"] for part in output if part.get("prompt_cache_breakpoint")]
        if isinstance(output, list)
        else []
    )
    if not marks:
        return {"output": text}
    return {"output": [{"type": "input_text", "text": text, "prompt_cache_breakpoint": marks[-1]}]}


def _screenshot_output(item: Wire, text: str) -> dict[str, Any]:
    return {"output": {"type": "computer_screenshot", "image_url": _BLANK_IMAGE}}


def _shell_output(item: Wire, text: str) -> dict[str, Any]:
    chunks = item.get("output") or [{"outcome": {"type": "exit", "exit_code": 0}}]
    return {"output": [{"stdout": text, "stderr": "", "outcome": chunks[-1].get("outcome")}]}


def _approval_reason(item: Wire, text: str) -> dict[str, Any]:
    return {"reason": text}


def _program_result(item: Wire, text: str) -> dict[str, Any]:
    return {"result": text}


def _same_tools(item: Wire, text: str) -> dict[str, Any]:
    return {}


_OUTPUT_FIELDS: Mapping[str, Callable[[Wire, str], dict[str, Any]]] = {
    "computer_call_output": _screenshot_output,
    "shell_call_output": _shell_output,
    "mcp_approval_response": _approval_reason,
    "program_output": _program_result,
    "tool_search_output": _same_tools,
}
