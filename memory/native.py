"""From the caller's object to the provider's JSON and back, without importing any SDK.

A message object stays what it is; what this module returns is a view of it for the dialects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import MessageError
from .messages import LLMMessage, Wire

_ACCEPTED = (
    "an LLMMessage, a dict in the format of OpenAI chat, OpenAI Responses, Anthropic or Gemini, "
    "or a response or message object of one of their SDKs"
)
_LLM_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name"})
"""A Responses item has a `type` besides: then it stays a dict."""
_RESPONSE_FIELDS = frozenset({"choices", "object", "candidates", "promptFeedback", "prompt_feedback", "type"})
"""A dict without any of these is a message and no response, as `unwrap` tells them apart."""
_DEEPEST = 8
"""SDK objects inside a dict are looked for this many levels down; tool arguments may nest for ever."""
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
"""Of JSON, and bytes. Every value of every message is asked for its type, so the common answers come first: this is
several times faster than `isinstance` with a union or with `Mapping`."""


def unwrap(message: object) -> list[object]:
    """Return the message objects that a caller's object carries: a response's own, or the message itself.

    An OpenAI chat completion gives its first choice's message, a Responses response each output item, a Gemini
    response its first candidate's content. An Anthropic response gives `{"role", "content"}` around its own
    content list, because the API rejects `id`, `model` and `usage` on the way back.

    Raises:
        MessageError: The response carries no message (no choices, no candidates).
    """
    if isinstance(message, LLMMessage) or (type(message) is dict and _RESPONSE_FIELDS.isdisjoint(message)):
        return [message]
    if (choices := _field(message, "choices")) is not None:
        return [_first_choice(choices)]
    if _field(message, "object") == "response" and (output := _field(message, "output")) is not None:
        return list(output)
    if (candidates := _field(message, "candidates")) is not None or _is_gemini_response(message):
        return [_first_candidate(candidates, message)]
    if _is_anthropic_response(message):
        return [{"role": _field(message, "role"), "content": _field(message, "content")}]
    return [message]


def to_wire(message: object) -> Wire:
    """Return the message as the provider's JSON, decoded: a dict as it is, SDK objects through their own dump.

    A dict that holds SDK objects (`{"role": "assistant", "content": response.content}`) is copied as far as needed.

    Raises:
        MessageError: The object is no message.
    """
    if isinstance(message, LLMMessage):
        message = message.to_wire()
    plain = _plain(message, _DEEPEST)
    if not isinstance(plain, Mapping):
        raise MessageError(f"cannot read a message of type {type(message).__name__}; accepted is {_ACCEPTED}")
    return plain


def like(original: object, wire: dict[str, Any]) -> object:
    """Return an edited message in the caller's own kind: an `LLMMessage` stays one, everything else is the dict."""
    is_ours = isinstance(original, LLMMessage) and wire.keys() <= _LLM_MESSAGE_FIELDS
    return LLMMessage.from_wire(wire) if is_ours else wire


def _field(message: object, name: str) -> Any:
    return message.get(name) if isinstance(message, (dict, Mapping)) else getattr(message, name, None)


def _first_choice(choices: Any) -> object:
    if not choices:
        raise MessageError("the response has no choices, so there is no message to add")
    message: object = _field(choices[0], "message")
    if message is None:
        raise MessageError("choices[0] has no message; of a stream, add the message that its chunks make up")
    return message


def _first_candidate(candidates: Any, response: object) -> object:
    if not candidates:
        feedback = _field(response, "prompt_feedback") or _field(response, "promptFeedback")
        reason = f" (prompt feedback: {feedback})" if feedback else ""
        raise MessageError(f"the response has no candidates, so there is no message to add{reason}")
    content: object = _field(candidates[0], "content")
    if content is None:
        reason = _field(candidates[0], "finish_reason") or _field(candidates[0], "finishReason")
        raise MessageError(f"candidates[0] has no content (finish reason: {reason}), so there is no message to add")
    return content


def _is_gemini_response(message: object) -> bool:
    """A blocked prompt comes back without any candidates key."""
    return isinstance(message, Mapping) and ("promptFeedback" in message or "prompt_feedback" in message)


def _is_anthropic_response(message: object) -> bool:
    return (
        _field(message, "type") == "message"
        and isinstance(_field(message, "content"), list)
        and any(_field(message, name) is not None for name in ("usage", "stop_reason", "model"))
    )


def _plain(value: Any, depth: int) -> Any:
    """Return the value without SDK objects; the very same object where it held none."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, (dict, Mapping)):
        return _plain_mapping(value, depth)
    if isinstance(value, (list, tuple)):
        items = [_plain(item, depth - 1) for item in value] if depth else value
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, (str, bytes, int, float)):
        return value
    dumped = _dump(value)
    return value if dumped is None else dumped


def _plain_mapping(value: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    if not depth:
        return value
    changed = {
        key: new
        for key, old in value.items()
        if type(old) not in _SCALARS and (new := _plain(old, depth - 1)) is not old
    }
    return {**value, **changed} if changed else value


def _dump(value: Any) -> Any:
    """Return an SDK object as JSON values, or None if it is no SDK object.

    Pydantic is recognised by `model_dump`; the protobuf wrappers of google-generativeai and Vertex AI by a
    `to_dict` on their class.
    """
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return _dump_model(dump)
    to_dict = getattr(type(value), "to_dict", None)
    return to_dict(value) if callable(to_dict) else None


def _dump_model(dump: Callable[..., Any]) -> Any:
    try:
        return dump(mode="json", exclude_none=True, by_alias=True)
    except ValueError:
        # Pydantic's JSON mode refuses lone surrogates, which models do write; its Python mode keeps them.
        return dump(exclude_none=True, by_alias=True)
