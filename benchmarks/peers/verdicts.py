"""What the measured figures come to: totals, dollars at equal mean context, and who is ahead how often."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agent.backtest.outcome import Outcome
from agent.backtest.policies import EVERYTHING

from .measuring import Result
from .policies import Pace

LONG_TOKENS = 20_000
TELLING_PROBES = 10
"""Fewer cannot tell who keeps more: everybody keeps one of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One setting at one model's prices, over some conversations."""

    name: str
    is_own: bool
    family: str
    conversations: int
    cost: float
    """Dollars, those of sending everything with a warm cache being 1."""
    input_cost: float
    """The same without what the answers cost, which is the same for all; summaries included."""
    mean_context_tokens: float
    cached_share: float
    rejected: int
    """Requests that the provider would refuse: invalid ones and those beyond the model's window."""
    requests: int
    lost_first_task: int
    retained: int
    probes: int
    worst: float
    """The highest cost of a single conversation."""

    @property
    def retained_share(self) -> float:
        return self.retained / self.probes if self.probes else 1.0


def totals(results: Iterable[Result]) -> list[Total]:
    """Return a total for each setting that stood all conversations, in the order of their first results."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.name].append(result)
    everything = {one.outcome.transcript_id: one.outcome for one in groups[EVERYTHING]}
    return [_total(group, everything) for group in groups.values()]


def _total(group: Sequence[Result], everything: Mapping[str, Outcome]) -> Total:
    outcomes = [one.outcome for one in group]
    base = [everything[one.transcript_id] for one in outcomes]
    requests, tokens = sum(one.requests for one in outcomes), sum(one.input_tokens for one in outcomes)
    return Total(
        name=group[0].name,
        is_own=group[0].is_own,
        family=group[0].family,
        conversations=len(group),
        cost=sum(one.usd for one in outcomes) / sum(one.usd for one in base),
        input_cost=sum(map(_input_usd, outcomes)) / sum(map(_input_usd, base)),
        mean_context_tokens=tokens / requests,
        cached_share=sum(one.cached_tokens for one in outcomes) / tokens,
        rejected=sum(map(_rejected, outcomes)),
        requests=requests,
        lost_first_task=sum(one.lost_first_task for one in outcomes),
        retained=sum(one.retained for one in outcomes),
        probes=sum(one.probes for one in outcomes),
        worst=max(one.usd / other.usd for one, other in zip(outcomes, base, strict=True)),
    )


def _input_usd(outcome: Outcome) -> float:
    return outcome.usd - outcome.usd_output


def _rejected(outcome: Outcome) -> int:
    return outcome.invalid_requests + outcome.oversized_requests


def at_mean_context(tokens: float, curve: Iterable[Total]) -> float | None:
    """Return what the memory costs at a mean context, between the two of its settings that lie around it.

    None where the mean context lies outside of them.
    """
    points = sorted((one.mean_context_tokens, one.input_cost) for one in curve)
    for (low, cheap), (high, dear) in pairwise(points):
        if low <= tokens <= high:
            return cheap + (dear - cheap) * ((tokens - low) / (high - low) if high > low else 0.0)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one of our settings stands among the peers, conversation by conversation."""

    name: str
    conversations: int
    unbeaten: int
    """No peer's setting is cheaper and keeps at least as many facts."""
    cheapest: int
    """Cheaper than every peer's setting that keeps at least as many facts, and than sending everything."""
    telling: int
    """Conversations with at least `TELLING_PROBES` probes."""
    unbeaten_telling: int
    """As `unbeaten`, among those."""
    unbeaten_at_budget: int
    """As `unbeaten`, among peers' settings whose mean context is half to one and a half times ours."""
    worst: float
    """The highest cost of a single conversation, those of sending everything being 1."""
    beaten_by: tuple[tuple[str, int], ...]
    """Which peers' settings beat it, and how often; most often first."""


def verdicts(results: Iterable[Result], *, longer_than: int = LONG_TOKENS) -> list[Verdict]:
    """Return a verdict for each of our settings.

    Compared are dollars, answers and summaries included. A peer's setting counts where the provider would have refused
    none of its requests: a run that ends with a refusal is not cheap. What keeps as many facts is told by the probes;
    a conversation without probes is decided by dollars alone.
    """
    by_conversation: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_conversation[result.outcome.transcript_id].append(result)
    long = [group for group in by_conversation.values() if group[0].outcome.history_tokens > longer_than]
    names = dict.fromkeys(one.name for group in long for one in group if one.is_own)
    return [_verdict(name, long, by_conversation.values()) for name in names]


def _verdict(name: str, long: Sequence[Sequence[Result]], every: Iterable[Sequence[Result]]) -> Verdict:
    unbeaten = cheapest = at_budget = telling = unbeaten_telling = 0
    beaten_by: dict[str, int] = defaultdict(int)
    for group in long:
        ours = _named(name, group)
        rivals = [one for one in group if not one.is_own and one.name != EVERYTHING and not _rejected(one.outcome)]
        as_good = [one for one in rivals if one.outcome.retained >= ours.retained]
        better = [one for one in as_good if one.outcome.usd < ours.usd]
        unbeaten += not better
        telling += ours.probes >= TELLING_PROBES
        unbeaten_telling += ours.probes >= TELLING_PROBES and not better
        at_budget += not any(_is_alike(one.outcome, ours) for one in better)
        cheapest += all(ours.usd < one.usd for one in [*(one.outcome for one in as_good), _named(EVERYTHING, group)])
        for one in better:
            beaten_by[one.name] += 1
    return Verdict(
        name=name,
        conversations=len(long),
        unbeaten=unbeaten,
        cheapest=cheapest,
        telling=telling,
        unbeaten_telling=unbeaten_telling,
        unbeaten_at_budget=at_budget,
        worst=max(_named(name, group).usd / _named(EVERYTHING, group).usd for group in every),
        beaten_by=tuple(sorted(beaten_by.items(), key=lambda item: -item[1])),
    )


def _named(name: str, group: Iterable[Result]) -> Outcome:
    return next(one.outcome for one in group if one.name == name)


def _is_alike(outcome: Outcome, other: Outcome) -> bool:
    return 0.5 <= outcome.mean_context_tokens / other.mean_context_tokens <= 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What a setting costs a loop in time."""

    name: str
    is_own: bool
    milliseconds: float
    """Of a turn, in the mean."""
    growth: float
    """How the time of the whole loop grows with its length: 1 if a turn always costs the same, 2 if it costs as much
    as the history is long."""
    bytes_per_byte: float
    """Tokenised, for each byte of the conversation."""
    failed: str | None


def overhead(name: str, pace: Pace, *, conversation_bytes: int, is_own: bool) -> Overhead:
    """Return what the turns of a loop come to."""
    seconds = [one[1] for one in pace.turns]
    quarter = max(1, len(seconds) // 4)
    early, whole = sum(seconds[:quarter]), sum(seconds)
    return Overhead(
        name=name,
        is_own=is_own,
        milliseconds=1_000 * whole / max(1, len(seconds)),
        growth=math.log(whole / early) / math.log(len(seconds) / quarter) if early and len(seconds) > quarter else 1.0,
        bytes_per_byte=sum(one[2] for one in pace.turns) / conversation_bytes,
        failed=pace.failed,
    )
