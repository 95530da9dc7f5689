"""What genai-prices knows: which of its models a name means, and that model's price on a day.

Its own lookup takes the first model whose rule matches, and some rules match by a mere beginning: it takes
`gemini-1.5-flash-8b` for `gemini-1.5-flash`, at twice the price. Here the longest rule wins, and what the rule leaves
of the name must be a date or a version. Reads the data that came with the package: nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from genai_prices import types
from genai_prices.data_snapshot import find_provider_by_id, get_snapshot

_UNITS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A model that genai-prices has a price for."""

    name: str
    """`provider:model`, as genai-prices writes them."""
    context_window: int | None
    model: types.ModelInfo

    def usd_per_million(self, at: datetime, input_tokens: int) -> dict[str, float]:
        """Return the known rates on that day, by the names of `Rates`, for a request of that much input.

        Where a price has tiers, the whole request is at the tier its input reaches, output too.
        """
        prices = self.model.get_prices(at).__dict__
        return {
            name: _at_tier(prices[key], input_tokens) for name, key in _UNITS.items() if prices.get(key) is not None
        }

    def tier_edges(self, at: datetime) -> tuple[int, ...]:
        """Return the sizes of input, ascending, beyond which the price per token is another on that day."""
        price = self.model.get_prices(at).input_mtok
        return tuple(tier.start for tier in price.tiers) if isinstance(price, types.TieredPrices) else ()


def find(model: str) -> Listing | None:
    """Return the model that a name means, through any gateway's prefix; None where no rule explains the name.

    Costs about a millisecond; callers keep the answer.
    """
    name = model.strip().lower()
    for provider, reference in _candidates(name):
        info = _best(provider, reference) or _best(provider, _DATE.sub("", reference))
        if info is not None:
            return Listing(name=f"{provider.id}:{info.id}", context_window=info.context_window, model=info)
    return None


_DATE = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d)$")
_VARIANT = re.compile(r"(?:[-@:.]?(?:latest|preview|exp|beta|v\d+|\d{2,8})|:\d)*")
"""What may follow a known beginning and still be the same model: dates, revisions, `-v2:0`, `-preview-06-05`."""
_REGION = re.compile(r"(?:.*[./:])?")
_BEDROCK = re.compile(r"(?:[a-z-]+\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen)\.")
_EXACT = 1_000


def _candidates(name: str) -> Iterator[tuple[types.Provider, str]]:
    """Yield who may serve the model and under which name, the most specific first."""
    providers = get_snapshot().providers
    parts = name.split("/")
    for index, prefix in enumerate(parts[:-1]):
        provider = find_provider_by_id(providers, prefix)
        if provider is not None:
            yield provider, "/".join(parts[index + 1 :])
    if _BEDROCK.match(parts[-1]):
        yield _provider("aws"), parts[-1]
    if parts[-1].startswith("ft:"):
        # ft:gpt-4o-2024-08-06:org::id; the organisation and the run do not change the price.
        yield _provider("openai"), ":".join(parts[-1].split(":")[:2])
    for reference in dict.fromkeys((name, parts[-1])):
        for provider in providers:
            if provider.model_match is not None and provider.model_match.is_match(reference):
                yield provider, reference
                break
        # `vendor/model` without a gateway before it is how OpenRouter names its models.
        if reference is name and len(parts) > 1:
            yield _provider("openrouter"), name


def _provider(provider_id: str) -> types.Provider:
    provider = find_provider_by_id(get_snapshot().providers, provider_id)
    assert provider is not None, provider_id
    return provider


def _best(provider: types.Provider, reference: str) -> types.ModelInfo | None:
    """Return the priced model whose rule explains most of the name; of the provider, else of those it resells."""
    for seller in (provider, *map(_provider, provider.fallback_model_providers or ())):
        score, info = max(_scored(seller.models, reference), key=lambda pair: pair[0], default=(0, None))
        if score:
            return info
    return None


def _scored(models: Iterable[types.ModelInfo], reference: str) -> Iterator[tuple[int, types.ModelInfo | None]]:
    for info in models:
        if info.is_match(reference) and _is_priced(info):
            yield _explained(info.match, reference), info


def _is_priced(info: types.ModelInfo) -> bool:
    """Models billed by the second or the picture, and those listed without a price, are unknown to us."""
    prices = [info.prices] if isinstance(info.prices, types.ModelPrice) else [one.prices for one in info.prices]
    return bool(prices) and all("input_mtok" in price.__dict__ and "output_mtok" in price.__dict__ for price in prices)


def _explained(rule: types.MatchLogic, reference: str) -> int:
    """Return how many characters of the name a rule accounts for; 0 where the rest is no date or version."""
    match rule:
        case types.ClauseOr(or_=rules) | types.ClauseAnd(and_=rules):
            return max(_explained(one, reference) for one in rules)
        case types.ClauseEquals():
            return _EXACT if rule.is_match(reference) else 0
        case types.ClauseRegex(regex=pattern):
            return _EXACT if pattern.endswith("$") and rule.is_match(reference) else 0
        case (
            types.ClauseStartsWith(starts_with=text)
            | types.ClauseEndsWith(ends_with=text)
            | types.ClauseContains(contains=text)
        ):
            before, found, after = reference.partition(text.lower())
            fits = found and rule.is_match(reference) and _REGION.fullmatch(before) and _VARIANT.fullmatch(after)
            return len(text) if fits else 0


def _at_tier(price: Decimal | types.TieredPrices, input_tokens: int) -> float:
    if not isinstance(price, types.TieredPrices):
        return float(price)
    reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return float(reached[-1] if reached else price.base)
