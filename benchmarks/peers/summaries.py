"""The summariser that all peers share: the memory's own without a model, or a text of a fixed length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from memory.dialects import dialect_named
from memory.errors import SummaryError
from memory.extract import Source
from memory.llm import drive
from memory.summarize import ExtractiveSummarizer, SummaryRequest
from memory.tokens import TokenCounter

from .plays import Message

Kind: TypeAlias = Literal["extractive", "stub"]

SUMMARY_RATIO: Final = 0.3
"""A summary's size as a share of what it stands for, as the memory's own have it."""
STUB: Final = "The work went on as it was asked for, step by step, and nothing else came of it.\n" * 30
"""About 600 tokens that say nothing."""


def summariser(kind: Kind, *, most_tokens: int, counter: TokenCounter) -> Callable[[Sequence[Message]], str]:
    """Return what writes a summary of messages: of up to `most_tokens`, or the same text every time."""
    if kind == "stub":
        return lambda messages: STUB

    def extractive(messages: Sequence[Message]) -> str:
        read = dialect_named("openai_chat").read
        readings = [read(message) for message in messages]
        sources = [
            Source(ref=f"r{number}", reading=reading, tokens=counter.count_reading(reading))
            for number, reading in enumerate(readings, start=1)
        ]
        whole = sum(source.tokens for source in sources)
        target = max(50, min(most_tokens, int(whole * SUMMARY_RATIO)))
        request = SummaryRequest(sources=sources, previous=None, target_tokens=target, count=counter.count_text)
        try:
            return str(drive(ExtractiveSummarizer().summarize(request), None).text)
        except SummaryError:  # nothing worth a line in what goes: a model would say as much
            return "Nothing of note."

    return extractive
