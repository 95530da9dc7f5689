"""Sizes and bytes of messages, each taken once, however many policies and requests it appears in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from memory.dialects import dialect_named
from memory.messages import DialectName, Reading
from memory.native import to_wire
from memory.prompt_cache import Block, Ttl
from memory.tokens import TokenCounter


class RememberingCounter:
    """A counter that counts an equal text or message once; give it to everything that works on one transcript."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._texts: dict[str, int] = {}
        self._readings: dict[Reading, int] = {}

    def count_text(self, text: str) -> int:
        if len(text) > _REMEMBERED_CHARACTERS:  # prompts of summaries, never seen twice
            return self._counter.count_text(text)
        size = self._texts.get(text)
        if size is None:
            size = self._texts[text] = self._counter.count_text(text)
        return size

    def count_reading(self, reading: Reading) -> int:
        size = self._readings.get(reading)
        if size is None:
            size = self._readings[reading] = self._counter.count_reading(reading)
        return size

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        return self._counter.count_tools(tools)


_REMEMBERED_CHARACTERS = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One message of a request, measured."""

    key: bytes
    """Equal keys are equal bytes, cache marks aside."""
    reading: Reading = field(repr=False)
    tokens: int
    blocks: tuple[Block, ...]
    """One for the message, or one for each of its content blocks where the provider caches up to those."""

    @property
    def is_marked(self) -> bool:
        """Whether it carries cache marks of its policy's own."""
        return self.reading.has_cache_breakpoint

    @cached_property
    def text(self) -> str:
        """Everything that it says, calls and results included."""
        return "\0".join(strings_of(self.reading))

    def says(self, *texts: str) -> bool:
        """Whether one of these stands in it."""
        return any(text in self.text for text in texts)


def strings_of(reading: Reading) -> list[str]:
    """Return what a message says, string by string: text, reasoning, arguments of calls, results."""
    return [
        reading.text,
        reading.reasoning,
        *(call.arguments for call in reading.calls),
        *(result.text for result in reading.results),
    ]


class Ruler:
    """Measures messages of one format by one counter, and remembers each by its identity."""

    def __init__(self, dialect: DialectName, counter: TokenCounter) -> None:
        self.counter = counter
        self._dialect = dialect_named(dialect)
        self._has_blocks = dialect == "anthropic"
        self._known: dict[int, tuple[object, Piece]] = {}

    def measure(self, messages: Iterable[object]) -> list[Piece]:
        """Return the messages' pieces, in order. A message that was measured before costs a look-up."""
        known = self._known
        return [found[1] if (found := known.get(id(one))) is not None else self._new(one) for one in messages]

    def _new(self, message: object) -> Piece:
        wire = to_wire(message)
        reading = self._dialect.read(wire)
        tokens = self.counter.count_reading(reading)
        bare = self._plain(without_marks(wire) if reading.has_cache_breakpoint else wire)
        blocks = self._blocks(wire, bare, tokens)
        piece = Piece(key=digest(bare), reading=reading, tokens=tokens, blocks=blocks)
        self._known[id(message)] = message, piece  # kept, so that no other message gets its id
        return piece

    def _plain(self, wire: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a message with its text as a block where that is the same to the provider, as when it is marked."""
        content = wire.get("content")
        is_text = self._has_blocks and isinstance(content, str)
        return {**wire, "content": [{"type": "text", "text": content}]} if is_text else wire

    def _blocks(self, wire: Mapping[str, Any], bare: Mapping[str, Any], tokens: int) -> tuple[Block, ...]:
        """Divide a message where its provider's cache does: into content blocks, sized by their share of the bytes."""
        content = bare.get("content")
        if not self._has_blocks or not isinstance(content, list) or len(content) < 2:
            return (Block(key=digest(bare), tokens=tokens, breakpoint=_mark([wire, *_items(wire)])),)
        encoded = [_bytes(block) for block in content]
        total, left, blocks = sum(map(len, encoded)), tokens, []
        for index, (block, one) in enumerate(zip(_items(wire), encoded, strict=True)):
            size = left if index == len(encoded) - 1 else tokens * len(one) // total
            left -= size
            key = (wire.get("role"), index == 0, blake2b(one, digest_size=16).digest())
            blocks.append(Block(key=key, tokens=size, breakpoint=_mark([block])))
        return tuple(blocks)


def without_marks(value: Any) -> Any:
    """Return a message, tool or system text without its prompt-cache marks; calls' arguments stay as they are."""
    if isinstance(value, Mapping):
        return {
            key: inner if key == "input" else without_marks(inner)
            for key, inner in value.items()
            if key != "cache_control"
        }
    return [without_marks(inner) for inner in value] if isinstance(value, list) else value


def _items(wire: Mapping[str, Any]) -> list[Any]:
    content = wire.get("content")
    return content if isinstance(content, list) else []


def _mark(values: Iterable[Any]) -> Ttl | None:
    for value in values:
        if isinstance(value, Mapping) and isinstance(mark := value.get("cache_control"), Mapping):
            return "1h" if mark.get("ttl") == "1h" else "5m"
    return None


def digest(value: Any) -> bytes:
    """Return a short name for a JSON value's bytes."""
    return blake2b(_bytes(value), digest_size=16).digest()


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
