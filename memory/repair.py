"""Histories that arrive broken, made acceptable with the fewest changes, each of them reported.

A repair never invents what was said or done: it takes out what no provider accepts, moves results to their calls,
and says of a call without a result that none was recorded. Calls that still wait at the end of the list stay open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, islice, takewhile
from typing import Any

from .dialects import DIALECTS, detect, dialect_named
from .dialects.mending import MENDERS, Mender
from .dialects.openai_responses_items import ASYNC_KINDS
from .messages import Dialect, DialectName, Reading, ToolCall, ToolResult, Wire
from .native import like, to_wire, unwrap

NO_RESULT = "No result was recorded for this call."
OPENING = "(The conversation begins here.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a repair did."""

    code: str
    """The rule that asked for it, for example `OC-2`."""
    path: str
    """The message in the list as it came, for example `messages[3]`."""
    message: str
    removed: object | None = None
    """The caller's message as it was before something was taken out of it; None where nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A repaired list and what was done to it; without changes, `messages` are the very objects that came in."""

    messages: tuple[object, ...]
    changes: tuple[Change, ...] = ()


def repair(messages: Sequence[object], dialect: DialectName | Dialect | None = None) -> Repair:
    """Return the list with its pairs, its order and its empty parts put right.

    Never worse than before: `validate` finds no more errors in the outcome than in the input. Repairing twice
    changes nothing more. What a repair cannot decide stays for `validate` to say: an id that is too long, arguments
    of the wrong type, half a server tool's pair, calls that still wait for their results. Response objects give way
    to the messages they carry.

    Args:
        messages: Dicts in a provider's format, `LLMMessage`s, SDK objects.
        dialect: Its name or itself; None: found by `detect`, else OpenAI chat.

    Raises:
        MessageError: Something in the list is no message, or cannot be read in this format.
    """
    originals = [part for message in messages for part in unwrap(message)]
    wires = [to_wire(original) for original in originals]
    if dialect is None:
        dialect = detect(wires) or DIALECTS["openai_chat"]
    elif isinstance(dialect, str):
        dialect = dialect_named(dialect)
    errors = _count_errors(dialect, wires)
    if not errors:
        return Repair(messages=tuple(originals))
    draft = _Draft(dialect, originals, wires)
    draft.mend()
    repaired = [entry.message for entry in draft.entries]
    if not draft.changes or _count_errors(dialect, [entry.wire for entry in draft.entries]) > errors:
        return Repair(messages=tuple(originals))
    return Repair(messages=tuple(repaired), changes=tuple(draft.changes))


def _count_errors(dialect: Dialect, wires: Sequence[Wire]) -> int:
    return sum(issue.severity == "error" for issue in dialect.validate(wires))


@dataclass(slots=True, eq=False)
class _Entry:
    """A message on its way through the repair; `message` stays the caller's object while nothing is edited."""

    message: object
    wire: Wire
    path: str
    reading: Reading
    waits: bool = False
    """Its unanswered calls may still be answered: nothing but results comes behind it."""
    moved: set[int] = field(default_factory=set)
    """Results that go elsewhere."""


@dataclass(frozen=True, slots=True)
class _Result:
    """Where a result stands: an entry of the list, or one made for a call that has none."""

    entry: _Entry
    index: int


class _Draft:
    """The list under repair. Each step leaves a list that the next one can read; `mend` says in which order."""

    def __init__(self, dialect: Dialect, originals: Sequence[object], wires: Sequence[Wire]) -> None:
        self._dialect = dialect
        self._mender: Mender = MENDERS[dialect.name]
        self.changes: list[Change] = []
        self.entries = [
            _Entry(message, wire, f"{self._mender.root}[{index}]", dialect.read(wire))
            for index, (message, wire) in enumerate(zip(originals, wires, strict=True))
        ]

    def mend(self) -> None:
        self._drop_empty()
        self._drop_orphans()
        self._drop_dangling_reasoning()
        self._settle_calls()
        self._open_with_user()

    def _drop_empty(self) -> None:
        last = len(self.entries) - 1
        for index, entry in enumerate(self.entries):
            wire, code = self._mender.clean(entry.wire, is_last=index == last)
            if wire is not entry.wire:
                text = "an empty message was taken out" if wire is None else "what was empty was taken out or filled"
                self._note(code, entry, text, removed=entry.message)
                self._edit(entry, wire)
        self._sweep()

    def _drop_orphans(self) -> None:
        paired = {(id(result.entry), result.index) for answers in self._pairs().values() for result in answers.values()}
        for entry in self.entries:
            orphans = frozenset(
                index for index in range(len(entry.reading.results)) if (id(entry), index) not in paired
            )
            if orphans:
                ids = ", ".join(str(entry.reading.results[index].call_id) for index in sorted(orphans))
                text = f"a result whose call is missing or has its result already was taken out ({ids})"
                self._note(self._mender.orphan_code, entry, text, removed=entry.message)
                self._edit(entry, self._dialect.without(entry.wire, calls=frozenset(), results=orphans))
        self._sweep()

    def _drop_dangling_reasoning(self) -> None:
        """Take out reasoning whose product is missing; from the end, because it may come in rows."""
        kept: list[_Entry] = []
        for entry in reversed(self.entries):
            if entry.reading.binds_next and (not kept or kept[-1].reading.role != "assistant"):
                text = "reasoning was taken out, because what it produced is missing"
                self._note("OR-3", entry, text, removed=entry.message)
            else:
                kept.append(entry)
        self.entries = kept[::-1]

    def _settle_calls(self) -> None:
        """Give every call its result, and every result its place behind its call."""
        pairs = self._pairs()
        positions = {id(entry): position for position, entry in enumerate(self.entries)}
        self._mark_waiting()
        behind: dict[int, list[_Entry]] = defaultdict(list)
        for position, entry in enumerate(self.entries):
            if entry.reading.calls and (answers := self._loose_answers(position, pairs[id(entry)], positions)):
                behind[self._anchor(position)] += self._gather(entry, answers)
        settled: list[_Entry] = []
        for position, entry in enumerate(self.entries):
            if entry.moved:
                wire = self._dialect.without(entry.wire, calls=frozenset(), results=frozenset(entry.moved))
                self._edit(entry, wire)
            settled += [entry, *behind[position]]
        self.entries = settled
        self._sweep()

    def _open_with_user(self) -> None:
        code = self._mender.user_first_code
        if code is None or not self.entries or self.entries[0].reading.role != "assistant":
            return
        first = self.entries[0]
        self._note(code, first, "the user's opening is missing; a line that says so was put before it")
        self.entries.insert(0, self._new_entry(first, self._dialect.write_user(OPENING)))

    def _pairs(self) -> dict[int, dict[int, _Result]]:
        """Return, per entry (by identity), which call (by index) is answered by which result."""
        return _Pairing(self.entries).pairs

    def _mark_waiting(self) -> None:
        """Mark the entries whose calls still wait: the last assistant turn, if only results come behind it."""
        backwards = dropwhile(lambda entry: entry.reading.role == "tool", reversed(self.entries))
        last_turn = takewhile(lambda entry: entry.reading.role == "assistant", backwards)
        # Where results stand directly behind their call, only the last message can still wait.
        for entry in islice(last_turn, 1 if self._mender.answers_directly else None):
            entry.waits = True

    def _loose_answers(
        self, position: int, answers: Mapping[int, _Result], positions: Mapping[int, int]
    ) -> list[_Result]:
        """Return the results that must be put behind this entry, in the order of its calls; none if all is well."""
        entry = self.entries[position]
        missing = [
            index
            for index, call in enumerate(entry.reading.calls)
            if index not in answers and not entry.waits and not _runs_on(call, entry.wire) and self._is_answerable(call)
        ]
        if not self._mender.answers_directly:
            answers = {index: result for index, result in answers.items() if positions[id(result.entry)] < position}
        elif not missing and self._is_in_place(position, answers.values()):
            return []
        made = {index: self._no_result(entry, index) for index in missing}
        return [result for _, result in sorted({**answers, **made}.items(), key=lambda answer: answer[0])]

    def _is_in_place(self, position: int, answers: Iterable[_Result]) -> bool:
        """Say whether these results stand directly behind the entry, before anything else is said."""
        waiting = {(id(result.entry), result.index) for result in answers}
        for entry in self.entries[position + 1 :]:
            if not waiting:
                break
            found = {(id(entry), index) for index in range(len(entry.reading.results))}
            if not found or not found <= waiting or not self._mender.begins_with_results(entry.wire):
                return False
            waiting -= found
            if waiting and entry.reading.role != "tool":
                return False
        return not waiting

    def _is_answerable(self, call: ToolCall) -> bool:
        """Say whether a result could name this call; one whose id was lost, where ids pair, is beyond repair."""
        (result,) = self._dialect.read(self._write_no_result(call)).results or (None,)
        return result is not None and bool(_result_keys(result))

    def _no_result(self, entry: _Entry, index: int) -> _Result:
        call = entry.reading.calls[index]
        self._note(self._mender.unanswered_code, entry, f"a result was added that says that {call.name} has none")
        return _Result(self._new_entry(entry, self._write_no_result(call)), 0)

    def _write_no_result(self, call: ToolCall) -> dict[str, Any]:
        result = ToolResult(call_id=call.id, name=call.name, text=NO_RESULT)
        return self._dialect.write_results([call], [result])[0]

    def _anchor(self, position: int) -> int:
        """Return behind which position results of this entry go: not between the items of one response."""
        if not self._mender.answers_directly:
            while position + 1 < len(self.entries) and self.entries[position + 1].reading.role == "assistant":
                position += 1
        return position

    def _gather(self, caller: _Entry, answers: Sequence[_Result]) -> list[_Entry]:
        """Take these results out of where they stand, and return the entries that carry them."""
        for result in answers:
            result.entry.moved.add(result.index)
            if result.entry.path != caller.path:
                text = f"a result was moved behind its call, {caller.path}"
                self._note(self._mender.unanswered_code, result.entry, text)
        sources = {id(result.entry.wire): result.entry for result in answers}
        wires = self._mender.gather([(result.entry.wire, result.index) for result in answers])
        return [self._moved_entry(sources.get(id(wire)), caller, wire) for wire in wires]

    def _moved_entry(self, source: _Entry | None, caller: _Entry, wire: Wire) -> _Entry:
        """Return the entry for a message at its new place: the caller's own object where it moves as a whole."""
        if source is None:
            return self._new_entry(caller, wire)
        return _Entry(source.message, wire, source.path, source.reading)

    def _new_entry(self, model: _Entry, wire: Wire) -> _Entry:
        return _Entry(like(model.message, dict(wire)), wire, model.path, self._dialect.read(wire))

    def _edit(self, entry: _Entry, wire: Wire | None) -> None:
        """Put an edited message in the caller's place; None takes it out at the next sweep."""
        entry.wire = {} if wire is None else wire
        if wire is not None:
            entry.message = like(entry.message, dict(wire))
            entry.reading = self._dialect.read(wire)

    def _sweep(self) -> None:
        self.entries = [entry for entry in self.entries if entry.wire]

    def _note(self, code: str, entry: _Entry, message: str, *, removed: object | None = None) -> None:
        self.changes.append(Change(code=code, path=entry.path, message=message, removed=removed))


def _runs_on(call: ToolCall, wire: Wire) -> bool:
    """Say whether nobody owes this call a result yet: the server goes on with it."""
    return call.kind in ASYNC_KINDS or bool(wire.get("async"))


class _Pairing:
    """Finds for each result the call that it answers.

    The nearest earlier open call of the same id; where either has no id, the earliest open one of the same name in
    the nearest message. A result that came before its call gets the nearest later one.
    """

    def __init__(self, entries: Sequence[_Entry]) -> None:
        self._entries = entries
        self._open: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        self.pairs: dict[int, dict[int, _Result]] = {id(entry): {} for entry in entries}
        early = [left for position, entry in enumerate(entries) for left in self._walk(position, entry)]
        for position, index in early:
            self._match_later(position, index)

    def _walk(self, position: int, entry: _Entry) -> Iterator[tuple[int, int]]:
        """Pair the entry's results with calls seen so far; yield those that found none."""
        for index, result in enumerate(entry.reading.results):
            call = self._nearest(result)
            if call is None:
                yield position, index
            else:
                self._join(call, entry, index)
        for index, made in enumerate(entry.reading.calls):
            for key in _call_keys(made):
                self._open[key].append((position, index))

    def _nearest(self, result: ToolResult) -> tuple[int, int] | None:
        for key in _result_keys(result):
            if calls := self._open[key]:
                newest = max(position for position, _ in calls)
                return min(call for call in calls if call[0] == newest)
        return None

    def _match_later(self, position: int, index: int) -> None:
        """Pair a result that came too early; ids are used again, so the tool's name must fit too where it is given."""
        entry = self._entries[position]
        result = entry.reading.results[index]
        for key in _result_keys(result):
            later = [call for call in self._open[key] if call[0] > position]
            if calls := [call for call in later if result.name in (None, self._call(call).name)]:
                self._join(min(calls), entry, index)
                return

    def _call(self, call: tuple[int, int]) -> ToolCall:
        return self._entries[call[0]].reading.calls[call[1]]

    def _join(self, call: tuple[int, int], entry: _Entry, index: int) -> None:
        caller = self._entries[call[0]]
        self.pairs[id(caller)][call[1]] = _Result(entry, index)
        for key in _call_keys(self._call(call)):
            self._open[key].remove(call)


def _call_keys(call: ToolCall) -> list[tuple[str, str]]:
    """Return under what a call can be found: its id, its name by results without an id, its name where it has none."""
    by_name = [("name of any", call.name)]
    return [*by_name, ("name", call.name)] if call.id is None else [("id", call.id), *by_name]


def _result_keys(result: ToolResult) -> list[tuple[str, str]]:
    if result.call_id is None:
        return [] if result.name is None else [("name of any", result.name)]
    return [("id", result.call_id), *([] if result.name is None else [("name", result.name)])]
