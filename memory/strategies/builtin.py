"""The built-in strategies but for `tiered`: each is one rule about what is old."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..config import CompressionStrategy
from ..window import Entry
from .older import OLDER, all_older, common_policy, kept_or, recent_units
from .placeholders import masked_size
from .plan import Action, Decision, Plan, Situation
from .sizing import finished

ShouldPreserve: TypeAlias = Callable[[Entry], bool]


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """Turn everything older than the short-term window into one summary."""

    recent_share: float = 0.15
    """Share of the room (threshold less floor) that recent messages may fill (0-1)."""
    after_share: float = 0.65
    """Share of the room that is filled after a compression, summary included (0-1)."""
    name: str = CompressionStrategy.SLIDING_WINDOW.value

    def plan(self, situation: Situation) -> Plan:
        decisions = all_older(Action.SUMMARISE, OLDER, situation, recent_share=self.recent_share)
        return finished(self.name, decisions, situation, after_share=self.after_share)


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Drop everything older than the short-term window; no summary, no model call."""

    recent_share: float = 0.5
    name: str = CompressionStrategy.DELETION.value

    def plan(self, situation: Situation) -> Plan:
        decisions = all_older(Action.DROP, OLDER, situation, recent_share=self.recent_share)
        return finished(self.name, decisions, situation, after_share=self.recent_share)


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Replace old tool results by one-line placeholders; everything that was said stays.

    Above the hard limit, where masking is not enough, the rest is summarised.
    """

    recent_share: float = 0.4
    name: str = CompressionStrategy.MASKING.value

    def plan(self, situation: Situation) -> Plan:
        # What is older stays, and its reasoning goes whatever stands in the recent part: nothing to look out for.
        unbound = replace(situation, bound=frozenset())
        decisions = all_older(Action.MASK, "old tool result", unbound, recent_share=self.recent_share)
        plan = finished(self.name, decisions, situation, after_share=self.recent_share)
        if situation.is_forced and plan.tokens_after > situation.limit_tokens:
            return replace(SlidingWindow().plan(situation), strategy=self.name)
        return plan


@dataclass(frozen=True, kw_only=True)
class Selective:
    """Keep verbatim and in place what matters; summarise the rest.

    What matters, most valuable first: what `should_preserve` says, then tool calls with their results, newest
    first. What does not fit `after_share` is masked, and what does not fit even so is summarised.
    """

    should_preserve: ShouldPreserve
    preserve_tool_calls: bool = True
    recent_share: float = 0.2
    after_share: float = 0.6
    summary_share: float = 0.15
    """Share of the room that is held back for the summary (0-1)."""
    name: str = CompressionStrategy.SELECTIVE.value

    def plan(self, situation: Situation) -> Plan:
        recent = recent_units(situation, share=self.recent_share)
        chosen = self._preserved(situation, recent)
        decisions = [
            chosen.get(index) or kept_or(Action.SUMMARISE, "not marked as important", situation, index, recent)
            for index in range(len(situation.units))
        ]
        return finished(self.name, decisions, situation, after_share=self.after_share)

    def _preserved(self, situation: Situation, recent: frozenset[int]) -> dict[int, Decision]:
        """Choose among the older units, most valuable first, while they fit."""
        # The room is what is left beside the protected units and the newest one.
        used = sum(situation.units[i].tokens for i in recent - {situation.newest} - situation.protected.keys())
        budget = int(situation.room_tokens * (self.after_share - self.summary_share)) - used
        chosen: dict[int, Decision] = {}
        for index, reason in self._by_value(situation, recent):
            unit = situation.units[index]
            masked_tokens = masked_size(unit)
            if unit.tokens <= budget:
                chosen[index] = Decision(unit=unit, action=Action.KEEP, reason=reason, tokens_after=unit.tokens)
            elif masked_tokens < unit.tokens and masked_tokens <= budget:
                why = f"{reason}; masked to fit"
                chosen[index] = Decision(unit=unit, action=Action.MASK, reason=why, tokens_after=masked_tokens)
            else:
                continue
            budget -= chosen[index].tokens_after
        return chosen

    def _by_value(self, situation: Situation, recent: frozenset[int]) -> Iterable[tuple[int, str]]:
        older = [
            index
            for index, unit in enumerate(situation.units)
            if index not in recent
            and index not in situation.protected
            and not unit.is_summary
            and common_policy(unit, situation.tool_policies) is None
        ]
        important = [i for i in older if any(self.should_preserve(entry) for entry in situation.units[i].entries)]
        yield from ((index, "important") for index in reversed(important))
        if self.preserve_tool_calls:
            marked = set(important)
            with_calls = (i for i in reversed(older) if i not in marked and any(situation.units[i].calls()))
            yield from ((index, "tool call with its result") for index in with_calls)
