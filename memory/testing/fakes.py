"""Counters, models and summarisers that a test can foresee, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..archive import searchable_text
from ..errors import SummaryError
from ..llm import Steps
from ..messages import Reading
from ..strategies import Situation
from ..summarize import Summary, SummaryRequest, digest_of
from ..units import Unit
from ..window import Entry


class WordCounter:
    """Counts words, plus one token a message: sizes that a test can work out in its head."""

    def __init__(self) -> None:
        self.readings_counted = 0
        """How many messages were counted; the law is: each once."""

    def count_text(self, text: str) -> int:
        return len(text.split())

    def count_reading(self, reading: Reading) -> int:
        self.readings_counted += 1
        return 1 + self.count_text(searchable_text(reading)) + len(reading.attachments)

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        return sum(self.count_text(str(tool)) for tool in tools)


class ScriptedLLM:
    """A model for summaries that answers a prompt with the next of its replies; the last one repeats.

    A reply that is an exception is raised. `prompts` keeps what it was asked.
    """

    def __init__(self, *replies: str | Exception) -> None:
        self.prompts: list[str] = []
        self._replies = list(replies) or [""]

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


@dataclass(frozen=True, kw_only=True)
class FixedSummarizer:
    """Says the same of everything."""

    text: str = "earlier messages"
    method: str = "fixed"

    def summarize(self, request: SummaryRequest) -> Steps[Summary]:
        yield from ()
        return Summary(text=self.text, method=self.method, digest=digest_of(request))


@dataclass(frozen=True, kw_only=True)
class FailingSummarizer:
    """Fails, as a provider that is down does."""

    error: Exception = field(default_factory=lambda: SummaryError("the provider answered 503"))
    method: str = "failing"

    def summarize(self, request: SummaryRequest) -> Steps[Summary]:
        yield from ()
        raise self.error


def situation_of(sizes: Sequence[int], *, threshold_tokens: int, **settings: Any) -> Situation:
    """Return a situation whose units are single messages of these sizes, for tests of a strategy.

    `settings` are fields of `Situation`; the limit is the threshold's double and nothing is protected, unless given.
    """
    found = [
        Unit(
            start=index,
            stop=index + 1,
            entries=(Entry(seq=index + 1, message={}, reading=Reading(role="user", text="x"), tokens=size),),
            tokens=size,
            is_open=False,
        )
        for index, size in enumerate(sizes)
    ]
    defaults: dict[str, Any] = {
        "protected": {},
        "limit_tokens": threshold_tokens * 2,
        "compression_ratio": 0.3,
        "short_term_size": 20,
    }
    return Situation(units=tuple(found), threshold_tokens=threshold_tokens, **(defaults | settings))
