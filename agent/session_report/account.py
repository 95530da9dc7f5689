"""The account of a session: its requests and its compressions in order, and its sums, from a store's rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from memory.sessions.values import SessionInfo, StoredCall, StoredCompression

from .expenses import Expense


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
    """What those were cheaper by at the price of fresh input: with a prompt cache it was less."""
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
    def input_tokens(self) -> int:
        return sum(call.input_tokens for call in self.calls)

    @property
    def output_tokens(self) -> int:
        return sum(call.output_tokens for call in self.calls)

    @property
    def cached_share(self) -> float:
        """Of the input, what the provider read from its prompt cache: 0 to 1."""
        return sum(call.cache_read_tokens for call in self.calls) / (self.input_tokens or 1)

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
) -> Account:
    """Return the account of a session from its rows, as a store returns them.

    Args:
        info: The session.
        calls: Each with the newest message that it sent (`reading.sent`).
        compressions: The session's own.
        expenses: What to say of messages.
        undone: The compressions that were taken back: the newest message then, by number.
    """
    undone = undone or {}
    sums = accumulate(call.cost_usd for call in calls)
    agents = [(call, so_far) for call, so_far in zip(calls, sums, strict=True) if call.purpose == "agent"]
    requests = [Request(number=n, call=call, usd_so_far=so_far) for n, (call, so_far) in enumerate(agents, start=1)]
    return Account(
        info=info,
        requests=tuple(requests),
        summary_calls=tuple(call for call in calls if call.purpose == "summary"),
        compressions=tuple(_compression(one, requests, undone.get(one.number)) for one in compressions),
        expenses=tuple(expenses),
    )


def _compression(stored: StoredCompression, requests: Sequence[Request], undone_at: int | None) -> Compression:
    event = _object(stored.event)
    before = sum(request.call.seq < stored.seq for request in requests)
    after = sum(
        stored.seq <= request.call.seq for request in requests if undone_at is None or request.call.seq < undone_at
    )
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
        changes=tuple(_change(one) for one in json.loads(stored.plan) if isinstance(one, dict)),
        summary=stored.summary,
        summary_tokens=int(_number(event, "summary_tokens")),
        cost_usd=_number(event, "cost_usd"),
        requests_after=after,
        saved_usd=after * _number(event, "saved_usd_per_request"),
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
    value = json.loads(text)
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    return str(values.get(name, ""))


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    return value if isinstance(value, (int, float)) else 0
