"""OpenAI's chat form, as OpenAI, compatible servers and LiteLLM take and give it: an answer is one message.

The SDK's own accumulator (`openai/lib/streaming/chat/_completions.py` of openai 2.54 and 3.52) takes OpenAI's streams
alone. What compatible servers send makes it fail or write nonsense: a role or an id in each piece is repeated
("assistantassistant"), a tool call without an index is a TypeError (ollama/ollama#7881, openai/openai-python#2806),
parallel calls that all have index 0 become one (ollama/ollama#15457).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from uuid import uuid4

from memory.dialects import dialect_named
from memory.messages import LLMMessage, Wire
from memory.native import to_wire
from memory.usage import Usage

from .beside import no_answer
from .failures import ReportedError
from .protocol import LLMResponse, StopReason
from .retrying import Attempt

Piece: TypeAlias = tuple[Literal["text", "reasoning", "tool_call"], str]

_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
"""`finish_reason` in `openai/types/chat/chat_completion.py`. One that is not listed ends the turn."""


@dataclass(slots=True, kw_only=True)
class ChatAnswer:
    """An answer as far as it has come."""

    message: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None

    def add(self, chunk: Wire) -> Iterator[Piece]:
        """Take the next piece of a stream, and yield what of it can be shown."""
        self.model = chunk.get("model") or self.model
        for choice in chunk.get("choices") or ():
            if choice.get("index") in (0, None):
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                yield from _add_delta(self.message, choice.get("delta") or {})


def chat_messages(messages: Sequence[object], system: str | None) -> list[Wire]:
    """Return the messages as they are sent, the system prompt in front where it was given apart."""
    prompts = [LLMMessage("system", system)] if system else []
    return [to_wire(message) for message in (*prompts, *messages)]


def whole_answer(completion: object, attempt: Attempt) -> ChatAnswer:
    """Return the answer of a completion that came in one piece.

    Raises:
        ReportedError: It carries an error in the place of an answer, as OpenRouter sends with status 200.
    """
    wire = to_wire(completion)
    if isinstance(error := wire.get("error"), Mapping):
        raise ReportedError(error)
    usage = attempt.read_usage(completion)
    choices = wire.get("choices") or ()
    if not choices:
        raise attempt.broken("the answer has no choices")
    return ChatAnswer(
        message=dict(choices[0].get("message") or {}),
        finish_reason=choices[0].get("finish_reason"),
        model=wire.get("model"),
        usage=usage,
    )


def chat_response(answer: ChatAnswer, attempt: Attempt) -> LLMResponse:
    """Return what the agent takes: the message as the memory keeps it, and what it says.

    Raises:
        BrokenAnswerError: There is nothing in it; another attempt is made.
    """
    message = _as_sent_back(answer)
    reading = dialect_named("openai_chat").read(message)
    is_empty = not (reading.calls or any(answer.message.get(key) for key in ("content", "refusal", "audio")))
    stop_reason = _stop_reason(answer, has_calls=bool(reading.calls))
    if stop_reason == "end_turn" and (is_empty or not (reading.text.strip() or reading.attachments)):
        raise attempt.broken("the answer is empty")
    return LLMResponse(
        content="" if is_empty else reading.text,
        tool_calls=reading.calls,
        stop_reason=stop_reason,
        usage=answer.usage,
        message=message,
        model=answer.model,
    )


def _stop_reason(answer: ChatAnswer, *, has_calls: bool) -> StopReason:
    reason = _STOP_REASONS.get(answer.finish_reason or "", "end_turn")
    if reason in ("end_turn", "tool_use"):
        # Several servers say "stop" beside calls, and some "tool_calls" without any.
        reason = "tool_use" if has_calls else "end_turn"
    return "refusal" if answer.message.get("refusal") else reason


_SAYS = frozenset({"tool_calls", "function_call", "refusal", "audio"})


def _as_sent_back(answer: ChatAnswer) -> dict[str, Any]:
    """Return the message without the fields that hold nothing: some servers refuse their own `tool_calls: []` (OC-6).

    The same whether it was streamed or not. A call gets an id where the server gave none, so that its result can name
    it.
    """
    kept = {key: value for key, value in answer.message.items() if not _is_nothing(value)}
    copy = {"role": "assistant", "content": kept.pop("content", None), **kept}
    copy["role"] = "assistant"
    if calls := copy.get("tool_calls"):
        copy["tool_calls"] = [_call_with_id(call) for call in calls]
    if _SAYS.isdisjoint(kept) and copy["content"] is None:
        copy["content"] = no_answer(answer.finish_reason or "unknown")  # all of it was reasoning (OC-3)
    return copy


def _is_nothing(value: object) -> bool:
    """Whether a field holds nothing; LiteLLM's hold mappings of nothing."""
    return value in (None, "", [], {}) or (isinstance(value, Mapping) and not any(value.values()))


def _call_with_id(call: Wire) -> dict[str, Any]:
    kind = call.get("type") or "function"
    rest = {key: value for key, value in call.items() if key not in ("id", "type", "index") and not _is_nothing(value)}
    return {"id": call.get("id") or f"call_{uuid4().hex[:24]}", "type": kind, **rest}


def _add_delta(message: dict[str, Any], delta: Wire) -> Iterator[Piece]:
    for key, value in delta.items():
        if value is None:
            continue
        if key == "tool_calls":
            for piece in value:
                yield from _add_call(message.setdefault("tool_calls", []), piece)
        elif key == "role":
            message[key] = value
        else:
            message[key] = _merged(message.get(key), value)
    yield from _shown(delta)


def _shown(delta: Wire) -> Iterator[Piece]:
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := delta.get(key), str) and text:
            yield "reasoning", text
            break
    for key in ("content", "refusal"):
        if isinstance(text := delta.get(key), str) and text:
            yield "text", text


def _add_call(calls: list[dict[str, Any]], piece: Wire) -> Iterator[Piece]:
    call = _call_that_goes_on(calls, piece)
    if call is None:
        call = {"index": piece.get("index"), "function": {"name": "", "arguments": ""}}
        calls.append(call)
    for key, value in piece.items():
        if key not in ("index", "function") and value not in (None, ""):
            call[key] = value
    function = piece.get("function") or {}
    yield from _add_name(call["function"], function.get("name"))
    arguments = function.get("arguments")
    if arguments:
        call["function"]["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)


def _call_that_goes_on(calls: list[dict[str, Any]], piece: Wire) -> dict[str, Any] | None:
    """Return the call that this piece belongs to, None if it begins one: by its id, then by its index."""
    call_id, index = piece.get("id"), piece.get("index")
    if call_id:
        known = next((call for call in calls if call.get("id") == call_id), None)
        if known is not None or index is None:
            return known
    elif index is None:
        return None if (piece.get("function") or {}).get("name") or not calls else calls[-1]
    same_index = next((call for call in reversed(calls) if call["index"] == index), None)
    return None if same_index and call_id and same_index.get("id") else same_index


def _add_name(function: dict[str, Any], name: object) -> Iterator[Piece]:
    """Take a call's name: sent once, or again with each piece, or in pieces."""
    if not isinstance(name, str) or not name or function["name"] == name:
        return
    if not function["name"]:
        yield "tool_call", name
    function["name"] += name


def _merged(old: Any, new: Any) -> Any:
    match old, new:
        case (str(), str()) | (list(), list()):
            return old + new
        case str(), list():
            return [{"type": "text", "text": old}, *new] if old else new
        case list(), str():
            return [*old, {"type": "text", "text": new}] if new else old
        case dict(), dict():
            return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
        case _:
            return new
