"""What the figures of a backtest rest on, in sentences: prices, cache rules, and what its words mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from memory.prices import PriceBook, Rates
from memory.prompt_cache import CacheRules, cache_rules

from .outcome import Outcome
from .policies import EVERYTHING

_TERMS: Final = {
    f"Policy {EVERYTHING}": "Sends the whole history with every request. Other policies are compared with it.",
    "Facts retained": (
        "A fact is a distinctive text of a tool result or a user message that the agent wrote again much later. It "
        "counts as retained if it stands in the very request whose answer used it. An agent may know a fact from "
        "elsewhere, so read the share over many facts, not one by one."
    ),
    "Answers": "Are those recorded: a policy changes what is sent, not what the agent then did.",
    "Prefix changes": (
        "Requests that do not begin with the whole request before them; from there on nothing is read from the cache."
    ),
    "Faults": (
        "Invalid requests break a rule of their provider that the history itself does not break; those too long "
        "exceed the model's context window, where it is known; without first task means without the words of the "
        "first user message."
    ),
    "Tokens": (
        "Are those of OpenAI's tokenizer, scaled for other families of models by a measured factor: an estimate, but "
        "the same one for all policies."
    ),
}


def assumptions_of(outcomes: Sequence[Outcome], *, at: datetime) -> dict[str, str]:
    """Return sentences by their name: for each model its prices on that day and its cache, then the terms."""
    prices = PriceBook()
    found = {}
    for model in dict.fromkeys(one.model for one in outcomes):
        found[f"Prices of {model}"] = _price_words(prices.rates(model, at=at), prices.tier_edges(model, at=at))
        found[f"Cache of {model}"] = _cache_words(cache_rules(model))
    return {**found, **_TERMS}


def _price_words(rates: Rates, edges: Sequence[int]) -> str:
    written = f"{_dollars(rates.cache_write)} written to it, " if rates.cache_write != rates.input else ""
    words = (
        f"{_dollars(rates.input)} for a million tokens of fresh input, {_dollars(rates.cache_read)} read from the "
        f"cache, {written}{_dollars(rates.output)} of output. Source: {_SOURCES[rates.source]} ({rates.matched})."
    )
    if edges:
        words += f" Requests above {_joined([f'{edge:,}' for edge in edges])} tokens cost more, which is in the sum."
    return words


def _dollars(amount: float) -> str:
    return f"${amount:.2f}" if amount == round(amount, 2) else f"${amount:g}"


_SOURCES: Final = {
    "override": "prices given by the caller",
    "genai-prices": "genai-prices",
    "table": "the library's own table",
    "default": "a default for models whose price is not known",
}


def _cache_words(rules: CacheRules) -> str:
    what = "caches what the request marks" if rules.is_explicit else "caches by itself"
    least = f"prefixes of at least {rules.min_tokens:,} tokens"
    steps = f" in steps of {rules.step_tokens:,}" if rules.step_tokens > 1 else ""
    return f"The provider {what}, {least}{steps}, for {rules.ttl_seconds / 60:g} minutes after their last use."


def _joined(words: Sequence[str]) -> str:
    return " and ".join(words)
