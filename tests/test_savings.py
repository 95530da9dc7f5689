"""What a run says it cost and saved: through the manager, turn by turn, in round prices."""

from __future__ import annotations

from typing import Any

import pytest

from memory import BudgetExceededError, MemoryConfig, MemoryManager, OverBudget, TokenTracker
from memory.events import Compressed, Degraded, Event
from memory.testing import FixedSummarizer, ScriptedLLM, WordCounter

from .conversations import builder_for

CHAT = builder_for("openai_chat")
PRICING = {"m": {"input": 1.0, "output": 1.0, "cache_read": 0.1}}
FILLER = "and this is said in many words which nobody will ever need again " * 12


def manager(llm: object | None = None, **settings: Any) -> tuple[MemoryManager, list[Event]]:
    events: list[Event] = []
    defaults: dict[str, Any] = {"compression_threshold": 2_000, "compression_model": "m" if llm else None}
    memory = MemoryManager(
        MemoryConfig(**(defaults | settings)),
        llm,
        model="m",
        counter=WordCounter(),
        tracker=TokenTracker(PRICING),
        summarizer=None if llm else FixedSummarizer(text="They talked of words."),
        on_event=events.append,
    )
    return memory, events


def play(memory: MemoryManager, turns: int, *, cached: float | None = None) -> None:
    """Ask and answer; with `cached`, report usage whose cache reads are that share of what was sent before."""
    sent_before = 0
    for turn in range(turns):
        memory.add_message_sync(CHAT.user(f"question {turn} {FILLER}")[0])
        sent = memory.current_tokens
        reads = int(min(sent, sent_before) * cached) if cached is not None else 0
        usage = {"input": sent, "output": 159, "cached": reads} if cached is not None else None
        memory.add_message_sync(CHAT.assistant(f"answer {turn} {FILLER}")[0], usage)
        sent_before = sent


@pytest.mark.parametrize("cached", [None, 0.0, 0.9], ids=["no reports", "no cache", "a warm cache"])
def test_where_nothing_was_compressed_nothing_was_saved(cached: float | None) -> None:
    memory, _ = manager(compression_threshold=100_000)
    play(memory, 12, cached=cached)
    stats = memory.get_stats()

    assert stats["cost_without_memory"] == stats["total_cost"] > 0
    assert (stats["net_cost"], stats["total_savings"], stats["net_savings"], stats["savings_percentage"]) == (
        0,
        0,
        0,
        0,
    )


def test_tokens_saved_are_those_not_sent_over_all_requests() -> None:
    memory, _ = manager()
    play(memory, 30, cached=0.0)
    stats, unlimited = memory.get_stats(), manager(compression_threshold=100_000)[0]
    play(unlimited, 30, cached=0.0)
    whole = unlimited.get_stats()

    assert stats["compression_count"] > 0
    assert stats["total_input_tokens"] + stats["total_savings"] == pytest.approx(whole["total_input_tokens"], rel=0.02)
    assert stats["cost_without_memory"] == pytest.approx(whole["total_cost"], rel=0.02)
    assert stats["net_cost"] == pytest.approx(stats["cost_without_memory"] - stats["total_cost"])


def test_a_warm_cache_is_not_claimed_as_a_saving() -> None:
    memory, _ = manager()
    play(memory, 30, cached=1.0)
    stats, unlimited = memory.get_stats(), manager(compression_threshold=100_000)[0]
    play(unlimited, 30, cached=1.0)

    assert stats["cost_without_memory"] == pytest.approx(unlimited.get_stats()["total_cost"], rel=0.1)


def test_summary_calls_count_as_calls_and_are_deducted() -> None:
    memory, _ = manager(ScriptedLLM("They talked of words."))
    play(memory, 30, cached=0.0)
    stats = memory.get_stats()

    assert stats["compression_tokens"] > 0
    assert stats["compression_cost"] == pytest.approx(stats["compression_tokens"] * 1e-6)
    assert stats["net_savings"] == stats["total_savings"] - stats["compression_tokens"]
    assert stats["cost_is_estimate"], "the summaries' usage was not reported"
    assert stats["request_count"] == 30


def test_a_compression_event_has_the_cost_of_its_summary() -> None:
    memory, events = manager(ScriptedLLM("They talked of words."))
    play(memory, 30)
    costs = [event.cost_usd for event in events if isinstance(event, Compressed)]

    assert all(cost > 0 for cost in costs)
    assert sum(costs) == pytest.approx(memory.get_stats()["compression_cost"])


def test_without_a_model_a_compression_costs_nothing() -> None:
    memory, events = manager()
    play(memory, 30)

    assert memory.get_stats()["compression_cost"] == 0
    assert {event.cost_usd for event in events if isinstance(event, Compressed)} == {0}


# --- The limit --------------------------------------------------------------------------------------------------------


def test_the_call_that_would_pass_the_limit_is_refused_before_it_is_made() -> None:
    memory, events = manager(max_cost_dollars=0.001)
    memory.add_message_sync(CHAT.user("go")[0])
    memory.get_context_for_llm()
    memory.add_message_sync(CHAT.assistant("ok")[0], {"input": 995, "output": 0})

    with pytest.raises(BudgetExceededError, match="max_cost_dollars") as refusal:
        memory.get_context_for_llm()
    assert refusal.value.spent_usd == pytest.approx(0.000995)
    assert refusal.value.spent_usd + refusal.value.next_call_usd > refusal.value.limit_usd == 0.001
    assert [event.purpose for event in events if isinstance(event, OverBudget)] == ["agent"]


def test_the_conversation_survives_the_refusal() -> None:
    memory, _ = manager(max_cost_dollars=0.001)
    memory.add_message_sync(CHAT.user("go")[0], {"input": 2_000, "output": 0})
    with pytest.raises(BudgetExceededError):
        memory.get_context_for_llm()

    assert memory.messages == CHAT.user("go")
    assert memory.original("r1") == CHAT.user("go")[0]


def test_a_summary_that_would_pass_the_limit_is_written_without_the_model() -> None:
    llm = ScriptedLLM("never asked")
    memory, events = manager(llm, max_cost_dollars=0.001)
    for turn in range(20):
        memory.add_message_sync(CHAT.user(f"Why does service_{turn} answer {400 + turn}? {FILLER}")[0])

    assert llm.prompts == []
    assert [event.method for event in events if isinstance(event, Compressed)] == ["extractive"]
    assert any(isinstance(event, OverBudget) and event.purpose == "summary" for event in events)
    assert "max_cost_dollars" in next(event.reason for event in events if isinstance(event, Degraded))


def test_an_unknown_model_is_marked_in_the_figures() -> None:
    memory = MemoryManager(MemoryConfig(), model="unheard-of", counter=WordCounter())
    memory.add_message_sync(CHAT.user("go")[0])
    memory.add_message_sync(CHAT.assistant("ok")[0], {"input": 1_000, "output": 100})
    stats = memory.get_stats()

    assert (stats["cost_is_estimate"], stats["unpriced_tokens"]) == (True, 1_100)
    assert stats["total_cost"] == pytest.approx((1_000 * 0.55 + 100 * 2.19) / 1e6)


def test_a_known_model_whose_usage_was_reported_is_not_marked() -> None:
    memory = MemoryManager(MemoryConfig(), model="gpt-4o", counter=WordCounter())
    memory.add_message_sync(CHAT.user("go")[0])
    memory.add_message_sync(CHAT.assistant("ok")[0], {"input": 1_000, "output": 100})
    stats = memory.get_stats()

    assert (stats["cost_is_estimate"], stats["unpriced_tokens"]) == (False, 0)
    assert stats["total_cost"] == pytest.approx((1_000 * 2.5 + 100 * 10) / 1e6)


def test_an_earlier_runs_messages_are_not_billed_to_this_one() -> None:
    memory, _ = manager()
    memory.load_history_sync([*CHAT.user("go"), *CHAT.assistant("ok"), *CHAT.user("and?")])

    assert memory.get_stats()["total_cost"] == 0
    memory.add_message_sync(CHAT.assistant("done")[0])
    assert memory.get_stats()["request_count"] == 1
