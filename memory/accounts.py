"""The accounts of one conversation: which requests were made, what they cost, and whether the next one may be made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .economics import Outlook, outlook_of
from .errors import BudgetExceededError
from .events import OverBudget
from .ledger import Ledger, Request, SummaryMeter
from .prices import PRICING
from .request_size import RequestSize
from .tokens import TokenCounter
from .tracker import Call, TokenTracker
from .usage import Usage, carrier
from .window import Window


class Accounts:
    """Books the requests of a conversation as its messages come, and keeps within a budget.

    It knows of the window only sizes: how much was sent, and how much of that the request before had sent too.
    """

    def __init__(
        self,
        tracker: TokenTracker,
        size: RequestSize,
        counter: TokenCounter,
        *,
        model: str | None,
        limit_usd: float | None,
        on_over_budget: Callable[[OverBudget], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tracker = tracker
        self.ledger = Ledger(tracker, model=model)
        self.summary_meter = SummaryMeter(
            tracker, counter, limit_usd=limit_usd, on_refusal=lambda cost: self._tell("summary", cost)
        )
        self.request_count = 0
        self._is_sent = False
        self._clock = clock
        self._sent_at: float | None = None
        self._sent_wall: float | None = None
        """The same moment in seconds since 1970, which another process understands too."""
        self._size = size
        self._limit_usd = limit_usd
        self._on_over_budget = on_over_budget
        self._reported: object | None = None
        """What usage was last read from, until the next message: it may be given twice."""
        self._sent_tokens = 0
        self._repeated_tokens = 0
        self._previous_log_tokens = 0
        self._grown_tokens = 0
        self._step_count = 0

    @property
    def model(self) -> str | None:
        """The model that the loop calls, as far as is known."""
        return self.ledger.model

    @property
    def awaits_answer(self) -> bool:
        """Whether a request is under way: its context was handed out, or its usage reported, but no answer came."""
        return self._is_sent or self.ledger.awaits_answer

    @property
    def cache_alive(self) -> float:
        """The probability that the provider's cache still holds the last request, by the time since then (0-1)."""
        if self._sent_at is None:
            return 1.0
        return self.ledger.cache_rules.alive(self._clock() - self._sent_at)

    def cached_tokens(self, *, cache_alive: float | None) -> int:
        """Return how much of the last request the provider's cache is expected to hold; 0 before the first."""
        alive = self._alive(cache_alive)
        return int(self._size.whole(self._repeated_tokens) * alive) if self._repeated_tokens else 0

    def outlook(self, window: Window, *, remaining_requests: float, cache_alive: float | None) -> Outlook:
        """Return what is known of the requests to come; `cache_alive` overrides what the clock says."""
        rates = self.tracker.rates(self.model, input_tokens=self._size.whole(window.tokens))
        alive = self._alive(cache_alive)
        return outlook_of(
            rates,
            remaining_requests=remaining_requests,
            cache_alive=alive,
            hit_share=self.ledger.hit_share,
            caches=self.ledger.caches,
        )

    @property
    def knows_price(self) -> bool:
        """Whether the model's price is known, so that money can be reckoned with."""
        return not self.tracker.rates(self.model).is_default

    def allowance_usd(self, share: float) -> float:
        """Return what may still be spent so that the run costs at most this share more than without the memory."""
        without = self.ledger.cost_without_memory_usd
        return share * without + self.ledger.saved_usd - self.tracker.compression_cost

    def note_sent(self) -> None:
        """A context was handed out to be sent."""
        self._is_sent = True

    def begin_message(self) -> None:
        """A new message comes: usage that is given from now on is news, unless it came before its answer."""
        if not self.ledger.awaits_answer:
            self._reported = None

    def open_request(self, window: Window, *, output_tokens: int, caches: bool) -> None:
        """Book the request of which an answer has come; the window is as it stood when it was sent."""
        self._is_sent = False
        alive = self.cache_alive
        self._sent_at, self._sent_wall = self._clock(), time.time()
        self.request_count += 1
        whole, is_first = self._size.whole, not self._previous_log_tokens
        request = Request(
            sent_tokens=whole(window.tokens),
            repeated_tokens=0 if is_first else whole(self._repeated_tokens),
            full_tokens=whole(window.log_tokens),
            full_repeated_tokens=0 if is_first else whole(self._previous_log_tokens),
            is_cut=self._repeated_tokens < self._sent_tokens,
            cache_alive=alive,
        )
        if not is_first:
            self._grown_tokens += window.log_tokens - self._previous_log_tokens
            self._step_count += 1
        self._sent_tokens = window.tokens
        reported_tokens = self.ledger.open(request, output_tokens=output_tokens, caches=caches)
        if reported_tokens is not None:
            self._size.learn(message_tokens=window.tokens, reported_tokens=reported_tokens)
        self._repeated_tokens = window.tokens
        self._previous_log_tokens = window.log_tokens

    def report(self, usage: Usage, source: object, model: str | None) -> None:
        """Book what a provider reported; the same source twice counts once."""
        reported = carrier(source)
        if reported is self._reported:  # a response that is added and recorded too
            return
        self._reported = reported
        if self.ledger.report(usage, model=model):
            self._size.learn(message_tokens=self._sent_tokens, reported_tokens=usage.input_tokens)

    def note_edit(self, unchanged_tokens: int) -> None:
        """Only this much of what was sent last still stands at the front of the next request."""
        self._repeated_tokens = min(self._repeated_tokens, unchanged_tokens)

    def note_withdrawal(self, window: Window) -> None:
        """Messages were withdrawn: a caller without a memory would not send them again either."""
        self.note_edit(window.tokens)
        self._previous_log_tokens = min(self._previous_log_tokens, window.log_tokens)

    def note_new_front(self) -> None:
        """Something before the messages changed: a provider's cache knows nothing of what comes behind it."""
        self._repeated_tokens = self._previous_log_tokens = 0

    def usd_per_token(self, window: Window) -> float:
        """Return the price of one uncached input token in a request of the current size."""
        tokens = max(1, self._size.whole(window.tokens))
        return self.tracker.cost_of(Usage(input_tokens=tokens, output_tokens=0), model=self.model) / tokens

    def base_usd_per_token(self, window: Window) -> float:
        """Return the base price of an input token in a request of the current size; never 0, for ratios."""
        rates = self.tracker.rates(self.model, input_tokens=self._size.whole(window.tokens))
        return (rates.input or PRICING["default"]["input"]) / 1_000_000

    def growth_tokens(self) -> int:
        """Return what a step of the loop has added on average: an answer and all that came until the next request.

        The task and a history that was there before the first request are no steps.
        """
        return self._size.share(self._grown_tokens) // self._step_count if self._step_count else 0

    def refuse_over_budget(self, window: Window) -> None:
        """Refuse the next request if it would pass the limit.

        Raises:
            BudgetExceededError: It would.
        """
        if self._limit_usd is None:
            return
        answers = self.tracker.by_purpose["agent"]
        expected = Usage(
            input_tokens=self._size.whole(window.tokens), output_tokens=answers.output_tokens // max(1, answers.calls)
        )
        cost = self.tracker.cost_of(expected, model=self.model)
        if self.tracker.total_cost + cost > self._limit_usd:
            self._tell("agent", cost)
            raise BudgetExceededError(spent_usd=self.tracker.total_cost, next_call_usd=cost, limit_usd=self._limit_usd)

    def state(self) -> dict[str, Any]:
        """Return what the next request is reckoned with, as JSON values; the ledger's and the tracker's among them."""
        return {
            "request_count": self.request_count,
            "is_sent": self._is_sent,
            "sent_at": self._sent_wall,
            "sent_tokens": self._sent_tokens,
            "repeated_tokens": self._repeated_tokens,
            "previous_log_tokens": self._previous_log_tokens,
            "grown_tokens": self._grown_tokens,
            "step_count": self._step_count,
            "ledger": self.ledger.state(),
            "tracker": self.tracker.state(),
        }

    def restore(self, state: Mapping[str, Any], calls: Sequence[Call]) -> None:
        """Know what was known when `state` was taken; `calls` are all that the tracker had then.

        The time since the last request goes on: meanwhile a provider's cache may have expired.
        """
        self.request_count = state["request_count"]
        self._is_sent = state["is_sent"]
        self._sent_wall = state["sent_at"]
        if self._sent_wall is not None:
            self._sent_at = self._clock() - max(0.0, time.time() - self._sent_wall)
        self._sent_tokens = state["sent_tokens"]
        self._repeated_tokens = state["repeated_tokens"]
        self._previous_log_tokens = state["previous_log_tokens"]
        self._grown_tokens = state["grown_tokens"]
        self._step_count = state["step_count"]
        self.tracker.restore(state["tracker"], calls)
        self.ledger.restore(state["ledger"])

    def _alive(self, given: float | None) -> float:
        """Return what the caller knows better, else what the clock says, corrected by what was read so far."""
        return self.ledger.alive(self.cache_alive) if given is None else given

    def _tell(self, purpose: Literal["agent", "summary"], next_call_usd: float) -> None:
        spent, limit = self.tracker.total_cost, self._limit_usd or 0.0
        self._on_over_budget(OverBudget(purpose=purpose, spent_usd=spent, next_call_usd=next_call_usd, limit_usd=limit))
