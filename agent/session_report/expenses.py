"""What each message of a session cost by being sent again and again."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from memory import TokenTracker
from memory.sessions.values import StoredCall
from memory.usage import Usage

_TABLE: Final = TokenTracker()
"""Asked for prices only; it remembers which entry a name means."""
BESIDE: Final = "beside"
"""The key of what travels beside the messages with every request: system prompt and tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something that stands in a context: a message, a shortened copy of it, or a summary."""

    key: str
    """`r17`; of a summary `r3-r40`; or `BESIDE`."""
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stood in the context from some moment on; newer messages stand behind it."""

    after_seq: int
    """The newest message at that moment."""
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one place of the context came to over the run."""

    key: str
    tokens: int
    """When it was sent last."""
    requests: int
    """In which it was sent."""
    sent_tokens: int
    """Its tokens times these requests."""
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expense:
    """An expensive message, and what can be said of it."""

    cost: Cost
    role: str
    """`user`, `tool` and the like; `summary`; or `system prompt and tools`."""
    tools: tuple[str, ...] = ()
    excerpt: str = field(default="", repr=False)
    """Its first words, on one line."""


def costs_of(
    calls: Iterable[StoredCall],
    standings: Sequence[Standing],
    messages: Sequence[tuple[int, Place]],
    *,
    beside_tokens: int = 0,
) -> list[Cost]:
    """Return what each message cost as input of the requests in which it was sent, the dearest first.

    The input dollars of each request are divided among what was sent in it, by size. What the provider read from its
    cache is the beginning of the request, so the messages there are charged the price of cached tokens, those behind
    it that of fresh and written ones. The sum over all is what the requests' input cost.

    Args:
        calls: The loop's calls by ascending number.
        standings: By ascending moment; before the first one nothing but messages stood there.
        messages: (number, place) of each message of the session, by ascending number.
        beside_tokens: Size of system prompt and tools that travel beside the messages.
    """
    starts = [Standing(after_seq=0, places=()), *standings]
    by_start: defaultdict[int, list[StoredCall]] = defaultdict(list)
    for call in calls:
        by_start[bisect_right(starts, call.seq, key=_after) - 1].append(call)
    ledger = _Ledger()
    for index, of_start in by_start.items():
        line = _Line(starts[index], messages, beside_tokens, last_seq=of_start[-1].seq)
        for call in of_start:
            line.charge(call)
        ledger.add(line)
    return sorted(ledger.costs(), key=lambda cost: (-cost.usd, -cost.sent_tokens))


def _after(standing: Standing) -> int:
    return standing.after_seq


class _Line:
    """A context that only grows: requests are charged to its beginnings. A request costs O(log n)."""

    def __init__(
        self, start: Standing, messages: Sequence[tuple[int, Place]], beside_tokens: int, *, last_seq: int
    ) -> None:
        new = [(seq, place) for seq, place in messages if start.after_seq < seq <= last_seq]
        self._old_count = 1 + len(start.places)
        self._seqs = [seq for seq, _ in new]
        self.places = [Place(key=BESIDE, tokens=beside_tokens), *start.places, *(place for _, place in new)]
        self._ends = list(accumulate(place.tokens for place in self.places))
        # Differences: what is added from one place on holds for all behind it.
        self._price_steps = [0.0] * (len(self.places) + 1)
        self._request_steps = [0] * (len(self.places) + 1)
        self._partly = [0.0] * len(self.places)

    def charge(self, call: StoredCall) -> None:
        count = self._old_count + bisect_right(self._seqs, call.seq)
        counted = self._ends[count - 1]
        if not counted:
            return
        cached_price, fresh_price = input_prices(call)
        stretch = call.input_tokens / counted
        cached_end = min(counted, call.cache_read_tokens / stretch) if stretch else 0.0
        within = bisect_right(self._ends, cached_end, hi=count)
        self._request_steps[0] += 1
        self._request_steps[count] -= 1
        self._price_steps[0] += stretch * cached_price
        self._price_steps[within] += stretch * (fresh_price - cached_price)
        self._price_steps[count] -= stretch * fresh_price
        if within < count:
            begun = cached_end - (self._ends[within] - self.places[within].tokens)
            self._partly[within] -= begun * stretch * (fresh_price - cached_price)

    def costs(self) -> Iterator[tuple[Place, int, float]]:
        prices, requests = accumulate(self._price_steps), accumulate(self._request_steps)
        for place, price, count, part in zip(self.places, prices, requests, self._partly, strict=False):
            yield place, count, place.tokens * price + part


class _Ledger:
    """Sums over the stretches of a run."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}
        self._requests: defaultdict[str, int] = defaultdict(int)
        self._sent: defaultdict[str, int] = defaultdict(int)
        self._usd: defaultdict[str, float] = defaultdict(float)

    def add(self, line: _Line) -> None:
        for place, requests, usd in line.costs():
            if requests and place.tokens:
                self._tokens[place.key] = place.tokens
                self._requests[place.key] += requests
                self._sent[place.key] += requests * place.tokens
                self._usd[place.key] += usd

    def costs(self) -> Iterator[Cost]:
        for key, tokens in self._tokens.items():
            yield Cost(
                key=key,
                tokens=tokens,
                requests=self._requests[key],
                sent_tokens=self._sent[key],
                usd=self._usd[key],
            )


def input_prices(call: StoredCall) -> tuple[float, float]:
    """Return what a token of a call's input cost in USD: one that was read from the cache, and one that was not."""
    usage = _usage(call)
    at = datetime.fromtimestamp(call.at, UTC)
    rates = _TABLE.rates(call.model, input_tokens=call.input_tokens, at=at)
    by_table = _TABLE.cost_of(usage, model=call.model, at=at)
    # The session may have been priced by a table of its own.
    factor = call.cost_usd / by_table / 1_000_000 if by_table else 0.0
    written, written_1h = call.cache_write_tokens, call.cache_write_1h_tokens
    behind = call.input_tokens - call.cache_read_tokens
    plain = behind - written - written_1h
    paid = plain * rates.input + written * rates.cache_write + written_1h * rates.cache_write_1h
    return factor * rates.cache_read, factor * (paid / behind if behind else rates.input)


def _usage(call: StoredCall) -> Usage:
    return Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_tokens=call.cache_write_tokens,
        cache_write_1h_tokens=call.cache_write_1h_tokens,
    )


def places_of(tokens: Mapping[int, int]) -> list[tuple[int, Place]]:
    """Return messages as they are sent while nothing stands for them, from their sizes by number."""
    return [(seq, Place(key=f"r{seq}", tokens=size)) for seq, size in sorted(tokens.items())]
