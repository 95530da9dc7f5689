"""What is new in a memory since its session was last written, as one turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from ..errors import MessageError
from ..history import Change, Standing
from ..native import to_wire
from ..strategies import Decision
from ..tracker import Call
from ..units import Unit
from ..window import Entry, marked, reference
from .archive import SessionArchive
from .encoding import Encoded, digest_of, dumped, encode
from .layouts import Digests, Layout, runs, stored_layout
from .parts import Parts
from .shelf import stored_message
from .values import Heading, NewSession, Owner, StoredCall, StoredCompression, StoredLayout, StoredMessage, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How much of a memory is in the store."""

    change_count: int = 0
    """Compressions."""
    layout_number: int = 0
    layout_is_edit: bool = False
    """The newest layout is none of a compression: a newer one takes its place."""
    edit_count: int = 0
    """What had been done to the window beside appending."""
    beside: object = (None, None)
    """What travelled beside the messages."""
    state: str = ""


class News:
    """Collects what happens in one memory, and makes turns of it. It writes nothing."""

    def __init__(
        self,
        session_id: str,
        owner: Owner,
        parts: Parts,
        archive: SessionArchive,
        *,
        begins: NewSession | None,
        written: Written,
        title: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.session_id = session_id
        self.owner = owner
        self.title = title
        self.begins = begins
        """Set until the session is in the store."""
        self._parts = parts
        self._archive = archive
        self._clock = clock
        self._written = written
        self._messages: list[StoredMessage] = []
        self._blobs: dict[str, bytes] = {}
        self._encoded: dict[int, Encoded] = {}
        self._digests = Digests()
        self._reason: Literal["undo", "branch", "edit"] = "edit"

    @property
    def unsaved_count(self) -> int:
        """How many messages are in memory only."""
        return len(self._messages)

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Encode messages that are about to be appended, so that what cannot be kept is refused before it is there.

        Raises:
            MessageError: A message holds something that is neither JSON nor bytes.
        """
        self._encoded = {entry.seq: encode(entry.message) for entry in entries}

    def note(self, added: Entry, standing: Entry) -> None:
        """A message was appended; `standing` is what stands in the window for it."""
        encoded = self._encoded.pop(added.seq, None) or encode(added.message)
        row, blobs = stored_message(added, standing, encoded, at=self._clock())
        self._messages.append(row)
        self._blobs.update(blobs)
        if not self.title and added.reading.role == "user" and not added.is_written:
            self.title = _title(added.reading.text)

    def note_layout(self, reason: Literal["undo", "branch"]) -> None:
        """The window was set on purpose: how it stands now is kept, whatever comes next."""
        self._reason = reason

    def turn(self) -> Pending | None:
        """Return what is new; None if nothing is, or if the session has no message to begin with."""
        if self.begins is not None and not self._messages and self._reason != "branch":
            return None
        state = dumped(self._parts.state() | {"archived": runs(self._archive.unlaid)})
        if not self._messages and state == self._written.state and not self._is_relaid:
            return None
        return self._pending(self._clock(), state)

    def note_written(self, pending: Pending) -> None:
        """The store has this turn."""
        self._written, self.begins = pending.written, None
        del self._messages[: len(pending.turn.messages)]
        if not self._messages:  # while some are waiting, what they refer to may be the same as what was written
            self._blobs.clear()
        self._archive.note_laid(pending.laid)
        self._digests.keep_only(self._parts.cycle.results.standing)

    def note_failed(self, pending: Pending) -> None:
        """The store could not take this turn: all of it is new again."""
        self._parts.accounts.tracker.give_back_changed(pending.first_call)
        if pending.reason != "edit":
            self._reason = pending.reason

    @property
    def _is_relaid(self) -> bool:
        window, size = self._parts.window, self._parts.size
        return window.edit_count != self._written.edit_count or size.beside != self._written.beside

    def _pending(self, at: float, state: str) -> Pending:
        tracker, seq = self._parts.accounts.tracker, self._parts.window.last_seq
        count, changes = self._parts.cycle.results.history.news(self._written.change_count)
        pages, compressions = self._pages(changes), tuple(_compressions(changes, at=at))
        first_call = tracker.take_changed()  # last: what could not be encoded must not take the calls with it
        turn = Turn(
            session_id=self.session_id,
            owner=self.owner,
            at=at,
            begins=self.begins,
            heading=self._heading(),
            messages=tuple(self._messages),
            blobs=self._blobs | pages.blobs,
            calls=tuple(_call(call, n, seq) for n, call in enumerate(tracker.calls[first_call:], start=first_call + 1)),
            compressions=compressions,
            layouts=tuple(pages.layouts),
            state=state,
            # Figures alone need not wait for the disk: a loop that reports its usage apart would wait twice a turn.
            is_durable=not self._parts.window.has_open_calls and bool(self._messages or pages.layouts),
        )
        written = Written(
            change_count=count,
            layout_number=pages.number,
            layout_is_edit=pages.is_edit,
            edit_count=self._parts.window.edit_count,
            beside=self._parts.size.beside,
            state=state,
        )
        reason, self._reason = self._reason, "edit"
        laid = self._archive.seqs if turn.layouts else ()
        return Pending(turn=turn, written=written, first_call=first_call, laid=laid, reason=reason)

    def _heading(self) -> Heading:
        tracker = self._parts.accounts.tracker
        return Heading(
            title=self.title,
            dialect=self._parts.intake.dialect_name,
            model=self._parts.accounts.model,
            last_seq=self._parts.window.last_seq,
            context_tokens=self._parts.cycle.tokens,
            total_tokens=tracker.total_input_tokens + tracker.total_output_tokens,
            cost_usd=tracker.total_cost,
            compression_count=self._parts.cycle.results.counts()["compression_count"],
        )

    def _pages(self, changes: Sequence[Change]) -> _Pages:
        """Lay out the window after each new compression, and as it stands where that does not follow from these.

        Where anything else happened besides, nobody knows between which two: then each is laid out as it began, too.
        """
        window, results = self._parts.window, self._parts.cycle.results
        pages = _Pages(self._digests, number=self._written.layout_number, is_edit=self._written.layout_is_edit)
        edits, count = window.edit_count - self._written.edit_count, len(results.history)
        for undoable, change in enumerate(changes, start=count - len(changes)):
            if edits > len(changes):
                pages.add(self._layout(change.before, change.standing_before, undoable), change.last_seq, "edit")
            after = self._layout(change.after, change.standing_after, undoable + 1)
            marks = list(marked(change.before)) if window.has_cache_breakpoint else None
            pages.add(replace(after, marks_before=marks), change.last_seq, "compression")
        if edits != len(changes) or self._parts.size.beside != self._written.beside or self._reason != "edit":
            entries = tuple(window.entries)
            pages.add(self._layout(entries, results.standing, count), window.last_seq, self._reason)
        return pages

    def _layout(self, entries: tuple[Entry, ...], standing: Standing, undoable_count: int) -> Layout:
        system, tools = self._parts.size.beside
        return Layout(
            entries=entries,
            standing=standing,
            archived_seqs=self._archive.seqs,
            system=system,
            tools=tools,
            undoable_count=undoable_count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A turn that is to be written, and what that will mean."""

    turn: Turn
    written: Written
    """How much is in the store then."""
    first_call: int
    laid: tuple[int, ...]
    """The archived messages that its layouts tell of."""
    reason: Literal["undo", "branch", "edit"]


class _Pages:
    """Layouts under their numbers."""

    def __init__(self, digests: Digests, *, number: int, is_edit: bool) -> None:
        self.layouts: list[StoredLayout] = []
        self.blobs: dict[str, bytes] = {}
        self.number = number
        self.is_edit = is_edit
        self._digests = digests

    def add(self, layout: Layout, after_seq: int, reason: Literal["compression", "undo", "branch", "edit"]) -> None:
        # An edit follows from nothing, so the one before it need not be kept: some callers edit in every turn.
        replaces = self.is_edit and reason == "edit"
        self.number = self.number if replaces else self.number + 1
        self.is_edit = reason == "edit"
        stored, blobs = stored_layout(layout, self._digests, number=self.number, after_seq=after_seq, reason=reason)
        self.layouts = [one for one in self.layouts if one.number != self.number] + [stored]
        self.blobs |= blobs


def _call(call: Call, number: int, seq: int) -> StoredCall:
    usage = call.usage
    return StoredCall(
        number=number,
        seq=seq,
        at=call.at.timestamp(),
        model=call.model,
        purpose=call.purpose,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=call.cost_usd,
        is_estimate=call.is_estimate,
        price_is_default=call.price_is_default,
    )


def _compressions(changes: Sequence[Change], *, at: float) -> Iterator[StoredCompression]:
    for change in changes:
        # Both are there: it was made in this process.
        assert change.event is not None
        assert change.plan is not None
        yield StoredCompression(
            number=change.number,
            seq=change.last_seq,
            at=at,
            first_ref=change.event.first_ref,
            last_ref=change.event.last_ref,
            summary=_summary_of(change),
            event=dumped(asdict(change.event)),
            plan=dumped([_decision(decision) for decision in change.plan.changes]),
            digest=context_digest(change.after),
        )


def context_digest(entries: Sequence[Entry]) -> str:
    """Return the SHA-256 of what is sent for a window, as JSON."""
    return digest_of("\n".join(map(_sent, entries)).encode())


def _sent(entry: Entry) -> str:
    try:
        return encode(to_wire(entry.message)).body
    except MessageError:  # it was kept when it was added; its owner has put something into it since
        return entry.ref


def _summary_of(change: Change) -> str:
    return change.standing_after.memory.summary if change.standing_after.memory is not None else ""


def _refs(unit: Unit) -> str:
    """Return which messages a unit stands for; of a summary, those that it covers."""
    covers = unit.entries[0].covers
    if covers is None:
        return unit.refs
    first, last = reference(covers.seqs[0]), reference(covers.seqs[-1])
    return first if first == last else f"{first}-{last}"


def _decision(decision: Decision) -> dict[str, object]:
    return {
        "refs": _refs(decision.unit),
        "action": str(decision.action),
        "reason": decision.reason,
        "tokens_before": decision.tokens_before,
        "tokens_after": decision.tokens_after,
    }


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARACTERS else f"{line[: _TITLE_CHARACTERS - 1]}…"


_TITLE_CHARACTERS = 80
