"""The four wire formats: finding the right one, and judging a list by its provider's rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ..errors import ConfigError, MessageError
from ..messages import Dialect, DialectName, Fit, Issue, Wire
from ..native import to_wire, unwrap
from . import anthropic_rules, gemini_rules, openai_chat_rules, openai_responses_rules
from ._wire import Rule
from .anthropic import Anthropic
from .gemini import Gemini
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses

__all__ = ["DIALECTS", "RULES", "Rule", "detect", "dialect_named", "validate"]

DIALECTS: Mapping[DialectName, Dialect] = MappingProxyType(
    {
        "openai_chat": OpenAIChat(),
        "openai_responses": OpenAIResponses(),
        "anthropic": Anthropic(),
        "gemini": Gemini(),
    }
)
RULES: Mapping[DialectName, Sequence[Rule]] = MappingProxyType(
    {
        "openai_chat": openai_chat_rules.RULES,
        "openai_responses": openai_responses_rules.RULES,
        "anthropic": anthropic_rules.RULES,
        "gemini": gemini_rules.RULES,
    }
)
"""Every rule that `validate` knows, by dialect, each with the source that shows it."""


def dialect_named(name: str) -> Dialect:
    """Return the dialect of that name.

    Raises:
        ConfigError: There is none of that name.
    """
    for dialect in DIALECTS.values():
        if dialect.name == name:
            return dialect
    raise ConfigError(f"unknown dialect {name!r}; known are: {', '.join(DIALECTS)}")


def detect(messages: Sequence[object]) -> Dialect | None:
    """Return the dialect that these messages are written in, None while they would read the same in several.

    Raises:
        MessageError: Two messages are certainly of different formats, or one is no message at all.
    """
    found: tuple[int, Dialect] | None = None
    for index, wire in enumerate(_wires(messages)):
        dialect = _certain_dialect(wire)
        if dialect is None or (found and found[1] is dialect):
            continue
        if found:
            raise MessageError(
                f"messages[{found[0]}] is written in {found[1].name}, but messages[{index}] in {dialect.name}; "
                "a conversation is in one format"
            )
        found = index, dialect
    return found[1] if found else None


def validate(messages: Sequence[object], dialect: DialectName | Dialect | None = None) -> list[Issue]:
    """List every rule of the provider that this list breaks, in the order of the messages.

    Judges what a list alone shows, for the moment at which it is sent: a call without its result is an error.
    Response objects count as the messages they carry. Linear in the number of parts; makes no request.

    Args:
        messages: Dicts in a provider's format, `LLMMessage`s, SDK objects.
        dialect: Its name or itself; None: found by `detect`, else OpenAI chat.

    Raises:
        MessageError: Something in the list is no message.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise MessageError(f"validate takes a list of messages, got {type(messages).__name__}")
    wires = _wires(messages)
    if dialect is None:
        dialect = detect(wires) or DIALECTS["openai_chat"]
    elif isinstance(dialect, str):
        dialect = dialect_named(dialect)
    return dialect.validate(wires)


def _wires(messages: Sequence[object]) -> list[Wire]:
    return [to_wire(part) for message in messages for part in unwrap(message)]


def _certain_dialect(wire: Wire) -> Dialect | None:
    certain = [dialect for dialect in DIALECTS.values() if dialect.recognise(wire) is Fit.SURE]
    return certain[0] if len(certain) == 1 else None
