"""Lines for people: texts that can do nothing to a terminal, cut to fit, and what the memory did in a sentence."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

from memory import CompressionStrategy, MemoryConfig
from memory.events import (
    Compressed,
    Degraded,
    Event,
    FloorReached,
    OverBudget,
    Recalled,
    SaveFailed,
    SaveRecovered,
    Undone,
)

_JOINERS = "\u200c\u200d"
"""They only join the characters beside them; without them emoji and some scripts fall apart."""


_SUMMARIES: Final[Mapping[str, str]] = {"model": "a summary by the model", "extractive": "an extractive summary"}
"""By `Compressed.method`."""


def harmless(text: str, encoding: str = "utf-8") -> str:
    """Replace whatever could do something to a terminal, and what this encoding cannot show.

    Escapes could write over what stands there, change the window's title or fill the clipboard; marks of direction
    could make a command look like another one. Line ends stay, spaces of all kinds become plain ones.
    """
    plain = "".join(map(_harmless, text.replace("\r\n", "\n")))
    return plain.encode(encoding, "replace").decode(encoding)


def cut(line: str, width: int) -> str:
    """Return a line of at most that many characters, cut between words where it has some."""
    if len(line) <= width:
        return line
    kept = line[: width - 4]
    at = kept.rfind(" ")
    return f"{kept[:at] if at > width // 2 else kept} ..."


def describe_event(event: Event) -> str:
    """Say in a line what the memory did."""
    match event:
        case Compressed():
            return _describe_compression(event)
        case Degraded():
            return f"{event.failed} failed ({event.reason}); {event.next} is next"
        case FloorReached():
            return f"nothing more can be taken out: {event.tokens:,} tokens, above {event.threshold_tokens:,}"
        case OverBudget():
            return f"a call of ${event.next_call_usd:.4f} would pass the limit of ${event.limit_usd:.4f}"
        case Undone():
            return f"took the last compression back: {event.tokens_before:,} -> {event.tokens_after:,} tokens"
        case Recalled():
            return f"brought back {', '.join(event.refs)} ({event.tokens:,} tokens)"
        case SaveFailed():
            return f"cannot save the session ({event.error}); {event.unsaved_count} messages are in memory only"
        case SaveRecovered():
            return f"the session is saved again, {event.saved_count} messages with it"


def _harmless(character: str) -> str:
    if character.isprintable() or character == "\n" or character in _JOINERS:
        return character
    return " " if character == "\t" or unicodedata.category(character) == "Zs" else "?"


def _describe_compression(event: Compressed) -> str:
    """Return `compressed 8,032 -> 3,267 tokens (-59%), messages 3-10 now a summary by the model`."""
    saved = 100 * (1 - event.tokens_after / event.tokens_before)
    messages = f"messages {event.first_ref.removeprefix('r')}-{event.last_ref.removeprefix('r')}"
    summary = _SUMMARIES.get(event.method, "a summary")
    fates = {f"in {summary}": event.summarised_count, "masked": event.masked_count, "dropped": event.dropped_count}
    done = ", ".join(f"{count} {fate}" for fate, count in fates.items() if count)
    # The other strategies leave some messages between the first and the last alone.
    is_one_summary = event.summarised_count and event.strategy == CompressionStrategy.SLIDING_WINDOW
    fate = f"now {summary}" if is_one_summary else f"now {done}" if done else "shortened"
    return f"compressed {event.tokens_before:,} -> {event.tokens_after:,} tokens (-{saved:.0f}%), {messages} {fate}"


def intention(config: MemoryConfig) -> str:
    """Return what a configuration will do to a context, and when, as the end of a line."""
    if config.is_economic and not config.gives_threshold:
        return f"{config.compression_strategy}, compressing when it pays"
    early = "when it pays, at the latest " if config.is_economic else ""
    most = f" of {config.max_context_tokens:,}" if config.gives_max_context else ""
    return f"{config.compression_strategy}, compressing {early}above {config.compression_threshold:,}{most} tokens"
