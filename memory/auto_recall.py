"""Automatic recall: what was compressed away comes back when the newest messages name something in it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from .archive import Archive, Record, searchable_text
from .compressor import refuse_worse
from .config import MemoryConfig
from .copies import entry_of
from .cycle import CompressionCycle
from .errors import StorageError, SummaryError
from .events import Event, Recalled
from .intake import Intake
from .messages import ToolCall
from .names import Names
from .native import like
from .patterns import Pattern
from .quoting import passage
from .tokens import TokenCounter
from .window import Entry, Kind, Window, reference

logger = logging.getLogger(__name__)

HEADING: Final = (
    "[Recalled by the memory, because the messages above name something in it: what earlier messages of this "
    "conversation said. It is data, no new request.]"
)

_TITLE: Final = Pattern(r"^\[r(\d+), [a-z ]+(?:, in part)?\]$", re.MULTILINE)
"""What a copy puts above each message that it repeats."""


class AutoRecall:
    """Appends archived messages behind the newest one, each at most once while its copy stands.

    It looks when a request is about to be made: the newest message is the user's or a tool's, and no call is open.
    What stands of it at one time is less than a context must grow between two compressions, and every compression
    drops it, so it never brings one about by itself.
    """

    def __init__(
        self,
        config: MemoryConfig,
        window: Window,
        archive: Archive,
        intake: Intake,
        cycle: CompressionCycle,
        counter: TokenCounter,
        *,
        emit: Callable[[Event], None],
    ) -> None:
        self._config = config
        self._window = window
        self._archive = archive
        self._intake = intake
        self._cycle = cycle
        self._counter = counter
        self._emit = emit
        self._names = Names()
        self._looked_seq = 0
        """Every message up to this one has been looked at."""
        self.appended_count = 0
        """How many messages were appended: numbers of the log that nobody added."""
        self._recalled_count = 0
        self._tokens = 0

    def counts(self) -> dict[str, int]:
        """Return how many messages came back, and what the copies measured."""
        return {"recalled_count": self._recalled_count, "recalled_tokens": self._tokens}

    def run(self) -> None:
        """Append what the newest messages ask for, if anything."""
        if not (self._config.auto_recall and len(self._archive)) or not self._is_moment():
            return
        fresh = self._fresh()
        self._looked_seq = self._window.last_seq
        room = self._room()
        if room >= _LEAST_TOKENS and fresh:
            wanted = self._wanted_or_nothing(fresh)
            if wanted and (entry := self._entry(wanted, room)) is not None:
                self._append(entry)

    def _wanted_or_nothing(self, fresh: Sequence[Entry]) -> list[tuple[Record, list[str]]]:
        """Return what the newest messages ask for; nothing where the store cannot be read: the loop must go on."""
        try:
            return self._wanted(fresh)
        except StorageError as error:
            logger.warning("error=%s | nothing recalled", type(error).__name__)
            return []

    def begin_like(self, other: AutoRecall) -> None:
        """Know what another line of the conversation has recalled, as far as it stands in this one too."""
        self._looked_seq = min(other._looked_seq, self._window.last_seq)
        self._recalled_count = sum(len(_repeated(copy)) for copy in self._standing())
        if other.appended_count:
            added = {record.seq for record in other._archive} | _added_seqs(other._window)
            self.appended_count = self._window.last_seq - sum(seq <= self._window.last_seq for seq in added)

    def state(self) -> dict[str, int]:
        """Return what was counted, as JSON values; what a copy repeats, it says itself."""
        return {
            "looked_seq": self._looked_seq,
            "appended_count": self.appended_count,
            "recalled_count": self._recalled_count,
            "tokens": self._tokens,
        }

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from what was known when `state` was taken."""
        self._looked_seq, self._tokens = state["looked_seq"], state["tokens"]
        self.appended_count, self._recalled_count = state["appended_count"], state["recalled_count"]

    # --- When, and how much -------------------------------------------------------------------------------------------

    def _is_moment(self) -> bool:
        if self._window.has_open_calls or self._cycle.orders.is_running or not self._window.entries:
            return False
        newest = self._window.entries[-1]
        return newest.reading.role in ("user", "tool") and newest.seq > self._looked_seq and not newest.is_written

    def _fresh(self) -> list[Entry]:
        """Return what came since the last request was made: the newest response, and what stands behind it."""
        behind = list(takewhile(lambda entry: entry.reading.role != "assistant", reversed(self._window.entries)))
        rest = self._window.entries[: len(self._window.entries) - len(behind)]
        response = list(takewhile(lambda entry: entry.reading.role == "assistant", reversed(rest)))
        return [entry for entry in (*behind, *response) if entry.seq > self._looked_seq and not entry.is_written]

    def _room(self) -> int:
        standing = sum(copy.tokens for copy in self._standing())
        bound = int(self._cycle.limits.threshold_tokens * _STANDING_SHARE) - standing
        return min(self._config.auto_recall_tokens, bound, self._cycle.room_tokens)

    def _standing(self) -> Iterator[Entry]:
        return (entry for entry in self._window.entries if entry.kind is Kind.RECALLED)

    # --- What ---------------------------------------------------------------------------------------------------------

    def _wanted(self, fresh: Sequence[Entry]) -> list[tuple[Record, list[str]]]:
        """Return the archived messages that the newest ones name, the most wanted first, with the names."""
        new = [record for record in self._archive if record.seq not in self._names.seqs] if self._is_behind else []
        self._names.add(new)
        calls = [call for entry in fresh for call in entry.reading.calls]
        pointing = {name: self._pointed_at(name, calls) for name in self._named(fresh)}
        return list(self._chosen({name: seqs for name, seqs in pointing.items() if seqs}))

    @property
    def _is_behind(self) -> bool:
        return len(self._archive) != len(self._names.seqs)

    def _named(self, fresh: Sequence[Entry]) -> set[str]:
        """Return the names that stand in few archived messages and nowhere else in the context."""
        numbers = {entry.seq for entry in fresh}
        before = [searchable_text(entry.reading) for entry in self._window.entries if entry.seq not in numbers]
        named: set[str] = set()
        for text in _texts(fresh):
            candidates = [name for name in self._names.of(text) if self._names.having(name)]
            absent = [name for name in candidates if not any(name in other for other in before)]
            if len(absent) <= _MOST_NAMES:
                named.update(absent)
        return named

    def _pointed_at(self, name: str, calls: Sequence[ToolCall]) -> tuple[int, ...]:
        """Return the messages that a name asks for; none that is there, or that a call has just fetched anew."""
        present = {entry.seq for entry in self._window.entries if entry.kind is Kind.ORIGINAL}
        present.update(seq for copy in self._standing() for seq in _repeated(copy))
        return tuple(
            seq for seq in self._names.having(name) if seq not in present and not self._names.answers(seq, calls)
        )

    def _chosen(self, pointing: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[Record, list[str]]]:
        """Yield messages until every name has one: always the one that most is named of, of equals the oldest."""
        left = dict(pointing)
        while left:
            scores: dict[int, float] = {}
            for seqs in left.values():
                for seq in seqs:
                    scores[seq] = scores.get(seq, 0.0) + 1 / len(seqs)
            best = min(scores, key=lambda seq: (-scores[seq], seq))
            names = sorted(name for name, seqs in left.items() if best in seqs)
            yield self._archive.get(reference(best)), names
            left = {name: seqs for name, seqs in left.items() if best not in seqs}

    # --- Writing it ---------------------------------------------------------------------------------------------------

    def _entry(self, wanted: Sequence[tuple[Record, list[str]]], room: int) -> _Copy | None:
        """Return as much of what is wanted as there is room for, as one message; None if that is nothing."""
        sections: list[_Section] = []
        left = room - self._counter.count_text(HEADING) - _MESSAGE_TOKENS
        each = max(room // _SHARES, _FEWEST_TOKENS)
        for record, names in wanted:
            section = self._section(record, names, min(left, each))
            if section is not None:
                sections.append(section)
                left -= section.tokens
        while sections:
            copy = self._copy(sections)
            if copy.entry.tokens <= room:
                return copy if self._is_valid(copy.entry) else None
            sections.pop()
        return None

    def _section(self, record: Record, names: Sequence[str], room: int) -> _Section | None:
        text = searchable_text(record.reading)
        room -= _TITLE_TOKENS
        if room < _LEAST_TOKENS:
            return None
        part = passage(text, " ".join(names), tokens=room, count=self._counter.count_text)
        if not part.strip():
            return None
        what = "tool result" if record.reading.results else record.reading.role
        title = f"[{record.ref}, {what}{'' if part == text else ', in part'}]"
        return _Section(seq=record.seq, text=f"{title}\n{part}", tokens=self._counter.count_text(part) + _TITLE_TOKENS)

    def _copy(self, sections: Sequence[_Section]) -> _Copy:
        dialect = self._intake.dialect_or_default
        wire = dialect.write_user("\n".join([HEADING, *(section.text for section in sections)]))
        message = like(self._window.entries[-1].message, wire)
        entry = entry_of(message, self._window.last_seq + 1, dialect, self._counter)
        return _Copy(entry=replace(entry, kind=Kind.RECALLED), seqs=tuple(section.seq for section in sections))

    def _is_valid(self, entry: Entry) -> bool:
        before = self._window.entries
        try:
            refuse_worse(self._intake.dialect_or_default, before, [*before, entry])
        except SummaryError:
            return False
        return True

    def _append(self, copy: _Copy) -> None:
        self._intake.append_written(copy.entry)
        self.appended_count += 1
        self._recalled_count += len(copy.seqs)
        self._looked_seq = copy.entry.seq
        self._tokens += copy.entry.tokens
        self._emit(Recalled(refs=tuple(map(reference, copy.seqs)), tokens=copy.entry.tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    seq: int
    text: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    entry: Entry
    seqs: tuple[int, ...]


def _repeated(copy: Entry) -> list[int]:
    """Return the numbers of the messages that a copy repeats, as it tells the model."""
    return [int(seq) for seq in _TITLE.compiled.findall(copy.reading.text)]


def _added_seqs(window: Window) -> set[int]:
    return {entry.seq for entry in window.entries if not entry.is_written}


def _texts(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what may name something: words of the user, results, and arguments; not what the model only says."""
    for entry in entries:
        reading = entry.as_added.reading
        if reading.role == "user":
            yield reading.text
        yield from (result.text for result in reading.results)
        yield from (call.arguments for call in reading.calls)


_STANDING_SHARE: Final = 0.15
"""Of the threshold: what recalled copies may fill at one time. Between compressions it must grow by 0.2 (`limits`)."""
_LEAST_TOKENS: Final = 48
"""With less room than this, a copy would hardly be more than its own heading."""
_SHARES: Final = 4
"""Of the room, each message gets at most this part: what was learnt of a name stands around it, the rest is a reference
away. Whole messages bring back no more of what is needed and cost most of the room (benchmarks/auto_recall.py)."""
_FEWEST_TOKENS: Final = 200
"""But no less than this, where there is so much."""
_MESSAGE_TOKENS: Final = 8
_TITLE_TOKENS: Final = 16
_MOST_NAMES: Final = 8
"""A text that names more archived things than this is a listing, and asks for none of them."""
