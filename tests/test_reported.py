"""The benchmark that compares the memory's figures with reported usage, on runs whose usage is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from anthropic import Anthropic

from agent.transcripts import Transcript
from benchmarks.reported import PUBLISHED, Published, published, recorded, rows, stand_ins, stood_in
from memory import MemoryConfig, MemoryManager
from memory.native import to_wire
from memory.testing.simulators import ProviderSimulator
from memory.usage import Usage, read_usage

from .conversations import builder_for

CLAUDE = builder_for("anthropic")
MODEL = "claude-sonnet-4-6"
WORDS = "the valve on page nine opens at eleven bar and closes at ten " * 60


def simulated_run() -> Transcript:
    """Twelve turns with the simulated provider, which counts four characters a token and knows a long system prompt."""
    memory = MemoryManager(MemoryConfig(cache_breakpoints=True), dialect="anthropic", model=MODEL)
    messages: list[Any] = []
    usages: list[tuple[int, Usage]] = []
    with ProviderSimulator("anthropic", [f"answer {n} {WORDS}" for n in range(12)]) as server:
        client = Anthropic(base_url=server.base_url, api_key="test", max_retries=0)
        for turn in range(12):
            messages += CLAUDE.user(f"question {turn} {WORDS}")
            memory.add_message_sync(messages[-1])
            context = memory.get_context_for_llm()
            reply = client.messages.create(model=MODEL, max_tokens=9, system=WORDS * 5, messages=context)
            if (usage := read_usage(reply)) is not None:
                usages.append((len(messages), usage))
            memory.add_message_sync(reply)
            messages.append({"role": "assistant", "content": [to_wire(block) for block in reply.content]})
    return Transcript(
        id="run", source="here", dialect="anthropic", messages=tuple(messages), model=MODEL, usages=tuple(usages)
    )


def test_a_strangers_count_is_met_within_three_per_cent_after_five_calls_and_its_reads_are_foretold() -> None:
    found = recorded(simulated_run())

    assert len(found.errors) == 7
    assert max(found.errors) < 0.03
    assert found.reported_reads > found.reported_input * 0.8
    assert found.predicted_reads == pytest.approx(found.reported_reads, rel=0.01)


def test_what_was_published_is_what_the_simulated_cache_does() -> None:
    for run in PUBLISHED:
        found = published(run)
        assert found.predicted_reads == pytest.approx(found.reported_reads, rel=0.001)


def test_a_run_that_reads_nothing_is_told_from_one_that_reads_all() -> None:
    cold = Published(source="here", model="gpt-4-turbo", requests=((9_000, 0), (9_500, 0)))
    assert published(cold).predicted_reads == 0


def test_a_transcript_without_usage_is_judged_by_a_stand_in() -> None:
    transcript = replace(simulated_run(), usages=())
    found = stood_in(transcript, stand_ins()["anthropic"])

    (row,) = rows([found])
    assert (row.kind, row.runs, row.requests, row.is_met) == ("stand-in", 1, 7, True)
