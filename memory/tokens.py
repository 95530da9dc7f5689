"""Counting tokens without a network: tiktoken with the ranks that ship in this package.

`TiktokenCounter` is exact for OpenAI's text and an estimate for everybody else's; `Calibration` turns the estimate
into the truth within a few turns, from the usage that responses report.
"""

from __future__ import annotations

import json
import lzma
import math
import os.path
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .attachments import attachment_tokens
from .messages import Reading
from .models import bare_name, family_of, is_since_opus_4_7

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
    """Three for the frame and one for the role (the cookbook of `_cookbook_tokens`)."""
    tokens_per_call: int = 8
    tokens_per_result: int = 6
    tokens_for_tools: int = 12
    """Added once when a request carries any tools."""
    tokens_per_tool: int = 7
    tools_are_json: bool = True
    """Whether schemas reach the model as JSON; OpenAI rewrites them."""


class TiktokenCounter:
    """Counts for one model, by OpenAI's encodings and a factor for families whose tokenizer is not public.

    Safe to share between threads. The first count builds the encoding (0.25 s, 70 MB); counters share it.
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
        """Return the tokens of tool schemas in any provider's form; 0 for none.

        OpenAI's by the formula of its cookbook, everybody else's by their compact JSON.
        """
        if not tools:
            return 0
        kind = self.tokenizer
        functions = [function for tool in tools for function in _functions(tool)]
        text = sum(map(self._json_tokens if kind.tools_are_json else self._cookbook_tokens, functions))
        return self._scaled(text) + kind.tokens_for_tools + kind.tokens_per_tool * len(functions)

    def _json_tokens(self, function: Mapping[str, Any]) -> int:
        return self._encode(json.dumps(function, separators=(",", ":"), ensure_ascii=False, default=str))

    def _cookbook_tokens(self, function: Mapping[str, Any]) -> int:
        """Count a function as OpenAI's cookbook does, nested objects and lists likewise.

        Source: `num_tokens_for_tools` in https://github.com/openai/openai-cookbook, "How to count tokens with
        tiktoken" (2024-07), exact for its examples.
        """
        match function:
            case {"name": str(name), "parameters": Mapping() as parameters}:
                return self._line_tokens(name, function.get("description")) + self._schema_tokens(parameters)
            case _:
                return self._json_tokens(function)  # A built-in tool, such as web search.

    def _schema_tokens(self, schema: Mapping[str, Any]) -> int:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return 0
        return 3 + sum(3 + self._property_tokens(name, value) for name, value in properties.items())

    def _property_tokens(self, name: str, schema: Any) -> int:
        if not isinstance(schema, Mapping):
            return self._line_tokens(name)
        items = schema.get("items")
        nested = items if isinstance(items, Mapping) else schema
        choices = schema.get("enum") or ()
        return (
            self._line_tokens(name, schema.get("type"), schema.get("description"))
            + self._schema_tokens(nested)
            + sum(3 + self._encode(str(choice)) for choice in choices)
            - (3 if choices else 0)
        )

    def _line_tokens(self, *parts: object) -> int:
        return self._encode(":".join(str(part or "").removesuffix(".") for part in parts))

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


def _functions(tool: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the functions a tool declares: OpenAI chat wraps one, Gemini lists several, the others are bare."""
    for name in ("functionDeclarations", "function_declarations"):
        if isinstance(tool.get(name), Sequence):
            return [one for one in tool[name] if isinstance(one, Mapping)]
    function = tool.get("function")
    return [function if isinstance(function, Mapping) else tool]


def tokenizer_for(model: str | None, provider: str | None = None) -> Tokenizer:
    """Return the rule for a model; unknown models count as o200k, unscaled."""
    name = bare_name(model) if model else ""
    match family_of(model, provider):
        case "anthropic":
            return _CLAUDE_SINCE_OPUS_4_7 if is_since_opus_4_7(name) else _CLAUDE
        case "gemini":
            return _GEMINI
        case "openai":
            return _CL100K if _USES_CL100K.match(name) else _O200K
        case "other":
            return _OTHER


_USES_CL100K = re.compile(r"(?:ft:)?gpt-(?:3\.5|4(?:$|-(?!o)))")
"""gpt-4 and gpt-3.5; gpt-4o, gpt-4.1, gpt-4.5, gpt-5 and the o-series use o200k (tiktoken/model.py, 0.14)."""

_O200K = Tokenizer(encoding="o200k_base", tools_are_json=False)
_CL100K = Tokenizer(encoding="cl100k_base", tokens_per_tool=10, tools_are_json=False)
_OTHER = Tokenizer(encoding="o200k_base")

_CLAUDE = Tokenizer(
    encoding="o200k_base",
    factor=1.2,
    tokens_per_call=40,
    tokens_per_result=25,
    tokens_for_tools=346,
    tokens_per_tool=10,
)
"""Claude before Opus 4.7; its tokenizer is not public.

Factor: tiktoken counts 15 to 20 % less than Claude in prose
(https://wpnews.pro/news/token-counting-done-right-stop-using-tiktoken-for-claude, 2026-06) and 17 to 28 % less in
text, code and JSON (https://github.com/strands-agents/harness-sdk/pull/2031, 2026); a proxy that scaled o200k by 1.15
was found to count too little (https://github.com/caozhiyuan/copilot-api/pull/134, 2026-03).
Tools: a system prompt of 346 tokens comes with them
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview, 2026-06). What frames calls and results is not
published; short conversations with tools were measured at twice their bare text and more (the same pull request).
"""

_CLAUDE_SINCE_OPUS_4_7 = replace(_CLAUDE, factor=1.6)
"""Claude since Opus 4.7 has another tokenizer: 1.33 times as many tokens for what agents send.

Sources: 1.325 on seven real samples
(https://www.claudecodecamp.com/p/i-measured-claude-4-7-s-new-tokenizer-here-s-what-it-costs-you, 2026-04), 1.00 to 1.46
by language (https://sol.ava.dev/writings/2026-04-17-opus-4-7-tokenizer.html), up to 1.35 by Anthropic's own migration
guide (https://platform.claude.com/docs/en/about-claude/models/migration-guide).
"""

_GEMINI = Tokenizer(encoding="o200k_base", factor=1.1)
"""5 to 10 % more tokens than o200k in English (https://www.techcompare.app/token-counter/gemini-tokenization, 2026);
every digit is a token of its own (https://www.emergentmind.com/topics/gemma-2-tokenizer, 2025-09).
"""


class Calibration:
    """A linear correction of estimates, learnt from what responses report.

    reported = scale x estimated + offset. The offset is what we were never told of (a system prompt, tools the caller
    adds), so it is never negative. Starts at scale 1, offset 0; recent pairs weigh more.

    Not for one message: `apply` corrects the size of a whole request.
    """

    def __init__(self) -> None:
        self.scale = 1.0
        """Reported tokens per estimated token, 0.5 to 2.5."""
        self.offset_tokens = 0
        """Tokens of every request that were not among the estimated ones."""
        self._long = _Sums()
        self._short = _Sums()

    def observe(self, *, estimated_tokens: int, reported_tokens: int) -> None:
        """Learn from one request: what we counted for it, and what the provider reported. O(1)."""
        if estimated_tokens <= 0 or reported_tokens <= 0:
            return
        self._long.add(estimated_tokens, reported_tokens, memory=_SCALE_MEMORY)
        self._short.add(estimated_tokens, reported_tokens, memory=_OFFSET_MEMORY)
        self._fit()

    def apply(self, tokens: int) -> int:
        """Return the corrected size of a whole request, estimated at `tokens`."""
        return round(self.scale * tokens) + self.offset_tokens

    def state(self) -> dict[str, Any]:
        """Return what was learnt, as JSON values."""
        return {
            "scale": self.scale,
            "offset_tokens": self.offset_tokens,
            "long": self._long.state(),
            "short": self._short.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what was known when `state` was taken."""
        self.scale, self.offset_tokens = state["scale"], state["offset_tokens"]
        self._long.restore(state["long"])
        self._short.restore(state["short"])

    def _fit(self) -> None:
        """Draw the line: weighted least squares, with a pull of the scale towards 1.

        One pair, or several of the same size, say nothing of the scale: then it stays at 1 and the surplus is the
        offset. Only when less was reported than estimated is the scale at fault. As sizes spread, the data outweigh
        the pull.
        """
        self.scale = _clamped(self._long.slope(pull=1 / _PRIOR_SPREAD**2))
        self.offset_tokens = round(self._short.mean_reported - self.scale * self._short.mean_estimated)
        if self.offset_tokens < 0:
            # Through zero instead; as steady as the scale that it replaces.
            self.scale, self.offset_tokens = _clamped(self._long.ratio), 0


_SCALE_MEMORY = 0.95
"""Weight of a pair relative to the next for the scale: long, since a scale shows only across sizes far apart."""
_OFFSET_MEMORY = 0.5
"""The same for the offset: short, since a request is the last one and a little more."""
_NOISE = 0.01
"""How far a report strays from the line, as a share of it."""
_PRIOR_SPREAD = 0.3
"""How far the scale may be from 1 before anything is known."""


def _clamped(scale: float) -> float:
    return min(max(scale, 0.5), 2.5)


class _Sums:
    """Weighted sums over pairs of (estimated, reported) that forget; all that a line through them needs."""

    def __init__(self) -> None:
        self._weight = self._e = self._r = self._ee = self._er = 0.0

    def state(self) -> list[float]:
        return [self._weight, self._e, self._r, self._ee, self._er]

    def restore(self, state: Sequence[float]) -> None:
        self._weight, self._e, self._r, self._ee, self._er = state

    def add(self, estimated: int, reported: int, *, memory: float) -> None:
        # Larger requests weigh less, since their noise is a share of their size.
        weight = 1 / (_NOISE * reported) ** 2
        self._weight = memory * self._weight + weight
        self._e = memory * self._e + weight * estimated
        self._r = memory * self._r + weight * reported
        self._ee = memory * self._ee + weight * estimated * estimated
        self._er = memory * self._er + weight * estimated * reported

    @property
    def mean_estimated(self) -> float:
        return self._e / self._weight

    @property
    def mean_reported(self) -> float:
        return self._r / self._weight

    @property
    def ratio(self) -> float:
        return self._er / self._ee

    def slope(self, *, pull: float) -> float:
        rise = self._er - self._e * self._r / self._weight
        run = self._ee - self._e * self._e / self._weight
        return (pull + rise) / (pull + run)


# --- Encodings --------------------------------------------------------------------------------------------------------

_RANKS = os.path.join(os.path.dirname(__file__), "ranks")  # pathlib would be a tenth of the time to import the package

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
    with lzma.open(os.path.join(_RANKS, f"{name}.xz")) as file:
        packed = file.read()
    size = _SIZES[name]
    ends = list(accumulate(packed[:size], initial=size))
    return [packed[start:end] for start, end in pairwise(ends)]
