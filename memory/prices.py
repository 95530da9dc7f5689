"""What a token costs: the caller's own prices, then genai-prices, then the table here, then a marked default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from .errors import ConfigError
from .models import bare_name

if TYPE_CHECKING:
    from .catalogue import Listing

PriceTable: TypeAlias = Mapping[str, Mapping[str, float]]
"""USD per million tokens by model: `input`, `output`, and if known `cache_read`, `cache_write`, `cache_write_1h`."""

PRICING: PriceTable = MappingProxyType(
    {
        "gpt-4o": {"input": 2.50, "output": 10.00, "cache_read": 1.25},
        "gpt-4o-mini": {"input": 0.15, "output": 0.60, "cache_read": 0.075},
        "claude-3-5-sonnet-20241022": {
            "input": 3.00,
            "output": 15.00,
            "cache_read": 0.30,
            "cache_write": 3.75,
            "cache_write_1h": 6.00,
        },
        "claude-3-5-haiku-20241022": {
            "input": 0.80,
            "output": 4.00,
            "cache_read": 0.08,
            "cache_write": 1.00,
            "cache_write_1h": 1.60,
        },
        "gemini-1.5-flash": {"input": 0.075, "output": 0.30},
        "gemini-1.5-pro": {"input": 1.25, "output": 5.00},
        "default": {"input": 0.55, "output": 2.19},
    }
)
"""Prices of last resort, USD per million tokens; `default` stands in for an unknown model and marks the cost."""

Source: TypeAlias = Literal["override", "genai-prices", "table", "default"]

_RATE_NAMES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """USD per million tokens of one request: its model, its day and its tier are already chosen."""

    input: float
    output: float
    """Reasoning is output and costs the same."""
    cache_read: float
    cache_write: float
    cache_write_1h: float
    source: Source
    matched: str
    """The entry that answered, for example `openai:gpt-4o`."""

    @property
    def is_default(self) -> bool:
        """Whether nobody knows this model's price, so that the cost is a guess."""
        return self.source == "default"

    def cost_usd(
        self,
        *,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
    ) -> float:
        """Return the price of a request whose `input_tokens` include what was read from and written to a cache."""
        fresh = input_tokens - cache_read_tokens - cache_write_tokens - cache_write_1h_tokens
        return (
            fresh * self.input
            + cache_read_tokens * self.cache_read
            + cache_write_tokens * self.cache_write
            + cache_write_1h_tokens * self.cache_write_1h
            + output_tokens * self.output
        ) / 1_000_000


class PriceBook:
    """Answers what a model costs on a day, and remembers which entry a name means.

    Args:
        overrides: The caller's own prices; they win over everything else.
        table: What is asked after genai-prices; its `default` is for models that nobody knows.
    """

    def __init__(self, overrides: PriceTable | None = None, *, table: PriceTable = PRICING) -> None:
        self._overrides = checked({} if overrides is None else overrides)
        self._table = {**PRICING, **checked(table)}
        self._listings: dict[str, Listing | None] = {}

    def rates(self, model: str | None, *, input_tokens: int = 0, at: datetime | None = None) -> Rates:
        """Return what a request costs per million tokens.

        Args:
            model: Any name a gateway or provider uses; None is an unknown model.
            input_tokens: The whole input of the request; a long-context tier reprices all of it.
            at: When the request was made (UTC where naive); now, if left out.

        A rate that is not known: reads cost what fresh input costs (never too little), five-minute writes too;
        one-hour writes cost twice the input where writes cost extra at all, as at Anthropic
        (https://platform.claude.com/docs/en/build-with-claude/prompt-caching, 2026-06).
        """
        if model is None:
            return self._default
        own = _entry(self._overrides, model) if self._overrides else None
        if own is not None:
            return _rates(self._overrides[own], source="override", matched=own)
        listing = self._listing(model)
        if listing is not None:
            found = listing.usd_per_million(at or datetime.now(UTC), input_tokens)
            return _rates(found, source="genai-prices", matched=listing.name)
        known = _entry(self._table, model)
        return self._default if known is None else _rates(self._table[known], source="table", matched=known)

    def context_window(self, model: str) -> int | None:
        """Return how many tokens of input a model accepts; None where that is not known."""
        listing = self._listing(model)
        return listing.context_window if listing is not None else None

    def tier_edges(self, model: str | None, *, at: datetime | None = None) -> tuple[int, ...]:
        """Return the sizes of input, ascending, beyond which the whole request is billed at another price."""
        if model is None or (self._overrides and _entry(self._overrides, model) is not None):
            return ()
        listing = self._listing(model)
        return () if listing is None else listing.tier_edges(at or datetime.now(UTC))

    @cached_property
    def _default(self) -> Rates:
        table = self._overrides if "default" in self._overrides else self._table
        return _rates(table["default"], source="default", matched="default")

    def _listing(self, model: str) -> Listing | None:
        if model not in self._listings:
            from .catalogue import find  # genai-prices costs 0.2 s, which only pricing should pay

            self._listings[model] = find(model)
        return self._listings[model]


def context_window(model: str) -> int | None:
    """Return how many tokens of input a model accepts, by genai-prices; None where that is not known."""
    return PriceBook().context_window(model)


def checked(table: PriceTable) -> dict[str, Mapping[str, float]]:
    """Return a price table with lower-case names.

    Raises:
        ConfigError: An entry lacks `input` or `output`, has an unknown key, or a price is no finite number >= 0.
    """
    for model, entry in table.items():
        unknown = set(entry) - set(_RATE_NAMES)
        missing = {"input", "output"} - set(entry)
        if unknown or missing:
            raise ConfigError(
                f"pricing[{model!r}] has the keys {sorted(entry)}; input and output are needed, "
                f"{', '.join(_RATE_NAMES[2:])} are allowed (USD per million tokens)"
            )
        for name, price in entry.items():
            if not _is_price(price):
                raise ConfigError(f"pricing[{model!r}][{name!r}] must be a number of USD >= 0, got {price!r}")
    return {model.lower(): entry for model, entry in table.items()}


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _entry(table: Mapping[str, object], model: str) -> str | None:
    """Return the name under which a table has a model: as written, without prefixes, without its date."""
    bare = bare_name(model)
    for name in (model.strip().lower(), bare, undated(bare)):
        if name in table and name != "default":
            return name
    return None


def undated(name: str) -> str:
    """Return a model's name without the date at its end: `gpt-4o-2024-08-06` gives `gpt-4o`."""
    head, _, tail = name.rpartition("-20")
    return head if head and tail.replace("-", "").isdigit() and len(tail.replace("-", "")) == 6 else name


def _rates(known: Mapping[str, float], *, source: Source, matched: str) -> Rates:
    fresh = known["input"]
    write = known.get("cache_write", fresh)
    return Rates(
        input=fresh,
        output=known["output"],
        cache_read=known.get("cache_read", fresh),
        cache_write=write,
        cache_write_1h=known.get("cache_write_1h", 2 * fresh if "cache_write" in known else write),
        source=source,
        matched=matched,
    )
