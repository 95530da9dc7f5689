"""The strategy that takes out first what is missed least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from ..config import CompressionStrategy
from ..units import Unit
from .older import all_older, masked
from .placeholders import Place, maskable_results
from .plan import Action, Decision, Plan, Situation
from .repeats import find_repeats
from .sizing import MIN_SUMMARY_TOKENS, added_tokens, filled_tokens, finished, wanted_tokens


@dataclass(frozen=True, kw_only=True)
class Tiered:
    """Mask superseded results, then repeated ones, then old ones, oldest first; summarise what is still too much.

    It stops where enough is out: what is older than the short-term window stays while it fits `after_share`.
    """

    recent_share: float = 0.2
    """Share of the room (threshold less floor) that recent messages may fill (0-1)."""
    after_share: float = 0.5
    """Share of the room that is filled after a compression, summary included (0-1)."""
    name: str = CompressionStrategy.TIERED.value

    def plan(self, situation: Situation) -> Plan:
        # As with masking: what is older stays, and its reasoning goes whatever stands in the recent part.
        unbound = replace(situation, bound=frozenset())
        decisions = all_older(Action.KEEP, _FITS, unbound, recent_share=self.recent_share)
        room = situation.floor_tokens + filled_tokens(situation, after_share=self.after_share)
        older = [index for index, decision in enumerate(decisions) if decision.reason == _FITS]
        self._mask(decisions, older, situation, room)
        without_summary = finished(self.name, decisions, situation, after_share=self.after_share)
        if without_summary.tokens_after <= room:
            return without_summary
        decisions = _summarised(decisions, older, situation, room)
        plan = finished(self.name, decisions, situation, after_share=self.after_share)
        return plan if plan.tokens_after < without_summary.tokens_after else without_summary

    def _mask(self, decisions: list[Decision], older: list[int], situation: Situation, room: int) -> None:
        """Mask until the rest fits, tier after tier."""
        repeats = find_repeats(situation.units)
        excess = sum(decision.tokens_after for decision in decisions) - room
        notes: dict[Place, str] = {}
        for tier, reason in ((repeats.superseded, _SUPERSEDED), (repeats.repeated, _REPEATED)):
            if excess > 0:
                notes |= tier
                excess -= _masked_noted(decisions, older, notes, reason)
        for index in older:
            if excess <= 0:
                break
            everything = {place: notes.get(place, "") for place in _places(situation.units[index])}
            excess -= _exchange(decisions, index, everything, _OLD)


_FITS = "old, but there is room for it"
_SUPERSEDED = "superseded by a newer result"
_REPEATED = "said again by a newer result"
_OLD = "old tool result"
_TOO_MUCH = "too much even when masked"


def _masked_noted(decisions: list[Decision], older: list[int], notes: Mapping[Place, str], reason: str) -> int:
    """Mask the results that have a note, also in units where others are masked already. Return the tokens won."""
    won = 0
    for index in older:
        here = {place: notes[place] for place in _places(decisions[index].unit) if place in notes}
        if len(here) > len(decisions[index].notes):
            won += _exchange(decisions, index, here, reason)
    return won


def _exchange(decisions: list[Decision], index: int, notes: Mapping[Place, str], reason: str) -> int:
    """Mask a unit if that makes it smaller than what was decided before. Return the tokens won."""
    before = decisions[index]
    after = masked(before.unit, reason, notes) if notes else before
    if after.action is not Action.MASK or after.tokens_after >= before.tokens_after:
        return 0
    decisions[index] = after
    return before.tokens_after - after.tokens_after


def _places(unit: Unit) -> list[Place]:
    return [(entry.seq, index) for entry in unit.entries for index in maskable_results(entry)]


def _summarised(decisions: list[Decision], older: list[int], situation: Situation, room: int) -> list[Decision]:
    """Summarise the oldest units, as many as it takes until the rest and the summary fit."""
    total = sum(decision.tokens_after for decision in decisions)
    out = accumulate(decisions[index].tokens_after for index in older)
    covered = accumulate(added_tokens([decisions[index].unit]) for index in older)
    sizes = (max(wanted_tokens(tokens, situation), MIN_SUMMARY_TOKENS) for tokens in covered)
    fitting = (
        count for count, (gone, summary) in enumerate(zip(out, sizes, strict=True), 1) if total - gone + summary <= room
    )
    gone = set(older[: next(fitting, len(older))])
    return [
        Decision(unit=d.unit, action=Action.SUMMARISE, reason=_TOO_MUCH, tokens_after=0) if index in gone else d
        for index, d in enumerate(decisions)
    ]
