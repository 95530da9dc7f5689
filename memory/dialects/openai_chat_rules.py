"""What OpenAI's chat completions accept, as far as a list of messages alone shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import Issue, Wire
from ._wire import Findings, Rule, Severity, shown

_TYPES = "https://github.com/openai/openai-python/blob/main/src/openai/types/chat/"

RULES = (
    Rule(
        code="OC-0",
        severity="error",
        title="A message is an object with a role, and every field of it has the type that OpenAI documents.",
        source=f"{_TYPES}chat_completion_message_param.py",
    ),
    Rule(
        code="C-1",
        severity="error",
        title="The list holds at least one message.",
        source="https://github.com/danny-avila/LibreChat/issues/10408",
    ),
    Rule(
        code="C-2",
        severity="error",
        title="A call id stands once among the calls that are open, and a call gets one result.",
        source="https://github.com/OpenHands/software-agent-sdk (observation_uniqueness.py)",
    ),
    Rule(
        code="C-6",
        severity="warning",
        title="A message has no fields but the documented ones and those that compatible servers add.",
        source="https://github.com/BerriAI/litellm/issues/30835",
    ),
    Rule(
        code="OC-1",
        severity="error",
        title="An assistant message with tool_calls is followed directly by one tool message for each of them.",
        source="https://github.com/agno-agi/agno/issues/3105",
    ),
    Rule(
        code="OC-2",
        severity="error",
        title="A tool message answers a call of the assistant message before it.",
        source="https://github.com/pydantic/pydantic-ai/issues/2050",
    ),
    Rule(
        code="OC-3",
        severity="error",
        title="Every message has content; an assistant message may go without where it calls a tool.",
        source=f"{_TYPES}chat_completion_assistant_message_param.py",
    ),
    Rule(
        code="OC-4",
        severity="error",
        title="A tool message says text: no images, no sound.",
        source=f"{_TYPES}chat_completion_tool_message_param.py",
    ),
    Rule(
        code="OC-5",
        severity="error",
        title="System, developer and assistant messages hold text (an assistant's also a refusal), no media.",
        source=f"{_TYPES}chat_completion_system_message_param.py",
    ),
    Rule(
        code="OC-6",
        severity="error",
        title="tool_calls holds 1 to 128 calls, each with an id of at most 40 characters.",
        source="https://github.com/microsoft/autogen/issues/6377, "
        "https://github.com/openai/openai-dotnet/issues/317, https://github.com/openai/openai-python/issues/2061",
    ),
    Rule(
        code="OC-8",
        severity="error",
        title="The arguments of a call are a string.",
        source=f"{_TYPES}chat_completion_message_function_tool_call_param.py",
    ),
    Rule(
        code="OC-11",
        severity="warning",
        title="Only the latest 80 explicit cache breakpoints of a conversation are considered.",
        source=f"{_TYPES}completion_create_params.py (PromptCacheOptions)",
    ),
)

_ID_LENGTH = 40
_CALLS = 128
_BREAKPOINTS = 80
_MEDIA = frozenset({"image_url", "input_audio", "file"})
_FIELDS = frozenset(
    {
        "role",
        "content",
        "name",
        "refusal",
        "audio",
        "annotations",
        "tool_calls",
        "tool_call_id",
        "function_call",
        # DeepSeek, Moonshot, Qwen; OpenRouter; LiteLLM; DeepSeek's and Moonshot's prefill.
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "thinking_blocks",
        "provider_specific_fields",
        "cache_control",
        "prefix",
        "partial",
    }
)


def check(messages: Sequence[Wire]) -> list[Issue]:
    """List the rules that these messages break, in their order."""
    return _Check().run(messages)


class _Check:
    """Walks the list once; `_open` are the calls of the assistant message whose results are being read."""

    def __init__(self) -> None:
        self._found = Findings(RULES, "messages")
        self._open: dict[object, tuple[int, int]] = {}
        self._answered: set[object] = set()
        self._breakpoints = 0

    def run(self, messages: Sequence[Wire]) -> list[Issue]:
        if not messages:
            self._found.add_empty("C-1")
        for index, message in enumerate(messages):
            self._message(index, message)
        self._close_calls()
        if self._breakpoints > _BREAKPOINTS:
            text = f"{self._breakpoints} cache breakpoints; only the latest {_BREAKPOINTS} are looked at"
            self._found.add("OC-11", len(messages) - 1, text)
        return self._found.in_order()

    def _message(self, index: int, message: Wire) -> None:
        role = message.get("role")
        if role not in ("tool", "function"):
            self._close_calls()
        if not message.keys() <= _FIELDS:
            extra = sorted(str(key) for key in message.keys() - _FIELDS)
            self._found.add("C-6", index, f"unknown fields {shown(extra)}: strict servers reject them")
        self._content(index, message)
        match role:
            case "tool" | "function":
                self._result(index, message)
            case "assistant":
                self._calls(index, message)
            case "user" | "system" | "developer":
                pass
            case _:
                self._found.add("OC-0", index, f"the role is {shown(role)}", at=".role")

    def _close_calls(self) -> None:
        for id_, (index, number) in self._open.items():
            text = f"call {shown(id_)} has no result directly behind this message"
            self._found.add("OC-1", index, text, at=f".tool_calls[{number}]")
        self._open.clear()
        self._answered.clear()

    def _content(self, index: int, message: Wire) -> None:
        content = message.get("content")
        if isinstance(content, str):
            return
        if content is None or content == []:
            if not _may_be_silent(message):
                code = "OC-4" if message.get("role") == "tool" else "OC-3"
                self._found.add(code, index, "there is no content", at=".content")
        elif isinstance(content, list | tuple):
            self._parts(index, message.get("role"), content)
        else:
            self._found.add("OC-0", index, f"content is {type(content).__name__}", at=".content")

    def _parts(self, index: int, role: object, parts: Sequence[Any]) -> None:
        for number, part in enumerate(parts):
            at = f".content[{number}]"
            kind = part.get("type") if isinstance(part, Mapping) else None
            if not isinstance(kind, str):
                self._found.add("OC-0", index, "the part is no object with a type", at=at)
                continue
            if "prompt_cache_breakpoint" in part:
                self._breakpoints += 1
            if role == "user" or kind in ("text", "refusal"):
                continue
            code = "OC-4" if role == "tool" else "OC-5"
            # A kind that OpenAI does not have belongs to some compatible server, which may well accept it.
            severity: Severity | None = None if kind in _MEDIA else "warning"
            self._found.add(code, index, f"a part of type {shown(kind)} in a {role} message", at=at, severity=severity)

    def _result(self, index: int, message: Wire) -> None:
        id_ = message.get("tool_call_id")
        if message.get("role") == "function":
            id_ = ("function", str(message.get("name")))
        elif not isinstance(id_, str):
            self._found.add("OC-0", index, f"tool_call_id is {type(id_).__name__}, not text", at=".tool_call_id")
            return
        if self._open.pop(id_, None) is not None:
            self._answered.add(id_)
        elif id_ in self._answered:
            self._found.add("C-2", index, f"a second result for call {shown(id_)}")
        else:
            self._found.add("OC-2", index, f"no call {shown(id_)} in the assistant message before this result")

    def _calls(self, index: int, message: Wire) -> None:
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list | tuple):
            self._found.add("OC-0", index, f"tool_calls is {type(calls).__name__}, not a list", at=".tool_calls")
            return
        if calls is not None and not 1 <= len(calls) <= _CALLS:
            self._found.add("OC-6", index, f"{len(calls)} calls; allowed are 1 to {_CALLS}", at=".tool_calls")
        for number, call in enumerate(calls or ()):
            self._call(index, number, call)
        legacy = message.get("function_call")
        if isinstance(legacy, Mapping):
            self._open["function", str(legacy.get("name"))] = (index, len(calls or ()))
            self._arguments(index, ".function_call", legacy.get("arguments"))

    def _call(self, index: int, number: int, call: Any) -> None:
        at = f".tool_calls[{number}]"
        id_ = call.get("id") if isinstance(call, Mapping) else None
        if not isinstance(id_, str):
            self._found.add("OC-0", index, "the call has no id", at=at)
            return
        if id_ in self._open:
            self._found.add("C-2", index, f"another call of this message has the id {shown(id_)} too", at=at)
        self._open[id_] = (index, number)
        if len(id_) > _ID_LENGTH:
            text = f"the id has {len(id_)} characters; allowed are {_ID_LENGTH}"
            self._found.add("OC-6", index, text, at=f"{at}.id")
        custom = call.get("custom")
        body = custom if custom is not None else call.get("function")
        if isinstance(body, Mapping) and isinstance(body.get("name"), str):
            self._arguments(index, at, body.get("arguments" if custom is None else "input"))
        else:
            self._found.add("OC-0", index, "the call names no function", at=at)

    def _arguments(self, index: int, at: str, arguments: object) -> None:
        if not isinstance(arguments, str):
            text = f"the arguments are {type(arguments).__name__}, not JSON text"
            self._found.add("OC-8", index, text, at=at)


def _may_be_silent(message: Wire) -> bool:
    """Say whether content may be missing. A refusal and a spoken answer come back from the API without any."""
    return message.get("role") == "assistant" and any(
        message.get(key) for key in ("tool_calls", "function_call", "refusal", "audio")
    )
