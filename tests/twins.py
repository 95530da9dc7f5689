"""Twins: one conversation in two memories. One is never interrupted; the other is kept in a store, and is taken up from
there again and again. After each action they must be the same in all that can be seen of them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from memory import ContextOverflowError, MemoryConfig, MemoryManager
from memory.dialects import DIALECTS
from memory.errors import AgentMemoryError, HistoryError
from memory.messages import DialectName, Reading
from memory.native import to_wire
from memory.pairing import OpenCalls
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.store import SessionStore
from memory.sessions.transfer import export_session, import_session
from memory.testing import WordCounter

OF_SESSIONS = ("session_id", "unsaved_count")
"""Statistics that only a memory with a session has."""
USAGE = {"input": 900, "output": 40}
PROMPTS = ("Answer in one word.", "Answer in ten words, each of them long, none of them twice.", None)


def wire(message: object) -> str:
    """Return a message as JSON, the order of its keys included."""
    return json.dumps(to_wire(message))


def context_of(memory: MemoryManager) -> list[str]:
    """Return what a memory sends, byte for byte."""
    return [wire(message) for message in memory.messages]


def stats_of(memory: MemoryManager) -> dict[str, Any]:
    """Return a memory's statistics, but for the figures of its session."""
    return {name: value for name, value in memory.get_stats().items() if name not in OF_SESSIONS}


def picture(memory: MemoryManager) -> dict[str, Any]:
    """Return all that can be seen of a memory, as values that can be compared."""
    standing = memory.compressed_memory
    return {
        "context": context_of(memory),
        "stats": stats_of(memory),
        "short_term": [wire(message) for message in memory.short_term],
        "archive": [(record.seq, wire(record.message), record.tokens, record.reading) for record in memory.archive],
        "origins": [None if message is None else wire(message) for message in memory.origins()],
        "pinned": memory._window.protected(system_prompts=True),
        "size": memory._size.state(),
        "beside": memory._size.beside,
        "compressed": None if standing is None else {**asdict(standing), "messages": [*map(wire, standing.messages)]},
        "of the last turn": (memory.was_compressed_last_iteration, memory.last_compression_savings, memory.dialect),
    }


class Twins:
    """Does everything to both, and compares them."""

    def __init__(
        self,
        config: MemoryConfig,
        dialect: DialectName,
        coming: Sequence[Any],
        *,
        llm: Any,
        follows: bool,
        store: SessionStore | None = None,
    ) -> None:
        self.store: SessionStore = store or SqliteSessionStore(":memory:")
        self.whole = MemoryManager(config, llm, dialect=dialect, counter=WordCounter(), model="gpt-4o", clock=_noon)
        self.kept = MemoryManager(
            config, llm, dialect=dialect, counter=WordCounter(), model="gpt-4o", clock=_noon, store=self.store
        )
        self._session = self.kept.session_id
        self._dialect = DIALECTS[dialect]
        self._llm = llm
        self._coming = list(coming)
        self._follows = follows
        self._list: list[Any] = []
        """What a caller has who keeps the list."""
        self._at: dict[int, list[str]] = {}
        """The context at the end of the turn in which a message was the newest, where nothing took it back."""
        self._is_saved = True

    # --- Interruptions ------------------------------------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """Take the session up again while the first memory still seems to run, as after the death of its machine."""
        if self._is_saved and self.message_count:
            self._resume(takes_over=True)

    def close(self, number: int) -> None:
        if self.message_count:  # before, there is no session
            self.kept.close()
            self._resume(takes_over=False)

    def move(self, number: int) -> None:
        """Go on in another store, from an export."""
        if not self.message_count:
            return
        self.kept.close()
        target = SqliteSessionStore(":memory:")
        self._session = import_session(target, export_session(self.store, self._session or "", "jsonl")).id
        self.store = target
        self._resume(takes_over=False)

    @property
    def message_count(self) -> int:
        return self.whole._window.last_seq

    def _resume(self, *, takes_over: bool) -> None:
        counter = WordCounter()
        self.kept = MemoryManager.resume(
            self._session or "", llm=self._llm, store=self.store, counter=counter, clock=_noon, takes_over=takes_over
        )
        assert counter.readings_counted == 0, "something was counted again"
        self.compare()

    # --- The loop -----------------------------------------------------------------------------------------------------

    def message(self, number: int) -> None:
        if not self._coming:
            return
        self._list.append(self._coming.pop(0))
        if self._follows:
            self._follow()
        else:
            usage = dict(USAGE) if number % 5 == 0 and self._read(self._list[-1]).role == "assistant" else None
            self._both(lambda memory: memory.add_message_sync(self._list[-1], usage))
        self._note()

    def turn(self, number: int) -> None:
        self.message(number)
        while self._coming and self.is_open:
            self.message(number)

    def copies(self, number: int) -> None:
        """Follow a list of equal objects."""
        if self._follows and not self.is_open:
            self._list = copy.deepcopy(self._list)
            self._follow()

    def edit(self, number: int) -> None:
        """Cut the list before one of the user's messages, and let another one stand there."""
        if not self._follows:
            return
        self._skip_to_task()
        places = [index for index in range(1, len(self._list)) if self._is_task(self._list[index])]
        if self._coming and places:
            del self._list[places[number % len(places)] :]
            self._list.append(self._coming.pop(0))
            self._at.clear()
            self._follow()
            self._note()

    def clear(self, number: int) -> None:
        self._both(lambda memory: memory.clear())
        self._at.clear()
        self._list = [message for message in self._list[:1] if self._read(message).role == "system"]
        self._skip_to_task()

    def send(self, number: int) -> None:
        if not self.is_open:
            self._both(lambda memory: memory.get_context_for_llm(), saves=False)

    def usage(self, number: int) -> None:
        self._both(lambda memory: memory.record_usage({"input": 100 * (number + 1), "output": number}), saves=False)

    def fix(self, number: int) -> None:
        prompt = PROMPTS[number % len(PROMPTS)]
        tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}] * (number % 2)
        self._both(lambda memory: memory.set_fixed(system=prompt, tools=tools or None), saves=False)

    def pin(self, number: int) -> None:
        if refs := self._refs():
            self._both(lambda memory: memory.pin(refs[number % len(refs)]))

    def unpin(self, number: int) -> None:
        for ref in self._refs():
            self._both(lambda memory, ref=ref: memory.unpin(ref))  # type: ignore[misc] # mypy does not infer a default

    def compress(self, number: int) -> None:
        if not self.is_open:
            self._both(lambda memory: memory.compress_sync())
            self._note()

    def recover(self, number: int) -> None:
        error = RuntimeError("context_length_exceeded" if number % 2 else "Invalid `signature` in `thinking` block")
        if not self.is_open:
            self._both(lambda memory: memory.recover_sync(error))
            self._at.clear()
            self._note()

    def undo(self, number: int) -> None:
        newest = self._newest_compression()
        self._both(lambda memory: memory.undo())
        if newest is not None:
            self._at = {seq: context for seq, context in self._at.items() if seq < newest}
            self._note()

    # --- Branches -----------------------------------------------------------------------------------------------------

    def branch(self, number: int) -> None:
        """Branch off both at the same message; the branches are twins as well."""
        seq = 1 + number % max(1, self.message_count)
        refused, branches = 0, []
        for memory in (self.whole, self.kept):
            try:
                branches.append(memory.branch(f"r{seq}"))
            except HistoryError:
                refused += 1
        assert refused in (0, 2)
        assert refused == 0 or seq not in self._at, "a branch was refused that should be there"
        if branches:
            self._compare_branches(seq, *branches)

    def _compare_branches(self, seq: int, one: MemoryManager, other: MemoryManager) -> None:
        assert picture(one) == picture(other)
        there = {entry.seq for entry in one._window.entries if not entry.is_written}
        assert there | {record.seq for record in one.archive} == set(range(1, seq + 1)), "a branch has lost a message"
        if seq in self._at:
            assert context_of(one) == self._at[seq], f"the branch is not what stood when r{seq} was the newest message"
        session = other.session_id
        assert session is not None
        other.close()
        resumed = MemoryManager.resume(session, store=self.store, counter=WordCounter(), clock=_noon)
        assert picture(one) == picture(resumed), "a branch that was taken up again"
        resumed.close()

    # --- Comparing ----------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        one, other = picture(self.whole), picture(self.kept)
        for name in one:
            assert one[name] == other[name], name

    @property
    def is_open(self) -> bool:
        """Whether a call waits for its result."""
        calls = OpenCalls(splits_responses=self._dialect.splits_responses)
        for message in self._list:
            calls.add(self._read(message))
        return bool(calls)

    def _both(self, action: Callable[[MemoryManager], object], *, saves: bool = True) -> None:
        outcomes = [_outcome(action, memory) for memory in (self.whole, self.kept)]
        assert outcomes[0] == outcomes[1]
        if outcomes[0] is not HistoryError:  # it did nothing, so it saved nothing either
            self._is_saved = saves
        self.compare()

    def _follow(self) -> None:
        self._both(lambda memory: memory.follow_sync(list(self._list)))

    def _note(self) -> None:
        if self.whole._window.entries and self.whole._window.entries[-1].seq == self.message_count:
            self._at[self.message_count] = context_of(self.whole)

    def _newest_compression(self) -> int | None:
        history = self.whole._cycle.results.history
        with suppress(HistoryError):
            return history.newest(self.whole._window.entries).last_seq
        return None

    def _refs(self) -> list[str]:
        return [entry.ref for entry in self.whole._window.entries if not entry.is_written]

    def _is_task(self, message: object) -> bool:
        reading = self._read(message)
        return reading.role == "user" and not reading.results

    def _skip_to_task(self) -> None:
        while self._coming and not self._is_task(self._coming[0]):
            self._coming.pop(0)

    def _read(self, message: object) -> Reading:
        return self._dialect.read(to_wire(message))


def _outcome(action: Callable[[MemoryManager], object], memory: MemoryManager) -> object:
    """Return what a call gave or refused; contexts as JSON."""
    try:
        given = action(memory)
    except (ContextOverflowError, AgentMemoryError) as error:
        return type(error)
    return [wire(message) for message in given] if isinstance(given, list) else given


def _noon() -> float:
    """A clock that stands still, so that no provider's cache expires in one memory before it does in the other."""
    return 0.0
