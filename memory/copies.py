"""Copies that stand in for messages: results masked or cut to head and tail, signed reasoning left out.

Everything here builds and counts; nothing is stored. The archive must have the original before a copy takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .errors import MessageError
from .marks import unmarked
from .messages import Dialect, Fit, ToolCall
from .native import like, to_wire
from .pairing import answers
from .strategies import CHARACTERS_PER_TOKEN, Decision, is_whole, masked_results, placeholder, result_share
from .tokens import TokenCounter
from .units import Unit
from .window import Entry, Kind


def entry_of(message: object, seq: int, dialect: Dialect, counter: TokenCounter) -> Entry:
    """Read and count a message, once.

    Raises:
        MessageError: It is in no shape that the dialect knows.
    """
    wire = to_wire(message)
    if dialect.recognise(wire) is Fit.NO:
        dialect.read(wire)  # knows best what is wrong with it
        raise MessageError(
            f"this message is not in the format of the conversation, {dialect.name}; use one manager each"
        )
    reading = dialect.read(wire)
    return Entry(seq=seq, message=message, reading=reading, tokens=counter.count_reading(reading))


def masked(decision: Decision, dialect: Dialect, counter: TokenCounter) -> Iterator[Entry]:
    """Yield the decision's unit with placeholders for its results, or for those that have a note."""
    callers = decision.unit.callers()
    for entry in decision.unit.entries:
        yield _with_results(entry, _placeholders(entry, callers, decision.notes), Kind.MASKED, dialect, counter)


def clamped(decision: Decision, dialect: Dialect, counter: TokenCounter) -> Iterator[Entry]:
    """Yield the decision's unit with its largest results cut, so that it has the size that was decided."""
    keep, callers = _clamp_shares(decision), decision.unit.callers()
    for entry in decision.unit.entries:
        yield cut(entry, keep, callers, dialect, counter)


def cut(
    entry: Entry,
    keep: Mapping[tuple[int, int], int],
    callers: Mapping[tuple[int, int], ToolCall],
    dialect: Dialect,
    counter: TokenCounter,
) -> Entry:
    """Return a copy with head and tail of some results, or the entry itself where that is no shorter.

    Args:
        entry: The message.
        keep: How many tokens a result may have, by the entry's `seq` and the result's index.
        callers: The calls that the results answer, likewise.
        dialect: The format.
        counter: How the copy is counted.
    """
    return _with_results(entry, _cut_results(entry, keep, callers), Kind.CLAMPED, dialect, counter)


def without_reasoning(entry: Entry, dialect: Dialect, counter: TokenCounter) -> Entry | None:
    """Return the entry without its reasoning, None if nothing else was said, itself where it has none."""
    if entry.reading.role != "assistant":
        return entry
    wire = to_wire(entry.message)
    left = dialect.without_reasoning(wire)
    if left is None or left is wire:
        return None if left is None else entry
    return _copy(entry, dict(left), Kind.STRIPPED, dialect, counter)


def without_stale_marks(entry: Entry, dialect: Dialect) -> Entry:
    """Return a copy without the cache breakpoints that its message no longer has; anything else as it is.

    Callers move them on with each request, and Anthropic answers 400 to more than four.
    """
    is_marked_copy = entry.kind is not Kind.ORIGINAL and entry.reading.has_cache_breakpoint
    if not is_marked_copy or dialect.read(to_wire(entry.as_added.message)).has_cache_breakpoint:
        return entry
    reading = replace(entry.reading, has_cache_breakpoint=False)
    return replace(entry, message=like(entry.message, unmarked(to_wire(entry.message))), reading=reading)


def bound_units(found: Sequence[Unit], dialect: Dialect) -> Iterator[int]:
    """Yield the indices of units whose signed reasoning a compression could take out."""
    for index, unit in enumerate(found):
        wires = (to_wire(entry.message) for entry in unit.entries if entry.reading.is_signed)
        if any(dialect.without_reasoning(wire) is not wire for wire in wires):
            yield index


def callers_of(entry: Entry, open_calls: Sequence[ToolCall]) -> dict[tuple[int, int], ToolCall]:
    """Return which of the open calls each result answers, by the entry's `seq` and the result's index."""
    waiting = list(open_calls)
    found: dict[tuple[int, int], ToolCall] = {}
    for index, result in enumerate(entry.reading.results):
        call = next((call for call in waiting if answers(result, call)), None)
        if call is not None:
            waiting.remove(call)
            found[entry.seq, index] = call
    return found


def _with_results(entry: Entry, texts: Mapping[int, str], kind: Kind, dialect: Dialect, counter: TokenCounter) -> Entry:
    """Return a copy of the entry whose results say these texts, or the entry itself where that is no shorter."""
    if not texts:
        return entry
    shorter = _copy(entry, dialect.replace_results(to_wire(entry.message), texts), kind, dialect, counter)
    # A placeholder can be longer than it was estimated: then the original is the shorter one.
    return shorter if shorter.tokens < entry.tokens else entry


def _copy(entry: Entry, wire: dict[str, Any], kind: Kind, dialect: Dialect, counter: TokenCounter) -> Entry:
    copy = entry_of(like(entry.message, wire), entry.seq, dialect, counter)
    return replace(copy, kind=kind, original=entry.as_added)


def _placeholders(
    entry: Entry, callers: Mapping[tuple[int, int], ToolCall], notes: Mapping[tuple[int, int], str]
) -> dict[int, str]:
    """Return the lines that stand for an entry's results, by their index; they tell of the original."""
    return {
        index: placeholder(callers.get(place), entry.as_added, index, note=notes.get(place, ""))
        for index in masked_results(entry, notes)
        for place in ((entry.seq, index),)
    }


def _cut_results(
    entry: Entry, keep: Mapping[tuple[int, int], int], callers: Mapping[tuple[int, int], ToolCall]
) -> dict[int, str]:
    """Return head and tail of the results for which `keep` gives a size in tokens, by their index."""
    added = entry.as_added
    texts: dict[int, str] = {}
    for index, result in enumerate(added.reading.results):
        if (tokens := keep.get((entry.seq, index))) is None:
            continue
        text = _head_and_tail(result.text, tokens, entry.ref, _density(added, index))
        # A text that has nothing to cut: the size is that of attachments, which go.
        texts[index] = placeholder(callers.get((entry.seq, index)), added, index) if text == result.text else text
    return texts


def _density(entry: Entry, index: int) -> float:
    """Return the characters per token of a result; Chinese and emoji have less than one."""
    text = entry.reading.results[index].text
    return min(CHARACTERS_PER_TOKEN, len(text) / max(1, result_share(entry, index)))


def _clamp_shares(decision: Decision) -> dict[tuple[int, int], int]:
    """Say how many tokens each result of a clamped unit may keep: the largest are cut to one common size."""
    sizes = {
        (entry.seq, index): result_share(entry, index)
        for entry in decision.unit.entries
        for index in range(len(entry.reading.results))
        if entry.kind is not Kind.MASKED or is_whole(entry, index)
    }
    excess = decision.unit.tokens - decision.tokens_after - decision.stripped_tokens
    level = _water_level(sorted(sizes.values(), reverse=True), excess)
    return {place: level for place, size in sizes.items() if size > level}


def _water_level(sizes: Sequence[int], excess: int) -> int:
    """Return the size to which the largest must be cut so that `excess` is won; `sizes` descend."""
    taken = 0
    for index, size in enumerate(sizes):
        following = sizes[index + 1] if index + 1 < len(sizes) else 0
        if taken + (size - following) * (index + 1) >= excess:
            return max(0, size - -(-(excess - taken) // (index + 1)))
        taken += (size - following) * (index + 1)
    return 0


def _head_and_tail(text: str, keep_tokens: int, ref: str, characters_per_token: float) -> str:
    """Return head and tail of a text with a line between them that says what was cut and where it is."""
    room = max(0, int(max(0, keep_tokens - _MARKER_TOKENS) * characters_per_token))
    if room >= len(text):
        return text
    head, tail = room * 2 // 3, room // 3
    cut = len(text) - head - tail
    return (
        f"{text[:head]}\n[… {cut:,} of {len(text):,} characters cut, ref {ref} has all …]\n{text[len(text) - tail :]}"
    )


_MARKER_TOKENS = 28
"""What the line costs that stands for the part cut out of a result."""
