"""Prices: the right model by any name it goes by, on the day, in the tier; and never a guess that does not say so."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest
from genai_prices.data_snapshot import get_snapshot

from memory.errors import ConfigError
from memory.prices import PRICING, PriceBook, context_window, undated


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook()


@pytest.mark.parametrize(
    ("model", "usd_input", "usd_output"),
    [
        ("gpt-4o", 2.50, 10.00),
        ("gpt-4o-mini", 0.15, 0.60),
        ("claude-3-5-sonnet-20241022", 3.00, 15.00),
        ("claude-3-5-haiku-20241022", 0.80, 4.00),
        ("gemini-1.5-flash", 0.075, 0.30),
        ("gemini-1.5-pro", 1.25, 5.00),
        ("gemini-2.5-pro", 1.25, 10.00),
    ],
)
def test_known_models_have_their_published_price(
    book: PriceBook, model: str, usd_input: float, usd_output: float
) -> None:
    rates = book.rates(model)

    assert (rates.input, rates.output) == (usd_input, usd_output)
    assert rates.source == "genai-prices"
    assert not rates.is_default


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("GPT-4o", "gpt-4o"),
        (" gpt-4o ", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("azure/gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2031-01-31", "gpt-4o"),
        ("gpt-5.2-20251211", "gpt-5.2"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("anthropic/claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("openrouter/anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", "claude-3-5-haiku-latest"),
        ("vertex_ai/claude-sonnet-4@20250514", "claude-sonnet-4-0"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("google/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-pro-preview-06-05", "gemini-2.5-pro"),
        ("gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("deepseek/deepseek-chat", "deepseek-chat"),
        ("xai/grok-4", "grok-4"),
    ],
)
def test_prefixed_and_dated_names_mean_the_same_model(book: PriceBook, written: str, plain: str) -> None:
    found, expected = book.rates(written), book.rates(plain)

    assert not found.is_default
    assert (found.input, found.output) == (expected.input, expected.output)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-foo",
        "gpt-4o-mini-foo",
        "my-gpt-4o-proxy",
        "gpt-5.4-turbo",
        "claude-3-5-sonnet-foo",
        "claude-opus-9",
        "not-claude",
        "gemini-1.5-flash-8b",
        "gemini-9-ultra",
        "openrouter/openai/gpt-4o-zzz",
        "azure/my-deployment",
        "o200",
        "text-embedding-3-small",
        "default",
        "",
        None,
    ],
)
def test_a_name_that_only_resembles_a_model_is_unknown_and_says_so(book: PriceBook, model: str | None) -> None:
    rates = book.rates(model)

    assert rates.is_default
    assert (rates.input, rates.output) == (0.55, 2.19)


def test_longest_name_wins_over_the_first_that_fits(book: PriceBook) -> None:
    for name in ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "o3", "o3-mini"):
        assert book.rates(name).matched == f"openai:{name}"


@pytest.mark.parametrize(
    ("model", "usd_input"),
    [
        ("ft:gpt-4o-mini-2024-07-18:org::id", 0.3),
        ("openai/ft:gpt-4o-2024-08-06:org:name:id", 3.75),
        ("ft:gpt-3.5-turbo-0125:org::id", 3.0),
    ],
)
def test_a_fine_tuned_model_has_a_price_of_its_own(book: PriceBook, model: str, usd_input: float) -> None:
    assert book.rates(model).input == usd_input


def test_models_of_the_catalogue_are_found_by_their_own_names(book: PriceBook) -> None:
    """A model that goes by another name is fine as long as the price is the same."""
    providers = [one for one in get_snapshot().providers if one.id in ("openai", "anthropic", "google", "x-ai")]
    at = datetime(2026, 11, 1, tzinfo=UTC)
    wrong = []
    for provider, model in ((one, model) for one in providers for model in one.models):
        prices = model.get_prices(at)
        # Ids of fine-tuned models are patterns rather than names.
        if prices.input_mtok is None or prices.output_mtok is None or "/" in model.id or "ft" in model.id[:3]:
            continue
        rates = book.rates(f"{provider.id}/{model.id}", at=at)
        base = getattr(prices.input_mtok, "base", prices.input_mtok)
        if rates.input != float(str(base)):
            wrong.append((provider.id, model.id, rates.matched))

    assert wrong == []


def test_price_is_that_of_the_day(book: PriceBook) -> None:
    # OpenAI cut the price of o3 by 80 % on 2025-06-10.
    before = book.rates("o3", at=datetime(2025, 6, 9, tzinfo=UTC))
    after = book.rates("o3", at=datetime(2025, 6, 11, tzinfo=UTC))

    assert (before.input, before.output) == (10, 40)
    assert (after.input, after.output) == (2, 8)


def test_a_naive_time_is_utc(book: PriceBook) -> None:
    assert book.rates("o3", at=datetime(2025, 6, 11)).input == 2  # noqa: DTZ001 - the claim is about naive times


def test_long_context_tier_reprices_the_whole_request(book: PriceBook) -> None:
    short = book.rates("gemini-2.5-pro", input_tokens=200_000)
    long = book.rates("gemini-2.5-pro", input_tokens=200_001)

    assert (short.input, short.output) == (1.25, 10)
    assert (long.input, long.output) == (2.5, 15)
    assert long.cost_usd(input_tokens=200_001, output_tokens=0) == pytest.approx(0.5000025)


def test_cache_has_rates_of_its_own(book: PriceBook) -> None:
    rates = book.rates("claude-sonnet-4-5")

    assert (rates.cache_read, rates.cache_write, rates.cache_write_1h) == (0.3, 3.75, 6)


def test_unknown_cache_rates_never_make_a_request_cheaper() -> None:
    rates = PriceBook({"mine": {"input": 2.0, "output": 8.0}}).rates("mine")

    assert rates.cache_read == rates.cache_write == rates.cache_write_1h == 2.0


def test_one_hour_writes_cost_twice_the_input_where_only_the_short_rate_is_known() -> None:
    rates = PriceBook({"mine": {"input": 2.0, "output": 8.0, "cache_write": 2.5}}).rates("mine")

    assert rates.cache_write_1h == 4.0


def test_own_price_wins_over_every_table() -> None:
    book = PriceBook({"GPT-4o": {"input": 1.0, "output": 2.0}})

    for name in ("gpt-4o", "openai/gpt-4o", "gpt-4o-2024-08-06"):
        assert (book.rates(name).input, book.rates(name).source) == (1.0, "override")
    assert book.rates("gpt-4o-mini").source == "genai-prices"


def test_table_is_asked_after_the_catalogue() -> None:
    book = PriceBook(table={"gpt-4o": {"input": 99, "output": 99}, "house-model": {"input": 7, "output": 8}})

    assert book.rates("gpt-4o").input == 2.5
    assert (book.rates("house-model").input, book.rates("house-model").source) == (7, "table")
    assert book.rates("unheard-of").input == PRICING["default"]["input"]


def test_own_default_prices_the_unknown_and_stays_marked() -> None:
    rates = PriceBook({"default": {"input": 1.0, "output": 2.0}}).rates("unheard-of")

    assert (rates.input, rates.is_default) == (1.0, True)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"input": -1.0, "output": 1.0}, "-1.0"),
        ({"input": float("nan"), "output": 1.0}, "nan"),
        ({"input": float("inf"), "output": 1.0}, "inf"),
        ({"input": True, "output": 1.0}, "True"),
        ({"input": "3", "output": 1.0}, "'3'"),
        ({"input": 1.0}, "output"),
        ({"input": 1.0, "output": 1.0, "cached": 1.0}, "cached"),
    ],
)
def test_a_price_that_cannot_be_is_refused_by_name(entry: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match="mine") as caught:
        PriceBook({"mine": entry})

    assert named in str(caught.value)


def test_seed_table_says_what_the_catalogue_says(book: PriceBook) -> None:
    at = datetime(2025, 1, 15, tzinfo=UTC)
    for model, unit in product(set(PRICING) - {"default"}, ("input", "output")):
        assert getattr(book.rates(model, at=at), unit) == PRICING[model][unit]


def test_table_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        PRICING["gpt-4o"] = {"input": 0.0, "output": 0.0}  # type: ignore[index]  # the claim


def test_cost_takes_cached_tokens_out_of_the_input(book: PriceBook) -> None:
    cost = book.rates("claude-3-5-sonnet-20241022").cost_usd(
        input_tokens=1_000_000,
        output_tokens=100_000,
        cache_read_tokens=500_000,
        cache_write_tokens=200_000,
        cache_write_1h_tokens=100_000,
    )

    assert cost == pytest.approx(0.2 * 3 + 0.5 * 0.3 + 0.2 * 3.75 + 0.1 * 6 + 0.1 * 15)


def test_context_window_is_known_or_none() -> None:
    assert context_window("gpt-4o") == 128_000
    assert context_window("anthropic/claude-sonnet-4-5") == 200_000
    assert context_window("unheard-of") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("gpt-4o", "gpt-4o"),
        ("model-2000", "model-2000"),
        ("-20241022", "-20241022"),
    ],
)
def test_only_a_date_is_taken_off(name: str, expected: str) -> None:
    assert undated(name) == expected
