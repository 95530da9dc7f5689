"""Token counts and prompt caches of the simulated providers.

A token is four characters of text. That is no provider's tokenizer, but it is the same on every machine, cheap, and
foreseeable in a test. A binary payload counts as 256 tokens whatever its size, a signature as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from threading import Lock
from typing import Any, Final

from ...messages import DialectName
from ...prompt_cache import Block, CacheRules, CacheUse, PromptCache, Ttl, cache_rules

CHARACTERS_PER_TOKEN: Final = 4
PAYLOAD_TOKENS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What one request used. Input is all of it, cached or not; output includes reasoning."""

    input_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a prompt in the order in which the model reads it: a tool, a system text, a content block."""

    text: str
    breakpoint: Ttl | None = None
    """Anthropic's `cache_control`: the prompt up to here is to be cached."""


def tokens_of(text: str) -> int:
    """Return the tokens of a text, at least one unless it is empty."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def prompt_tokens(segments: Sequence[Segment]) -> int:
    """Return the tokens of a whole prompt."""
    return -(-sum(len(segment.text) for segment in segments) // CHARACTERS_PER_TOKEN)


_IDS: Final = ("id", "call_id", "tool_call_id", "tool_use_id")
_UNCOUNTED: Final = frozenset(
    {
        *("cache_control", "signature", "encrypted_content", "thoughtSignature", "thought_signature", "status", "type"),
        *_IDS,
    }
)
_PAYLOADS: Final = frozenset({"data", "image_url", "file_data", "url"})
_LONG: Final = 512


def text_of(value: Any) -> str:
    """Return the text of a JSON value in a stable form: what the model reads of it, without ids and signatures."""
    return "\n".join(_pieces(value))


def _pieces(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, str):
        yield _payload(value) if key in _PAYLOADS and len(value) > _LONG else value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _UNCOUNTED:
                yield from _pieces(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _pieces(item, key)
    elif value is not None:
        yield json.dumps(value)


def _payload(data: str) -> str:
    return digest(data).ljust(PAYLOAD_TOKENS * CHARACTERS_PER_TOKEN, ".")


def digest(*texts: str) -> str:
    """Return a short digest; lone surrogates, which JSON can carry, are digested too."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogatepass"))
        found.update(b"\0")
    return found.hexdigest()[:32]


class AutomaticCache:
    """A cache that a provider fills by itself: OpenAI's, and Gemini's implicit one, by the rules of each model.

    Where a provider reads to any step of a prompt, texts are cut into such steps, so that a text that grew shares its
    beginning. Nothing expires.
    """

    def __init__(self) -> None:
        self._caches = _Caches()

    def read_and_write(self, segments: Sequence[Segment], model: str, dialect: DialectName) -> CacheUse:
        """Return what a prompt for this model takes from its cache and adds to it."""
        rules = cache_rules(model, dialect=dialect)
        blocks = _steps(segments, rules.step_tokens) if rules.step_tokens > 1 else _whole(segments)
        return self._caches.send(blocks, model, rules)


class BreakpointCache:
    """Anthropic's cache: it holds what `cache_control` marks, and nothing else, by the rules of each model.

    Nothing expires.
    """

    def __init__(self) -> None:
        self._caches = _Caches()

    def read_and_write(self, segments: Sequence[Segment], model: str) -> CacheUse:
        """Return what a prompt for this model takes from its cache and adds to it."""
        rules = cache_rules(model if "claude" in model else None, dialect="anthropic")
        return self._caches.send(_whole(segments), model, rules)


class _Caches:
    """One cache a model, as at providers, for requests that come from several threads."""

    def __init__(self) -> None:
        self._by_model: dict[str, PromptCache] = {}
        self._lock = Lock()

    def send(self, blocks: Sequence[Block], model: str, rules: CacheRules) -> CacheUse:
        with self._lock:
            return self._by_model.setdefault(model, PromptCache(rules)).send(blocks)


def _whole(segments: Sequence[Segment]) -> list[Block]:
    """Return a block a segment; sizes are rounded for the prompt as a whole, as in `prompt_tokens`."""
    ends = [-(-characters // CHARACTERS_PER_TOKEN) for characters in accumulate(len(one.text) for one in segments)]
    return [
        Block(key=one.text, tokens=end - start, breakpoint=one.breakpoint)
        for one, (start, end) in zip(segments, pairwise([0, *ends]), strict=True)
    ]


def _steps(segments: Sequence[Segment], step_tokens: int) -> list[Block]:
    """Return a block for each whole step of the text, and one for the rest of it."""
    text, step = "".join(segment.text for segment in segments), step_tokens * CHARACTERS_PER_TOKEN
    pieces = (text[start : start + step] for start in range(0, len(text), step))
    return [Block(key=piece, tokens=tokens_of(piece)) for piece in pieces]
