"""Placeholders: the line that stands for a masked tool result, and what masking would win."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from ..messages import Attachment, Reading, ToolCall
from ..units import Unit
from ..window import Entry, Kind

Place: TypeAlias = tuple[int, int]
"""Where a result stands: its entry's `seq`, and its index in the reading."""

NO_NOTES: Final[Mapping[Place, str]] = MappingProxyType({})

CHARACTERS_PER_TOKEN = 3.2
"""Of ordinary tool output by o200k_base, rounded down; only for estimates in plans."""

_MASKABLE_CHARACTERS = 240
"""A shorter result is hardly longer than its placeholder."""


def masked_size(unit: Unit, notes: Mapping[Place, str] = NO_NOTES) -> int:
    """Estimate the unit's tokens after masking; its current size if there is nothing to mask.

    Args:
        unit: What is masked.
        notes: As in `Decision`.
    """
    size = unit.tokens
    callers = unit.callers()
    for entry in unit.entries:
        for index in masked_results(entry, notes):
            place = entry.seq, index
            line = placeholder(callers.get(place), entry.as_added, index, note=notes.get(place, ""))
            line_tokens = int(len(line) / CHARACTERS_PER_TOKEN)
            size -= max(0, result_share(entry, index) - line_tokens)
    return max(size, len(unit.entries) * 4)


def maskable_results(entry: Entry) -> list[int]:
    """Return the indices of the entry's results that a placeholder would shorten."""
    if entry.kind is Kind.SUMMARY:
        return []
    # A screenshot is large without a word.
    return [
        index
        for index, result in enumerate(entry.reading.results)
        if (len(result.text) > _MASKABLE_CHARACTERS or _attachments(entry.reading, index))
        and (entry.kind is not Kind.MASKED or is_whole(entry, index))
    ]


def masked_results(entry: Entry, notes: Mapping[Place, str]) -> list[int]:
    """Return the indices of the entry's results that are masked: those with a note, or all if there are no notes."""
    return [index for index in maskable_results(entry) if not notes or (entry.seq, index) in notes]


def is_whole(entry: Entry, index: int) -> bool:
    """Return whether a result stands as it was added, also beside others that do not."""
    if entry.kind is Kind.ORIGINAL or entry.original is None:
        return entry.kind is Kind.ORIGINAL
    return entry.reading.results[index] == entry.original.reading.results[index]


def placeholder(call: ToolCall | None, entry: Entry, index: int, *, note: str = "") -> str:
    """Return the line that stands for a tool result; the same result and note always give the same line."""
    result = entry.reading.results[index]
    name = call.name if call is not None else result.name or "tool"
    arguments = brief_arguments(call.arguments) if call is not None else ""
    kind = "error result" if result.is_error else "result"
    tokens = result_share(entry, index)
    more = f"; {note}" if note else ""
    return f"[{kind} of {name}({arguments}): {_extent(entry.reading, index)}, {tokens:,} tokens, ref {entry.ref}{more}]"


def _extent(reading: Reading, index: int) -> str:
    text = reading.results[index].text
    attachments = Counter(part.kind for part in _attachments(reading, index))
    counts = [(text.count("\n") + (not text.endswith("\n")), "line")] if text or not attachments else []
    counts += [(count, kind) for kind, count in attachments.items()]
    return ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for count, what in counts)


def result_share(entry: Entry, index: int) -> int:
    """Estimate the tokens of one result from its share of the message's characters and attachments."""
    reading = entry.reading
    if _is_one_result(reading):
        return entry.tokens
    parts = [reading.text, reading.reasoning, *(call.arguments for call in reading.calls)]
    total = sum(map(len, parts)) + sum(len(result.text) for result in reading.results)
    shown = max(0, entry.tokens - int(total / CHARACTERS_PER_TOKEN)) if reading.attachments else 0
    share = (entry.tokens - shown) * len(reading.results[index].text) // max(1, total)
    return share + shown * len(_attachments(reading, index)) // max(1, len(reading.attachments))


def _attachments(reading: Reading, index: int) -> tuple[Attachment, ...]:
    return reading.attachments if _is_one_result(reading) else reading.results[index].attachments


def _is_one_result(reading: Reading) -> bool:
    """Whether the message is nothing but one result, so that its attachments are the result's."""
    return reading.role == "tool" and len(reading.results) == 1


def brief_arguments(arguments: str, *, limit_characters: int = 80) -> str:
    """Return a call's JSON arguments as `path=a.py, line=3`, cut at a limit."""
    try:
        decoded = json.loads(arguments)
    except (ValueError, RecursionError):  # models write anything, nested ten thousand deep too
        decoded = None
    pairs = [f"{key}={_brief(value)}" for key, value in decoded.items()] if isinstance(decoded, dict) else [arguments]
    text = " ".join(", ".join(pairs).split())
    return text if len(text) <= limit_characters else f"{text[: limit_characters - 1]}…"


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
