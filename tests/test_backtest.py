"""A recorded run under a policy: what is sent, what the cache makes of it, what that costs, what is missed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backtest.engine import Bench, backtest
from agent.backtest.outcome import Outcome, Policy, Session, SummaryCall
from agent.backtest.policies import Everything, LastMessages, Memory, policies_named
from agent.backtest.recording import recording_of
from agent.transcripts import Transcript, read_transcripts
from benchmarks.loops import react_loop
from memory import MemoryConfig
from memory.prices import PriceBook
from memory.tokens import TiktokenCounter, TokenCounter
from memory.usage import Usage

CLAUDE, GPT = "claude-sonnet-4-5", "gpt-5.1"


def roughly(text: str) -> int:
    return len(text) // 4


def a_loop(count: int = 80, *, mean_tokens: int = 200, seed: int = 7) -> Transcript:
    messages = react_loop(count, mean_tokens=mean_tokens, count=roughly, seed=seed)
    return Transcript(id=f"loop-{seed}", source="loop.json", dialect="openai_chat", messages=tuple(messages))


def memory_at(tokens: int, **settings: Any) -> Memory:
    return Memory(name="memory", config=MemoryConfig(compression_threshold=tokens, **settings))


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """A policy of somebody else's: sends what a function makes of the history, and keeps what it was told."""

    name: str = "scripted"
    choose: Any = list
    calls: Sequence[SummaryCall] = ()
    contexts: list[list[Any]] = field(default_factory=list)

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        return ScriptedSession(self)


class ScriptedSession:
    def __init__(self, policy: Scripted) -> None:
        self.policy = policy
        self.history: list[Any] = []

    def add(self, message: Any) -> None:
        self.history.append(message)

    def context(self) -> Sequence[Any]:
        self.policy.contexts.append(list(self.policy.choose(self.history)))
        return self.policy.contexts[-1]

    def summary_calls(self) -> Sequence[SummaryCall]:
        return self.policy.calls


def assert_sums_agree(outcome: Outcome) -> None:
    parts = (outcome.usd_input, outcome.usd_cached, outcome.usd_written, outcome.usd_output, outcome.usd_summaries)
    assert outcome.usd == pytest.approx(sum(parts))
    assert sum(step.usd for step in outcome.steps) == pytest.approx(outcome.usd - outcome.usd_summaries)
    assert sum(step.sent_tokens for step in outcome.steps) == outcome.input_tokens
    assert sum(step.cached_tokens for step in outcome.steps) == outcome.cached_tokens
    assert outcome.requests == len(outcome.steps)
    assert all(0 <= step.cached_tokens + step.written_tokens <= step.sent_tokens for step in outcome.steps)
    assert 0 <= outcome.retained <= outcome.probes
    assert len(outcome.compressions) == outcome.prefix_changes


@settings(max_examples=15)
@given(
    count=st.integers(4, 60),
    seed=st.integers(0, 1000),
    threshold=st.integers(500, 4000),
    name=st.sampled_from(["none", "window@6", "sliding_window", "masking", "deletion", "selective", "economic"]),
    model=st.sampled_from([CLAUDE, GPT, "gemini-2.5-pro", "nobody-knows-it"]),
)
def test_the_parts_of_every_outcome_add_up(count: int, seed: int, threshold: int, name: str, model: str) -> None:
    bench = Bench(recording_of(a_loop(count, seed=seed)), model=model)

    for policy in policies_named([name], thresholds=[threshold], own=MemoryConfig()):
        outcome = bench.outcome(policy)

        assert_sums_agree(outcome)
        assert Outcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_sending_everything_keeps_everything_and_breaks_nothing(model: str) -> None:
    outcome = backtest(a_loop(), Everything(), model=model)

    assert (outcome.retained, outcome.prefix_changes, outcome.invalid_requests) == (outcome.probes, 0, 0)
    assert (outcome.lost_first_task, outcome.compressions, outcome.usd_summaries) == (0, (), 0)
    assert outcome.cached_share > 0.8


def test_what_a_policy_took_out_stays_out_of_the_steps_that_follow() -> None:
    policy = Scripted(choose=lambda history: history[:2] + history[10:] if len(history) > 30 else history)

    outcome = backtest(a_loop(), policy, model=GPT)

    after = [step for step in outcome.steps if step.index > 30]
    assert [step.prefix_changed for step in after].count(True) == 1
    assert outcome.input_tokens < backtest(a_loop(), Everything(), model=GPT).input_tokens


def test_the_memory_goes_on_from_its_own_context_after_a_compression() -> None:
    outcome = backtest(a_loop(), memory_at(3_000), model=GPT)

    grown = [
        (now.sent_tokens - before.sent_tokens) for before, now in pairwise(outcome.steps) if not now.prefix_changed
    ]
    assert outcome.prefix_changes > 1
    assert all(growth > 0 for growth in grown)
    assert max(step.sent_tokens for step in outcome.steps) < 4_000


def test_every_step_is_priced_at_the_tier_that_its_own_size_reaches() -> None:
    transcript = a_loop(12, mean_tokens=8_000)
    bench = Bench(recording_of(transcript), model=CLAUDE, counter=Inflated())

    outcome = bench.outcome(Everything())

    rates = [PriceBook().rates(CLAUDE, input_tokens=step.sent_tokens) for step in outcome.steps]
    assert {one.input for one in rates} == {3.0, 6.0}
    assert [step.usd for step in outcome.steps] == pytest.approx(
        [
            price.cost_usd(
                input_tokens=step.sent_tokens,
                output_tokens=step.output_tokens,
                cache_read_tokens=step.cached_tokens,
                cache_write_tokens=step.written_tokens,
            )
            for price, step in zip(rates, outcome.steps, strict=True)
        ]
    )


class Inflated(TiktokenCounter):
    """Counts ten tokens for one, to reach dear tiers with little text."""

    def count_text(self, text: str) -> int:
        return 10 * super().count_text(text)

    def count_reading(self, reading: Any) -> int:
        return 10 * super().count_reading(reading)


def test_requests_longer_than_the_models_window_are_told() -> None:
    bench = Bench(recording_of(a_loop(12, mean_tokens=8_000)), model=CLAUDE, counter=Inflated())

    outcome = bench.outcome(Everything())

    assert outcome.oversized_requests == sum(step.sent_tokens > 200_000 for step in outcome.steps) > 0


def test_claude_is_asked_to_cache_as_a_good_client_does() -> None:
    first, second, *_ = backtest(a_loop(20, mean_tokens=1_500), Everything(), model=CLAUDE).steps[1:]

    assert first.written_tokens + first.cached_tokens == first.sent_tokens
    assert second.cached_tokens == first.sent_tokens


def test_a_changed_context_is_read_from_the_cache_up_to_the_change() -> None:
    # The system prompt is below the provider's minimum; what is shared is what stands before the 40th message.
    policy = Scripted(choose=lambda history: [*history[:40], *history[42:]] if len(history) > 60 else history)

    for model in (CLAUDE, GPT):
        changed = next(step for step in backtest(a_loop(), policy, model=model).steps if step.prefix_changed)

        assert 0 < changed.cached_tokens < changed.sent_tokens


def test_a_cache_expires_by_the_time_between_requests() -> None:
    quick = backtest(a_loop(), Everything(), model=CLAUDE, seconds_per_step=200)
    slow = backtest(a_loop(), Everything(), model=CLAUDE, seconds_per_step=400)

    assert quick.cached_tokens > 0 == slow.cached_tokens
    assert slow.usd > 2 * quick.usd


def test_recorded_times_come_before_assumed_ones() -> None:
    transcript = a_loop()
    timed = replace(transcript, times=tuple(1_000.0 * number for number in range(len(transcript.messages))))

    assert backtest(timed, Everything(), model=CLAUDE, seconds_per_step=1).cached_tokens == 0


def test_a_window_of_the_last_messages_loses_the_task_and_the_cache() -> None:
    outcome = backtest(a_loop(), LastMessages(count=10), model=GPT)

    assert outcome.lost_first_task > 20
    assert outcome.prefix_changes > 20
    assert outcome.cached_share < 0.5


def test_a_request_that_the_history_itself_does_not_break_is_invalid() -> None:
    # Every call's answer is left out.
    policy = Scripted(choose=lambda history: [one for one in history if one["role"] != "tool"])

    outcome = backtest(a_loop(10), policy, model=GPT)

    assert outcome.invalid_requests == outcome.requests - 1


def test_a_broken_history_is_mended_and_its_errors_are_nobodys_fault() -> None:
    transcript = a_loop(20)
    broken = replace(transcript, messages=(*transcript.messages[:4], *transcript.messages[5:]))

    assert backtest(broken, Everything(), model=GPT).invalid_requests == 0


def test_summaries_by_a_model_are_in_the_bill() -> None:
    without = backtest(a_loop(), memory_at(3_000), model=GPT)
    policy = replace(memory_at(3_000), summariser="model")

    outcome = backtest(a_loop(), policy, model=GPT)

    assert (without.summary_tokens, without.usd_summaries) == (0, 0)
    assert outcome.summary_tokens > 0 < outcome.usd_summaries
    assert_sums_agree(outcome)


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_summary_behind_the_runs_own_context_is_read_from_its_cache(model: str) -> None:
    bench = Bench(recording_of(a_loop(200)), model=model)

    live, fresh = (
        bench.outcome(replace(memory_at(10_000, summary_prefix=on_prefix), summariser="model"))
        for on_prefix in (None, False)
    )

    assert live.prefix_changes == fresh.prefix_changes > 0 == live.invalid_requests
    assert live.summary_tokens > fresh.summary_tokens
    assert live.usd_summaries < 0.7 * fresh.usd_summaries
    assert_sums_agree(live)


def test_a_summary_behind_the_runs_own_context_is_dear_where_its_cache_has_expired() -> None:
    bench = {seconds: Bench(recording_of(a_loop(200), seconds_per_step=seconds), model=CLAUDE) for seconds in (15, 400)}
    policy = replace(memory_at(10_000, summary_prefix=True), summariser="model")

    alive, dead = (bench[seconds].outcome(policy) for seconds in (15, 400))

    assert alive.summary_tokens == dead.summary_tokens
    assert dead.usd_summaries > 2 * alive.usd_summaries


def test_what_quotes_messages_is_asked_of_the_cheaper_model() -> None:
    bench = Bench(recording_of(a_loop(200)), model=CLAUDE)
    policy = replace(memory_at(10_000, summary_prefix=False), summariser="model")
    cheaper = replace(policy, config=replace(policy.config, compression_model="gpt-4o-mini"))

    assert bench.outcome(cheaper).usd_summaries < 0.2 * bench.outcome(policy).usd_summaries


@pytest.mark.parametrize(("model", "usd"), [("gpt-5.6-terra", 1.25), ("gpt-5.1", 1.0), (CLAUDE, 1.0)])
def test_a_fresh_summary_prompt_is_billed_as_a_write_where_the_provider_caches_by_itself(
    model: str, usd: float
) -> None:
    calls = [SummaryCall(input_tokens=100_000, cached_tokens=0, output_tokens=0, model=model)]

    outcome = backtest(a_loop(6), Scripted(calls=calls), model=GPT)

    base = PriceBook().rates(model, input_tokens=100_000).input
    assert outcome.usd_summaries == pytest.approx(usd * base / 10)


def test_a_policys_own_calls_are_priced_at_their_own_model() -> None:
    calls = [SummaryCall(input_tokens=1_000_000, cached_tokens=0, output_tokens=0, model="gpt-4o-mini")]

    outcome = backtest(a_loop(6), Scripted(calls=calls), model=CLAUDE)

    assert outcome.usd_summaries == pytest.approx(0.15)


def test_a_compression_tells_what_left_by_role_and_what_came() -> None:
    def masked(history: list[Any]) -> list[Any]:
        if len(history) < 20:
            return history
        return [{**one, "content": "gone"} if one["role"] == "tool" else one for one in history[:8]] + history[8:]

    outcome = backtest(a_loop(30), Scripted(choose=masked), model=GPT)

    (found,) = outcome.compressions
    assert (found.removed_count, found.added_count) == (3, 3)
    assert list(found.removed_tokens) == ["tool"]
    assert found.tokens_before - found.tokens_after == found.removed_tokens["tool"] - found.added_tokens


def test_a_message_is_counted_once_for_all_policies() -> None:
    counter = TiktokenCounter(GPT)
    bench = Bench(recording_of(a_loop()), model=GPT, counter=counter)
    bench.outcome(Everything())
    counted = counter.bytes_tokenised

    bench.outcome(LastMessages())
    bench.outcome(Memory(name="memory", config=MemoryConfig()))

    assert counter.bytes_tokenised == counted


def test_a_session_that_wants_to_know_hears_the_time_and_the_usage() -> None:
    policy = Curious()

    outcome = backtest(a_loop(20), policy, model=GPT, seconds_per_step=10)

    assert [usage.input_tokens for usage in policy.usages] == [step.sent_tokens for step in outcome.steps]
    assert policy.times == sorted(policy.times)
    assert policy.times[-1] == 10 * (outcome.requests - 1)


@dataclass(frozen=True, kw_only=True)
class Curious:
    name: str = "curious"
    times: list[float] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        return CuriousSession(self)


class CuriousSession(ScriptedSession):
    def __init__(self, policy: Curious) -> None:
        super().__init__(Scripted())
        self._told = policy

    def tell_time(self, at_seconds: float) -> None:
        self._told.times.append(at_seconds)

    def record_usage(self, usage: Usage) -> None:
        self._told.usages.append(usage)


def test_recorded_cache_marks_are_not_the_policys() -> None:
    block = {"type": "text", "text": "word " * 3_000, "cache_control": {"type": "ephemeral"}}
    messages = (
        {"role": "user", "content": [block]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "Done."},
    )
    transcript = Transcript(id="marked", source="marked.json", dialect="anthropic", messages=messages)
    bare = replace(
        transcript, messages=({**messages[0], "content": [{"type": "text", "text": block["text"]}]}, *messages[1:])
    )

    marked, unmarked = (backtest(one, Everything(), model=CLAUDE) for one in (transcript, bare))

    assert marked.steps == unmarked.steps
    assert marked.cached_tokens > 0


def test_a_fact_counts_where_it_stands_escaped() -> None:
    name = "größe_77_prüfung"  # inside JSON it stands in ASCII
    filler = [{"role": role, "content": "On it goes."} for _ in range(6) for role in ("assistant", "user")]
    messages = (
        {"role": "user", "content": f"The record is {name}"},
        *filler,
        {"role": "assistant", "content": f"I take {name} then."},
    )
    transcript = Transcript(id="escaped", source="e.json", dialect="openai_chat", messages=messages)
    policy = Scripted(choose=lambda history: [{"role": "user", "content": json.dumps({"record": name})}, *history[1:]])

    outcome = backtest(transcript, policy, model=GPT)

    assert (outcome.probes, outcome.retained) == (1, 1)


@pytest.mark.parametrize("name", ["none", "window", "sliding_window", "masking", "economic", "own"])
def test_the_laws_hold_on_a_recorded_run(corpus_dir: Path, name: str) -> None:
    transcript = recorded(corpus_dir)
    policies: list[Policy] = policies_named([name], thresholds=[10_000], own=MemoryConfig())
    bench = Bench(transcript, model=CLAUDE)

    everything, *others = [bench.outcome(policy) for policy in policies]

    assert (everything.retained, everything.invalid_requests) == (everything.probes, 0)
    assert everything.probes > 0
    for outcome in (everything, *others):
        assert_sums_agree(outcome)
        if name != "window":
            assert (outcome.invalid_requests, outcome.lost_first_task) == (0, 0)


def recorded(corpus_dir: Path) -> Any:
    found = read_transcripts(corpus_dir / "permissive" / "claude-code.jsonl.gz")
    return recording_of(max(found, key=lambda one: len(one.messages)))
