"""Counting tokens without a network: tiktoken with the ranks that ship in this package.

`TiktokenCounter` is exact for OpenAI's text and an estimate for everybody else's; `Calibration` turns the estimate
into the truth within a few turns, from the usage that responses report.
"""

from __future__ import annotations

import json
import lzma
import math
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .attachments import attachment_tokens
from .messages import Reading
from .models import bare_name, family_of

if TYPE_CHECKING:
    import tiktoken

EncodingName: TypeAlias = Literal["o200k_base", "cl100k_base"]


class TokenCounter(Protocol):
    """What the memory asks of a counter; bring your own where you have the model's real tokenizer."""

    def count_text(self, text: str) -> int:
        """Return the tokens of a bare text."""
        ...

    def count_reading(self, reading: Reading) -> int:
        """Return the tokens of one message, its frame and attachments included."""
        ...

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        """Return the tokens of the tool schemas that travel with every request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """How one family of models turns text and messages into tokens, as far as is publicly known."""

    encoding: EncodingName
    factor: float = 1.0
    """Tokens of this family per token of `encoding`."""
    tokens_per_message: int = 4
    tokens_per_call: int = 8
    tokens_per_result: int = 4
    tokens_for_tools: int = 8
    """Added once when a request carries any tools."""
    tokens_per_tool: int = 8


class TiktokenCounter:
    """Counts for one model, by OpenAI's encodings and a factor for families whose tokenizer is not public.

    Safe to share between threads. The first count builds the encoding (0.25 s, 40 MB); counters share it.
    """

    def __init__(self, model: str | None = None, provider: str | None = None) -> None:
        self.model = model
        self.provider = provider
        self.tokenizer = tokenizer_for(model, provider)
        self.bytes_tokenised = 0
        """UTF-8 bytes that went through the encoder so far; for benchmarks."""

    def count_text(self, text: str) -> int:
        """Return the tokens of a bare text. Costs one encoding of it."""
        return self._scaled(self._encode(text))

    def count_reading(self, reading: Reading) -> int:
        """Return the tokens of one message: text, reasoning, calls, results, attachments and its frame.

        Costs one encoding of the message: its strings are joined by newlines first, which adds a token or so per
        string and stands for the provider's own separators.
        """
        kind = self.tokenizer
        strings = [part for part in (reading.text, reading.reasoning) if part]
        for call in reading.calls:
            strings += (call.name, call.arguments)
        strings += [result.text for result in reading.results]
        return (
            self._scaled(self._encode("\n".join(strings)))
            + kind.tokens_per_message
            + kind.tokens_per_call * len(reading.calls)
            + kind.tokens_per_result * len(reading.results)
            + _opaque_tokens(reading)
            + sum(attachment_tokens(part, model=self.model, provider=self.provider) for part in reading.attachments)
        )

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        """Return the tokens of tool schemas, by their compact JSON."""
        if not tools:
            return 0
        kind = self.tokenizer
        text = "\n".join(json.dumps(tool, separators=(",", ":"), ensure_ascii=False, default=str) for tool in tools)
        return self._scaled(self._encode(text)) + kind.tokens_for_tools + kind.tokens_per_tool * len(tools)

    def _encode(self, text: str) -> int:
        if not text:
            return 0
        self.bytes_tokenised += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        encoding = encoding_named(self.tokenizer.encoding)
        if len(text) <= _SLICE_CHARACTERS:
            return len(encoding.encode_ordinary(text))
        starts = range(0, len(text), _SLICE_CHARACTERS)
        return sum(len(encoding.encode_ordinary(text[start : start + _SLICE_CHARACTERS])) for start in starts)

    def _scaled(self, tokens: int) -> int:
        return math.ceil(tokens * self.tokenizer.factor)


_SLICE_CHARACTERS = 100_000
"""tiktoken's regular expression panics on a million spaces, with a `BaseException` that no caller expects.

A cut changes the count by at most a token. Source: https://github.com/openai/tiktoken/issues/15.
"""


def _opaque_tokens(reading: Reading) -> int:
    """Estimate a payload that we cannot read.

    Encrypted reasoning: base64 of about 650 bytes of envelope and four bytes a token, the estimate OpenAI's own Codex
    works with (codex-rs/core/src/context_manager/history.rs, `estimate_reasoning_length`, 2026). A short signature
    is therefore free, as Anthropic's are. Unknown parts are JSON, at four characters a token.
    """
    if reading.is_signed:
        return max(0, reading.opaque_characters * 3 // 4 - 650) // 4
    return reading.opaque_characters // 4


def tokenizer_for(model: str | None, provider: str | None = None) -> Tokenizer:
    """Return the rule for a model; unknown models count as o200k, unscaled."""
    name = bare_name(model) if model else ""
    match family_of(model, provider):
        case "anthropic":
            return _CLAUDE_SINCE_OPUS_4_7 if _NEW_CLAUDE.search(name) else _CLAUDE
        case "gemini":
            return _GEMINI
        case "openai" | "other":
            return _CL100K if _USES_CL100K.match(name) else _O200K


_USES_CL100K = re.compile(r"(?:ft:)?gpt-(?:3\.5|4(?:$|-(?!o)))")
"""gpt-4 and gpt-3.5; gpt-4o, gpt-4.1, gpt-4.5, gpt-5 and the o-series use o200k (tiktoken/model.py, 0.14)."""

_NEW_CLAUDE = re.compile(r"claude-(?:opus-4-[789]|(?:opus|sonnet|haiku|fable|mythos)-[5-9])")

_O200K = Tokenizer(encoding="o200k_base")
_CL100K = Tokenizer(encoding="cl100k_base")
_CLAUDE = Tokenizer(encoding="o200k_base", factor=1.2)
_CLAUDE_SINCE_OPUS_4_7 = Tokenizer(encoding="o200k_base", factor=1.6)
_GEMINI = Tokenizer(encoding="o200k_base", factor=1.05)


class Calibration:
    """A linear correction of estimates, learnt from what responses report.

    reported = scale x estimated + offset. The offset is what we were never told of (a system prompt, tools the caller
    adds), so it is never negative. Starts at scale 1, offset 0, and looks at the most recent pairs only.
    """

    def __init__(self, *, window: int = 12) -> None:
        self._pairs: deque[tuple[int, int]] = deque(maxlen=window)
        self.scale = 1.0
        self.offset_tokens = 0

    def observe(self, *, estimated_tokens: int, reported_tokens: int) -> None:
        """Learn from one request: what we counted for it, and what the provider reported. O(window)."""
        if estimated_tokens <= 0 or reported_tokens <= 0:
            return
        self._pairs.append((estimated_tokens, reported_tokens))
        self.scale, self.offset_tokens = _fit(self._pairs)

    def apply(self, tokens: int) -> int:
        """Return the corrected size of a whole request."""
        return round(self.scale * tokens) + self.offset_tokens


def _fit(pairs: Sequence[tuple[int, int]] | deque[tuple[int, int]]) -> tuple[float, int]:
    estimated, reported = pairs[-1]
    return (1.0, reported - estimated) if reported >= estimated else (reported / estimated, 0)


# --- Encodings --------------------------------------------------------------------------------------------------------

_RANKS = Path(__file__).parent / "ranks"

_PATTERNS: dict[EncodingName, str] = {
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s"
    ),
    "o200k_base": "|".join(
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
}
"""How each encoding splits text before merging. Source: tiktoken_ext/openai_public.py of tiktoken 0.14 (MIT).

They stand here because the functions there that name them download the ranks first; a test compares the two.
"""

_SIZES: dict[EncodingName, int] = {"cl100k_base": 100_256, "o200k_base": 199_998}

_building = threading.Lock()


def encoding_named(name: EncodingName) -> tiktoken.Encoding:
    """Return an encoding built from the ranks in this package; never `tiktoken.get_encoding`, which downloads.

    That download has no timeout: behind a firewall it hangs for minutes, at every message.
    """
    # Two threads that start together would otherwise both spend the time and the memory.
    with _building:
        return _build(name)


@cache  # An encoding never changes, is large, and is the same for every counter of the process.
def _build(name: EncodingName) -> tiktoken.Encoding:
    import tiktoken  # 0.1 s that only counting should pay

    ranks = {token: rank for rank, token in enumerate(read_ranks(name))}
    return tiktoken.Encoding(name, pat_str=_PATTERNS[name], mergeable_ranks=ranks, special_tokens={})


def read_ranks(name: EncodingName) -> list[bytes]:
    """Return an encoding's tokens; the index is the rank. scripts/pack_ranks.py describes the file."""
    packed = lzma.decompress((_RANKS / f"{name}.xz").read_bytes())
    size = _SIZES[name]
    ends = list(accumulate(packed[:size], initial=size))
    return [packed[start:end] for start, end in pairwise(ends)]
