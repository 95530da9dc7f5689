"""What a summary knows beyond its text: every candidate fact with its evidence, and the notes of what happened."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, log1p
from types import MappingProxyType

from ..messages import Reading, ToolCall, ToolResult
from . import notes
from .identifiers import Kind, chunks, identify
from .notes import Action, Quote

_FACTS_PER_TOKEN = 1 / 6
_MIN_FACTS = 600
_MAX_FACTS = 6_000
_MAX_HOMES = 4
_MAX_QUOTES = 60
_MAX_ACTIONS = 300

# What an agent came back to in recorded runs, as log odds: a logistic regression over all identifiers of many
# conversations gave these directions and sizes; they are rounded, since the order is stable around them.
_AGE = -0.6
_OCCURRENCES = 0.45
_TYPED_BY_AGENT = 1.4
_NEAR_AGENTS_WORDS = 0.4
_SEVERAL_PLACES = 0.7
_LENGTH = -0.4
_SAID_BY_USER = 1.0
_KIND = {Kind.URL: 0.9, Kind.RECORD: 1.2, Kind.WORD: -0.2, Kind.NUMBER: 0.2, Kind.PATH: 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One message to be summarised, in order."""

    ref: str
    reading: Reading
    tokens: int


@dataclass(frozen=True, slots=True)
class Home:
    """Where a fact stands: what a call was about (a path, a command), or who spoke; and the message."""

    label: str
    ref: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A string worth keeping word for word, with the evidence for how much it will matter."""

    text: str
    kind: Kind
    occurrences: int
    last: int
    """Position in the run of the newest message that contains it."""
    near: int
    """Messages in which it shares a line with something that the agent had written itself."""
    by_agent: bool
    """The agent typed it in a tool call."""
    by_user: bool
    homes: tuple[Home, ...]
    """The first place and the newest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All that a later summary needs to rank over everything ever covered, instead of summarising a summary.

    Its size is bounded in proportion to the messages of one digest, however many digests it has absorbed.
    """

    facts: Mapping[str, Fact] = field(default_factory=dict)
    asked: tuple[Quote, ...] = ()
    said: tuple[Quote, ...] = ()
    actions: tuple[Action, ...] = ()
    plan: tuple[str, ...] = ()
    plan_ref: str = ""
    first_ref: str = ""
    last_ref: str = ""
    message_count: int = 0
    tokens: int = 0
    capacity: int = _MIN_FACTS


def digest(sources: Sequence[Source], *, previous: Digest | None = None) -> Digest:
    """Read messages once and keep what may be needed again. Linear in their text; calls no model.

    With `previous`, the result covers both: what the earlier one knew competes with what is new.
    """
    before = previous or Digest()
    reader = _Reader(before)
    for source in sources:
        reader.read(source)
    return reader.result(sources)


def worth(fact: Fact, *, position: int) -> float:
    """Return the log odds, but for a constant, that the agent will write this string again."""
    return (
        _AGE * log1p(position - fact.last)
        + _OCCURRENCES * log1p(fact.occurrences)
        + _TYPED_BY_AGENT * fact.by_agent
        + _NEAR_AGENTS_WORDS * log1p(fact.near)
        + _SEVERAL_PLACES * (len(fact.homes) > 1)
        + _LENGTH * log(len(fact.text))
        + _SAID_BY_USER * fact.by_user
        + _KIND.get(fact.kind, 0.0)
    )


class _Sighting:
    """An identifier in one message."""

    __slots__ = ("kind", "count", "near", "label")

    def __init__(self, kind: Kind, label: str) -> None:
        self.kind = kind
        self.count = 0
        self.near = False
        self.label = label


class _Reader:
    """Reads messages in order and gathers facts and notes."""

    def __init__(self, before: Digest) -> None:
        self._before = before
        self._facts = dict(before.facts)
        self._typed = {text for text, fact in before.facts.items() if fact.by_agent}
        self._asked = list(before.asked)
        self._said = list(before.said)
        self._actions = {(action.tool, action.label): action for action in before.actions}
        self._open: dict[str | None, list[tuple[str, str]]] = {}
        self._plan, self._plan_ref = before.plan, before.plan_ref
        self._position = before.message_count
        self._known: dict[str, tuple[tuple[str, Kind], ...]] = {}

    def read(self, source: Source) -> None:
        reading = source.reading
        if reading.text:
            self._read_text(reading, source.ref)
        for call in reading.calls:
            self._read_call(call, source.ref)
        for result in reading.results:
            self._read_result(result, source.ref)
        self._position += 1

    def _read_text(self, reading: Reading, ref: str) -> None:
        is_agent = reading.role == "assistant"
        if is_agent:
            self._said += notes.said(reading.text, ref)
        else:
            self._asked.append(notes.asked(reading.text, ref))
        self._note(reading.text, "" if is_agent else "user", ref, by_user=not is_agent)

    def _read_call(self, call: ToolCall, ref: str) -> None:
        arguments = notes.arguments_of(call)
        action = notes.begin(call, arguments, ref=ref, position=self._position)
        key = (action.tool, action.label)
        if (earlier := self._actions.pop(key, None)) is not None:
            action = replace(action, refs=(*earlier.refs[:1], *earlier.refs[1:][-2:], ref))
        self._actions[key] = action
        self._open.setdefault(call.id or call.name, []).append(key)
        if (plan := notes.planned(arguments)) is not None:
            self._plan, self._plan_ref = plan, ref
        for text in notes.strings_in(arguments):
            self._note(text, action.label, ref, by_agent=True)

    def _read_result(self, result: ToolResult, ref: str) -> None:
        waiting = self._open.get(result.call_id or result.name)
        label = ""
        if waiting:
            key = waiting.pop(0)
            action = self._actions.get(key)
            if action is not None:
                outcome, failed = notes.outcome_of(action, result)
                self._actions[key] = replace(action, outcome=outcome, failed=failed)
            label = key[1]
        self._note(result.text, label, ref)

    def _note(self, text: str, label: str, ref: str, *, by_agent: bool = False, by_user: bool = False) -> None:
        seen = self._sightings(text, label, looks_for_near=not by_agent and not by_user)
        for name, sighting in seen.items():
            home = Home(sighting.label, ref)
            fact = self._facts.get(name)
            if fact is None:
                self._facts[name] = Fact(
                    name, sighting.kind, sighting.count, self._position, int(sighting.near), by_agent, by_user, (home,)
                )
                continue
            homes = fact.homes
            if home not in homes:
                homes = (*homes, home) if len(homes) < _MAX_HOMES else (homes[0], *homes[2:], home)
            self._facts[name] = Fact(
                name,
                fact.kind,
                fact.occurrences + sighting.count,
                self._position,
                fact.near + sighting.near,
                fact.by_agent or by_agent,
                fact.by_user or by_user,
                homes,
            )
        if by_agent:
            self._typed.update(seen)

    def _sightings(self, text: str, label: str, *, looks_for_near: bool) -> dict[str, _Sighting]:
        known, typed = self._known, self._typed
        seen: dict[str, _Sighting] = {}
        for line in text.split("\n"):
            found: list[tuple[str, Kind]] = []
            for chunk in chunks(line):
                names = known.get(chunk)
                if names is None:
                    names = known[chunk] = identify(chunk)
                if names:
                    found += names
            if not found:
                continue
            near = looks_for_near and any(name in typed for name, _ in found)
            for name, kind in found:
                sighting = seen.get(name)
                if sighting is None:
                    sighting = seen[name] = _Sighting(kind, label)
                sighting.count += 1
                sighting.near |= near
        return seen

    def result(self, sources: Sequence[Source]) -> Digest:
        before = self._before
        tokens = sum(source.tokens for source in sources)
        capacity = max(before.capacity, min(_MAX_FACTS, int(tokens * _FACTS_PER_TOKEN)))
        return Digest(
            facts=MappingProxyType(self._best_facts(capacity)),
            asked=_newest(self._asked),
            said=_newest(self._said),
            actions=tuple(self._actions.values())[-_MAX_ACTIONS:],
            plan=self._plan,
            plan_ref=self._plan_ref,
            first_ref=before.first_ref or (sources[0].ref if sources else ""),
            last_ref=sources[-1].ref if sources else before.last_ref,
            message_count=self._position,
            tokens=before.tokens + tokens,
            capacity=capacity,
        )

    def _best_facts(self, capacity: int) -> dict[str, Fact]:
        if len(self._facts) <= capacity:
            return self._facts
        ranked = heapq.nlargest(
            capacity, self._facts.values(), key=lambda fact: (worth(fact, position=self._position), fact.text)
        )
        return {fact.text: fact for fact in ranked}


def _newest(quotes: Iterable[Quote]) -> tuple[Quote, ...]:
    """Bound the quotes: the weighty ones and the newest stay, in order."""
    numbered = list(enumerate(quotes))
    best = heapq.nlargest(_MAX_QUOTES, numbered, key=lambda item: (item[1].weight + item[0] / len(numbered) * 2, item[0]))
    return tuple(quote for _, quote in sorted(best, key=lambda item: item[0]))
