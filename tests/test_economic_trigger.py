"""When a compression pays: the arithmetic, and what a run makes of it."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backtest.engine import backtest
from agent.backtest.outcome import Outcome
from agent.backtest.policies import Everything, Memory
from agent.transcripts import Transcript
from benchmarks.loops import react_loop
from memory import MemoryConfig, MemoryManager
from memory.dialects import DIALECTS
from memory.economics import Appraisal, Outlook, appraise
from memory.events import Compressed, Event
from memory.prices import PriceBook
from memory.strategies import Plan, Situation, SlidingWindow
from memory.tokens import TiktokenCounter

MODELS = ("gpt-5", "claude-sonnet-4-5", "gemini-2.5-pro")
COUNT = TiktokenCounter().count_text

sizes = st.integers(0, 200_000)
shares = st.floats(0, 1)


@st.composite
def appraisals(draw: st.DrawFn) -> tuple[Appraisal, float]:
    read = draw(st.floats(0.01, 1))
    outlook = Outlook(
        remaining_requests=draw(st.integers(0, 2_000)),
        cache_alive=draw(shares),
        read=read,
        carry=draw(st.floats(read, 2)),
        write=draw(st.floats(read, 2)),
    )
    allowance = draw(st.floats(-1e5, 1e6))
    found = appraise(
        removed_tokens=draw(sizes),
        summary_tokens=draw(sizes),
        suffix_tokens=draw(sizes),
        summary_cost=draw(st.floats(0, 1e5)),
        outlook=outlook,
        carried=draw(st.floats(0, 1e6)),
        allowance=allowance,
        is_at_edge=False,
    )
    return found, allowance


@given(appraisals())
def test_saving_and_cost_are_what_the_formula_says(drawn: tuple[Appraisal, float]) -> None:
    found, _ = drawn
    a, r, w = found.outlook.cache_alive, found.outlook.read, found.outlook.write
    removed, summary, suffix = found.removed_tokens, found.summary_tokens, found.suffix_tokens

    assert found.saving == pytest.approx(found.outlook.remaining_requests * found.outlook.carry * (removed - summary))
    cost = a * (w - r) * (summary + suffix) - (1 - a) * (w - r) * (removed - summary) + found.summary_cost
    assert found.cost == pytest.approx(cost)


@given(appraisals())
def test_what_pays_saves_more_than_it_costs(drawn: tuple[Appraisal, float]) -> None:
    found, allowance = drawn
    gain = found.removed_tokens - found.summary_tokens

    if found.pays:
        assert gain > 0
        assert found.saving > found.cost
    if found.reason == "pays":
        assert found.carried >= found.cost
        rewritten = (found.outlook.write - found.outlook.read) * (found.summary_tokens + found.suffix_tokens)
        assert rewritten + found.summary_cost - found.outlook.read * gain <= allowance + 1e-6


@given(appraisals())
def test_a_dead_cache_only_makes_a_compression_cheaper(drawn: tuple[Appraisal, float]) -> None:
    found, _ = drawn
    if found.removed_tokens < found.summary_tokens:
        return
    dead = replace(found, outlook=replace(found.outlook, cache_alive=0.0))
    alive = replace(found, outlook=replace(found.outlook, cache_alive=1.0))

    assert dead.cost <= found.cost + 1e-6
    assert found.cost <= alive.cost + 1e-6


# --- Runs -------------------------------------------------------------------------------------------------------------


def loop(messages: int, *, mean_tokens: int, spread: float = 0.0, seed: int = 7) -> Transcript:
    made = react_loop(messages, mean_tokens=mean_tokens, count=COUNT, spread=spread, seed=seed)
    return Transcript(id="made up", source="made up", dialect="openai_chat", messages=tuple(made))


def run(transcript: Transcript, model: str, **settings_: object) -> Outcome:
    return backtest(transcript, Memory(name="it", config=MemoryConfig(**settings_)), model=model)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", MODELS)
def test_deciding_by_money_costs_less_than_a_threshold(model: str) -> None:
    transcript = loop(400, mean_tokens=140)

    economic, threshold = run(transcript, model), run(transcript, model, compression_threshold=40_000)

    assert economic.usd < threshold.usd
    assert economic.usd < backtest(transcript, Everything(), model=model).usd


@settings(max_examples=8, deadline=None)
@given(
    mean_tokens=st.sampled_from([80, 200, 500]),
    spread=st.sampled_from([0.0, 1.6]),
    model=st.sampled_from(["gpt-5", "claude-sonnet-4-5"]),
    seed=st.integers(0, 99),
)
def test_a_run_that_ends_anywhere_is_hardly_dearer_than_sending_everything(
    mean_tokens: int, spread: float, model: str, seed: int
) -> None:
    transcript = loop(160, mean_tokens=mean_tokens, spread=spread, seed=seed)

    ours = accumulate(step.usd for step in run(transcript, model).steps)
    everything = accumulate(step.usd for step in backtest(transcript, Everything(), model=model).steps)

    # The promise is `max_overspend`, 3 %, by the memory's own estimate of the run without it.
    assert max(mine / full for mine, full in zip(ours, everything, strict=True)) <= 1.035


def test_a_run_known_to_end_is_compressed_only_while_that_pays() -> None:
    transcript = loop(300, mean_tokens=120)
    requests = len(run(transcript, "gpt-5").steps)

    assert run(transcript, "gpt-5", expected_requests=requests).usd <= run(transcript, "gpt-5").usd
    assert run(transcript, "gpt-5", expected_requests=20).compressions == ()


def test_a_threshold_that_is_given_is_where_it_compresses_at_the_latest() -> None:
    transcript = loop(300, mean_tokens=500)

    found = run(transcript, "claude-sonnet-4-5", trigger="economic", compression_threshold=20_000)

    assert max(step.sent_tokens for step in found.steps) <= 20_000 + 8_000  # and one step of the longest size


# --- One manager ------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A manager that is told of each request what its provider would report."""

    def __init__(self, model: str | None, **settings_: object) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.memory = MemoryManager(
            MemoryConfig(**settings_),  # type: ignore[arg-type]
            dialect="openai_chat",
            model=model,
            on_event=self.events.append,
            clock=self.clock,
        )

    def play(self, transcript: Transcript, *, seconds_per_step: float = 5.0) -> None:
        for message in transcript.messages:
            self.clock.now += seconds_per_step / 2
            self.memory.add_message_sync(message)

    @property
    def compressions(self) -> list[Compressed]:
        return [event for event in self.events if isinstance(event, Compressed)]


def test_an_expired_cache_is_the_moment_to_compress() -> None:
    watched = Watched("gpt-5", max_overspend=0.0)  # nothing else is a reason yet
    transcript = loop(160, mean_tokens=120)
    watched.play(replace(transcript, messages=transcript.messages[:-1]))
    assert watched.compressions == []

    watched.clock.now += 48 * 3600
    watched.play(replace(transcript, messages=transcript.messages[-1:]))

    (found,) = watched.compressions
    assert found.trigger == "economic"
    assert found.appraisal is not None
    assert found.appraisal.reason == "no_cache"
    assert found.appraisal.outlook.cache_alive < 0.05


def test_a_dearer_tier_is_not_entered_when_that_can_be_helped() -> None:
    (edge,) = PriceBook().tier_edges("gemini-2.5-pro")
    # Nothing else is a reason before.
    watched = Watched("gemini-2.5-pro", expected_requests=1, cache_alive=1.0, max_context_tokens=1_000_000)

    watched.play(loop(140, mean_tokens=2_000))

    first = watched.compressions[0]
    assert first.appraisal is not None
    assert first.appraisal.reason == "tier_edge"
    assert edge * 0.9 < first.tokens_before <= edge


def test_a_model_without_a_known_price_is_compressed_at_the_threshold() -> None:
    watched = Watched("nobody-knows-this-one")

    watched.play(loop(500, mean_tokens=120))

    assert watched.compressions[0].trigger == "threshold"
    assert watched.compressions[0].tokens_before > 40_000


def test_each_decision_is_logged_with_what_it_was_made_from(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched("gpt-5")
    transcript = loop(300, mean_tokens=120)
    with caplog.at_level(logging.DEBUG, logger="memory.economy"):
        watched.play(transcript)

    lines = [record.getMessage() for record in caplog.records if record.name == "memory.economy"]
    assert sum("reason=pays" in line for line in lines) >= len(watched.compressions) > 0
    assert any("reason=too_" in line for line in lines)
    assert all("remaining=" in line and "alive=" in line and "cost=" in line for line in lines)
    words = {word for message in transcript.messages for word in str(message["content"]).split() if len(word) > 12}
    assert not any(word in line for line in lines for word in words)


@dataclass(frozen=True)
class _Reversed:
    """A strategy whose plans are refused when they are carried out."""

    name: str = "reversed"

    def plan(self, situation: Situation) -> Plan:
        found = SlidingWindow().plan(situation)
        return replace(found, decisions=found.decisions[::-1])


def test_a_compression_that_comes_to_nothing_is_not_tried_again_at_each_message() -> None:
    events: list[Event] = []
    memory = MemoryManager(
        MemoryConfig(), dialect="openai_chat", model="gpt-5", strategy=_Reversed(), on_event=events.append
    )
    for message in loop(400, mean_tokens=120).messages:
        memory.add_message_sync(message)

    # From some 14,000 tokens on, each time that the context has grown by a twenty-fifth.
    assert 1 <= len(events) <= 1 + math.log(memory.current_tokens / 10_000, 1.04)


def test_sizes_are_judged_as_the_provider_counts_them() -> None:
    watched = Watched("gpt-5")
    transcript = loop(300, mean_tokens=120)
    counter = TiktokenCounter("gpt-5")
    counted = 0
    for message in transcript.messages:
        if watched.compressions:
            break
        if message["role"] == "assistant" and counted:
            watched.memory.record_usage({"input": 2 * counted, "output": 1})
        watched.memory.add_message_sync(message)
        counted += counter.count_reading(DIALECTS["openai_chat"].read(message))

    (found,) = watched.compressions
    assert found.appraisal is not None
    gain = found.appraisal.removed_tokens - found.appraisal.summary_tokens
    assert gain == pytest.approx(found.tokens_before - found.tokens_after, rel=0.2)


def test_an_expired_cache_is_looked_at_once() -> None:
    planned = _Counted()
    memory = MemoryManager(MemoryConfig(cache_alive=0.0), dialect="openai_chat", model="gpt-5", strategy=planned)
    transcript = loop(400, mean_tokens=120)
    for message in transcript.messages:
        memory.add_message_sync(message)

    assert planned.count < len(transcript.messages) / 3


@dataclass
class _Counted:
    """Counts its plans."""

    count: int = 0
    name: str = "counted"

    def plan(self, situation: Situation) -> Plan:
        self.count += 1
        return SlidingWindow().plan(situation)


# --- Limits that follow the model -------------------------------------------------------------------------------------


def limit_of(model: str, **settings_: object) -> int:
    watched = Watched(model, **settings_)
    watched.play(loop(60, mean_tokens=150))
    return int(watched.memory.get_stats()["max_context_tokens"])


def test_the_hard_limit_follows_the_model_and_leaves_room_for_an_answer() -> None:
    window = PriceBook().context_window("gpt-4o")
    assert window is not None

    assert limit_of("gpt-4o") == window - 8_192
    assert limit_of("gpt-4o", output_reserve_tokens=20_000) == window - 20_000
    assert limit_of("nobody-knows-this-one") == 100_000


@pytest.mark.parametrize("reserve", [64_000, 100_000])
def test_the_room_for_an_answer_is_the_one_that_was_given(reserve: int) -> None:
    window = PriceBook().context_window("gpt-4o")
    assert window is not None

    assert limit_of("gpt-4o", output_reserve_tokens=reserve) == window - reserve
    assert limit_of("gpt-4o", output_reserve_tokens=10 * window) > 0


def test_limits_that_are_given_win() -> None:
    assert limit_of("gpt-4o", max_context_tokens=50_000) == 50_000
    assert limit_of("gpt-4o", max_context_tokens=500_000) == 500_000


def test_large_steps_raise_a_threshold_that_nobody_chose() -> None:
    def first_compression(**settings_: object) -> int:
        watched = Watched("gpt-4o", trigger="threshold", **settings_)
        watched.play(loop(40, mean_tokens=4_000))
        return watched.compressions[0].tokens_before

    assert first_compression() > 55_000
    assert first_compression(compression_threshold=40_000) < 55_000


def test_a_history_is_no_step() -> None:
    (edge,) = PriceBook().tier_edges("gemini-2.5-pro")
    watched = Watched("gemini-2.5-pro", max_context_tokens=1_000_000)

    watched.memory.load_history_sync(loop(140, mean_tokens=1_000).messages)
    assert edge // 2 < watched.memory.current_tokens < edge
    watched.play(loop(4, mean_tokens=100))

    assert watched.compressions == []  # it is half the way to the edge, and the steps are short


def test_nothing_is_known_of_the_future_before_the_first_request() -> None:
    watched = Watched("gpt-5")

    watched.memory.load_history_sync(loop(100, mean_tokens=120).messages)

    assert watched.compressions == [] or math.isfinite(watched.compressions[0].cost_usd)
