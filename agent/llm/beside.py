"""Requests whose system prompt travels beside the messages, as Anthropic's and Gemini's do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from memory.dialects import dialect_named
from memory.errors import MessageError
from memory.messages import DialectName, LLMMessage, Wire
from memory.native import to_wire

_PARTS: Mapping[DialectName, str] = {"anthropic": "content", "gemini": "parts"}
_ASSISTANT: Mapping[DialectName, str] = {"anthropic": "assistant", "gemini": "model"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A list of messages, divided as the wire wants it."""

    system: str | None
    messages: tuple[object, ...]
    """The caller's own objects; an `LLMMessage` is written in the dialect."""
    is_asked_once: bool
    """Made of `LLMMessage`s alone, as a summary request is: nobody will go on with it."""


def divide(messages: Sequence[object], system: str | None, *, dialect: DialectName) -> Conversation:
    """Take the system prompts out of the messages, and write plain `LLMMessage`s in the dialect.

    Anthropic knows system messages in the middle of a conversation too; those that are dicts stay where they are.

    Raises:
        MessageError: An `LLMMessage` carries tool calls or results; those have to be in the dialect already.
    """
    prompts = [system] if system else []
    rest: list[object] = []
    for message in messages:
        is_leading = not rest
        if _role(message) == "system" and (is_leading or dialect == "gemini" or isinstance(message, LLMMessage)):
            prompts.append(dialect_named(dialect).read(_written(message, dialect)).text)
        else:
            rest.append(_written(message, dialect) if isinstance(message, LLMMessage) else message)
    return Conversation(
        system="\n\n".join(prompts) or None,
        messages=tuple(rest),
        is_asked_once=all(isinstance(message, LLMMessage) for message in messages),
    )


def no_answer(reason: str) -> str:
    """Return what stands in the conversation where the model said nothing: both formats reject an empty message."""
    return f"[no answer: {reason}]"


def convert_tools(tools: Sequence[Wire], convert: Callable[[Wire], Wire]) -> list[Wire]:
    """Convert each tool in OpenAI chat form; one in the provider's own form (a tool of its servers) stays."""
    return [convert(tool["function"]) if tool.get("type") == "function" else tool for tool in tools]


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, Mapping) else getattr(message, "role", None)


def _written(message: object, dialect: DialectName) -> Wire:
    if not isinstance(message, LLMMessage):
        return to_wire(message)
    if message.role not in ("system", "user", "assistant") or message.tool_calls:
        raise MessageError(
            f"an LLMMessage with role {message.role!r}{' and tool calls' if message.tool_calls else ''} is in OpenAI's "
            f"form; for this model give it as a dict in the form of {dialect}"
        )
    role = _ASSISTANT[dialect] if message.role == "assistant" else message.role
    parts = _PARTS[dialect]
    if isinstance(message.content, str):
        return {**dialect_named(dialect).write_user(message.content), "role": role}
    return {"role": role, parts: list(message.content or ())}
