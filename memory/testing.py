"""Fakes and contract checks for tests of your own: counters, summarisers, strategies, archives.

The fakes are deterministic and need no network. The checks raise `AssertionError` with a sentence; call them from
any test runner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .archive import Archive, Record, searchable_text
from .errors import ConfigError, SummaryError, UnknownReferenceError
from .llm import Llm, Steps, drive
from .messages import Reading
from .strategies import Action, Situation, Strategy
from .summarize import Summarizer, Summary, SummaryRequest, digest_of
from .window import Entry, Unit

__all__ = [
    "FailingSummarizer",
    "FixedSummarizer",
    "ScriptedLLM",
    "WordCounter",
    "check_archive",
    "check_strategy",
    "check_summarizer",
    "situation_of",
]


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


def check_strategy(strategy: Strategy, situation: Situation) -> None:
    """Assert what the compressor relies on: one decision a unit, in order; protected and open units kept; purity."""
    plan = strategy.plan(situation)
    assert [d.unit for d in plan.decisions] == list(situation.units), "a plan has one decision for each unit, in order"
    for index, decision in enumerate(plan.decisions):
        if index in situation.protected or decision.unit.is_open:
            allowed = decision.action in (Action.KEEP, Action.CLAMP)
            assert allowed, f"unit {decision.unit.refs} is protected, the plan says {decision.action}"
        assert decision.tokens_after <= decision.tokens_before, f"unit {decision.unit.refs} would grow"
    if plan.with_action(Action.SUMMARISE):
        assert plan.summary_target_tokens > 0, "units are summarised, but the summary has no room"
    if plan.changes:
        assert plan.tokens_after < plan.tokens_before, "the plan makes the context no smaller"
    assert strategy.plan(situation) == plan, "the same situation must give the same plan"


def check_summarizer(summarizer: Summarizer, request: SummaryRequest, *, answer: Callable[[str], str]) -> None:
    """Assert that a summariser ends, says something, and stays within its target; `answer` plays the model."""
    summary = drive(summarizer.summarize(request), Llm(answer))
    assert summary.text.strip(), "a summary must not be empty; raise SummaryError instead"
    size = request.count(summary.text)
    assert size <= request.target_tokens, f"the summary has {size} tokens, its target is {request.target_tokens}"


def check_archive(make: Callable[[], Archive]) -> None:
    """Assert what the manager relies on: same object back, no change by a second `put`, any query is legal."""
    archive = make()
    message = {"role": "user", "content": "the launch code is 4711"}
    reading = Reading(role="user", text="the launch code is 4711")
    archive.put(Record(seq=3, message=message, reading=reading, tokens=6))
    archive.put(Record(seq=3, message=message, reading=reading, tokens=6))
    try:
        archive.put(Record(seq=3, message={"role": "user", "content": "other"}, reading=reading, tokens=6))
    except ConfigError:
        pass
    else:
        raise AssertionError("a second message under a number that is taken must be refused, or one of them is lost")
    assert archive.get("r3").message == message, "an archived message comes back as it was, whatever is put later"
    assert [record.seq for record in archive] == [3]
    assert len(archive) == 1
    assert [hit.ref for hit in archive.search("launch code", limit=5)] == ["r3"]
    for query in ("", '"', "'; --", "AND OR NOT", "\ud800", "a" * 10_000, "*", "(", "nosuchword"):
        assert archive.search(query, limit=5) == [], f"the query {query[:20]!r} matches nothing here"
    for unknown in ("r4", "", "s1", "r-3", "r3x", "3.0"):
        try:
            archive.get(unknown)
        except UnknownReferenceError:
            continue
        raise AssertionError(f"{unknown!r} must raise UnknownReferenceError")
