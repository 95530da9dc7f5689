"""What a public predecessor with the same component names got wrong, row by row (design, part 5)."""

from __future__ import annotations

import base64
import os
from typing import Any

from memory import (
    Compressed,
    CompressionStrategy,
    MemoryConfig,
    MemoryManager,
    TiktokenCounter,
    TokenTracker,
)
from memory.testing import ScriptedLLM

from .conversations import builder_for

CHAT = builder_for("openai_chat")


def test_one_message_of_300_kb_stays_in_the_context() -> None:
    memory = MemoryManager(MemoryConfig())
    system, request = CHAT.system("You are an agent.")[0], CHAT.user("please sort these lines\n" * 12_500)[0]
    memory.add_message_sync(system)
    memory.add_message_sync(request)
    assert memory.get_context_for_llm() == [system, request]


def test_a_task_and_40_tool_rounds_of_60_kb_keep_the_task_and_are_compressed_as_often_as_they_grow() -> None:
    events: list[Any] = []
    memory = MemoryManager(MemoryConfig(), on_event=events.append)
    task = CHAT.user("Find out why the nightly build fails.")[0]
    memory.add_message_sync(task)
    line = "the build step compiles one more module with the usual options and says so, number {n}\n"
    for n in range(40):
        for message in [
            *CHAT.assistant("", [(f"c{n}", "read_log", {"path": f"logs/{n}.txt"})]),
            *CHAT.results([(f"c{n}", "read_log", "".join(line.format(n=n * 1000 + i) for i in range(690)))]),
        ]:
            memory.add_message_sync(message)
            assert memory.get_context_for_llm()[0] is task
    compressions = [event for event in events if isinstance(event, Compressed)]
    grown = memory.get_stats()["total_savings"] > 0 and sum(e.tokens_before - e.tokens_after for e in compressions)
    assert len(compressions) <= 20, "at most one for each two rounds, where two rounds pass the threshold"
    assert all(event.tokens_after < 40_000 for event in compressions)
    assert grown > 40 * 15_000 * 0.7
    assert memory.compressed_memory is not None
    assert memory.compressed_memory.summary


FACTS = [f"Fact {n}: the port of service_{n} is {4700 + n}." for n in range(30)]


def test_a_summariser_that_answers_503_loses_none_of_30_facts() -> None:
    llm = ScriptedLLM(RuntimeError("503 Service Unavailable"))
    memory = MemoryManager(MemoryConfig(compression_threshold=2_000), llm)
    memory.add_message_sync(CHAT.user("Remember what I tell you about the services.")[0])
    for fact in FACTS:
        memory.add_message_sync(CHAT.user(fact)[0])
        memory.add_message_sync(CHAT.assistant("Noted. " + "I will keep that in mind for later. " * 20)[0])
    for n in range(30):
        memory.add_message_sync(CHAT.user(f"Unrelated remark {n}. " + "Nothing to see here. " * 20)[0])
    stats = memory.get_stats()
    assert llm.prompts
    assert stats["compression_count"] > 0
    assert stats["degraded_count"] > 0
    context = str(memory.get_context_for_llm())
    missing = [fact for n, fact in enumerate(FACTS) if f"service_{n} is {4700 + n}" not in context]
    assert all(memory.recall(fact)[0].message["content"] == fact for fact in missing)
    assert len(missing) <= 3, missing


def test_prices_are_the_models_own() -> None:
    tracker = TokenTracker()
    assert tracker.calculate_cost("gpt-4o-mini", input_tokens=1_000_000, output_tokens=0) == 0.15
    assert tracker.calculate_cost("gpt-4o", input_tokens=1_000_000, output_tokens=0) == 2.50
    assert tracker.calculate_cost("gemini-2.5-pro", input_tokens=100_000, output_tokens=0) == 0.125


def test_an_image_of_300_kb_is_counted_as_an_image() -> None:
    data = base64.b64encode(os.urandom(300_000)).decode()
    message = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}],
    }
    assert TokenTracker().count_message_tokens(message, "openai", "gpt-4o") < 2_000
    memory = MemoryManager(MemoryConfig(), model="gpt-4o")
    memory.add_message_sync(message)
    assert memory.current_tokens < 2_000


def test_121_tiny_messages_are_not_compressed() -> None:
    memory = MemoryManager(MemoryConfig())
    for n in range(121):
        memory.add_message_sync(CHAT.user("ok")[0] if n % 2 == 0 else CHAT.assistant("go on")[0])
    assert memory.get_stats()["compression_count"] == 0
    assert len(memory.get_context_for_llm()) == 121


def test_the_strategy_that_the_user_chose_is_the_one_that_runs() -> None:
    for strategy in CompressionStrategy:
        events: list[Any] = []
        memory = MemoryManager(
            MemoryConfig(compression_threshold=1_000, compression_strategy=strategy), on_event=events.append
        )
        memory.add_message_sync(CHAT.user("go")[0])
        for n in range(40):
            for message in [
                *CHAT.assistant("", [(f"c{n}", "read", {"n": n})]),
                *CHAT.results([(f"c{n}", "read", f"line {n} of the file\n" * 20)]),
            ]:
                memory.add_message_sync(message)
        used = {event.strategy for event in events if isinstance(event, Compressed)}
        assert used == {strategy.value}


def test_a_message_is_tokenised_once() -> None:
    counter = TiktokenCounter("gpt-4o")
    memory = MemoryManager(MemoryConfig(enable_compression=False), counter=counter)
    total = 0
    for n in range(200):
        text = f"message {n} " + "some words " * 50
        total += len(text)
        memory.add_message_sync(CHAT.user(text)[0] if n % 2 == 0 else CHAT.assistant(text)[0])
        memory.get_context_for_llm()
        memory.get_stats()
    assert counter.bytes_tokenised <= total
