"""The laws of the memory, checked after every single message of a conversation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from memory import Compressed, ContextOverflowError, MemoryConfig, MemoryManager, TokenCounter
from memory.dialects import DIALECTS
from memory.events import Event
from memory.messages import DialectName, Reading
from memory.native import to_wire
from memory.pairing import OpenCalls
from memory.testing import WordCounter


class Watched:
    """A manager under watch: each `add` asserts laws 1 to 4, 6 and 7 for the state that it leaves.

    With a `model` that binds its reasoning, also that none stands behind other messages than it was made behind.
    """

    def __init__(
        self,
        config: MemoryConfig,
        dialect: DialectName,
        *,
        llm: object | None = None,
        counter: TokenCounter | None = None,
        checks_validity: bool = True,
        every: int = 1,
        **options: Any,
    ) -> None:
        """Watch a new manager; `every` checks in full only each n-th message and each compression."""
        self.events: list[Event] = []
        self.counter = counter or WordCounter()
        self.memory = MemoryManager(
            config, llm, dialect=dialect, counter=self.counter, on_event=self.events.append, **options
        )
        self._dialect = DIALECTS[dialect]
        self._binds = self._dialect.binds_reasoning(options.get("model"))
        self._made_behind: dict[int, list[object]] = {}
        """For a message with reasoning, by its id: the context that the model saw when it made it."""
        self._checks_validity = checks_validity
        self._every = every
        self._added: list[object] = []
        self._copies: list[Any] = []
        self._readings: list[Reading] = []
        self._seqs: list[int] = []
        """Of each message: what the memory appended itself has numbers too."""
        self._open = OpenCalls(splits_responses=self._dialect.splits_responses)
        self._previous: list[object] = []
        self._all_valid = True

    def add_all(self, messages: Sequence[object]) -> None:
        for message in messages:
            self.add(message)
        self.check_in_full()
        self.check_bytes()

    def add(self, message: object) -> None:
        self._note(message)
        before = len(self.events)
        try:
            self.memory.add_message_sync(message)
        except ContextOverflowError:
            assert self.memory.current_tokens > self.memory.config.max_context_tokens
            self._check(self.events[before:])
            raise
        self._check(self.events[before:])

    async def add_async(self, message: object) -> None:
        self._note(message)
        before = len(self.events)
        await self.memory.add_message(message)
        self._check(self.events[before:])

    def _note(self, message: object) -> None:
        self._added.append(message)
        self._seqs.append(self.memory._window.last_seq + 1)
        self._copies.append(copy.deepcopy(message))
        reading = self._dialect.read(to_wire(message))
        self._readings.append(reading)
        self._open.add(reading)
        if self._binds and self._has_reasoning(message):
            self._made_behind[id(message)] = self._previous

    def _check(self, events: Sequence[Event]) -> None:
        context = self.memory.messages
        compressions = [event for event in events if isinstance(event, Compressed)]
        self._progress(compressions)
        self._stable_prefix(context, compressions)
        self._previous = context
        if compressions or len(self._added) % self._every == 0:
            self.check_in_full()

    def check_in_full(self) -> None:
        """Check what costs time in proportion to the conversation."""
        context = self.memory.messages
        self._nothing_is_lost(context)
        self._native_in_native_out(context)
        self._protected_stay(context)
        if self._binds:
            self._reasoning_is_valid(context)
        if self._checks_validity and not self._open:
            self._valid_out(context)

    def check_bytes(self) -> None:
        """Check that no message was changed since it was added."""
        for seq, (message, original) in enumerate(zip(self._added, self._copies, strict=True), start=1):
            assert message == original, f"r{seq} was changed"

    def _nothing_is_lost(self, context: list[object]) -> None:
        in_context = {id(message) for message in context}
        archived = {record.seq: record.message for record in self.memory.archive}
        for seq, message in zip(self._seqs, self._added, strict=True):
            if id(message) not in in_context:
                assert archived.get(seq) is message, f"r{seq} is neither in the context nor in the archive"
        for index in {0, len(self._added) - 1, (len(self._added) - 1) // 2}:
            assert self.memory.original(f"r{self._seqs[index]}") is self._added[index]

    def _native_in_native_out(self, context: list[object]) -> None:
        added = {id(message) for message in self._added}
        written = [message for message in context if id(message) not in added]
        entries = {id(e.message): e.kind.value for e in self.memory._window.entries}
        assert all(entries[id(message)] in _WRITTEN for message in written)

    def _has_reasoning(self, message: object) -> bool:
        wire = to_wire(message)
        return self._dialect.without_reasoning(wire) is not wire

    def _reasoning_is_valid(self, context: list[object]) -> None:
        for index, message in enumerate(context):
            if not self._has_reasoning(message):
                continue
            before = self._made_behind[id(message)]
            is_same = len(before) == index and all(a is b for a, b in zip(before, context, strict=False))
            assert is_same, f"the reasoning of context[{index}] was made behind other messages"

    def _protected_stay(self, context: list[object]) -> None:
        in_context = {id(message) for message in context}
        users = [i for i, r in enumerate(self._readings) if r.role == "user" and not r.results]
        systems = [i for i, r in enumerate(self._readings) if r.role == "system"]
        for index in {*systems, *users[:1], *users[-1:]}:
            assert id(self._added[index]) in in_context, f"r{index + 1} ({self._readings[index].role}) was taken out"
        newest = self._readings[-1]
        may_be_a_copy = bool(newest.results) or (self._binds and newest.is_signed)
        assert id(self._added[-1]) in in_context or may_be_a_copy, "the newest message was taken out"

    def _progress(self, compressions: Sequence[Compressed]) -> None:
        assert len(compressions) <= 1, "two compressions without new input"
        for event in compressions:
            assert event.tokens_after < event.tokens_before
            assert not self._open, "compressed while a call was open"

    def _stable_prefix(self, context: list[object], compressions: Sequence[Compressed]) -> None:
        if not compressions:
            assert len(context) >= len(self._previous)
            same = all(a is b for a, b in zip(self._previous, context, strict=False))
            assert same, "the context changed without a compression"
            return
        first = int(compressions[0].first_ref[1:])
        unchanged = [e for e in self.memory._window.entries if e.seq < first]
        for entry, before in zip(unchanged, self._previous, strict=False):
            assert entry.message is before, f"{entry.ref} stands before the first edit and changed"

    def _valid_out(self, context: list[object]) -> None:
        self._all_valid = self._all_valid and not _errors(self._dialect, self._added)
        if self._all_valid:
            assert _errors(self._dialect, context) == []


_WRITTEN = frozenset({"stripped", "clamped", "masked", "summary", "recalled"})


def _errors(dialect: Any, messages: Sequence[object]) -> list[str]:
    wires = [to_wire(message) for message in messages]
    return [f"{i.code} {i.path}: {i.message}" for i in dialect.validate(wires) if i.severity == "error"]
