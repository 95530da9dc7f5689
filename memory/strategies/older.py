"""What is old: which units the short-term window leaves alone, and what may be done with the others."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import ToolPolicy
from ..units import Unit
from .placeholders import NO_NOTES, Place, masked_size
from .plan import Action, Decision, Situation

NEWEST = "newest messages"
SHORT_TERM = "in the short-term window"
OLDER = "older than the short-term window"
OLDER_SUMMARY = "older summary"


def recent_units(situation: Situation, *, share: float) -> frozenset[int]:
    """Return the units of the short-term window: the newest one always, then newest first while they fit.

    They fit while they hold at most `short_term_size` messages and, the newest unit aside, at most `share` of the
    room in tokens. Protected units count as messages but cost nothing here: they stay anyway.

    Where reasoning is bound to what stands before it, the window begins behind the last unit that carries such, if
    at least half of it is left then: what begins later keeps all its reasoning, because it has none to lose.
    """
    if situation.all_is_old:
        return frozenset()
    recent = _fitting(situation, share=share)
    unbound = frozenset(index for index in recent if index > max(situation.bound, default=-1))
    kept, all_kept = (sum(situation.units[i].tokens for i in indices) for indices in (unbound, recent))
    return unbound if kept * 2 >= all_kept else recent


def _fitting(situation: Situation, *, share: float) -> frozenset[int]:
    recent: set[int] = set()
    messages, budget = situation.short_term_size, int(situation.room_tokens * share)
    for index in range(len(situation.units) - 1, -1, -1):
        unit = situation.units[index]
        is_newest = index == situation.newest
        cost = 0 if is_newest or index in situation.protected else unit.tokens
        if unit.is_summary or (not is_newest and (len(unit.entries) > messages or cost > budget)):
            break
        recent.add(index)
        messages -= len(unit.entries)
        budget -= cost
    return frozenset(recent)


def all_older(action: Action, reason: str, situation: Situation, *, recent_share: float) -> list[Decision]:
    """Do the same with everything that is neither protected nor recent."""
    recent = recent_units(situation, share=recent_share)
    return [kept_or(action, reason, situation, index, recent) for index in range(len(situation.units))]


def kept_or(action: Action, reason: str, situation: Situation, index: int, recent: frozenset[int]) -> Decision:
    """Keep what is protected or recent; else act, as far as the tools' policies allow."""
    unit = situation.units[index]
    if index in situation.protected:
        return keep(unit, situation.protected[index])
    if index in recent:
        return keep(unit, NEWEST if index == situation.newest else SHORT_TERM)
    if unit.is_summary:
        return keep(unit, OLDER_SUMMARY)
    policy = common_policy(unit, situation.tool_policies)
    if policy is ToolPolicy.DROP:
        action, reason = Action.DROP, "dropped by its tool's policy"
    if policy is ToolPolicy.SUMMARISE:
        action, reason = Action.SUMMARISE, "summarised by its tool's policy"
    # Once masked there is nothing more to win by masking: then it goes where the strategy sends it.
    if policy is ToolPolicy.MASK and action is not Action.MASK and masked_size(unit) < unit.tokens:
        action, reason = Action.MASK, "masked by its tool's policy"
    if action is Action.MASK:
        return masked(unit, reason)
    if action is Action.KEEP:
        return keep(unit, reason)
    return Decision(unit=unit, action=action, reason=reason, tokens_after=0)


def keep(unit: Unit, reason: str) -> Decision:
    return Decision(unit=unit, action=Action.KEEP, reason=reason, tokens_after=unit.tokens)


def masked(unit: Unit, reason: str, notes: Mapping[Place, str] = NO_NOTES) -> Decision:
    """Mask the unit's results, or with notes those that have one; keep it where that wins nothing."""
    size = masked_size(unit, notes)
    if size >= unit.tokens:
        return keep(unit, "nothing to mask")
    return Decision(unit=unit, action=Action.MASK, reason=reason, tokens_after=size, notes=notes)


def common_policy(unit: Unit, policies: Mapping[str, ToolPolicy]) -> ToolPolicy | None:
    """Return the policy of the unit's tools if they all have the same one."""
    found = {policies.get(call.name) for call in unit.calls()}
    return found.pop() if len(found) == 1 else None
