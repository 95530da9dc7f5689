"""The books: each call once, at the provider's figures where there are any, and what it would have cost without us."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import SummaryError, TokenTracker, Usage
from memory.ledger import Ledger, Request, SummaryMeter
from memory.llm import ModelCall, ModelReply
from memory.testing import WordCounter

PRICING = {"m": {"input": 1.0, "output": 10.0, "cache_read": 0.1}, "n": {"input": 2.0, "output": 20.0}}
"""USD per million tokens: a token of input costs 0.000001 at `m`."""


def books(model: str | None = "m") -> tuple[Ledger, TokenTracker]:
    tracker = TokenTracker(PRICING)
    return Ledger(tracker, model=model), tracker


def request(sent: int, *, repeated: int = 0, full: int | None = None, full_repeated: int | None = None) -> Request:
    return Request(
        sent_tokens=sent,
        repeated_tokens=repeated,
        full_tokens=sent if full is None else full,
        full_repeated_tokens=repeated if full_repeated is None else full_repeated,
    )


def used(input_tokens: int, output_tokens: int = 0, *, read: int = 0) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=read)


def opened(ledger: Ledger, made: Request, *, output: int = 0, caches: bool = False) -> int | None:
    return ledger.open(made, output_tokens=output, caches=caches)


# --- One call, one entry ----------------------------------------------------------------------------------------------


def test_without_a_report_a_call_is_booked_by_its_estimate_and_marked() -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000), output=100)

    assert tracker.total_cost == pytest.approx(0.002)
    assert tracker.cost_is_estimate


def test_a_report_after_the_answer_replaces_the_estimate() -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000), output=100)

    assert ledger.report(used(2_000, 50)) is True
    assert (len(tracker.calls), tracker.total_input_tokens, tracker.total_output_tokens) == (1, 2_000, 50)
    assert not tracker.cost_is_estimate


def test_a_report_before_the_answer_waits_for_it() -> None:
    ledger, tracker = books()

    assert ledger.report(used(2_000, 50)) is False
    assert opened(ledger, request(1_000), output=100) == 2_000
    assert (len(tracker.calls), tracker.total_input_tokens) == (1, 2_000)
    assert not tracker.cost_is_estimate


def test_a_call_whose_answer_never_came_is_billed_all_the_same() -> None:
    ledger, tracker = books()
    ledger.report(used(2_000))
    ledger.report(used(2_000))
    opened(ledger, request(1_000))

    assert (len(tracker.calls), tracker.total_input_tokens) == (2, 4_000)
    assert ledger.cost_without_memory_usd == tracker.total_cost


def test_a_report_is_booked_to_the_newest_answer_only() -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000))
    opened(ledger, request(1_500))
    ledger.report(used(1_600))

    assert [call.usage.input_tokens for call in tracker.calls] == [1_000, 1_600]
    assert [call.is_estimate for call in tracker.calls] == [True, False]


def test_each_call_is_priced_at_the_model_that_answered() -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000_000))
    ledger.report(used(1_000_000), model="n")

    assert (ledger.model, tracker.total_cost) == ("n", 2.0)


def test_an_unknown_model_is_marked() -> None:
    ledger, tracker = books(model=None)
    opened(ledger, request(1_000))
    ledger.report(used(1_000, 10))

    assert tracker.cost_is_estimate
    assert tracker.unpriced_tokens == 1_010


# --- What it would have cost ------------------------------------------------------------------------------------------

_turns = st.lists(
    st.tuples(
        st.sampled_from(["none", "before", "after", "lost"]),
        st.integers(0, 50_000),
        st.integers(0, 5_000),
        st.integers(0, 50_000),
    ),
    max_size=12,
)


@given(turns=_turns, caches=st.booleans())
def test_where_nothing_was_compressed_nothing_was_saved_to_the_last_digit(turns: Any, caches: bool) -> None:
    ledger, tracker = books()
    size = 0
    for when, sent, output, cached in turns:
        usage = used(sent, output, read=min(sent, cached))
        if when in ("before", "lost"):
            ledger.report(usage)
        if when != "lost":
            opened(ledger, request(size + sent, repeated=size), output=output, caches=caches)
        if when == "after":
            ledger.report(usage)
        size += sent

    assert ledger.cost_without_memory_usd == tracker.total_cost
    assert ledger.saved_tokens == 0


def test_tokens_that_were_not_sent_are_saved_at_the_price_of_the_call() -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000_000, full=3_000_000))
    ledger.report(used(1_000_000))

    assert ledger.saved_tokens == 2_000_000
    assert (tracker.total_cost, ledger.cost_without_memory_usd) == (1.0, 3.0)


def test_savings_are_added_to_what_was_reported_not_to_the_estimate() -> None:
    ledger, _ = books()
    opened(ledger, request(1_000_000, full=3_000_000))
    ledger.report(used(1_500_000))

    assert ledger.cost_without_memory_usd == 3.5


def test_the_comparison_has_the_cache_hits_that_the_provider_reported() -> None:
    ledger, tracker = books()
    opened(ledger, request(2_000_000, repeated=1_000_000))
    ledger.report(used(2_000_000, read=500_000))
    before = (ledger.cost_without_memory_usd, tracker.total_cost)
    opened(ledger, request(1_000_000, repeated=0, full=4_000_000, full_repeated=3_000_000))
    ledger.report(used(1_000_000))

    # Half of what could be read was read: 1.5 of the 4 million at a tenth of the price.
    assert before[0] == before[1]
    assert ledger.cost_without_memory_usd - before[0] == pytest.approx(2.5 + 0.15, rel=1e-4)  # caches count in steps


@pytest.mark.parametrize("model", ["gpt-5.6", "claude-sonnet-4-5"])
def test_what_a_compression_keeps_from_being_read_says_nothing_of_the_whole_history(model: str) -> None:
    ledger, tracker = Ledger(tracker := TokenTracker(), model=model), tracker
    opened(ledger, request(60_000))
    ledger.report(Usage(input_tokens=60_000, output_tokens=0, cache_write_tokens=60_000))
    before = ledger.cost_without_memory_usd
    # No request ended where the context was cut, so nothing is found of the 5,000 tokens that it still begins with.
    cut = Request(
        sent_tokens=9_000, repeated_tokens=5_000, full_tokens=61_000, full_repeated_tokens=60_000, is_cut=True
    )
    opened(ledger, cut, caches=True)
    ledger.report(Usage(input_tokens=9_000, output_tokens=0, cache_write_tokens=9_000))

    whole = Usage(input_tokens=61_000, output_tokens=0, cache_read_tokens=60_000, cache_write_tokens=1_000)
    assert ledger.cost_without_memory_usd - before == pytest.approx(tracker.cost_of(whole, model=model))
    assert ledger.alive(1.0) == 1.0


def test_a_broken_cache_can_make_a_compression_a_loss() -> None:
    ledger, tracker = books()
    for _ in range(3):
        opened(ledger, request(1_000_000, repeated=1_000_000), caches=True)
        ledger.report(used(1_000_000, read=1_000_000))
    opened(ledger, request(900_000, repeated=0, full=1_100_000, full_repeated=1_100_000), caches=True)
    ledger.report(used(900_000))

    assert ledger.cost_without_memory_usd < tracker.total_cost


@pytest.mark.parametrize(("caches", "expected"), [(True, 0.1), (False, 1.0)])
def test_until_a_provider_reports_a_cache_is_assumed_where_it_comes_unasked(caches: bool, expected: float) -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000_000, repeated=1_000_000), caches=caches)

    assert tracker.total_cost == pytest.approx(expected, rel=1e-3)  # caches count in steps of 128


def test_a_prefix_too_short_to_be_cached_is_not_assumed_to_be() -> None:
    ledger, tracker = books()
    opened(ledger, request(1_000, repeated=1_000), caches=True)

    assert tracker.cached_tokens == 0


def test_cache_writes_are_in_the_comparison() -> None:
    tracker = TokenTracker({"m": {"input": 1.0, "output": 10.0, "cache_read": 0.1, "cache_write": 1.25}})
    ledger = Ledger(tracker, model="m")
    opened(ledger, request(1_000_000, full=2_000_000))
    ledger.report(Usage(input_tokens=1_000_000, output_tokens=0, cache_write_tokens=1_000_000))

    assert (tracker.total_cost, ledger.cost_without_memory_usd) == (1.25, 2.5)


def test_a_long_context_tier_reprices_the_whole_comparison() -> None:
    ledger, tracker = Ledger(tracker := TokenTracker(), model="gemini-2.5-pro"), tracker
    opened(ledger, request(100_000, full=300_000))
    ledger.report(used(100_000))

    assert tracker.total_cost == pytest.approx(0.1 * 1.25)
    assert ledger.cost_without_memory_usd == pytest.approx(0.3 * 2.50)


@given(
    sent=st.integers(0, 10**6),
    repeated=st.integers(0, 10**6),
    extra=st.integers(-(10**6), 10**6),
    reported=st.integers(0, 10**6),
    read=st.integers(0, 10**6),
)
def test_any_sizes_can_be_booked(sent: int, repeated: int, extra: int, reported: int, read: int) -> None:
    ledger, tracker = books()
    for _ in range(2):
        opened(ledger, request(sent, repeated=repeated, full=max(0, sent + extra), full_repeated=repeated), caches=True)
        ledger.report(used(reported, 1, read=min(read, reported)))

    assert len(tracker.calls) == 2
    assert ledger.cost_without_memory_usd >= 0


# --- Summary calls ----------------------------------------------------------------------------------------------------

CALL = ModelCall(instructions="word " * 99, prompt="word", max_output_tokens=200, timeout_seconds=1)
"""100 words of input; half of the output bound is expected: 0.0001 + 0.001 USD at `m`."""


def metered(limit: float | None) -> tuple[SummaryMeter, TokenTracker, list[float]]:
    tracker, refused = TokenTracker(PRICING), list[float]()
    meter = SummaryMeter(tracker, WordCounter(), limit_usd=limit, on_refusal=refused.append)
    return meter, tracker, refused


@pytest.mark.parametrize(("limit", "refuses"), [(None, False), (0.01, False), (0.0012, False), (0.0010, True)])
def test_a_summary_call_beyond_the_limit_is_refused_before_it_is_made(limit: float | None, refuses: bool) -> None:
    meter, tracker, refused = metered(limit)
    if refuses:
        with pytest.raises(SummaryError, match="max_cost_dollars"):
            meter.before(CALL, "m")
    else:
        meter.before(CALL, "m")

    assert refused == ([pytest.approx(0.0011)] if refuses else [])
    assert tracker.calls == []


def test_what_was_spent_counts_towards_the_limit() -> None:
    meter, tracker, _ = metered(0.0012)
    tracker.record(used(1_000), model="m")

    with pytest.raises(SummaryError):
        meter.before(CALL, "m")


def test_a_summary_call_is_booked_by_its_report_and_its_own_model() -> None:
    meter, tracker, _ = metered(None)
    response = SimpleNamespace(usage={"input_tokens": 1_000_000, "output_tokens": 0}, model="n")
    meter.after(CALL, ModelReply(text="short", response=response), "m")

    assert (tracker.compression_cost, tracker.cost_is_estimate) == (2.0, False)


@pytest.mark.parametrize(("reply", "output"), [(ModelReply(text="three words long"), 3), (None, 0)])
def test_a_summary_call_without_a_report_is_estimated_also_when_it_ran_out_of_time(
    reply: ModelReply | None, output: int
) -> None:
    meter, tracker, _ = metered(None)
    meter.after(CALL, reply, "m")

    assert (tracker.total_input_tokens, tracker.total_output_tokens) == (100, output)
    assert tracker.cost_is_estimate
    assert tracker.request_count == 0


# --- The model's own cache


@pytest.mark.parametrize(("model", "read"), [("claude-sonnet-4-5", 2_000), ("claude-opus-4-5", 0), ("gpt-4-turbo", 0)])
def test_what_a_cache_can_hold_is_decided_by_the_models_own_minimum(model: str, read: int) -> None:
    ledger, tracker = books(model)
    opened(ledger, request(3_000, repeated=2_000), caches=True)

    assert tracker.calls[0].usage.cache_read_tokens == read


def test_marks_live_for_an_hour_once_a_report_told_of_an_hours_writes() -> None:
    ledger, _ = books("claude-opus-5")
    opened(ledger, request(3_000))
    assert ledger.cache_rules.ttl_seconds == 300
    ledger.report(Usage(input_tokens=3_000, output_tokens=1, cache_write_1h_tokens=2_000))
    assert ledger.cache_rules.ttl_seconds == 3_600
