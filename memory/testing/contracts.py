"""What the library relies on in a strategy, a summariser or an archive, as checks that any test runner can call."""

from __future__ import annotations

from collections.abc import Callable

from ..archive import Archive, Record
from ..asking import Llm
from ..errors import ConfigError, UnknownReferenceError
from ..llm import drive
from ..messages import Reading
from ..strategies import Action, Situation, Strategy
from ..summarize import Summarizer, SummaryRequest


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
