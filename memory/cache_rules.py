"""The rules of providers' prompt caches, one set for each provider and model.

Nothing here is a price; `memory.prices` knows what a read and a write cost. Every figure carries its source and
month. Where a provider publishes a range or nothing, the choice is the cautious one and the docstring says so.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeAlias

from .messages import DialectName
from .models import bare_name, family_of

Ttl: TypeAlias = Literal["5m", "1h"]

TTL_SECONDS: dict[Ttl, float] = {"5m": 300.0, "1h": 3600.0}
"""Anthropic's two lives of a cached prefix, counted from the start of the last request that wrote or read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """One provider's prompt cache, as it works for one model."""

    is_explicit: bool = False
    """Only what `cache_control` marks is cached (Anthropic); else the provider caches by itself."""
    is_exact: bool = False
    """A prefix is found again only where an earlier request ended or was marked, not part of the way there."""
    bills_writes: bool = False
    """Writing costs extra and is reported (`memory.prices`: `cache_write`)."""
    min_tokens: int
    """Shorter prefixes are not cached."""
    step_tokens: int = 1
    """What is read is a multiple of this."""
    ttl_seconds: float
    """How long an unused prefix is counted on."""
    survival: tuple[tuple[float, float], ...] = ()
    """(idle seconds, probability), ascending, where the provider gives a range; empty: a step at `ttl_seconds`."""
    look_back_blocks: int | None = None
    """How many blocks, the marked one included, are searched back from a mark; None: all."""
    max_breakpoints: int | None = None
    """How many marks a request may carry; None: it knows none."""

    def alive(self, idle_seconds: float) -> float:
        """Return the estimated probability (0-1) that a prefix last used that long ago can still be read.

        A step where the provider guarantees a life, else straight lines between the pairs of `survival`.
        """
        if not self.survival:
            return 1.0 if idle_seconds <= self.ttl_seconds else 0.0
        if idle_seconds <= self.survival[0][0]:
            return self.survival[0][1]
        for (before, high), (after, low) in pairwise(self.survival):
            if idle_seconds <= after:
                return high + (low - high) * (idle_seconds - before) / (after - before)
        return 0.0


def cache_rules(model: str | None, *, dialect: DialectName | None = None, ttl: Ttl = "5m") -> CacheRules:
    """Return the rules for a model by its name, by the messages' format where the name does not say whose it is.

    `ttl` is the life that the marks ask for, where the provider lives by marks.
    """
    rules = _rules(bare_name(model) if model else "", dialect)
    return replace(rules, ttl_seconds=TTL_SECONDS[ttl]) if rules.is_explicit and ttl != "5m" else rules


@lru_cache(maxsize=256)
def _rules(name: str, dialect: DialectName | None) -> CacheRules:
    match family_of(name or None, None if name and dialect != "gemini" else dialect):
        case "anthropic":
            return _claude(name)
        case "gemini":
            return _gemini(name)
        case "openai":
            return _openai(name)
        case "other" if dialect == "anthropic" and not _CACHES_BY_ITSELF.search(name):
            return replace(_CLAUDE, min_tokens=1_024)
        case "other":
            return _DEEPSEEK if "deepseek" in name else _OTHER


# --- Anthropic --------------------------------------------------------------------------------------------------------

_CLAUDE = CacheRules(
    is_explicit=True,
    is_exact=True,
    bills_writes=True,
    min_tokens=1_024,
    ttl_seconds=TTL_SECONDS["5m"],
    look_back_blocks=20,
    max_breakpoints=4,
)
"""https://platform.claude.com/docs/en/build-with-claude/prompt-caching (2026-10): at most 4 marks, 20 blocks searched
back from each, five minutes or one hour, refreshed for nothing by each use, an hour's marks before five minutes' ones.
A `cache_control` beside the messages (automatic caching, 2026-02) is a mark on the last block that may carry one."""

_CLAUDE_MINIMUM: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"(?:fable|mythos)-[5-9]|(?:opus|sonnet)-(?:5[-.][5-9]|[6-9])(?!\d)|opus-5(?![-.]\d(?!\d))"), 512),
    (re.compile(r"opus-4[-.]7|mythos-preview|3-5-haiku|3\.5-haiku|haiku-3|3-haiku"), 2_048),
    (re.compile(r"opus-4[-.][56]|haiku-4"), 4_096),
)
"""The same page: 512 Opus 5 and 5.5, Sonnet 5.5, Fable and Mythos 5; 1,024 Opus 4.8, Sonnet 5, 4.6 and 4.5, Opus 4.1
and older; 2,048 Opus 4.7, Mythos Preview, Haiku 3 and 3.5; 4,096 Opus 4.6 and 4.5, Haiku 4.5. Others count 1,024."""


def _claude(name: str) -> CacheRules:
    minimum = next((tokens for pattern, tokens in _CLAUDE_MINIMUM if pattern.search(name)), _CLAUDE.min_tokens)
    return replace(_CLAUDE, min_tokens=minimum)


# --- OpenAI -----------------------------------------------------------------------------------------------------------

_OPENAI_IN_MEMORY = CacheRules(
    min_tokens=1_024,
    step_tokens=128,
    ttl_seconds=600.0,
    survival=((300.0, 1.0), (600.0, 0.5), (3600.0, 0.0)),
)
"""https://developers.openai.com/api/docs/guides/prompt-caching (2026-11) for gpt-4o to gpt-5.4: prompts of 1,024 tokens
and more, reported in multiples of 128; "around 5 to 10 minutes of inactivity, up to one hour". The curve is a reading
of that: surely alive for the shorter, an even chance at the longer, gone at the most. The guide of late 2026 says 2,048
"though some models may cache shorter prefixes", and that a prefix ends at intervals it does not publish."""

_OPENAI_EXTENDED = replace(
    _OPENAI_IN_MEMORY, ttl_seconds=1800.0, survival=((600.0, 1.0), (1800.0, 0.5), (86_400.0, 0.0))
)
"""The same page: "typically around 30 minutes, up to 24 hours"; the default of organisations that keep data at all, for
the models below that support it."""

_OPENAI_5_5 = replace(_OPENAI_EXTENDED, min_tokens=2_048, step_tokens=2_048)
"""The same page: breakpoints every 2,048 tokens, 24 hours only."""

_OPENAI_BREAKPOINTS = CacheRules(
    is_exact=True, bills_writes=True, min_tokens=1_024, ttl_seconds=1800.0, max_breakpoints=4
)
"""The same page for gpt-5.6 and later: an implicit breakpoint at the end of the newest user or tool message, up to
three more by `prompt_cache_breakpoint`; earlier ends of the same conversation are found again, a prefix that never
ended a request is not; at least 30 minutes after the last use; writing costs 1.25 x the input, reading 0.1 x."""

_EXTENDED_MODELS = frozenset(
    {
        *("gpt-4.1", "gpt-5", "gpt-5-codex", "gpt-5.1", "gpt-5.1-chat-latest", "gpt-5.1-codex", "gpt-5.1-codex-max"),
        *("gpt-5.1-codex-mini", "gpt-5.2", "gpt-5.4"),
    }
)
_GPT_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_DATE = re.compile(r"-20\d\d-?\d\d-?\d\d$")
_NEVER_CACHES = CacheRules(min_tokens=sys.maxsize, ttl_seconds=0.0)
"""gpt-4 and gpt-3.5, Gemini before 2.5: older than their provider's automatic cache."""


def _openai(name: str) -> CacheRules:
    own = name.removeprefix("ft:")
    found = _GPT_VERSION.match(own)
    version = (int(found[1]), int(found[2] or 0)) if found else None
    if version is None or own.startswith("gpt-4o"):
        return _OPENAI_IN_MEMORY
    if version >= (5, 6):
        return _OPENAI_BREAKPOINTS
    if version == (5, 5):
        return _OPENAI_5_5
    if version < (4, 1):
        return _NEVER_CACHES
    return _OPENAI_EXTENDED if _DATE.sub("", own) in _EXTENDED_MODELS else _OPENAI_IN_MEMORY


# --- Gemini and others ------------------------------------------------------------------------------------------------

_GEMINI = CacheRules(
    min_tokens=4_096,
    step_tokens=2_048,
    ttl_seconds=300.0,
    survival=((60.0, 0.8), (300.0, 0.5), (3600.0, 0.0)),
)
"""https://ai.google.dev/gemini-api/docs/caching (2026-10): implicit caching since 2.5, 4,096 tokens for the 3 and 4
series, nothing guaranteed, life not published ("requests with similar prefix in a short amount of time"). Reads were
seen to grow by 2,048 tokens and more (https://github.com/googleapis/python-genai/issues/2064, 2026-02), and four in
five long prompts to be found again (https://github.com/BerriAI/litellm/issues/10667, 2025-06): the curve is a guess
from these."""

_GEMINI_MINIMUM: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"gemini-2\.5"), 2_048),
    (re.compile(r"gemini-3-flash"), 1_024),
)
"""The same page: 2,048 for 2.5 Flash and Pro; 1,024 for 3 Flash Preview (2026-05, not listed since)."""

_GEMINI_BEFORE = re.compile(r"gemini-(?:1\.|2\.0|pro|ultra)")


def _gemini(name: str) -> CacheRules:
    if _GEMINI_BEFORE.match(name):
        return _NEVER_CACHES
    minimum = next((tokens for pattern, tokens in _GEMINI_MINIMUM if pattern.match(name)), _GEMINI.min_tokens)
    return replace(_GEMINI, min_tokens=minimum)


_DEEPSEEK = CacheRules(
    min_tokens=64,
    step_tokens=64,
    ttl_seconds=3600.0,
    survival=((3600.0, 1.0), (4 * 3600.0, 0.5), (48 * 3600.0, 0.0)),
)
"""https://api-docs.deepseek.com/guides/kv_cache (2026-10): on disk, on for everybody, kept at the ends of requests and
at fixed intervals, cleared after a few hours to a few days of disuse. The interval is not given there; it was 64 tokens
(https://api-docs.deepseek.com/news/news0802, 2024-08)."""

_OTHER = replace(_OPENAI_IN_MEMORY, ttl_seconds=300.0, survival=((60.0, 1.0), (300.0, 0.5), (3600.0, 0.0)))
"""A model whose rules nobody publishes (GLM, Kimi, Grok, Llama at a gateway): OpenAI's sizes, Gemini's short life."""

_CACHES_BY_ITSELF = re.compile(r"deepseek|glm|kimi|grok|qwen")
"""Models that cache without marks behind an Anthropic-compatible endpoint too."""
