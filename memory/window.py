"""The window: what is sent to the model now, as entries over an append-only log.

Every added message gets a sequence number and is never edited. An entry is the message itself, a shortened
copy of it, or a summary that names the messages it stands for. Messages that belong together (a call, its results, the
reasoning that produced it) form one unit; the window is cut only between units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import takewhile
from typing import Any

from .marks import Mark, is_same, marks_of, with_marks
from .messages import Reading, ToolCall
from .native import like, to_wire
from .pairing import OpenCalls


class Kind(StrEnum):
    """What an entry is, compared with what the caller added. Of a copy, the archive has the original."""

    ORIGINAL = "original"
    """The caller's own object."""
    STRIPPED = "stripped"
    """A copy without the signed reasoning that is not valid where it now stands."""
    CLAMPED = "clamped"
    """A copy in which long tool results keep their head and tail."""
    MASKED = "masked"
    """A copy in which tool results are placeholders."""
    SUMMARY = "summary"
    """A message that the compressor wrote in place of others."""
    RECALLED = "recalled"
    """A message that the memory added to the log itself: what it found again of others that had left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The messages that a summary stands for."""

    seqs: tuple[int, ...]
    """Ascending sequence numbers."""
    tokens: int
    """What these messages measured when they were added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One message of the window."""

    seq: int
    """Number of the message in the log, from 1; a summary has the number of the first message it covers."""
    message: object = field(repr=False)
    """What is sent: for an original, the very object that the caller added."""
    reading: Reading = field(repr=False)
    tokens: int
    """By the manager's counter, before calibration."""
    kind: Kind = Kind.ORIGINAL
    covers: Coverage | None = None
    """Set for summaries only."""
    original: Entry | None = field(default=None, repr=False)
    """Of a copy: the entry of the message itself. Of an original that came anew as an equal object: the first one's,
    which is what the archive knows."""

    @property
    def as_added(self) -> Entry:
        """The entry of the message itself, also where a copy stands in for it."""
        return self if self.original is None or self.kind is Kind.ORIGINAL else self.original

    @property
    def is_written(self) -> bool:
        """Whether the memory wrote it; then no caller added it, in no shape."""
        return self.kind in (Kind.SUMMARY, Kind.RECALLED)

    @property
    def added_tokens(self) -> int:
        """What the entry's messages measured when they were added; 0 for what nobody added."""
        if self.kind is Kind.RECALLED:
            return 0
        return self.as_added.tokens if self.covers is None else self.covers.tokens

    @property
    def ref(self) -> str:
        """The reference under which the archive finds the message, for example `r17`."""
        return reference(self.seq)


def reference(seq: int) -> str:
    """Return the public name of a sequence number."""
    return f"r{seq}"


class Window:
    """The entries in their order, what is sent for them, and what of them must stay.

    Grows by `append`; shrinks by `splice`, which a compression ends with. `version` changes with every change.
    """

    def __init__(self, *, splits_responses: bool) -> None:
        self.splits_responses = splits_responses
        self.entries: list[Entry] = []
        self.tokens = 0
        """Size of the entries."""
        self.log_tokens = 0
        """Size of everything that was ever appended."""
        self.last_seq = 0
        self.version = 0
        self.edit_count = 0
        """How often something else happened to it than that a message was appended."""
        self.has_cache_breakpoint = False
        self._context: list[object] = []
        self._open_calls = OpenCalls(splits_responses=splits_responses)
        self._first_user: int | None = None
        self._newest_user: dict[bool, int] = {}
        self._pinned: set[int] = set()
        self._pinned_before: list[tuple[int, object]] = []
        """Messages that were withdrawn while they were pinned: should they come back, so does the pin."""

    @property
    def has_open_calls(self) -> bool:
        return bool(self._open_calls)

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the newest response that wait for their results."""
        return self._open_calls.waiting

    @property
    def context(self) -> list[object]:
        """What is sent, in a new list."""
        return list(self._context)

    @property
    def task(self) -> str:
        """The text of the first user message."""
        return next((entry.reading.text for entry in self.entries if entry.seq == self._first_user), "")

    def begins_response(self, reading: Reading) -> bool:
        """Return whether this message, appended now, would begin a new response of the model."""
        return self._open_calls.begins_response(reading)

    def append(self, entry: Entry) -> None:
        """Add the newest message. O(1)."""
        self._open_calls.add(entry.reading)
        self._put(entry)
        self._pin_again(entry)
        self.log_tokens += entry.added_tokens
        self.last_seq = entry.seq
        self.version += 1
        self.has_cache_breakpoint = self.has_cache_breakpoint or entry.reading.has_cache_breakpoint

    def _put(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._context.append(entry.message)
        self.tokens += entry.tokens
        if entry.reading.role == "user" and not entry.is_written:
            # Words beside results (Anthropic) are the user's too, but must not displace a message of their own.
            self._newest_user[bool(entry.reading.results)] = entry.seq
            self._first_user = self._first_user or entry.seq

    def splice(self, entries: Sequence[Entry], *, replaced_count: int) -> None:
        """Put entries in the place of the first `replaced_count`; what was appended since stays behind them."""
        self.entries[:replaced_count] = entries
        self._context = [entry.message for entry in self.entries]
        self.tokens = sum(entry.tokens for entry in self.entries)
        self.version += 1
        self.edit_count += 1

    def swap(self, messages: Mapping[int, object]) -> None:
        """Let these objects stand in place of the messages of these numbers, of which they are equal copies."""
        if not messages:
            return
        for index, entry in enumerate(self.entries):
            if entry.is_written or entry.seq not in messages:
                continue
            message = messages[entry.seq]
            if message is entry.as_added.message:
                continue
            self.entries[index] = with_message(entry, message)
            self._context[index] = self.entries[index].message
        self.has_cache_breakpoint = self.has_cache_breakpoint or any(map(_is_marked, messages.values()))
        self.version += 1

    def renew(self, entries: Sequence[Entry]) -> None:
        """Put entries in the place of all; the very same ones are no change."""
        if any(one is not other for one, other in zip(entries, self.entries, strict=True)):
            self.splice(entries, replaced_count=len(entries))

    def withdraw(self, first_seq: int) -> list[Entry]:
        """Take out every message from this number on. Return their entries.

        All entries, where a summary stands for one of those messages: it cannot be told apart from the others.
        """
        is_summarised = any(e.covers is not None and e.covers.seqs[-1] >= first_seq for e in self.entries)
        kept = [] if is_summarised else [entry for entry in self.entries if entry.seq < first_seq]
        gone = self.entries[len(kept) :]
        self._pinned_before += [(entry.seq, entry.as_added.message) for entry in gone if entry.seq in self._pinned]
        self._keep_only(kept)
        return gone

    def clear(self) -> list[Entry]:
        """Take out all, pinned or not, but the system messages that it begins with. Return what was taken out."""
        kept = list(takewhile(lambda entry: entry.reading.role == "system", self.entries))
        gone = self.entries[len(kept) :]
        self._keep_only(kept)
        self._pinned, self._pinned_before = set(), []
        self.log_tokens = sum(entry.added_tokens for entry in kept)
        return gone

    def _keep_only(self, kept: Sequence[Entry]) -> None:
        self.entries, self._context, self.tokens = [], [], 0
        self._first_user, self._newest_user = None, {}
        for entry in kept:
            self._put(entry)
        self.regroup(splits_responses=self.splits_responses)
        self._pinned &= {entry.seq for entry in kept}
        self.version += 1
        self.edit_count += 1

    def regroup(self, *, splits_responses: bool) -> None:
        """Begin again to follow open calls, now that the format is known."""
        self.splits_responses = splits_responses
        self._open_calls = OpenCalls(splits_responses=splits_responses)
        for entry in self.entries:
            self._open_calls.add(entry.reading)

    def pin(self, entry: Entry) -> None:
        """Never let a plan take out the unit of this entry."""
        self._pinned.add(entry.seq)
        self.version += 1

    def begin_at(self, last_seq: int, entries: Sequence[Entry], *, log_tokens: int) -> None:
        """Hold these entries, which stood in another window when a message of it was the newest one."""
        self._keep_only(entries)
        self.last_seq, self.log_tokens = last_seq, log_tokens
        self.has_cache_breakpoint = any(entry.reading.has_cache_breakpoint for entry in entries)

    def state(self) -> dict[str, Any]:
        """Return what a resumed window needs besides its entries, as JSON values. O(1); O(entries) where any is marked.

        The log has each message as it was added; marks have moved since, or callers have moved them in place.
        """
        marks = {"marks": list(marked(self.entries))} if self.has_cache_breakpoint else {}
        return marks | {
            "last_seq": self.last_seq,
            "log_tokens": self.log_tokens,
            "has_cache_breakpoint": self.has_cache_breakpoint,
            "first_user": self._first_user,
            "newest_user": [[has_results, seq] for has_results, seq in self._newest_user.items()],
            "pinned": sorted(self._pinned),
            "pinned_before": [seq for seq, _ in self._pinned_before],
            "calls": self._open_calls.state(),
        }

    def restore(self, entries: Sequence[Entry], state: Mapping[str, Any], message_of: Callable[[int], object]) -> None:
        """Be the window that `state` was taken of; `entries` are those that it had. `message_of` reads the log."""
        self._keep_only(entries)
        self.last_seq = state["last_seq"]
        self.log_tokens = state["log_tokens"]
        self.has_cache_breakpoint = state["has_cache_breakpoint"]
        self._first_user = state["first_user"]
        self._newest_user = {bool(has_results): seq for has_results, seq in state["newest_user"]}
        self._pinned = set(state["pinned"])
        self._pinned_before = [(seq, message_of(seq)) for seq in state["pinned_before"]]
        self._open_calls.restore(state["calls"])
        if "marks" in state:
            remarked = zip(self.entries, with_their_marks(self.entries, state["marks"]), strict=True)
            self.swap({entry.seq: new.as_added.message for entry, new in remarked if new is not entry})

    def _pin_again(self, entry: Entry) -> None:
        message = entry.as_added.message
        found = next((i for i, (_, before) in enumerate(self._pinned_before) if is_same(before, message)), None)
        if found is not None:
            del self._pinned_before[found]
            self._pinned.add(entry.seq)

    def pin_like(self, other: Window) -> None:
        """Pin what stands here and is pinned in another window of the same log."""
        self._pinned |= other._pinned & {entry.seq for entry in self.entries}
        self.version += 1

    def unpin(self, entry: Entry) -> None:
        """Let plans take the entry out again."""
        self._pinned.discard(entry.seq)
        self.version += 1

    def find(self, message: object, *, copies: bool = False) -> Entry | None:
        """Return the entry of a message that is in the context; by identity or by reference.

        Args:
            message: As it was added, or its reference.
            copies: Also find it where a changed copy stands in for it; else only where it is sent as it was added.
        """
        for entry in reversed(self.entries):
            stands = entry.kind is Kind.ORIGINAL or (copies and entry.original is not None)
            if stands and (_is_same(entry.as_added.message, message) or entry.ref == message):
                return entry
        return None

    def protected(self, *, system_prompts: bool) -> dict[int, str]:
        """Return what must never be taken out, and why, by sequence number.

        Args:
            system_prompts: All system messages, not only those that the conversation begins with.
        """
        protected: dict[int, str] = {}
        is_leading = True
        for entry in self.entries:
            if entry.reading.role != "system":
                is_leading = False
            elif is_leading or system_prompts:
                protected[entry.seq] = SYSTEM_PROMPT
        protected |= dict.fromkeys(self._newest_user.values(), NEWEST_USER)
        if self._first_user is not None:
            protected[self._first_user] = FIRST_USER
        return protected | dict.fromkeys(self._pinned, PINNED)


def _is_same(one: object, other: object) -> bool:
    """Whether these are one message: the same object or, of an Anthropic response, a dict around the same content."""
    if one is other:
        return True
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    content = one.get("content")
    return isinstance(content, list) and content is other.get("content")


def marked(entries: Iterable[Entry]) -> Iterator[tuple[int, list[Mark]]]:
    """Yield the numbers of the messages that are marked now, as few as a provider accepts, and their marks."""
    for entry in entries:
        added = entry.as_added
        if entry.is_written or not (isinstance(added.message, dict) or added.reading.has_cache_breakpoint):
            continue
        wire = added.message if isinstance(added.message, dict) else to_wire(added.message)
        if marks := marks_of(wire):
            yield entry.seq, marks


def with_their_marks(entries: Iterable[Entry], marks: Iterable[tuple[int, list[Mark]]]) -> Iterator[Entry]:
    """Yield entries whose messages have the marks that `marked` told of, and no others; the very same where they do."""
    wanted = dict(marks)
    for entry in entries:
        message = entry.as_added.message
        wire = None if entry.is_written else to_wire(message)
        if wire is None or marks_of(wire) == wanted.get(entry.seq, []):
            yield entry
        else:
            yield with_message(entry, like(message, with_marks(wire, wanted.get(entry.seq, []))))


def with_message(entry: Entry, message: object) -> Entry:
    """Return the entry with an equal object of the caller's; a copy keeps what is sent for it."""
    if entry.kind is Kind.ORIGINAL:
        return replace(entry, message=message, original=entry.original or entry)
    return replace(entry, original=replace(entry.as_added, message=message))


def _is_marked(message: object) -> bool:
    return isinstance(message, dict) and any(value for *_, value in marks_of(message))


SYSTEM_PROMPT = "system prompt"
FIRST_USER = "first user message"
NEWEST_USER = "newest user message"
PINNED = "pinned"
OPEN_CALL = "open tool call"
PROTECTED_TOOL = "protected tool"
