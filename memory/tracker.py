"""Every model call of a run: what it used, and what it cost. What was saved is the ledger's affair."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, get_args

from .dialects import DIALECTS, detect
from .errors import ConfigError
from .messages import Dialect, DialectName, Fit, Reading, Wire
from .models import Family, family_of
from .native import to_wire, unwrap
from .prices import PRICING, PriceBook, PriceTable, Rates
from .tokens import TiktokenCounter
from .usage import Usage, read_model, read_usage

__all__ = ["Call", "Purpose", "TokenTracker", "Totals", "Usage", "read_model", "read_usage"]

Purpose: TypeAlias = Literal["agent", "summary", "recall"]
"""What the call was for: the loop itself, the memory's own summaries, or the vectors by which it recalls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One model call, priced at its own model, day and tier."""

    model: str | None
    usage: Usage
    at: datetime
    purpose: Purpose
    cost_usd: float
    is_estimate: bool
    """The usage was counted by us, not reported by the provider."""
    price_is_default: bool
    """Nobody knows this model's price; the default stood in."""


@dataclass(slots=True)
class Totals:
    """Running sums over calls."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    estimated_calls: int = 0
    """Calls whose usage was not reported."""
    unpriced_tokens: int = 0
    """Input and output of calls priced by the default."""

    def add(self, call: Call, *, sign: Literal[1, -1] = 1) -> None:
        """Add one call to the sums, or take it out again."""
        usage = call.usage
        self.calls += sign
        self.input_tokens += sign * usage.input_tokens
        self.output_tokens += sign * usage.output_tokens
        self.cache_read_tokens += sign * usage.cache_read_tokens
        self.cache_write_tokens += sign * (usage.cache_write_tokens + usage.cache_write_1h_tokens)
        self.cost_usd += sign * call.cost_usd
        self.estimated_calls += sign * call.is_estimate
        self.unpriced_tokens += sign * usage.total_tokens if call.price_is_default else 0

    def as_dict(self) -> dict[str, int | float]:
        """Return the sums by their names; those that are 0 are left out."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}


class TokenTracker:
    """Counts tokens, prices requests, and sums up what a run used. Asks no network.

    Args:
        pricing: Prices of your own, USD per million tokens by model name
            (`{"my-model": {"input": 1.0, "output": 4.0}}`); they win over everything else. A `default` among them
            prices unknown models, whose cost stays marked.
        default_model: What a call that names no model is priced as.

    Raises:
        ConfigError: `pricing` has an entry that cannot be a price.
    """

    PRICING: ClassVar[PriceTable] = PRICING
    """What is asked after genai-prices; a subclass may replace it."""

    def __init__(self, pricing: PriceTable | None = None, *, default_model: str | None = None) -> None:
        self.default_model = default_model
        self.prices = PriceBook(pricing, table=self.PRICING)
        self.calls: list[Call] = []
        """Every call, in the order they were recorded."""
        self._all = Totals()
        self._by_purpose = _no_purposes()
        self._by_model: dict[str, Totals] = {}
        self._changed_from = 0
        self._session_id: str | None = None
        self._counters: dict[tuple[str | None, str | None], TiktokenCounter] = {}

    def count_message_tokens(self, message: object, provider: str | None = None, model: str | None = None) -> int:
        """Return the tokens of one message in any provider's format; of a response, those of its messages.

        Args:
            message: A dict, an `LLMMessage` or an SDK's object.
            provider: For example `openai`, `anthropic`, `gemini`; decides the format where the message does not.
            model: Decides tokenizer and image rules.

        Raises:
            MessageError: The message is in no shape that a dialect knows.
        """
        counter = self._counters.setdefault((model, provider), TiktokenCounter(model, provider))
        return sum(counter.count_reading(_read(to_wire(part), provider, model)) for part in unwrap(message))

    def calculate_cost(
        self,
        model: str | None,
        input_tokens: int,
        output_tokens: int,
        *,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        at: datetime | None = None,
    ) -> float:
        """Return what one request costs in USD; records nothing.

        `input_tokens` include the cached ones. Never raises for an unknown model: `rates(model).is_default` says
        that the default stood in.

        Raises:
            MessageError: A count is negative, or more is cached than sent.
        """
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            cache_write_1h_tokens=cache_write_1h_tokens,
        )
        return self.cost_of(usage, model=model, at=at)

    def cost_of(self, usage: Usage, *, model: str | None = None, at: datetime | None = None) -> float:
        """Return what a usage costs in USD, or would have cost; records nothing."""
        return _cost(usage, self.rates(model, input_tokens=usage.input_tokens, at=at))

    def rates(self, model: str | None = None, *, input_tokens: int = 0, at: datetime | None = None) -> Rates:
        """Return USD per million tokens for a request of that much input on that day, and where they come from."""
        return self.prices.rates(model or self.default_model, input_tokens=input_tokens, at=at)

    def record(
        self,
        usage: Usage,
        *,
        model: str | None = None,
        at: datetime | None = None,
        purpose: Purpose = "agent",
        is_estimate: bool = False,
        cost_usd: float | None = None,
    ) -> Call:
        """Add one call to the ledger and return its entry. O(1).

        Args:
            usage: What it used; `read_usage(response)` gives it.
            model: Which model answered.
            at: When; now, if left out. Prices are those of that day.
            purpose: `summary` for the memory's own summaries, which also count as `compression_cost`; `recall` for
                embeddings.
            is_estimate: The usage was counted, not reported.
            cost_usd: What it cost, where the caller knows; None: by this tracker's prices.
        """
        call = self._priced(usage, model=model, at=at or datetime.now(UTC), purpose=purpose, is_estimate=is_estimate)
        if cost_usd is not None:
            call = replace(call, cost_usd=cost_usd, price_is_default=False)
        self.calls.append(call)
        self._sum(call, sign=1)
        return call

    def amend(self, call: Call, usage: Usage, *, model: str | None = None) -> Call:
        """Put what the provider reported in the place of an estimated call; return the new entry.

        O(calls since), usually none.
        """
        reported = self._priced(usage, model=model or call.model, at=call.at, purpose=call.purpose, is_estimate=False)
        index = self.index_of(call)
        self.calls[index] = reported
        self._changed_from = min(self._changed_from, index)
        self._sum(call, sign=-1)
        self._sum(reported, sign=1)
        return reported

    def index_of(self, call: Call) -> int:
        """Return where in `calls` this very entry stands. O(calls since), usually none."""
        return next(i for i in range(len(self.calls) - 1, -1, -1) if self.calls[i] is call)

    def keep_in(self, session_id: str) -> None:
        """Take note of the session in which the calls are kept.

        Raises:
            ConfigError: They are kept in another one: the calls of two conversations cannot be told apart later.
        """
        if self._session_id not in (None, session_id):
            raise ConfigError(
                "this tracker has the calls of another session; give each memory that is kept a tracker of its own",
                field="tracker",
            )
        self._session_id = session_id

    def take_changed(self) -> int:
        """Return the index of the first call that is new or was amended since this was last asked."""
        first, self._changed_from = self._changed_from, len(self.calls)
        return first

    def give_back_changed(self, first: int) -> None:
        """Let the calls from this index on count as new again: whoever asked could do nothing with them."""
        self._changed_from = min(self._changed_from, first)

    def emptied(self) -> Self:
        """Return a tracker with the same prices and no calls."""
        fresh = copy.copy(self)
        fresh.calls, fresh._changed_from, fresh._session_id = [], 0, None
        fresh._all, fresh._by_purpose, fresh._by_model = Totals(), _no_purposes(), {}
        return fresh

    def state(self) -> dict[str, Any]:
        """Return the sums as JSON values, to the last bit; added up anew they could differ in it."""
        return {
            "all": self._all.as_dict(),
            "by_purpose": {purpose: totals.as_dict() for purpose, totals in self._by_purpose.items() if totals.calls},
            "by_model": {model: totals.as_dict() for model, totals in self._by_model.items()},
        }

    def restore(self, state: Mapping[str, Any], calls: Sequence[Call]) -> None:
        """Have these calls and the sums that `state` was taken of. They count as told already."""
        self.calls = list(calls)
        self._changed_from = len(self.calls)
        self._all = Totals(**state["all"])
        by_purpose = state["by_purpose"]
        self._by_purpose = {purpose: Totals(**by_purpose.get(purpose, {})) for purpose in _PURPOSES}
        self._by_model = {model: Totals(**totals) for model, totals in state["by_model"].items()}

    def _priced(self, usage: Usage, *, model: str | None, at: datetime, purpose: Purpose, is_estimate: bool) -> Call:
        rates = self.rates(model, input_tokens=usage.input_tokens, at=at)
        return Call(
            model=model or self.default_model,
            usage=usage,
            at=at,
            purpose=purpose,
            cost_usd=_cost(usage, rates),
            is_estimate=is_estimate,
            price_is_default=rates.is_default,
        )

    def _sum(self, call: Call, *, sign: Literal[1, -1]) -> None:
        by_model = self._by_model.setdefault(call.model or "", Totals())
        for totals in (self._all, self._by_purpose[call.purpose], by_model):
            totals.add(call, sign=sign)
        if not by_model.calls:
            del self._by_model[call.model or ""]

    @property
    def total_input_tokens(self) -> int:
        """Input of all calls, cached tokens and summary calls included."""
        return self._all.input_tokens

    @property
    def total_output_tokens(self) -> int:
        """Output of all calls, reasoning and summary calls included."""
        return self._all.output_tokens

    @property
    def cached_tokens(self) -> int:
        """Input that the provider read from its prompt cache."""
        return self._all.cache_read_tokens

    @property
    def total_cost(self) -> float:
        """USD of all calls, summaries included."""
        return self._all.cost_usd

    @property
    def compression_cost(self) -> float:
        """USD of the summary calls."""
        return self._by_purpose["summary"].cost_usd

    @property
    def recall_cost(self) -> float:
        """USD of the vectors that recall was made with."""
        return self._by_purpose["recall"].cost_usd

    @property
    def compression_tokens(self) -> int:
        """Input and output of the summary calls."""
        summaries = self._by_purpose["summary"]
        return summaries.input_tokens + summaries.output_tokens

    @property
    def request_count(self) -> int:
        """How many calls the loop made, summaries not counted."""
        return self._by_purpose["agent"].calls

    @property
    def unpriced_tokens(self) -> int:
        """Tokens of calls to models whose price nobody knows."""
        return self._all.unpriced_tokens

    @property
    def cost_is_estimate(self) -> bool:
        """Whether any call was priced by the default or had its usage counted rather than reported."""
        return bool(self._all.unpriced_tokens or self._all.estimated_calls)

    @property
    def by_model(self) -> Mapping[str, Totals]:
        """The sums of each model; `""` for calls that named none."""
        return MappingProxyType(self._by_model)

    @property
    def by_purpose(self) -> Mapping[Purpose, Totals]:
        """The sums of the loop's calls, of the summaries and of recall."""
        return MappingProxyType(self._by_purpose)


_PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)


def _no_purposes() -> dict[Purpose, Totals]:
    return {purpose: Totals() for purpose in _PURPOSES}


_DIALECT_OF_FAMILY: Mapping[Family, DialectName] = MappingProxyType(
    {"anthropic": "anthropic", "gemini": "gemini", "openai": "openai_chat", "other": "openai_chat"}
)


def _read(wire: Wire, provider: str | None, model: str | None) -> Reading:
    """Read a message by the provider's dialect, or by the one it is written in where that is plainly another."""
    expected: Dialect = DIALECTS[_DIALECT_OF_FAMILY[family_of(None, provider) if provider else family_of(model)]]
    if expected.recognise(wire) is Fit.NO:
        return (detect([wire]) or DIALECTS["openai_chat"]).read(wire)
    return expected.read(wire)


def _cost(usage: Usage, rates: Rates) -> float:
    return rates.cost_usd(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )
