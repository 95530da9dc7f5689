"""Plans: one decision for each unit of the window, and the situation that a strategy makes one from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ..config import ToolPolicy
from ..units import Unit


class Action(StrEnum):
    """What happens to a unit."""

    KEEP = "kept"
    CLAMP = "clamped"
    """Its tool results keep their head and tail."""
    MASK = "masked"
    """Its tool results become one-line placeholders."""
    STRIP = "stripped"
    """It stays, but for the signed reasoning that a change before it makes invalid."""
    SUMMARISE = "summarised"
    DROP = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens to one unit, and why."""

    unit: Unit
    action: Action
    reason: str
    tokens_after: int
    """An estimate; 0 for units that go into the summary, which is counted once for all."""
    stripped_tokens: int = 0
    """What of the difference is signed reasoning that a change before the unit makes invalid."""
    notes: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Of a masked unit: the results that are replaced, by their entry's `seq` and their index, and what the placeholder
    adds of each ("a newer result is r30"), or "". Empty: all of them, with nothing to add."""

    @property
    def tokens_before(self) -> int:
        return self.unit.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One decision per unit of the window, in order."""

    strategy: str
    decisions: tuple[Decision, ...]
    summary_target_tokens: int = 0
    """How long the summary may be; 0 if nothing is summarised."""
    asks_model: bool = True
    """Whether a model may write the summary, where there is one; else it is written by extraction."""
    version: int = 0
    """The state of the window that the plan was made for."""
    usd_per_token: float = 0.0
    """Price of one uncached input token of the next request."""

    @property
    def tokens_before(self) -> int:
        return sum(decision.tokens_before for decision in self.decisions)

    @property
    def tokens_after(self) -> int:
        """An estimate: the summary is counted at its full target."""
        return sum(decision.tokens_after for decision in self.decisions) + self.summary_target_tokens

    @property
    def removed_tokens(self) -> int:
        """An estimate of what leaves the context; the summary that comes into it is not set against it."""
        return sum(decision.tokens_before - decision.tokens_after for decision in self.decisions)

    @property
    def first_edit(self) -> int | None:
        """Index of the window's first entry that changes; None if none does. What stands before it stays cached."""
        return self.changes[0].unit.start if self.changes else None

    @property
    def suffix_tokens(self) -> int:
        """An estimate of what stays from the first edit on, the summary aside: no prompt cache knows it any more."""
        first = next((i for i, d in enumerate(self.decisions) if d.action is not Action.KEEP), len(self.decisions))
        return sum(decision.tokens_after for decision in self.decisions[first:])

    @property
    def usd_before(self) -> float:
        """Price of the messages in the next request, without any prompt cache."""
        return self.tokens_before * self.usd_per_token

    @property
    def usd_after(self) -> float:
        return self.tokens_after * self.usd_per_token

    @property
    def changes(self) -> tuple[Decision, ...]:
        """The decisions that change something."""
        return tuple(decision for decision in self.decisions if decision.action is not Action.KEEP)

    def with_action(self, action: Action) -> tuple[Decision, ...]:
        """Return the decisions of one kind, in order."""
        return tuple(decision for decision in self.decisions if decision.action is action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a strategy may look at. Sizes are tokens by the manager's counter."""

    units: tuple[Unit, ...]
    protected: Mapping[int, str]
    """Index of a unit that is never taken out -> why."""
    threshold_tokens: int
    """Compression is wanted above this; the share of system prompt and tool schemas is already deducted."""
    limit_tokens: int
    """The context must not exceed this."""
    compression_ratio: float
    short_term_size: int
    is_forced: bool = False
    """Above `limit_tokens`: go deeper than usual."""
    all_is_old: bool = False
    """The newest messages are elsewhere: there is no short-term window to leave alone."""
    tool_policies: Mapping[str, ToolPolicy] = field(default_factory=dict)
    max_summaries: int = 1
    """How many summaries may stand; before there are more, they become one."""
    summary_limit_tokens: int | None = None
    """The most that one new summary may have, because a model is paid for it; None: what the other sizes say."""
    bound: frozenset[int] = frozenset()
    """Indices of units with signed reasoning that any change before them makes invalid; empty for most models."""

    @property
    def newest(self) -> int | None:
        """Index of the unit that the model has just seen or is about to see; it stays."""
        return None if self.all_is_old or not self.units else len(self.units) - 1

    @property
    def floor_tokens(self) -> int:
        """What stays whatever a strategy does: the protected units and the newest one."""
        stays = self.protected.keys() | ({self.newest} if self.newest is not None else set())
        return sum(self.units[index].tokens for index in stays)

    @property
    def room_tokens(self) -> int:
        """What the threshold leaves above the floor; never negative."""
        return max(0, self.threshold_tokens - self.floor_tokens)


class Strategy(Protocol):
    """Decides what happens to each unit of the window."""

    @property
    def name(self) -> str: ...

    def plan(self, situation: Situation) -> Plan:
        """Return one decision per unit, in order. Pure: no I/O, no state."""
        ...
