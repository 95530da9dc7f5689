"""The account of a session: its requests and its compressions in order, and its sums, from a store's rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from memory.sessions.encoding import loaded
from memory.sessions.values import SessionInfo, StoredCall, StoredCompression

from .expenses import Expense, input_prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of the loop."""

    number: int
    """Among the requests of the session, from 1."""
    call: StoredCall
    usd_so_far: float
    """Of the session up to this request; summaries included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a compression did to one unit of messages."""

    refs: str
    """`r4` or `r4-r6`."""
    action: str
    reason: str
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """One compression, with what followed from it."""

    number: int
    at: float
    after_request: int
    """Number of the last request before it; 0: none was made yet."""
    trigger: str
    strategy: str
    method: str
    """Who wrote the summary: `model`, `extractive`, or `none`."""
    tokens_before: int
    """Of the whole context."""
    tokens_after: int
    first_ref: str
    last_ref: str
    changes: tuple[Change, ...]
    summary: str = field(repr=False)
    summary_tokens: int
    cost_usd: float
    """What its summary calls cost."""
    requests_after: int
    """The requests that followed it while it stood."""
    saved_usd: float
    """What those would have cost more with what it took out: at the price of cached tokens where they read any."""
    is_undone: bool = False
    """It was taken back later; only what came before that counts."""

    @property
    def taken_tokens(self) -> int:
        return self.tokens_before - self.tokens_after


@dataclass(frozen=True, kw_only=True)
class Account:
    """All that a report tells of a session."""

    info: SessionInfo
    requests: tuple[Request, ...]
    summary_calls: tuple[StoredCall, ...]
    compressions: tuple[Compression, ...]
    expenses: tuple[Expense, ...]
    """The most expensive messages, the dearest first."""
    saved_usd: float | None = None
    """What the requests would have cost more without the memory, as its own books say, prompt cache counted; what the
    summaries cost is not deducted. None: the books do not tell."""

    @cached_property
    def calls(self) -> tuple[StoredCall, ...]:
        return (*(request.call for request in self.requests), *self.summary_calls)

    @property
    def cost_usd(self) -> float:
        return sum(call.cost_usd for call in self.calls)

    @property
    def summary_cost_usd(self) -> float:
        return sum(call.cost_usd for call in self.summary_calls)

    @property
    def cost_without_memory_usd(self) -> float | None:
        """What the requests would have cost without the memory."""
        return None if self.saved_usd is None else self.cost_usd - self.summary_cost_usd + self.saved_usd

    @property
    def input_tokens(self) -> int:
        return sum(call.input_tokens for call in self.calls)

    @property
    def output_tokens(self) -> int:
        return sum(call.output_tokens for call in self.calls)

    @property
    def sent_tokens(self) -> int:
        """Input of the loop's requests; that of the summaries is not in it."""
        return sum(request.call.input_tokens for request in self.requests)

    @property
    def cached_share(self) -> float:
        """Of what the requests sent, what the provider read from its prompt cache: 0 to 1."""
        return sum(request.call.cache_read_tokens for request in self.requests) / (self.sent_tokens or 1)

    @property
    def has_estimates(self) -> bool:
        """Some usage was counted instead of reported, or some price is the default."""
        return any(call.is_estimate or call.price_is_default for call in self.calls)

    @property
    def greatest_context(self) -> int:
        return max((request.call.input_tokens for request in self.requests), default=0)


def account_of(
    info: SessionInfo,
    calls: Sequence[StoredCall],
    compressions: Sequence[StoredCompression],
    expenses: Sequence[Expense] = (),
    *,
    undone: Mapping[int, int] | None = None,
    saved_usd: float | None = None,
) -> Account:
    """Return the account of a session from its rows, as a store returns them.

    Args:
        info: The session.
        calls: Each with the newest message that it sent (`reading.sent`).
        compressions: The session's own.
        expenses: What to say of messages.
        undone: The compressions that were taken back: the newest message then, by number.
        saved_usd: What the memory's own books say that it saved.
    """
    undone = undone or {}
    sums = accumulate(call.cost_usd for call in calls)
    agents = [(call, so_far) for call, so_far in zip(calls, sums, strict=True) if call.purpose == "agent"]
    requests = [Request(number=n, call=call, usd_so_far=so_far) for n, (call, so_far) in enumerate(agents, start=1)]
    run = _Run(requests)
    return Account(
        info=info,
        requests=tuple(requests),
        summary_calls=tuple(call for call in calls if call.purpose == "summary"),
        compressions=tuple(_compression(one, run, undone.get(one.number)) for one in compressions),
        expenses=tuple(expenses),
        saved_usd=saved_usd,
    )


class _Run:
    """The requests, as compressions look at them. Asked in O(log n)."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._seqs = [request.call.seq for request in requests]
        self._usd = [0.0, *accumulate(map(_price_of_old, requests))]

    def count_before(self, seq: int | None) -> int:
        """Return how many requests were made before a message was the newest one; None: all."""
        return len(self._seqs) if seq is None else bisect_left(self._seqs, seq)

    def usd_of_old_token(self, first: int, last: int) -> float:
        """Return what one more token at the beginning of the requests `[first, last)` would have cost."""
        return self._usd[last] - self._usd[first]


def _price_of_old(request: Request) -> float:
    cached, fresh = input_prices(request.call)
    return cached if request.call.cache_read_tokens else fresh


def _compression(stored: StoredCompression, run: _Run, undone_at: int | None) -> Compression:
    event = _object(stored.event)
    before, end = run.count_before(stored.seq), run.count_before(undone_at)
    taken = int(_number(event, "tokens_before")) - int(_number(event, "tokens_after"))
    return Compression(
        number=stored.number,
        at=stored.at,
        after_request=before,
        trigger=_text(event, "trigger"),
        strategy=_text(event, "strategy"),
        method=_text(event, "method"),
        tokens_before=int(_number(event, "tokens_before")),
        tokens_after=int(_number(event, "tokens_after")),
        first_ref=stored.first_ref,
        last_ref=stored.last_ref,
        changes=tuple(_change(one) for one in loaded(stored.plan) if isinstance(one, dict)),
        summary=stored.summary,
        summary_tokens=int(_number(event, "summary_tokens")),
        cost_usd=_number(event, "cost_usd"),
        requests_after=end - before,
        saved_usd=taken * run.usd_of_old_token(before, end),
        is_undone=undone_at is not None,
    )


def _change(values: Mapping[str, Any]) -> Change:
    return Change(
        refs=_text(values, "refs"),
        action=_text(values, "action"),
        reason=_text(values, "reason"),
        tokens_before=int(_number(values, "tokens_before")),
        tokens_after=int(_number(values, "tokens_after")),
    )


def _object(text: str) -> dict[str, Any]:
    value = loaded(text)
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    return str(values.get(name, ""))


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    return value if isinstance(value, (int, float)) else 0
