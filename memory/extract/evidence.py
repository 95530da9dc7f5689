"""What a summary knows beyond its text: every candidate fact with its evidence, and the notes of what happened."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, log1p
from typing import NamedTuple

from ..messages import Reading, ToolCall, ToolResult
from ..patterns import Pattern
from . import notes
from .identifiers import Kind, chunks, identify
from .notes import Action, Quote

_FACTS_PER_TOKEN = 1 / 4
_MIN_FACTS = 1_500
_MAX_FACTS = 3_500
_MAX_HOMES = 4
_MAX_TARGET = 300
"""A longer argument is what the agent writes (a file, a patch), not what it aims at (a path, a command, an id)."""
_MAX_QUOTES = 60
_MAX_ACTIONS = 300

# What an agent came back to in recorded runs, as log odds: a logistic regression over half a million identifiers of 108
# recorded conversations gave the directions and sizes (4-fold over projects; the fit never saw the fold it was judged
# by). They are rounded: the order is stable around them. What the user said and URLs weigh more than the fit says.
_AGE = -0.4
_OCCURRENCES = 0.25
_AIMED_AT = 1.0
_SEVERAL_PLACES = 0.45
_CROWD = -0.5
_NEIGHBOUR = 0.5
_LENGTH = -0.25
_BARE_INTEGER = -1.0
_SAID_BY_USER = 1.0
_SIBLING = -0.5
"""Of a family larger than a few: who has seen bolt_1 to bolt_60 will hardly ask for one of them. Not from the fit."""
_FEW_SIBLINGS = 40
_NUMBERED = frozenset({Kind.SYMBOL, Kind.DOTTED, Kind.CONSTANT})
_DIGITS = Pattern(r"\d+")
_KIND = {Kind.URL: 1.0, Kind.RECORD: 1.7, Kind.NUMBER: 0.25, Kind.CONSTANT: -0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One message to be summarised, in order."""

    ref: str
    reading: Reading
    tokens: int


class Home(NamedTuple):
    """Where a fact stands: what a call was about (a path, a command), or who spoke; and the message."""

    label: str
    ref: str


class Fact(NamedTuple):
    """A string worth keeping word for word, with the evidence for how much it will matter.

    A tuple, as `Home` is: thousands are made and hashed in each compression, which tuples do several times faster.
    """

    text: str
    kind: Kind
    occurrences: int
    last: int
    """Position in the run of the newest message that contains it."""
    crowd: int
    """How many identifiers stand in the least crowded message that has it; long listings make each worth less."""
    by_agent: bool
    """The agent aimed a tool call at it: it stands in a short argument."""
    by_user: bool
    homes: tuple[Home, ...]
    """The first place and the newest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All that a later summary needs to rank over everything ever covered, instead of summarising a summary.

    Its size is bounded in proportion to the messages of one digest, however many digests it has absorbed.
    """

    facts: Mapping[str, Fact] = field(default_factory=dict)
    worth: Mapping[str, float] = field(default_factory=dict)
    """Of each fact: the log odds, but for a constant, that the agent will write it again."""
    asked: tuple[Quote, ...] = ()
    said: tuple[Quote, ...] = ()
    actions: tuple[Action, ...] = ()
    plan: tuple[str, ...] = ()
    plan_ref: str = ""
    last_said: Quote | None = None
    message_count: int = 0
    capacity: int = _MIN_FACTS
    """How many facts it may hold."""


def digest(sources: Sequence[Source], *, previous: Digest | None = None) -> Digest:
    """Read messages once and keep what may be needed again. Linear in their text; calls no model.

    With `previous`, the result covers both: what the earlier one knew competes with what is new.
    """
    before = previous or Digest()
    reader = _Reader(before)
    for source in sources:
        reader.read(source)
    return reader.result(sources)


def folder_of(path: str) -> str:
    """Return the path up to its last separator; empty if it has none."""
    return path[: max(path.rfind("/"), path.rfind("\\"), 0)]


def _worth(fact: Fact, position: int, folders: Collection[str]) -> float:
    return (
        _AGE * log1p(position - fact.last)
        + _OCCURRENCES * log1p(fact.occurrences)
        + _AIMED_AT * fact.by_agent
        + _SEVERAL_PLACES * (len(fact.homes) > 1)
        + _CROWD * log1p(fact.crowd)
        + _NEIGHBOUR * (fact.kind is Kind.PATH and folder_of(fact.text) in folders)
        + _LENGTH * log(len(fact.text))
        + _BARE_INTEGER * (fact.kind is Kind.NUMBER and fact.text.isdigit()) * (2 if len(fact.text) < 5 else 1)
        + _SAID_BY_USER * fact.by_user
        + _KIND.get(fact.kind, 0.0)
    )


def _family(fact: Fact) -> str:
    """Return the name with its numbers blanked: `bolt_13_0` to `bolt_13_59` are one family."""
    return _DIGITS.compiled.sub("0", fact.text) if fact.kind in _NUMBERED else fact.text


class _Reader:
    """Reads messages in order and gathers facts and notes."""

    def __init__(self, before: Digest) -> None:
        self._before = before
        self._facts = dict(before.facts)
        self._asked = list(before.asked)
        self._said = list(before.said)
        self._actions = {(action.tool, action.label): action for action in before.actions}
        self._open: dict[str | None, list[tuple[str, str]]] = {}
        self._plan, self._plan_ref = before.plan, before.plan_ref
        self._last_said = before.last_said
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
            self._last_said = Quote(ref, notes.first_line(reading.text, notes.MAX_QUOTE))
        else:
            self._asked.append(notes.asked(reading.text, ref))
        self._note(reading.text, "agent" if is_agent else reading.role, ref, by_user=not is_agent)

    def _read_call(self, call: ToolCall, ref: str) -> None:
        arguments = notes.arguments_of(call)
        action = notes.begin(call, arguments, ref=ref)
        if (plan := notes.planned(arguments)) is not None:
            self._plan, self._plan_ref = plan, ref
            action = replace(action, changes=False)
        key = (action.tool, action.label)
        if (earlier := self._actions.pop(key, None)) is not None:
            action = replace(action, refs=(*earlier.refs[:1], *earlier.refs[1:][-2:], ref))
        self._actions[key] = action
        self._open.setdefault(call.id or call.name, []).append(key)
        strings = list(notes.strings_in(arguments))
        targets = [text for text in strings if len(text) <= _MAX_TARGET]
        bodies = [text for text in strings if len(text) > _MAX_TARGET]
        self._note("\n".join(targets), action.label, ref, by_agent=True)
        self._note("\n".join(bodies), action.label, ref)

    def _read_result(self, result: ToolResult, ref: str) -> None:
        waiting = self._open.get(result.call_id or result.name)
        label = ""
        if waiting:
            key = waiting.pop(0)
            action = self._actions.get(key)
            if action is not None:
                outcome, failed = notes.outcome_of(action, result)
                self._actions[key] = replace(action, outcome=outcome, outcome_ref=ref, failed=failed)
            label = key[1]
        self._note(notes.values_of(result.text), label, ref)

    def _note(self, text: str, label: str, ref: str, *, by_agent: bool = False, by_user: bool = False) -> None:
        counts = self._count(text)
        home, position, crowd = (Home(label, ref),), self._position, len(counts)
        for (name, kind), count in counts.items():
            fact = self._facts.get(name)
            if fact is None:
                self._facts[name] = Fact(name, kind, count, position, crowd, by_agent, by_user, home)
                continue
            homes = fact.homes
            if home[0] not in homes:
                homes = homes + home if len(homes) < _MAX_HOMES else (homes[0], *homes[2:], *home)
            self._facts[name] = Fact(
                name,
                fact.kind,
                fact.occurrences + count,
                position,
                min(crowd, fact.crowd),
                fact.by_agent or by_agent,
                fact.by_user or by_user,
                homes,
            )

    def _count(self, text: str) -> dict[tuple[str, Kind], int]:
        counts: dict[tuple[str, Kind], int] = {}
        for chunk, times in Counter(chunks(text)).items():
            names = self._known.get(chunk)
            if names is None:
                names = self._known[chunk] = identify(chunk)
            for name in names:
                counts[name] = counts.get(name, 0) + times
        return counts

    def result(self, sources: Sequence[Source]) -> Digest:
        before = self._before
        tokens = sum(source.tokens for source in sources)
        capacity = max(before.capacity, min(_MAX_FACTS, int(tokens * _FACTS_PER_TOKEN)))
        facts, worth = self._best_facts(capacity)
        return Digest(
            facts=facts,
            worth=worth,
            asked=_newest(self._asked),
            said=_newest(self._said),
            actions=tuple(self._actions.values())[-_MAX_ACTIONS:],
            plan=self._plan,
            plan_ref=self._plan_ref,
            last_said=self._last_said,
            message_count=self._position,
            capacity=capacity,
        )

    def _best_facts(self, capacity: int) -> tuple[dict[str, Fact], dict[str, float]]:
        """Keep the facts of most worth, in the order of first sight: what stood together is printed together."""
        facts = self._facts
        folders = {folder_of(fact.text) for fact in facts.values() if fact.by_agent and fact.kind is Kind.PATH}
        families = Counter(_family(fact) for fact in facts.values())
        worth = {
            name: _worth(fact, self._position, folders)
            + _SIBLING * log1p(max(0, families[_family(fact)] - _FEW_SIBLINGS))
            for name, fact in facts.items()
        }
        if len(facts) <= capacity:
            return facts, worth
        best = {name for _, name in sorted(zip(worth.values(), worth, strict=True), reverse=True)[:capacity]}
        return (
            {name: fact for name, fact in facts.items() if name in best},
            {name: value for name, value in worth.items() if name in best},
        )


def _newest(quotes: Iterable[Quote]) -> tuple[Quote, ...]:
    """Bound the quotes: the weighty ones and the newest stay, in order."""
    numbered = list(enumerate(quotes))
    best = heapq.nlargest(
        _MAX_QUOTES, numbered, key=lambda item: (item[1].weight + item[0] / len(numbered) * 2, item[0])
    )
    return tuple(quote for _, quote in sorted(best, key=lambda item: item[0]))
