"""What the window becomes when a compression is put in place that was made of an earlier state of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .compressor import Compaction, View, WorkingMemoryCompressor, refuse_worse
from .copies import without_stale_marks
from .errors import SummaryError
from .messages import Dialect
from .strategies import Action, Plan
from .window import PINNED, Entry, Window


def changed_end(plan: Plan) -> int:
    """Return the index behind the last entry that a plan changes; what stands from there on is none of its business."""
    return max((decision.unit.stop for decision in plan.changes), default=0)


def stands(before: Sequence[Entry], now: Sequence[Entry], *, stop: int) -> bool:
    """Whether the first `stop` entries are still the same messages in the same shape.

    A caller's newer object in the place of an equal one is the same message.
    """
    if len(now) < stop:
        return False
    pairs = zip(before[:stop], now[:stop], strict=True)
    return all(was.seq == entry.seq and was.kind is entry.kind for was, entry in pairs)


def placed(
    compaction: Compaction,
    view: View,
    window: Window,
    *,
    dialect: Dialect,
    preserves_system_prompts: bool,
    compressor: WorkingMemoryCompressor,
) -> list[Entry]:
    """Return the whole new window: the compaction's entries in place of what they were made of, the rest behind them.

    Raises:
        SummaryError: What they were made of has changed since, is protected now, or the result would not be valid.
    """
    now, stop = window.entries, changed_end(compaction.plan)
    if view.dialect is not dialect or not stands(view.entries, now, stop=stop):
        raise SummaryError("the history was changed while the compression ran")
    _refuse_protected(compaction.plan, window.protected(system_prompts=preserves_system_prompts))
    made = compaction.entries[: len(compaction.entries) - (len(view.entries) - stop)]
    behind = compressor.late(compaction, now[stop:], dialect)
    result = [*_newest(made, view.entries[:stop], now[:stop]), *behind]
    if window.has_cache_breakpoint:
        result = [without_stale_marks(entry, dialect) for entry in result]
    if len(now) != len(view.entries) or any(one is not other for one, other in zip(now, view.entries, strict=True)):
        refuse_worse(dialect, now, result)
    return result


def _refuse_protected(plan: Plan, protected: Mapping[int, str]) -> None:
    """Do not take out what was pinned while a model was asked, nor what has become the newest user message again."""
    for decision in plan.changes:
        if decision.action is Action.STRIP:
            continue  # its stale reasoning would make the request invalid, pinned or not
        for entry in decision.unit.entries:
            reason = None if entry.is_written else protected.get(entry.seq)
            if reason == PINNED:
                raise SummaryError(f"{entry.ref} was pinned while the compression ran")
            if reason is not None and decision.action is not Action.CLAMP:
                raise SummaryError(f"{entry.ref} became the {reason} while the compression ran")


def _newest(made: Sequence[Entry], before: Sequence[Entry], now: Sequence[Entry]) -> Iterator[Entry]:
    """Yield what a compaction made, with the objects that the caller has put in the place of equal ones since."""
    standing = {id(was): entry for was, entry in zip(before, now, strict=True)}
    originals = {entry.seq: entry.as_added for entry in now if not entry.is_written}
    for entry in made:
        if id(entry) in standing:
            yield standing[id(entry)]
        elif entry.original is None or originals[entry.seq] is entry.original:
            yield entry
        else:
            yield replace(entry, original=originals[entry.seq])
