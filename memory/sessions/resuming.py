"""A memory as its session's newest turn left it: the same context, byte for byte, and nothing counted again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ..errors import NewerStorageError
from ..following import Item
from ..history import Change, Standing
from ..tracker import Call
from ..usage import Usage
from ..window import Entry, with_their_marks
from .archive import SessionArchive
from .encoding import loaded
from .layouts import Layout, read_layout, unrun
from .news import Written
from .parts import STATE_VERSION, Parts
from .shelf import Shelf
from .store import SessionStore
from .values import Saved, StoredCall, StoredLayout


def state_of(saved: Saved) -> dict[str, Any]:
    """Return a session's state, decoded.

    Raises:
        NewerStorageError: A newer version of this library wrote it.
    """
    state: dict[str, Any] = loaded(saved.state)
    if state["version"] > STATE_VERSION:
        raise NewerStorageError(
            f"the session {saved.info.id} was written by a newer version of this library; resume it with that one"
        )
    return state


def restore(parts: Parts, archive: SessionArchive, shelf: Shelf, saved: Saved, store: SessionStore) -> Written:
    """Put a memory that was just made in the state of its session. Return how much of it is in the store: all.

    Costs what stands in the context and the calls; the rest of the log is read when it is asked for.
    """
    state, session_id = state_of(saved), saved.info.id
    layout = read_layout(saved.layout, shelf) if saved.layout is not None else Layout()
    entries = _entries(layout, saved.layout, shelf, last_seq=state["window"]["last_seq"])
    calls = [_call(stored) for stored in store.calls(session_id)]
    parts.size.restore(state["size"], layout.system, layout.tools)
    parts.window.restore(entries, state["window"], lambda seq: shelf.entry(seq).message)
    parts.accounts.restore(state["accounts"], calls)
    parts.cycle.restore(state["cycle"])
    parts.recall.restore(state["recall"])
    parts.cycle.results.stand(layout.standing)
    change_count = state["cycle"]["results"]["compression_count"]
    last = saved.layout.number if saved.layout is not None else 0
    parts.cycle.results.history.go_on_from(
        partial(_changes, store, session_id, shelf, last), length=layout.undoable_count, count=change_count
    )
    parts.intake.followed.go_on_from(state["followed"], partial(_items, state["followed"], shelf))
    _restore_recent(parts, state["recent"], shelf)
    archive.restore(layout.archived_seqs, unrun(state["archived"]))
    return Written(
        change_count=change_count,
        layout_number=last,
        layout_is_edit=saved.layout is not None and saved.layout.reason == "edit",
        edit_count=parts.window.edit_count,
        beside=parts.size.beside,
        state=saved.state,
    )


def _entries(layout: Layout, stored: StoredLayout | None, shelf: Shelf, *, last_seq: int) -> list[Entry]:
    after_seq = stored.after_seq if stored is not None else 0
    return [*layout.entries, *shelf.appended(after_seq, last_seq)]


def _restore_recent(parts: Parts, seqs: Sequence[int], shelf: Shelf) -> None:
    shelf.fetch(seqs)
    parts.intake.recent.refill([shelf.entry(seq) for seq in seqs])


def _items(runs: Sequence[Sequence[int]], shelf: Shelf) -> list[Item]:
    """Return the list that the caller keeps, as it was seen last."""
    shelf.fetch(seq for first, last, _ in runs for seq in range(first, last + 1))
    return [item for run in runs for item in _items_of(run, shelf)]


def _items_of(run: Sequence[int], shelf: Shelf) -> Iterator[Item]:
    first, last, log_tokens = run
    for seq in range(first, last + 1):
        entry = shelf.entry(seq)
        if not entry.is_written:
            yield Item(entry.message, seq, log_tokens)
        log_tokens += entry.added_tokens


def _changes(store: SessionStore, session_id: str, shelf: Shelf, last_layout: int) -> list[Change]:
    """Return the compressions that could be taken back, oldest first: not those that were, or were emptied away.

    Layouts behind `last_layout` were made since the resume.
    """
    changes: list[Change] = []
    before, before_seq = Layout(), 0
    for stored in store.layouts(session_id):
        if stored.number > last_layout:
            break
        layout = read_layout(stored, shelf)
        if stored.reason == "compression":
            entries = (*before.entries, *shelf.appended(before_seq, stored.after_seq))
            if layout.marks_before is not None:
                entries = tuple(with_their_marks(entries, layout.marks_before))
            changes.append(_change(entries, before.standing, layout, stored.after_seq))
        del changes[layout.undoable_count :]
        before, before_seq = layout, stored.after_seq
    return changes


def _change(entries: tuple[Entry, ...], standing: Standing, after: Layout, last_seq: int) -> Change:
    return Change(
        last_seq=last_seq,
        before=entries,
        after=after.entries,
        standing_before=standing,
        standing_after=after.standing,
    )


def _call(stored: StoredCall) -> Call:
    return Call(
        model=stored.model,
        usage=Usage(
            input_tokens=stored.input_tokens,
            output_tokens=stored.output_tokens,
            cache_read_tokens=stored.cache_read_tokens,
            cache_write_tokens=stored.cache_write_tokens,
            cache_write_1h_tokens=stored.cache_write_1h_tokens,
            reasoning_tokens=stored.reasoning_tokens,
        ),
        at=datetime.fromtimestamp(stored.at, UTC),
        purpose=stored.purpose,
        cost_usd=stored.cost_usd,
        is_estimate=stored.is_estimate,
        price_is_default=stored.price_is_default,
    )
