"""What to take out of the window: each strategy is one pure method from a situation to a plan.

A strategy reads units and sizes and answers with one decision per unit. It stores nothing, asks no model and
writes no message, so it needs no mock in a test, and a plan that is not run is a preview.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, TypeAlias

from .config import CompressionStrategy, ToolPolicy
from .messages import Attachment, Reading, ToolCall
from .window import OPEN_CALL, PINNED, PROTECTED_TOOL, Entry, Kind, Unit


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


ShouldPreserve: TypeAlias = Callable[[Entry], bool]

NEWEST = "newest messages"
SHORT_TERM = "in the short-term window"
OLDER = "older than the short-term window"
OLDER_SUMMARY = "older summary"


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """Turn everything older than the short-term window into one summary."""

    recent_share: float = 0.2
    """Share of the room (threshold less floor) that recent messages may fill (0-1)."""
    after_share: float = 0.5
    """Share of the room that is filled after a compression, summary included (0-1)."""
    name: str = CompressionStrategy.SLIDING_WINDOW.value

    def plan(self, situation: Situation) -> Plan:
        decisions = _all_older(Action.SUMMARISE, OLDER, situation, recent_share=self.recent_share)
        return _finished(self.name, decisions, situation, after_share=self.after_share)


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Drop everything older than the short-term window; no summary, no model call."""

    recent_share: float = 0.5
    name: str = CompressionStrategy.DELETION.value

    def plan(self, situation: Situation) -> Plan:
        decisions = _all_older(Action.DROP, OLDER, situation, recent_share=self.recent_share)
        return _finished(self.name, decisions, situation, after_share=self.recent_share)


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
        decisions = _all_older(Action.MASK, "old tool result", unbound, recent_share=self.recent_share)
        plan = _finished(self.name, decisions, situation, after_share=self.recent_share)
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
            chosen.get(index) or _kept_or(Action.SUMMARISE, "not marked as important", situation, index, recent)
            for index in range(len(situation.units))
        ]
        return _finished(self.name, decisions, situation, after_share=self.after_share)

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
            and _common_policy(unit, situation.tool_policies) is None
        ]
        important = [i for i in older if any(self.should_preserve(entry) for entry in situation.units[i].entries)]
        yield from ((index, "important") for index in reversed(important))
        if self.preserve_tool_calls:
            marked = set(important)
            with_calls = (i for i in reversed(older) if i not in marked and any(situation.units[i].calls()))
            yield from ((index, "tool call with its result") for index in with_calls)


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


def _all_older(action: Action, reason: str, situation: Situation, *, recent_share: float) -> list[Decision]:
    """Do the same with everything that is neither protected nor recent."""
    recent = recent_units(situation, share=recent_share)
    return [_kept_or(action, reason, situation, index, recent) for index in range(len(situation.units))]


def _kept_or(action: Action, reason: str, situation: Situation, index: int, recent: frozenset[int]) -> Decision:
    """Keep what is protected or recent; else act, as far as the tools' policies allow."""
    unit = situation.units[index]
    if index in situation.protected:
        return _keep(unit, situation.protected[index])
    if index in recent:
        return _keep(unit, NEWEST if index == situation.newest else SHORT_TERM)
    if unit.is_summary and action in (Action.DROP, Action.MASK):
        return _keep(unit, OLDER_SUMMARY)
    policy = _common_policy(unit, situation.tool_policies)
    if policy is ToolPolicy.DROP:
        action, reason = Action.DROP, "dropped by its tool's policy"
    if policy is ToolPolicy.SUMMARISE:
        action, reason = Action.SUMMARISE, "summarised by its tool's policy"
    # Once masked there is nothing more to win by masking: then it goes where the strategy sends it.
    if policy is ToolPolicy.MASK and action is not Action.MASK and masked_size(unit) < unit.tokens:
        action, reason = Action.MASK, "masked by its tool's policy"
    if action is Action.MASK:
        return _masked(unit, reason)
    return Decision(unit=unit, action=action, reason=reason, tokens_after=0)


def _absorbed(decision: Decision) -> Decision:
    return replace(decision, action=Action.SUMMARISE, tokens_after=0)


def _keep(unit: Unit, reason: str) -> Decision:
    return Decision(unit=unit, action=Action.KEEP, reason=reason, tokens_after=unit.tokens)


def _masked(unit: Unit, reason: str) -> Decision:
    size = masked_size(unit)
    if size >= unit.tokens:
        return _keep(unit, "nothing to mask")
    return Decision(unit=unit, action=Action.MASK, reason=reason, tokens_after=size)


def _common_policy(unit: Unit, policies: Mapping[str, ToolPolicy]) -> ToolPolicy | None:
    """Return the policy of the unit's tools if they all have the same one."""
    found = {policies.get(call.name) for call in unit.calls()}
    return found.pop() if len(found) == 1 else None


def _finished(name: str, decisions: list[Decision], situation: Situation, *, after_share: float) -> Plan:
    """Set the summary's target, drop a summary that cannot pay, and keep within the hard limit."""
    if any(decision.action is Action.SUMMARISE for decision in decisions):
        # A new summary takes the older one in, also where a tool's policy alone asks for one.
        decisions = [_absorbed(d) if d.reason == OLDER_SUMMARY else d for d in decisions]
    target = _summary_target(decisions, situation, after_share=after_share)
    if target < MIN_SUMMARY_TOKENS:
        decisions = [_keep(d.unit, "too small to gain") if d.action is Action.SUMMARISE else d for d in decisions]
        target = 0
    plan = Plan(strategy=name, decisions=tuple(decisions), summary_target_tokens=target)
    return _within_limit(plan, situation) if plan.tokens_after > situation.limit_tokens else plan


MIN_SUMMARY_TOKENS = 64
"""Below this a summary is little more than its own heading."""

_SPARING = 1 / 3
"""Of what `compression_ratio` allows: what a summary in a running context aims at.

It is sent with each request that follows and written anew by each compression, while the facts that it does not print
stay known to the next one. benchmarks/retention.py and benchmarks/prefix.py show both sides: a longer one holds a few
facts more and breaks the prompt cache more often."""

_MIN_SUMMARY_SHARE = 0.3
"""Of the threshold: what a summary may take even where the floor leaves less room than that. Then the threshold
cannot be kept anyway, and forgetting everything would not change it. Half of it where there is room, but not now."""


def _summary_target(decisions: Sequence[Decision], situation: Situation, *, after_share: float) -> int:
    """Return how long the summary may be: `compression_ratio` of what it stands for, or less to leave room to grow.

    It always stays below 80 % of what it replaces now, so that each compression makes progress, and is never wanted
    below the smallest useful size, so that a few short messages may exceed the ratio.
    """
    replaced = [decision.unit for decision in decisions if decision.action is Action.SUMMARISE]
    ratio = situation.compression_ratio * (1.0 if situation.all_is_old else _SPARING)
    covered = sum(entry.added_tokens for unit in replaced for entry in unit.entries)
    kept = sum(decision.tokens_after for decision in decisions) - situation.floor_tokens
    # The next turn is likely as large as the newest: without room for it, every turn would compress again.
    newest = situation.units[-1].tokens if situation.newest is not None else 0
    filled = min(situation.room_tokens * after_share, situation.room_tokens - newest * 1.1)
    smallest = int(situation.threshold_tokens * _MIN_SUMMARY_SHARE)
    room = max(int(filled) - max(0, kept), smallest if situation.room_tokens < smallest else smallest // 2)
    wanted = max(min(int(covered * ratio), room), MIN_SUMMARY_TOKENS)
    return min(wanted, int(sum(unit.tokens for unit in replaced) * 0.8))


def _within_limit(plan: Plan, situation: Situation) -> Plan:
    """Mask and clamp what a plan kept until it fits the hard limit: recent results, oldest first, then the newest."""
    aim = int(situation.limit_tokens * _LIMIT_AIM)
    decisions = list(plan.decisions)
    for index, decision in enumerate(decisions[:-1]):
        if _total(decisions, plan) <= aim:
            break
        if decision.action is Action.KEEP and index not in situation.protected:
            decisions[index] = _masked(decision.unit, "masked to fit max_context_tokens")
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

CHARACTERS_PER_TOKEN = 3.2
"""Of ordinary tool output by o200k_base, rounded down; only for estimates in plans."""

_MASKABLE_CHARACTERS = 240
"""A shorter result is hardly longer than its placeholder."""


def masked_size(unit: Unit) -> int:
    """Estimate the unit's tokens after masking; its current size if there is nothing to mask."""
    size = unit.tokens
    callers = unit.callers()
    for entry in unit.entries:
        for index in maskable_results(entry):
            line = placeholder(callers.get((entry.seq, index)), entry.as_added, index)
            line_tokens = int(len(line) / CHARACTERS_PER_TOKEN)
            size -= max(0, result_share(entry, index) - line_tokens)
    return max(size, len(unit.entries) * 4)


def maskable_results(entry: Entry) -> list[int]:
    """Return the indices of the entry's results that a placeholder would shorten."""
    if entry.kind in (Kind.MASKED, Kind.SUMMARY):
        return []
    # A screenshot is large without a word.
    return [
        index
        for index, result in enumerate(entry.reading.results)
        if len(result.text) > _MASKABLE_CHARACTERS or _attachments(entry.reading, index)
    ]


def placeholder(call: ToolCall | None, entry: Entry, index: int) -> str:
    """Return the line that stands for a tool result; the same result always gives the same line."""
    result = entry.reading.results[index]
    name = call.name if call is not None else result.name or "tool"
    arguments = brief_arguments(call.arguments) if call is not None else ""
    kind = "error result" if result.is_error else "result"
    tokens = result_share(entry, index)
    return f"[{kind} of {name}({arguments}): {_extent(entry.reading, index)}, {tokens:,} tokens, ref {entry.ref}]"


def _extent(reading: Reading, index: int) -> str:
    text = reading.results[index].text
    attachments = Counter(part.kind for part in _attachments(reading, index))
    counts = [(text.count("\n") + (not text.endswith("\n")), "line")] if text or not attachments else []
    counts += [(count, kind) for kind, count in attachments.items()]
    return ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for count, what in counts)


def result_share(entry: Entry, index: int) -> int:
    """Estimate the tokens of one result from its share of the message's characters and attachments."""
    reading = entry.reading
    if _is_one_result(reading):
        return entry.tokens
    parts = [reading.text, reading.reasoning, *(call.arguments for call in reading.calls)]
    total = sum(map(len, parts)) + sum(len(result.text) for result in reading.results)
    shown = max(0, entry.tokens - int(total / CHARACTERS_PER_TOKEN)) if reading.attachments else 0
    share = (entry.tokens - shown) * len(reading.results[index].text) // max(1, total)
    return share + shown * len(_attachments(reading, index)) // max(1, len(reading.attachments))


def _attachments(reading: Reading, index: int) -> tuple[Attachment, ...]:
    return reading.attachments if _is_one_result(reading) else reading.results[index].attachments


def _is_one_result(reading: Reading) -> bool:
    """Whether the message is nothing but one result, so that its attachments are the result's."""
    return reading.role == "tool" and len(reading.results) == 1


def brief_arguments(arguments: str, *, limit_characters: int = 80) -> str:
    """Return a call's JSON arguments as `path=a.py, line=3`, cut at a limit."""
    try:
        decoded = json.loads(arguments)
    except (ValueError, RecursionError):  # models write anything, nested ten thousand deep too
        decoded = None
    pairs = [f"{key}={_brief(value)}" for key, value in decoded.items()] if isinstance(decoded, dict) else [arguments]
    text = " ".join(", ".join(pairs).split())
    return text if len(text) <= limit_characters else f"{text[: limit_characters - 1]}…"


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
