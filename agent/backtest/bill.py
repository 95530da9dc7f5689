"""What a run costs, kind by kind: each request at its model's price of today and the tier that its own size reaches."""

from __future__ import annotations

from collections.abc import Iterable

from memory.prices import PriceBook
from memory.prompt_cache import Block, PromptCache, cache_rules
from memory.usage import Usage

from .outcome import SummaryCall

_PER_MILLION = 1_000_000


class Bill:
    """Adds up a run's requests and its policy's own model calls."""

    def __init__(self, prices: PriceBook, *, model: str) -> None:
        self.usd_input = 0.0
        """For input that was neither read from a cache nor written to it."""
        self.usd_cached = self.usd_written = self.usd_output = self.usd_summaries = 0.0
        self.summary_tokens = 0
        self._prices = prices
        self._model = model

    @property
    def usd(self) -> float:
        return self.usd_input + self.usd_cached + self.usd_written + self.usd_output + self.usd_summaries

    def add_request(self, usage: Usage) -> float:
        """Add a request of the run; return its price in USD."""
        rates = self._prices.rates(self._model, input_tokens=usage.input_tokens)
        written = usage.cache_write_tokens + usage.cache_write_1h_tokens
        fresh = (usage.input_tokens - usage.cache_read_tokens - written) * rates.input / _PER_MILLION
        cached = usage.cache_read_tokens * rates.cache_read / _PER_MILLION
        five_minutes = usage.cache_write_tokens * rates.cache_write / _PER_MILLION
        an_hour = usage.cache_write_1h_tokens * rates.cache_write_1h / _PER_MILLION
        output = usage.output_tokens * rates.output / _PER_MILLION
        self.usd_input += fresh
        self.usd_cached += cached
        self.usd_written += five_minutes + an_hour
        self.usd_output += output
        return fresh + cached + five_minutes + an_hour + output

    def add_prefix_summary(self, usage: Usage) -> None:
        """Add a model call of the policy that the run's own model answered, behind the run's own context."""
        self._add_summary(usage, self._model)

    def add_summaries(self, calls: Iterable[SummaryCall]) -> None:
        """Add the model calls that the policy made, each at its own model's price."""
        for call in calls:
            # Where a provider caches by itself and bills that, it does so for a prompt that nobody will extend too.
            prompt = Block(key="prompt", tokens=call.input_tokens)
            written = PromptCache(cache_rules(call.model)).send([prompt]).written_tokens
            usage = Usage(
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                cache_read_tokens=call.cached_tokens,
                cache_write_tokens=max(0, written - call.cached_tokens),
            )
            self._add_summary(usage, call.model)

    def _add_summary(self, usage: Usage, model: str) -> None:
        rates = self._prices.rates(model, input_tokens=usage.input_tokens)
        self.summary_tokens += usage.total_tokens
        self.usd_summaries += rates.cost_usd(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
        )
