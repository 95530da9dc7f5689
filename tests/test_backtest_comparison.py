"""Sums over transcripts, and the cheapest policy at each quality."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.backtest.comparison import Row, cheapest, compared
from agent.backtest.engine import backtest
from agent.backtest.outcome import Outcome
from agent.backtest.policies import Everything
from agent.backtest.report import sentences

from .test_backtest import a_loop

SENT_WHOLE = backtest(a_loop(6), Everything(), model="gpt-5.1")


def an_outcome(policy: str, usd: float, retained: int, *, transcript: str = "a", probes: int = 10) -> Outcome:
    return replace(SENT_WHOLE, policy=policy, usd=usd, retained=retained, probes=probes, transcript_id=transcript)


def names(rows: list[Row]) -> list[str]:
    return [one.row.total.policy for one in cheapest(rows)]


def test_dollars_are_compared_on_the_transcripts_that_both_have() -> None:
    outcomes = [an_outcome("none", 2, 10), an_outcome("none", 8, 10, transcript="b"), an_outcome("half", 1, 5)]

    rows = {row.total.policy: row for row in compared(outcomes)}

    assert rows["half"].relative_usd == 0.5
    assert rows["none"].relative_usd == 1.0
    assert rows["none"].total.usd == 10


def test_each_cheaper_policy_keeps_less_than_the_one_before() -> None:
    outcomes = [
        an_outcome("none", 10, 10),
        an_outcome("good", 6, 9),
        an_outcome("dear and bad", 7, 8),
        an_outcome("bad", 5, 2),
    ]

    assert names(compared(outcomes)) == ["none", "good", "bad"]


def test_at_the_same_price_and_quality_everything_is_sent() -> None:
    assert names(compared([an_outcome("idle", 10, 10), an_outcome("none", 10, 10)])) == ["none"]


def test_a_policy_whose_requests_are_refused_is_never_the_cheapest() -> None:
    refused = replace(an_outcome("window", 1, 10), invalid_requests=3)

    rows = compared([an_outcome("none", 10, 10), refused])

    assert names(rows) == ["none"]
    assert "window (3)" in sentences(rows)[-1]


def test_a_policy_that_failed_on_a_transcript_is_never_the_cheapest() -> None:
    outcomes = [an_outcome("none", 2, 10), an_outcome("none", 8, 10, transcript="b"), an_outcome("failed", 1, 10)]

    assert names(compared(outcomes)) == ["none"]


def test_the_sentence_names_the_cheapest_at_each_quality() -> None:
    said = sentences(compared([an_outcome("none", 10, 10), an_outcome("good", 6, 9)]))

    assert said == [
        "cheapest at 100.0% kept: send everything, $10.00",
        "cheapest at 90.0% kept: good, $6.00, 0.60 of everything",
    ]


@pytest.mark.parametrize("usd", [0.0, 3.0])
def test_without_facts_the_cheapest_is_the_cheapest(usd: float) -> None:
    outcomes = [an_outcome("none", usd + 1, 0, probes=0), an_outcome("short", usd, 0, probes=0)]

    assert names(compared(outcomes)) == ["short"]
    assert "no fact was used again" in sentences(compared(outcomes))[0]
