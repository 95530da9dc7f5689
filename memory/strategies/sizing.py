"""Sizes: how long the summary may be, and what else must shrink where a plan exceeds the hard limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..units import Unit
from ..window import OPEN_CALL, PINNED, PROTECTED_TOOL
from .older import OLDER_SUMMARY, keep, masked
from .placeholders import masked_size
from .plan import Action, Decision, Plan, Situation


def finished(name: str, decisions: list[Decision], situation: Situation, *, after_share: float) -> Plan:
    """Set the summary's target, drop a summary that cannot pay, and keep within the hard limit."""
    decisions = _layered(decisions, situation, after_share=after_share)
    target = _summary_target(decisions, situation, after_share=after_share)
    if target < MIN_SUMMARY_TOKENS:
        decisions = [keep(d.unit, "too small to gain") if d.action is Action.SUMMARISE else d for d in decisions]
        target = 0
    plan = Plan(strategy=name, decisions=tuple(decisions), summary_target_tokens=target)
    return _within_limit(plan, situation) if plan.tokens_after > situation.limit_tokens else plan


def _layered(decisions: list[Decision], situation: Situation, *, after_share: float) -> list[Decision]:
    """Let the older summaries stand, for the prompt cache's sake; merge them with the new one when it must be.

    That is where there are too many, or where they leave too little room for what is new.
    """
    standing = [d for d in decisions if d.reason == OLDER_SUMMARY]
    if not standing or all(d.action is not Action.SUMMARISE for d in decisions):
        return decisions
    room = _summary_room(decisions, situation, after_share=after_share)
    wanted = max(_wanted(decisions, situation), MIN_SUMMARY_TOKENS)
    gains = _largest_target(decisions) >= MIN_SUMMARY_TOKENS
    if len(standing) < situation.max_summaries and room >= wanted and gains:
        return decisions
    return [_absorbed(d) if d.reason == OLDER_SUMMARY else d for d in decisions]


def _absorbed(decision: Decision) -> Decision:
    return replace(decision, action=Action.SUMMARISE, tokens_after=0)


MIN_SUMMARY_TOKENS = 64
"""Below this a summary is little more than its own heading."""

_SPARING = 1 / 2
"""Of what `compression_ratio` allows: what a summary in a running context aims at.

It is sent with each request that follows and written anew by each compression, while the facts that it does not print
stay known to the next one. benchmarks/retention.py and benchmarks/prefix.py show both sides: a longer one holds a few
facts more and breaks the prompt cache more often."""

_MIN_SUMMARY_SHARE = 0.3
"""Of the threshold: what a summary may take even where the floor leaves less room than that. Then the threshold
cannot be kept anyway, and forgetting everything would not change it. Half of it where there is room, but not now."""


def _summary_target(decisions: Sequence[Decision], situation: Situation, *, after_share: float) -> int:
    """Return how long the new summary may be: `compression_ratio` of what it stands for, or less to leave room to grow.

    It always stays below 80 % of what it replaces now, so that each compression makes progress, and is never wanted
    below the smallest useful size, so that a few short messages may exceed the ratio.
    """
    room = _summary_room(decisions, situation, after_share=after_share)
    if situation.max_summaries > 1 and any(unit.is_summary for unit in _replaced(decisions)):
        room = int(room * _MERGED_SHARE)
    wanted = max(min(_wanted(decisions, situation), room), MIN_SUMMARY_TOKENS)
    return min(wanted, _largest_target(decisions))


def _largest_target(decisions: Sequence[Decision]) -> int:
    return int(sum(unit.tokens for unit in _replaced(decisions)) * 0.8)


_MERGED_SHARE = 0.85
"""Of the summaries' room: what one may fill that older ones were merged into. The next ones need room behind it."""


def _wanted(decisions: Sequence[Decision], situation: Situation) -> int:
    return wanted_tokens(added_tokens(_replaced(decisions)), situation)


def wanted_tokens(covered_tokens: int, situation: Situation) -> int:
    """Return how long a summary of messages that measured this much should be, where there is room for it."""
    wanted = int(covered_tokens * situation.compression_ratio * (1.0 if situation.all_is_old else _SPARING))
    limit = situation.summary_limit_tokens
    return wanted if limit is None else min(wanted, limit)


def added_tokens(units: Iterable[Unit]) -> int:
    """Return what the units' messages measured when they were added."""
    return sum(entry.added_tokens for unit in units for entry in unit.entries)


def _replaced(decisions: Sequence[Decision]) -> list[Unit]:
    return [decision.unit for decision in decisions if decision.action is Action.SUMMARISE]


def _summary_room(decisions: Sequence[Decision], situation: Situation, *, after_share: float) -> int:
    """Return what summaries may take in all, less those that stand."""
    standing = sum(d.tokens_after for d in decisions if d.reason == OLDER_SUMMARY)
    kept = sum(decision.tokens_after for decision in decisions) - standing - situation.floor_tokens
    smallest = int(situation.threshold_tokens * _MIN_SUMMARY_SHARE)
    least = smallest if situation.room_tokens < smallest else smallest // 2
    return max(filled_tokens(situation, after_share=after_share) - max(0, kept), least) - standing


def filled_tokens(situation: Situation, *, after_share: float) -> int:
    """Return what of the room may be full after a compression, the summary included."""
    # The next turn is likely as large as the newest: without room for it, every turn would compress again.
    newest = situation.units[-1].tokens if situation.newest is not None else 0
    return int(min(situation.room_tokens * after_share, situation.room_tokens - newest * 1.1))


def _within_limit(plan: Plan, situation: Situation) -> Plan:
    """Mask and clamp what a plan kept until it fits the hard limit: recent results, oldest first, then the newest."""
    aim = int(situation.limit_tokens * _LIMIT_AIM)
    decisions = list(plan.decisions)
    for index, decision in enumerate(decisions[:-1]):
        if _total(decisions, plan) <= aim:
            break
        if decision.action is Action.KEEP and index not in situation.protected:
            decisions[index] = masked(decision.unit, "masked to fit max_context_tokens")
    excess = _total(decisions, plan) - aim
    for index in sorted(_clampable(decisions, situation), key=lambda i: -decisions[i].tokens_after):
        if excess <= 0:
            break
        clamped = _clamped(decisions[index].unit, excess)
        if clamped.tokens_after >= decisions[index].tokens_after:
            continue
        excess -= decisions[index].tokens_after - clamped.tokens_after
        decisions[index] = clamped
    return replace(plan, decisions=tuple(decisions))


_LIMIT_AIM = 0.9
"""Share of the hard limit to aim at when it forces masking: the next turns need room too, and sizes are estimates."""


def _total(decisions: Sequence[Decision], plan: Plan) -> int:
    return sum(decision.tokens_after for decision in decisions) + plan.summary_target_tokens


UNTOUCHABLE = frozenset({PINNED, PROTECTED_TOOL, OPEN_CALL})
"""Why a unit's results may not even be clamped. Elsewhere they may: a provider that carries results and the user's
words in one message must not make a giant result untouchable."""


def _clampable(decisions: Sequence[Decision], situation: Situation) -> list[int]:
    return [
        index
        for index, decision in enumerate(decisions)
        if decision.action is Action.KEEP
        and any(entry.reading.results for entry in decision.unit.entries)
        and (index not in situation.protected or situation.protected[index] not in UNTOUCHABLE)
    ]


def _clamped(unit: Unit, excess_tokens: int) -> Decision:
    """Shorten the results of a unit by the excess, but leave each enough to be worth its place."""
    smallest = min(unit.tokens, masked_size(unit) + _CLAMP_MIN_TOKENS)
    # A little less than would fit: where the text must be cut is estimated by characters.
    after = max(smallest, int((unit.tokens - excess_tokens) * 0.95))
    return Decision(unit=unit, action=Action.CLAMP, reason="clamped to fit max_context_tokens", tokens_after=after)


_CLAMP_MIN_TOKENS = 64
