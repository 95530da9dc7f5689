"""What a repair must know of each format and nobody else asks: what is empty, and where results have to stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from ..messages import DialectName, Wire

Answer: TypeAlias = tuple[Wire, int]
"""One result: the message that holds it, and its index among that message's results."""


class Mender(Protocol):
    """The knowledge of one format that only a repair needs."""

    root: str
    """What the provider calls the list, for paths."""
    orphan_code: str
    unanswered_code: str
    user_first_code: str | None
    """The rule that the user opens the conversation; None where anyone may."""
    answers_directly: bool
    """Whether results must stand directly behind their calls."""

    def clean(self, message: Wire, *, is_last: bool) -> tuple[Wire | None, str]:
        """Return the message without what the provider rejects as empty, None if that is all, and the rule's code.

        A message that needs nothing is returned itself.
        """
        ...

    def begins_with_results(self, message: Wire) -> bool: ...

    def gather(self, answers: Sequence[Answer]) -> list[Wire]:
        """Return the messages that carry these results, in this order; the given ones where they hold nothing else."""
        ...


class _ChatMender:
    root: str = "messages"
    orphan_code: str = "OC-2"
    unanswered_code: str = "OC-1"
    user_first_code: str | None = None
    answers_directly: bool = True

    def clean(self, message: Wire, *, is_last: bool) -> tuple[Wire | None, str]:
        code = "OC-3"
        if "tool_calls" in message and message["tool_calls"] is not None and not message["tool_calls"]:
            message = {key: value for key, value in message.items() if key != "tool_calls"}
            code = "OC-6"
        if message.get("content") not in (None, []):
            return message, code
        if message.get("role") in ("tool", "function"):
            return {**message, "content": ""}, "OC-4"
        speaks = any(message.get(key) for key in ("tool_calls", "function_call", "refusal", "audio"))
        return (message if speaks else None), code

    def begins_with_results(self, message: Wire) -> bool:
        return True

    def gather(self, answers: Sequence[Answer]) -> list[Wire]:
        return [message for message, _ in answers]


class _ResponsesMender:
    root: str = "input"
    orphan_code: str = "OR-1"
    unanswered_code: str = "OR-2"
    user_first_code: str | None = None
    answers_directly: bool = False

    def clean(self, message: Wire, *, is_last: bool) -> tuple[Wire | None, str]:
        return message, ""

    def begins_with_results(self, message: Wire) -> bool:
        return True

    def gather(self, answers: Sequence[Answer]) -> list[Wire]:
        return [message for message, _ in answers]


class _AnthropicMender:
    root: str = "messages"
    orphan_code: str = "AN-1"
    unanswered_code: str = "AN-1"
    user_first_code: str | None = "AN-4"
    answers_directly: bool = True

    def clean(self, message: Wire, *, is_last: bool) -> tuple[Wire | None, str]:
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if is_last and message.get("role") == "assistant" and not content:
            return message, ""
        kept = [block for block in content or () if block.get("type") != "text" or block.get("text")]
        if all(block.get("type") == "text" and block["text"].isspace() for block in kept):
            return None, "AN-6"
        return (message if len(kept) == len(content or ()) else {**message, "content": kept}), "AN-6"

    def begins_with_results(self, message: Wire) -> bool:
        content = message["content"]
        return _is_prefix([isinstance(block, Mapping) and block.get("type") == "tool_result" for block in content])

    def gather(self, answers: Sequence[Answer]) -> list[Wire]:
        blocks = [
            [block for block in message["content"] if block.get("type") == "tool_result"][index]
            for message, index in answers
        ]
        first = answers[0][0]
        return [first if _are_same(first["content"], blocks) else {"role": "user", "content": blocks}]


class _GeminiMender:
    root: str = "contents"
    orphan_code: str = "GE-3"
    unanswered_code: str = "GE-3"
    user_first_code: str | None = "GE-1"
    answers_directly: bool = True

    def clean(self, message: Wire, *, is_last: bool) -> tuple[Wire | None, str]:
        parts = message.get("parts") or ()
        kept = [part for part in parts if any(value is not None for value in part.values())]
        if not kept:
            return None, "GE-7"
        return (message if len(kept) == len(parts) else {**message, "parts": kept}), "GE-7"

    def begins_with_results(self, message: Wire) -> bool:
        return True

    def gather(self, answers: Sequence[Answer]) -> list[Wire]:
        parts = [[part for part in message["parts"] if _is_response(part)][index] for message, index in answers]
        first = answers[0][0]
        return [first if _are_same(first["parts"], parts) else {"role": "user", "parts": parts}]


def _is_prefix(flags: Sequence[bool]) -> bool:
    """Say whether all the true ones come before all the false ones."""
    return sorted(flags, reverse=True) == list(flags)


def _are_same(parts: Sequence[object], others: Sequence[object]) -> bool:
    return len(parts) == len(others) and all(part is other for part, other in zip(parts, others, strict=True))


def _is_response(part: Mapping[str, Any]) -> bool:
    return part.get("functionResponse", part.get("function_response")) is not None


MENDERS: Mapping[DialectName, Mender] = MappingProxyType(
    {
        "openai_chat": _ChatMender(),
        "openai_responses": _ResponsesMender(),
        "anthropic": _AnthropicMender(),
        "gemini": _GeminiMender(),
    }
)
