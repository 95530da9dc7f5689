"""The ledger: each call at its own price, summed; summaries counted; guesses marked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import ConfigError, MessageError
from memory.messages import LLMMessage
from memory.tracker import TokenTracker, Usage, read_usage

DAY = datetime(2026, 6, 1, tzinfo=UTC)
MODELS = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "unheard-of", None]


def used(input_tokens: int = 1_000, output_tokens: int = 100, **parts: int) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **parts)


def test_cost_of_the_contract_example() -> None:
    cost = TokenTracker().calculate_cost("claude-3-5-sonnet-20241022", input_tokens=1_000, output_tokens=500)

    assert cost == pytest.approx(0.003 + 0.0075)


def test_mini_is_not_priced_as_its_big_sister() -> None:
    tracker = TokenTracker()

    assert tracker.calculate_cost("gpt-4o-mini", 1_000_000, 0) == pytest.approx(0.15)
    assert tracker.calculate_cost("gemini-2.5-pro", 100_000, 0) == pytest.approx(0.125)


def test_calculating_records_nothing() -> None:
    tracker = TokenTracker()
    tracker.calculate_cost("gpt-4o", 1_000, 1_000)
    tracker.cost_of(used(), model="gpt-4o")

    assert (tracker.total_cost, tracker.calls) == (0, [])


def test_every_request_is_priced_at_its_own_model_then_summed() -> None:
    tracker = TokenTracker()
    tracker.record(used(1_000_000, 0), model="gpt-4o")
    tracker.record(used(1_000_000, 0), model="gpt-4o-mini")

    assert tracker.total_cost == pytest.approx(2.5 + 0.15)
    assert {name: totals.cost_usd for name, totals in tracker.by_model.items()} == pytest.approx(
        {"gpt-4o": 2.5, "gpt-4o-mini": 0.15}
    )


def test_every_request_is_priced_at_its_own_day_and_tier() -> None:
    tracker = TokenTracker()
    old = tracker.record(used(1_000_000, 0), model="o3", at=datetime(2025, 6, 1, tzinfo=UTC))
    new = tracker.record(used(1_000_000, 0), model="o3", at=DAY)
    small = [tracker.record(used(150_000, 0), model="gemini-2.5-pro", at=DAY) for _ in range(2)]
    large = tracker.record(used(300_000, 0), model="gemini-2.5-pro", at=DAY)

    assert (old.cost_usd, new.cost_usd) == pytest.approx((10, 2))
    assert large.cost_usd == pytest.approx(2 * sum(call.cost_usd for call in small))


def test_cached_input_is_cheaper_and_counted() -> None:
    tracker = TokenTracker()
    call = tracker.record(used(1_000_000, 0, cache_read_tokens=900_000), model="claude-sonnet-4-5", at=DAY)

    # More than 200,000 tokens: the long-context tier reprices all of it.
    assert call.cost_usd == pytest.approx(0.1 * 6 + 0.9 * 0.6)
    assert tracker.cached_tokens == 900_000


def test_summary_calls_count_as_calls_and_apart() -> None:
    tracker = TokenTracker()
    tracker.record(used(10_000, 1_000), model="gpt-4o")
    summary = tracker.record(used(20_000, 500), model="gpt-4o-mini", purpose="summary")

    assert tracker.total_input_tokens == 30_000
    assert tracker.compression_cost == summary.cost_usd > 0
    assert tracker.compression_tokens == 20_500
    assert tracker.request_count == 1
    assert tracker.total_cost == pytest.approx(sum(call.cost_usd for call in tracker.calls))


def test_unknown_model_is_priced_by_the_default_and_marked() -> None:
    tracker = TokenTracker()
    known = tracker.record(used(), model="gpt-4o")
    assert not tracker.cost_is_estimate

    unknown = tracker.record(used(1_000_000, 1_000_000), model="unheard-of")

    assert (known.price_is_default, unknown.price_is_default) == (False, True)
    assert unknown.cost_usd == pytest.approx(0.55 + 2.19)
    assert tracker.unpriced_tokens == 2_000_000
    assert tracker.cost_is_estimate


def test_counted_usage_is_marked_though_its_price_is_known() -> None:
    tracker = TokenTracker()
    tracker.record(used(), model="gpt-4o", is_estimate=True)

    assert (tracker.cost_is_estimate, tracker.unpriced_tokens) == (True, 0)


def test_default_model_stands_in_where_none_is_named() -> None:
    tracker = TokenTracker(default_model="gpt-4o")

    assert tracker.record(used(1_000_000, 0)).cost_usd == pytest.approx(2.5)
    assert tracker.record(used(1_000_000, 0), model="gpt-4o-mini").cost_usd == pytest.approx(0.15)
    assert not tracker.cost_is_estimate


def test_own_prices_win() -> None:
    tracker = TokenTracker(pricing={"gpt-4o": {"input": 1.0, "output": 1.0}, "house": {"input": 3.0, "output": 3.0}})

    assert tracker.calculate_cost("gpt-4o", 1_000_000, 0) == 1.0
    assert tracker.calculate_cost("house", 1_000_000, 0) == 3.0
    assert not tracker.rates("house").is_default


def test_a_subclass_may_bring_its_own_table() -> None:
    class HousePrices(TokenTracker):
        PRICING: Mapping[str, Mapping[str, float]] = {  # type: ignore[misc]  # as a user would write it
            **TokenTracker.PRICING,
            "house": {"input": 3.0, "output": 3.0},
        }

    assert HousePrices().calculate_cost("house", 1_000_000, 0) == 3.0
    assert TokenTracker.PRICING["default"] == {"input": 0.55, "output": 2.19}


def test_a_bad_price_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="gpt-4o"):
        TokenTracker(pricing={"gpt-4o": {"input": -1, "output": 1}})


@pytest.mark.parametrize(("cache_read_tokens", "cache_write_tokens"), [(1_001, 0), (0, -1), (600, 600)])
def test_impossible_counts_are_refused(cache_read_tokens: int, cache_write_tokens: int) -> None:
    with pytest.raises(MessageError):
        TokenTracker().calculate_cost(
            "gpt-4o", 1_000, 10, cache_read_tokens=cache_read_tokens, cache_write_tokens=cache_write_tokens
        )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(MODELS),
            st.integers(0, 400_000),
            st.integers(0, 10_000),
            st.floats(0, 1),
            st.sampled_from(["agent", "summary"]),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_totals_are_the_sums_of_the_calls(history: list[tuple[str | None, int, int, float, str, bool]]) -> None:
    tracker = TokenTracker()
    for model, sent, answered, share, purpose, is_estimate in history:
        usage = used(sent, answered, cache_read_tokens=int(sent * share))
        tracker.record(
            usage, model=model, at=DAY, purpose="summary" if purpose == "summary" else "agent", is_estimate=is_estimate
        )

    calls = tracker.calls
    assert tracker.total_input_tokens == sum(call.usage.input_tokens for call in calls)
    assert tracker.total_output_tokens == sum(call.usage.output_tokens for call in calls)
    assert tracker.cached_tokens == sum(call.usage.cache_read_tokens for call in calls)
    assert tracker.total_cost == pytest.approx(sum(call.cost_usd for call in calls))
    assert tracker.compression_cost == pytest.approx(sum(c.cost_usd for c in calls if c.purpose == "summary"))
    assert tracker.unpriced_tokens == sum(call.usage.total_tokens for call in calls if call.price_is_default)
    assert sum(totals.calls for totals in tracker.by_model.values()) == len(calls)
    assert all(call.cost_usd > 0 for call in calls if call.usage.total_tokens)


@given(model=st.sampled_from(MODELS), sent=st.integers(1, 400_000), share=st.floats(0, 1))
def test_reading_from_a_cache_never_costs_more(model: str | None, sent: int, share: float) -> None:
    tracker = TokenTracker()
    cached = tracker.cost_of(used(sent, 0, cache_read_tokens=int(sent * share)), model=model, at=DAY)

    assert cached <= tracker.cost_of(used(sent, 0), model=model, at=DAY) + 1e-12


def test_reported_usage_takes_the_place_of_an_estimate() -> None:
    tracker = TokenTracker()
    estimate = tracker.record(used(900), model="gpt-4o", is_estimate=True)
    tracker.record(used(5), model="gpt-4o-mini")

    reported = tracker.amend(estimate, used(1_200))

    assert tracker.calls[0] is reported
    assert tracker.total_input_tokens == 1_205
    assert not tracker.cost_is_estimate
    assert tracker.total_cost == pytest.approx(sum(call.cost_usd for call in tracker.calls))


def test_a_response_can_be_recorded_in_one_line() -> None:
    tracker = TokenTracker()
    usage = read_usage({"model": "gpt-4o", "usage": {"prompt_tokens": 10, "completion_tokens": 5}})

    assert usage is not None
    assert tracker.record(usage, model="gpt-4o").usage.total_tokens == 15


@pytest.mark.parametrize(
    ("message", "provider", "model"),
    [
        ({"role": "user", "content": "hello there"}, "openai", "gpt-4o"),
        ({"role": "user", "content": [{"type": "text", "text": "hello there"}]}, "anthropic", "claude-3-5-sonnet"),
        ({"role": "user", "parts": [{"text": "hello there"}]}, "gemini", "gemini-2.5-pro"),
        ({"role": "user", "parts": [{"text": "hello there"}]}, "google", None),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello there"}]},
            "openai",
            None,
        ),
        (LLMMessage("user", "hello there"), "anthropic", "claude-3-5-sonnet"),
        (LLMMessage("user", "hello there"), None, None),
        ({"role": "user", "content": "hello there"}, "some-gateway", "openrouter/anthropic/claude-sonnet-4.5"),
    ],
)
def test_messages_of_every_provider_are_counted(message: object, provider: str | None, model: str | None) -> None:
    assert 4 <= TokenTracker().count_message_tokens(message, provider, model) <= 12


def test_a_message_is_read_by_its_own_shape_where_the_provider_says_otherwise() -> None:
    call = LLMMessage(
        "assistant",
        None,
        tool_calls=[
            {"id": "1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a.py"}'}}
        ],
    )

    assert TokenTracker().count_message_tokens(call, "anthropic", "claude-3-5-sonnet") > 15


def test_an_image_is_not_counted_by_its_base64() -> None:
    url = "data:image/png;base64," + "iVBORw0KGgo" + "A" * 400_000
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}

    assert TokenTracker().count_message_tokens(message, "openai", "gpt-4o") < 2_000
