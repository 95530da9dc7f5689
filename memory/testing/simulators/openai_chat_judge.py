"""What OpenAI's chat completions refuse. Written without a look at the rules of `memory.dialects`, to check them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .formats import Refusal
from .openai_errors import empty_array, long_array, long_string, missing, tools_problems, wrong_type, wrong_value

_ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")
_CALLS: Final = 128
_ID_LENGTH: Final = 40
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
}
"""Of each role; of the others: text. openai: types/chat/chat_completion_*_message_param.py"""


def judge(body: Mapping[str, Any]) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    return next(_problems(body), None)


def _problems(body: Mapping[str, Any]) -> Iterator[Refusal]:
    messages = body.get("messages")
    if messages is None:
        yield missing("messages")
    elif not isinstance(messages, list):
        yield wrong_type("messages", "an array of objects", messages)
    elif not messages:
        yield empty_array("messages", "C-1")
    else:
        for index, message in enumerate(messages):
            yield from _message_problems(f"messages[{index}]", index, message)
        yield from _pair_problems(messages)
    yield from tools_problems(body, nested=True)
    if body.get("stream_options") is not None and body.get("stream") is not True:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        yield Refusal(message=message, param="stream_options")


def _message_problems(path: str, index: int, message: Any) -> Iterator[Refusal]:
    if not isinstance(message, Mapping):
        yield wrong_type(path, "an object", message)
        return
    role = message.get("role")
    if role not in _ROLES:
        yield wrong_value(f"{path}.role", role, _ROLES, "OC-0") if role is not None else missing(f"{path}.role", "OC-0")
        return
    yield from _content_problems(path, index, message)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield missing(f"{path}.tool_call_id", "OC-0")
    if role == "assistant" and message.get("tool_calls") is not None:
        yield from _calls_problems(f"{path}.tool_calls", message["tool_calls"])


def _content_problems(path: str, index: int, message: Mapping[str, Any]) -> Iterator[Refusal]:
    content, role = message.get("content"), message["role"]
    if isinstance(content, str):
        return
    if content is None or content == []:
        if not _may_be_silent(message):
            # https://github.com/langchain-ai/langchainjs/issues/4153
            text = "Invalid value for 'content': expected a string, got null."
            yield Refusal(message=text, param=f"messages.[{index}].content", rule="OC-4" if role == "tool" else "OC-3")
    elif isinstance(content, list):
        for number, part in enumerate(content):
            yield from _part_problems(f"{path}.content[{number}]", path, role, part)
    else:
        yield wrong_type(f"{path}.content", "one of a string or array of objects", content, "OC-0")


def _may_be_silent(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and any(
        message.get(key) for key in ("tool_calls", "function_call", "refusal", "audio")
    )


def _part_problems(path: str, message: str, role: str, part: Any) -> Iterator[Refusal]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    supported = _PARTS.get(role, ("text",))
    if kind is None:
        yield missing(f"{path}.type", "OC-0")
    elif kind == "image_url" and role != "user":
        # https://github.com/OpenHands/OpenHands/issues/7700, https://github.com/openai/openai-node/issues/1030. Some
        # newer models do not refuse, and do not see the image either: https://github.com/openai/openai-openapi/issues/523
        text = (
            f"Invalid '{message}'. Image URLs are only allowed for messages with role 'user', but this message with "
            f"role '{role}' contains an image URL."
        )
        yield Refusal(message=text, param=message, code="invalid_value", rule="OC-4" if role == "tool" else "OC-5")
    elif kind not in supported:
        yield wrong_value(f"{path}.type", kind, supported, "OC-4" if role == "tool" else "OC-5")


def _calls_problems(path: str, calls: Any) -> Iterator[Refusal]:
    if not isinstance(calls, list):
        yield wrong_type(path, "an array of objects", calls, "OC-0")
        return
    if not calls:
        yield empty_array(path, "OC-6")
    if len(calls) > _CALLS:
        yield long_array(path, _CALLS, len(calls), "OC-6")
    for number, call in enumerate(calls):
        yield from _call_problems(f"{path}[{number}]", call)


def _call_problems(path: str, call: Any) -> Iterator[Refusal]:
    if not isinstance(call, Mapping):
        yield wrong_type(path, "an object", call, "OC-0")
        return
    id_ = call.get("id")
    if not isinstance(id_, str):
        yield missing(f"{path}.id", "OC-0")
    elif len(id_) > _ID_LENGTH:
        yield long_string(f"{path}.id", _ID_LENGTH, len(id_), "OC-6")
    kind = call.get("type")
    if kind not in ("function", "custom"):
        yield (
            missing(f"{path}.type", "OC-0")
            if kind is None
            else wrong_value(f"{path}.type", kind, ("function", "custom"), "OC-0")
        )
        return
    arguments = "arguments" if kind == "function" else "input"
    body = call.get(kind)
    if not isinstance(body, Mapping):
        yield missing(f"{path}.{kind}", "OC-0")
    elif not isinstance(body.get("name"), str):
        yield missing(f"{path}.{kind}.name", "OC-0")
    elif not isinstance(body.get(arguments), str):
        yield wrong_type(f"{path}.{kind}.{arguments}", "a string", body.get(arguments), "OC-8")


def _pair_problems(messages: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """Each call is answered directly behind its message, and nothing else is."""
    awaited: list[str] = []
    known: set[str] = set()
    for index, message in enumerate(messages):
        if message.get("role") == "tool":
            yield from _result_problems(index, message["tool_call_id"], awaited, known)
            continue
        yield from _unanswered(index, awaited)
        awaited = [call["id"] for call in message.get("tool_calls") or ()]
        known = set(awaited)
        for position, id_ in enumerate(awaited):
            if id_ in awaited[:position]:
                yield _duplicate(id_, index, index)
    yield from _unanswered(len(messages), awaited)


def _result_problems(index: int, id_: str, awaited: list[str], known: set[str]) -> Iterator[Refusal]:
    if id_ in awaited:
        awaited.remove(id_)
    elif id_ in known:
        yield _duplicate(id_, index - 1, index)
    else:
        # https://github.com/miurla/morphic/issues/136; the misspelling is the API's.
        message = (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
        )
        yield Refusal(message=message, param=f"messages.[{index}].role", rule="OC-2")


def _unanswered(index: int, awaited: Sequence[str]) -> Iterator[Refusal]:
    if awaited:
        # https://github.com/router-for-me/CLIProxyAPI/issues/2798
        message = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(awaited)}"
        )
        yield Refusal(message=message, param=f"messages.[{index}].role", rule="OC-1")


def _duplicate(id_: str, first: int, index: int) -> Refusal:
    # https://github.com/agno-agi/agno/issues/5116
    message = (
        f"Invalid parameter: Duplicate value for 'tool_call_id' of '{id_}', in messages[{first}] and messages[{index}]."
    )
    return Refusal(message=message, param=f"messages.[{index}].tool_call_id", rule="C-2")
