"""The ledger: what each request cost, and what the same request would have cost without the memory.

The second figure is a comparison with a caller who sends every message every time, with the provider's prompt
cache working for them too: savings that a warm cache would have given anyway are not ours to claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import MessageError, SummaryError
from .llm import ModelCall, ModelReply
from .prompt_cache import CacheRules, cache_rules
from .tokens import TokenCounter
from .tracker import Call, TokenTracker
from .usage import Usage, read_model, read_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The sizes of one request to the model, estimated, in tokens."""

    sent_tokens: int
    repeated_tokens: int
    """The leading part of it that the request before had sent too, byte for byte."""
    full_tokens: int
    """The same request with nothing ever compressed."""
    full_repeated_tokens: int
    """The leading part of that which the request before would have sent too."""
    is_cut: bool = False
    """The request before had sent more behind that part: something was changed in between."""
    cache_alive: float = 1.0
    """The probability that the provider's cache still held the request before (0-1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Booked:
    """A call in the books, and what it would have cost more without the memory."""

    call: Call
    saved_usd: float


class Ledger:
    """Books requests with the provider's figures where there are any, and with estimates, marked, where not.

    A request is booked by its estimate when the model's answer is added; the report, when it comes, takes the
    estimate's place. A report may also come first.
    """

    def __init__(self, tracker: TokenTracker, *, model: str | None) -> None:
        self.model = model
        self.saved_tokens = 0
        """Input tokens that were not sent thanks to compression, over all requests; estimated."""
        self.saved_usd = 0.0
        """What the requests would have cost more without the memory; the summaries' own cost is not deducted."""
        self._tracker = tracker
        self._caches = False
        self._open: tuple[Request, _Booked] | None = None
        self._early: tuple[Usage, _Booked] | None = None
        self._cacheable_tokens = 0
        self._expected_tokens = 0.0
        self._read_tokens = 0
        self._fresh_tokens = 0
        self._written_tokens = 0
        self._written_1h_tokens = 0

    @property
    def awaits_answer(self) -> bool:
        """Whether a call was reported whose answer has not been added yet."""
        return self._early is not None

    @property
    def cost_without_memory_usd(self) -> float:
        """What the requests would have cost without the memory; exactly what they did cost if nothing was saved."""
        return self._tracker.by_purpose["agent"].cost_usd + self.saved_usd

    @property
    def cache_rules(self) -> CacheRules:
        """The rules of the provider's prompt cache; marks live for an hour once a report told of such writes."""
        return cache_rules(self.model, ttl="1h" if self._written_1h_tokens else "5m")

    @property
    def caches(self) -> bool:
        """Whether the provider caches these requests, as far as is known."""
        return self._caches or self._read_tokens > 0

    @property
    def hit_share(self) -> float:
        """Of what the requests repeated, the share that was read from the cache (0-1); 1 while nothing is known."""
        return min(1.0, self._read_tokens / self._cacheable_tokens) if self._cacheable_tokens else 1.0

    def alive(self, by_time: float) -> float:
        """Return the probability that a cache holds what was sent, corrected by how often it did so far.

        Args:
            by_time: What the time since then says alone (0-1).
        """
        if self._expected_tokens:
            return min(1.0, by_time * self._read_tokens / self._expected_tokens)
        return by_time if self._caches else 0.0

    def open(self, request: Request, *, output_tokens: int, caches: bool) -> int | None:
        """Book a request whose answer was just added. Return the input tokens that were reported before, if any.

        Args:
            request: Its sizes.
            output_tokens: The answer's estimated size, for the case that no usage is ever reported.
            caches: Whether this provider caches prefixes without being asked, or was asked to.
        """
        self._caches = caches
        self.saved_tokens += request.full_tokens - request.sent_tokens
        if self._early is not None:
            usage, booked = self._early
            self._early, self._open = None, None
            self._learn(request, usage)
            self.saved_usd += self._saved(request, usage, booked.call) - booked.saved_usd
            return usage.input_tokens
        read = self._read(request.repeated_tokens, request.sent_tokens, request.cache_alive)
        usage = Usage(input_tokens=request.sent_tokens, output_tokens=output_tokens, cache_read_tokens=read)
        call = self._tracker.record(usage, model=self.model, purpose="agent", is_estimate=True)
        self._open = (request, self._booked(call, self._saved(request, usage, call)))
        return None

    def report(self, usage: Usage, *, model: str | None = None) -> bool:
        """Book what the provider reported: in place of the newest answer's estimate, else for the next answer.

        Return whether it was the newest answer's.
        """
        self.model = model or self.model
        if self._open is None:
            # Also a call whose answer never came: it was billed all the same, with or without the memory.
            call = self._tracker.record(usage, model=self.model, purpose="agent")
            self._early = (usage, self._booked(call, 0.0))
            return False
        request, estimate = self._open
        self._open = None
        self._learn(request, usage)
        call = self._tracker.amend(estimate.call, usage, model=self.model)
        self.saved_usd += self._saved(request, usage, call) - estimate.saved_usd
        return True

    def state(self) -> dict[str, Any]:
        """Return the books as JSON values; a call of the tracker is told by its index there."""
        return {
            "model": self.model,
            "saved_tokens": self.saved_tokens,
            "saved_usd": self.saved_usd,
            "caches": self._caches,
            "open": None if self._open is None else [_fields(self._open[0]), *self._place(self._open[1])],
            "early": None if self._early is None else [_fields(self._early[0]), *self._place(self._early[1])],
            "cacheable_tokens": self._cacheable_tokens,
            "expected_tokens": self._expected_tokens,
            "read_tokens": self._read_tokens,
            "fresh_tokens": self._fresh_tokens,
            "written_tokens": self._written_tokens,
            "written_1h_tokens": self._written_1h_tokens,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Have the books that `state` was taken of; the tracker has its calls already."""
        self.model = state["model"]
        self.saved_tokens, self.saved_usd = state["saved_tokens"], state["saved_usd"]
        self._caches = state["caches"]
        self._open = self._early = None
        if state["open"] is not None:
            request, *booked = state["open"]
            self._open = Request(**request), self._booked_at(*booked)
        if state["early"] is not None:
            usage, *booked = state["early"]
            self._early = Usage(**usage), self._booked_at(*booked)
        self._cacheable_tokens = state["cacheable_tokens"]
        self._expected_tokens = state["expected_tokens"]
        self._read_tokens = state["read_tokens"]
        self._fresh_tokens = state["fresh_tokens"]
        self._written_tokens = state["written_tokens"]
        self._written_1h_tokens = state["written_1h_tokens"]

    def _place(self, booked: _Booked) -> tuple[int, float]:
        return self._tracker.index_of(booked.call), booked.saved_usd

    def _booked_at(self, index: int, saved_usd: float) -> _Booked:
        return _Booked(call=self._tracker.calls[index], saved_usd=saved_usd)

    def _booked(self, call: Call, saved_usd: float) -> _Booked:
        self.saved_usd += saved_usd
        return _Booked(call=call, saved_usd=saved_usd)

    def _saved(self, request: Request, usage: Usage, call: Call) -> float:
        avoided = request.full_tokens - request.sent_tokens
        if not avoided and request.full_repeated_tokens == request.repeated_tokens:
            return 0.0
        return self._tracker.cost_of(self._without(request, usage, avoided), model=self.model) - call.cost_usd

    def _without(self, request: Request, usage: Usage, avoided: int) -> Usage:
        """Return the usage of the same request with nothing compressed, under the cache hits seen so far.

        A request that could read from the cache shows itself whether that was alive.
        """
        whole = max(0, usage.input_tokens + avoided)
        cacheable = self._cacheable(request.repeated_tokens) if self._shows_cache(request) else 0
        alive = usage.cache_read_tokens / cacheable if cacheable else self.alive(request.cache_alive)
        read = min(whole, int(self._cacheable(request.full_repeated_tokens) * min(1.0, alive)))
        written = int((whole - read) * self._written_share())
        written_1h = int(written * self._written_1h_tokens / self._written_tokens) if self._written_tokens else 0
        return Usage(
            input_tokens=whole,
            output_tokens=usage.output_tokens,
            cache_read_tokens=read,
            cache_write_tokens=written - written_1h,
            cache_write_1h_tokens=written_1h,
            reasoning_tokens=usage.reasoning_tokens,
        )

    def _learn(self, request: Request, usage: Usage) -> None:
        if self._shows_cache(request):
            cacheable = self._cacheable(request.repeated_tokens)
            self._cacheable_tokens += cacheable
            self._expected_tokens += cacheable * request.cache_alive
            self._read_tokens += usage.cache_read_tokens
        written = usage.cache_write_tokens + usage.cache_write_1h_tokens
        self._fresh_tokens += usage.input_tokens - usage.cache_read_tokens
        self._written_tokens += written
        self._written_1h_tokens += usage.cache_write_1h_tokens

    def _shows_cache(self, request: Request) -> bool:
        """Whether what a request read tells how much of the cache was alive.

        Not where a prefix is found only as an earlier request ended, and this one leaves the last one before its end:
        it reads little from a cache that is all there.
        """
        return not (request.is_cut and self.cache_rules.is_exact)

    def _read(self, repeated_tokens: int, whole: int, cache_alive: float) -> int:
        """Estimate what is read from the cache: what was read so far of what was expected to be."""
        return min(whole, int(self._cacheable(repeated_tokens) * self.alive(cache_alive)))

    def _cacheable(self, repeated_tokens: int) -> int:
        rules = self.cache_rules
        return repeated_tokens // rules.step_tokens * rules.step_tokens if repeated_tokens >= rules.min_tokens else 0

    def _written_share(self) -> float:
        return self._written_tokens / self._fresh_tokens if self._fresh_tokens else 0.0


def _fields(value: Request | Usage) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}  # in every turn: ten times faster than `asdict`


class SummaryMeter:
    """Stands between the compressor and the model: refuses a summary call that money forbids, books the others."""

    def __init__(
        self,
        tracker: TokenTracker,
        counter: TokenCounter,
        *,
        limit_usd: float | None,
        on_refusal: Callable[[float], None],
    ) -> None:
        self._tracker = tracker
        self._counter = counter
        self._limit_usd = limit_usd
        self._on_refusal = on_refusal

    def before(self, call: ModelCall, model: str | None) -> None:
        """Refuse a call that would bring the cost above the limit.

        Raises:
            SummaryError: It would; a summary without a model is next on the ladder.
        """
        if self._limit_usd is None:
            return
        estimate = self._estimate(call, output_tokens=call.max_output_tokens // 2)
        cost = self._tracker.cost_of(estimate, model=model)
        if self._tracker.total_cost + cost > self._limit_usd:
            self._on_refusal(cost)
            raise SummaryError("a summary by a model would exceed max_cost_dollars")

    def after(self, call: ModelCall, reply: ModelReply | None, model: str | None) -> None:
        """Book a call: by its reported usage, else by an estimate. No reply: it ran out of time, and was billed."""
        response = reply.response if reply is not None else None
        try:
            reported = read_usage(response)
        except MessageError:  # a usage that cannot be true must not cost the summary that came with it
            reported = None
        answer = reply.text if reply is not None else ""
        self._tracker.record(
            reported or self._estimate(call, output_tokens=self._counter.count_text(answer)),
            model=read_model(response) or model,
            purpose="summary",
            is_estimate=reported is None,
        )

    def _estimate(self, call: ModelCall, *, output_tokens: int) -> Usage:
        asked = self._counter.count_text(f"{call.instructions}\n{call.prompt}")
        if call.prefix is None:
            return Usage(input_tokens=asked, output_tokens=output_tokens)
        return Usage(
            input_tokens=call.prefix.tokens + asked,
            output_tokens=output_tokens,
            cache_read_tokens=call.prefix.cached_tokens,
        )
