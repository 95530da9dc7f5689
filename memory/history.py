"""The history of one window: what each compression made of what, so that it can be taken back or branched from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .compressor import CompressedMemory
from .errors import HistoryError
from .events import Compressed
from .placing import stands
from .strategies import Plan
from .summarize import Summary
from .window import Entry, Kind, reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of the compressed part of a window."""

    summaries: Mapping[int, Summary] = field(default_factory=dict, repr=False)
    """What is behind the summaries that stand in it, by their number."""
    memory: CompressedMemory | None = field(default=None, repr=False)
    """What the last compression made."""
    masked_seqs: frozenset[int] = frozenset()
    """Every message that was ever shown shortened."""
    saved_tokens: int = 0
    """What the last compression took out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One compression: the whole window before it and after it."""

    last_seq: int
    """The newest message when it took place."""
    before: tuple[Entry, ...] = field(repr=False)
    after: tuple[Entry, ...] = field(repr=False)
    standing_before: Standing
    standing_after: Standing
    plan: Plan | None = field(default=None, repr=False)
    """None where the change was read from a store, which has it as a fact."""
    event: Compressed | None = None
    """Likewise."""
    number: int = 0
    """From 1, as the history counts; 0 where the change was read from a store."""


class History:
    """The compressions that stand in a window, the newest last. It holds references, no copies of messages."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._earlier: Callable[[], Sequence[Change]] | None = None
        self._count = 0
        self._length = 0

    def __len__(self) -> int:
        """How many compressions could be taken back, one after the other. Reads nothing."""
        return self._length

    def add(self, change: Change) -> None:
        """Take note of a compression that was just put in place."""
        self._count += 1
        self._changes.append(replace(change, number=self._count))
        self._length += 1

    def go_on_from(self, earlier: Callable[[], Sequence[Change]], *, length: int, count: int) -> None:
        """Let what came before be read when it is first asked for.

        Args:
            earlier: Reads it.
            length: How many compressions it gives.
            count: How many took place, those that were taken back or emptied away too.
        """
        self._earlier, self._length, self._count = earlier, length, count

    def clear(self) -> None:
        """Forget all: the window was emptied."""
        self._changes.clear()
        self._earlier, self._length = None, 0

    def news(self, seen_count: int) -> tuple[int, list[Change]]:
        """Return how many compressions there were in all and those that a reader of `seen_count` has not seen.

        One that was taken back or emptied away before it was seen is missing.
        """
        return self._count, [change for change in self._changes if change.number > seen_count]

    def newest(self, now: Sequence[Entry]) -> Change:
        """Return the compression that could be taken back from this window.

        Raises:
            HistoryError: There is none, or what it made does not stand there any more.
        """
        changes = self._all()
        if not changes:
            raise HistoryError("there is no compression to take back")
        newest = changes[-1]
        if not stands(newest.after, now, stop=len(newest.after)):
            raise HistoryError(
                "the messages of the last compression were changed or withdrawn since; it cannot be undone"
            )
        return newest

    def pop(self) -> Change:
        """Take the newest compression out of the history: it was taken back."""
        newest = self._all().pop()
        self._length -= 1
        return newest

    def entries_at(self, seq: int, now: Sequence[Entry]) -> tuple[list[Entry], Standing]:
        """Return the window as it stood when a message was the newest one, and what was known of it.

        Args:
            seq: The message's number.
            now: The window as it stands.

        Raises:
            HistoryError: It does not stand in this line: there is no such message, or it was withdrawn.
        """
        changes = self._all()
        count = sum(change.last_seq <= seq for change in changes)
        later = changes[count].before if count < len(changes) else now
        entries = [entry for entry in later if entry.seq <= seq]
        if not any(_stands_for(entry, seq) for entry in entries):
            raise HistoryError(f"there is no message {reference(seq)} in this line of the conversation")
        return entries, _reduced(changes[count - 1].standing_after if count else Standing(), entries)

    def _all(self) -> list[Change]:
        if self._earlier is not None:
            self._changes[:0] = self._earlier()
            self._earlier = None  # only now: where a store cannot be read, it is asked again the next time
        return self._changes


def taken_back(change: Change, now: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the window as it would stand without a compression: what it was made of, then what came since.

    Objects that the caller has put in the place of equal ones since stay where they are.
    """
    newest = {entry.seq: entry for entry in now[: len(change.after)] if not entry.is_written}
    for entry in change.before:
        standing = newest.get(entry.seq)
        if standing is None or entry.is_written or standing.as_added.message is entry.as_added.message:
            yield entry
        elif entry.kind is Kind.ORIGINAL:
            yield replace(entry, message=standing.as_added.message, original=entry.original or entry)
        else:
            yield replace(entry, original=standing.as_added)
    yield from now[len(change.after) :]


def _stands_for(entry: Entry, seq: int) -> bool:
    return entry.seq == seq or (entry.covers is not None and seq in entry.covers.seqs)


def _reduced(standing: Standing, entries: Sequence[Entry]) -> Standing:
    present = {entry.seq for entry in entries if entry.kind is Kind.SUMMARY}
    return replace(standing, summaries={seq: s for seq, s in standing.summaries.items() if seq in present})
