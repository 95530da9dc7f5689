"""Token counts and prompt caches of the simulated providers.

A token is four characters of text. That is no provider's tokenizer, but it is the same on every machine, cheap, and
foreseeable in a test. A binary payload counts as 256 tokens whatever its size, a signature as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Literal, TypeAlias

CHARACTERS_PER_TOKEN: Final = 4
PAYLOAD_TOKENS: Final = 256

Ttl: TypeAlias = Literal["5m", "1h"]


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
    """A cache that a provider fills by itself: OpenAI's, and Gemini's implicit one.

    A prompt of 1,024 tokens or more is cached; a later one reads its longest common beginning, in steps of 128.
    Source: https://platform.openai.com/docs/guides/prompt-caching; Gemini publishes the minimum alone
    (https://ai.google.dev/gemini-api/docs/caching), so that its steps here are OpenAI's. Nothing expires.
    """

    MINIMUM_TOKENS: Final = 1_024
    STEP_TOKENS: Final = 128

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._lock = Lock()

    def read_and_write(self, segments: Sequence[Segment]) -> int:
        """Return how many tokens of this prompt come from the cache, and cache it."""
        beginnings = list(self._beginnings("".join(segment.text for segment in segments)))
        with self._lock:
            steps = next((n for n, one in enumerate(beginnings) if one not in self._known), len(beginnings))
            if prompt_tokens(segments) >= self.MINIMUM_TOKENS:
                self._known.update(beginnings)
        cached = steps * self.STEP_TOKENS
        return cached if cached >= self.MINIMUM_TOKENS else 0

    def _beginnings(self, text: str) -> Iterator[str]:
        step = self.STEP_TOKENS * CHARACTERS_PER_TOKEN
        so_far = ""
        for start in range(0, len(text) - step + 1, step):
            so_far = digest(so_far, text[start : start + step])
            yield so_far


class BreakpointCache:
    """Anthropic's cache: it holds what `cache_control` marks, and nothing else.

    A request reads the longest cached beginning that ends at one of its breakpoints or up to 20 blocks before it, and
    writes from there to its last breakpoint. Beginnings under 1,024 tokens are not cached. Nothing expires.
    Source: https://docs.claude.com/en/docs/build-with-claude/prompt-caching (minimum of the Sonnet and Opus 4 models).
    """

    MINIMUM_TOKENS: Final = 1_024
    LOOK_BACK_BLOCKS: Final = 20

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._lock = Lock()

    def read_and_write(self, segments: Sequence[Segment]) -> tuple[int, int, int]:
        """Return the tokens read, those written for five minutes and those written for an hour."""
        sizes, digests = _running(segments)
        marks = [n for n, one in enumerate(segments) if one.breakpoint and sizes[n] >= self.MINIMUM_TOKENS]
        with self._lock:
            read = max((self._read(mark, digests, sizes) for mark in marks), default=0)
            self._known.update(digests[mark] for mark in marks)
        return read, *_written(segments, marks, sizes, read)

    def _read(self, mark: int, digests: Sequence[str], sizes: Sequence[int]) -> int:
        oldest = max(-1, mark - self.LOOK_BACK_BLOCKS)
        return next((sizes[n] for n in range(mark, oldest, -1) if digests[n] in self._known), 0)


def _running(segments: Sequence[Segment]) -> tuple[list[int], list[str]]:
    sizes, digests, characters, so_far = [], [], 0, ""
    for segment in segments:
        characters += len(segment.text)
        so_far = digest(so_far, segment.text)
        sizes.append(-(-characters // CHARACTERS_PER_TOKEN))
        digests.append(so_far)
    return sizes, digests


def _written(segments: Sequence[Segment], marks: Sequence[int], sizes: Sequence[int], read: int) -> tuple[int, int]:
    """Return what is written for each ttl; an hour's part comes before the five minutes' part."""
    longest = {ttl: max((sizes[m] for m in marks if segments[m].breakpoint == ttl), default=0) for ttl in ("1h", "5m")}
    for_an_hour = max(0, longest["1h"] - read)
    return max(0, longest["5m"] - max(read, longest["1h"])), for_an_hour
