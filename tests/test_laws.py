"""Laws 1 to 10, over generated conversations in every format, with every strategy."""

from __future__ import annotations

import asyncio
import contextlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import (
    Action,
    Compressed,
    CompressionStrategy,
    ConfigError,
    ContextOverflowError,
    Decision,
    Degraded,
    InMemoryArchive,
    LLMMessage,
    MemoryConfig,
    MemoryManager,
    MessageError,
    Plan,
    Situation,
    validate,
)
from memory.messages import DialectName
from memory.testing import FailingSummarizer, FixedSummarizer, ScriptedLLM, WordCounter
from memory.units import Unit

from .conversations import builder_for, conversations
from .laws import Watched

DIALECT_NAMES: tuple[DialectName, ...] = ("openai_chat", "openai_responses", "anthropic", "gemini")
STRATEGIES = tuple(CompressionStrategy)


def small(strategy: str = "sliding_window", *, threshold: int = 150, **changes: Any) -> MemoryConfig:
    return MemoryConfig(
        max_context_tokens=changes.pop("max_context_tokens", 1_000_000),
        compression_threshold=threshold,
        compression_strategy=CompressionStrategy(strategy),
        short_term_size=changes.pop("short_term_size", 6),
        **changes,
    )


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
def test_every_law_holds_after_every_message(dialect: DialectName, strategy: str, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect))
    threshold = data.draw(st.sampled_from([60, 150, 400]))
    watched = Watched(small(strategy, threshold=threshold), dialect)
    watched.add_all(messages)
    reasons = [event.reason for event in watched.events if isinstance(event, Degraded)]
    assert all(reason.startswith(("nothing fits", "there is nothing to mask")) for reason in reasons), reasons


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_the_laws_hold_when_the_model_writes_the_summaries(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect))
    llm = ScriptedLLM("The user asked; the agent answered.")
    Watched(small(), dialect, llm=llm).add_all(messages)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize(
    "summarizer",
    [FailingSummarizer(), FailingSummarizer(error=RuntimeError("boom")), FixedSummarizer(text="word " * 10_000)],
    ids=["fails", "crashes", "inflates"],
)
@given(data=st.data())
@settings(max_examples=20)
def test_a_summary_that_fails_changes_nothing_and_the_next_step_of_the_ladder_is_taken(
    dialect: DialectName, summarizer: Any, data: st.DataObject
) -> None:
    messages = data.draw(conversations(dialect))
    watched = Watched(small(), dialect, summarizer=summarizer)
    watched.add_all(messages)
    for event in watched.events:
        if isinstance(event, Compressed) and event.summarised_count:
            assert event.method == "extractive"
    compressed = any(isinstance(event, Compressed) and event.summarised_count for event in watched.events)
    assert compressed <= any(isinstance(event, Degraded) for event in watched.events)
    assert watched.memory.get_stats()["degraded_count"] == sum(isinstance(e, Degraded) for e in watched.events)


@given(data=st.data())
@settings(max_examples=30)
def test_sync_and_async_give_the_same_contexts(data: st.DataObject) -> None:
    dialect = data.draw(st.sampled_from(DIALECT_NAMES))
    messages = data.draw(conversations(dialect))
    one = MemoryManager(small(), dialect=dialect, counter=WordCounter())
    other = MemoryManager(small(), dialect=dialect, counter=WordCounter())

    async def run() -> list[str]:
        seen = []
        for message in messages:
            await other.add_message(message)
            seen.append(json.dumps(other.get_context_for_llm()))
        return seen

    seen_async = asyncio.run(run())
    for message, expected in zip(messages, seen_async, strict=True):
        one.add_message_sync(message)
        assert json.dumps(one.get_context_for_llm()) == expected
    assert {k: v for k, v in one.get_stats().items() if "cost" not in k} == {
        k: v for k, v in other.get_stats().items() if "cost" not in k
    }


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_each_message_is_counted_once(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect))
    counter = WordCounter()
    memory = MemoryManager(small(), dialect=dialect, counter=counter)
    written = 0
    for message in messages:
        memory.add_message_sync(message)
        if memory.was_compressed_last_iteration:
            written += 1
    assert len(messages) <= counter.readings_counted <= len(messages) + written


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_number_of_compressions_is_bounded_by_growth(strategy: str) -> None:
    config = small(strategy, threshold=400)
    memory = MemoryManager(config, dialect="openai_chat", counter=WordCounter())
    build = builder_for("openai_chat")
    memory.add_message_sync(build.user("find the bug")[0])
    words = 0
    for n in range(300):
        for message in [
            *build.assistant("", [(f"c{n}", "read", {"path": f"f{n}.py"})]),
            *build.results([(f"c{n}", "read", f"line {n} of the file " * 14)]),
        ]:
            memory.add_message_sync(message)
            words += 70
    count = memory.get_stats()["compression_count"]
    assert 0 < count <= words / (400 * 0.2)


class SlowModel:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, prompt: str) -> str:
        self.asked.set()
        await self.may_answer.wait()
        return "a short summary"


def _chatter(count: int, words: int = 30) -> list[dict[str, Any]]:
    return [
        {"role": "assistant" if n % 2 else "user", "content": f"message {n} " + "word " * words} for n in range(count)
    ]


async def _until_asked(memory: MemoryManager, model: SlowModel) -> tuple[asyncio.Task[None], list[dict[str, Any]]]:
    """Add messages until a compression asks the model; return the add that waits, and all messages so far."""
    added = []
    for message in _chatter(100):
        added.append(message)
        task = asyncio.create_task(memory.add_message(message))
        asked = asyncio.create_task(model.asked.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if model.asked.is_set():
            return task, added
    raise AssertionError("no compression came")


async def test_messages_added_while_a_compression_runs_are_neither_lost_nor_reordered() -> None:
    model = SlowModel()
    memory = MemoryManager(small(threshold=300), model, counter=WordCounter())
    task, added = await _until_asked(memory, model)
    late = [{"role": "user", "content": "late one"}, {"role": "assistant", "content": "late two"}]
    for message in late:
        await memory.add_message(message)
    assert memory.get_context_for_llm()[-2:] == late
    model.may_answer.set()
    await task
    context = memory.get_context_for_llm()
    assert [m for m in context if any(m is one for one in late)] == late
    assert context[-2:] == late
    assert memory.get_stats()["compression_count"] >= 1
    for seq, message in enumerate([*added, *late], start=1):
        assert memory.original(f"r{seq}") is message


async def test_cancelling_a_compression_leaves_the_old_state_and_the_next_message_tries_again() -> None:
    model = SlowModel()
    memory = MemoryManager(small(threshold=300), model, counter=WordCounter())
    task, added = await _until_asked(memory, model)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert memory.get_context_for_llm() == added
    assert memory.get_stats()["compression_count"] == 0
    model.may_answer.set()
    await memory.add_message({"role": "user", "content": "go on"})
    assert memory.get_stats()["compression_count"] == 1


def test_a_failing_generator_does_not_leave_the_manager_locked() -> None:
    memory = MemoryManager(
        small(threshold=200), dialect="openai_chat", counter=WordCounter(), summarizer=FailingSummarizer()
    )
    for message in _chatter(40):
        memory.add_message_sync(message)
    assert memory.get_stats()["compression_count"] > 1


def test_an_error_of_the_ladder_keeps_its_reason_free_of_message_text() -> None:
    events: list[Any] = []
    secret = "the password is hunter2"
    failing = FailingSummarizer(error=ValueError(secret))
    memory = MemoryManager(
        small(threshold=200), counter=WordCounter(), summarizer=failing, on_event=events.append, dialect="openai_chat"
    )
    for message in _chatter(40):
        memory.add_message_sync(message)
    degraded = [event for event in events if isinstance(event, Degraded)]
    assert degraded
    assert all(secret not in event.reason for event in degraded)
    assert any("ValueError" in event.reason for event in degraded)


def test_a_result_that_comes_late_in_responses_still_finds_its_call() -> None:
    def called(n: int) -> dict[str, Any]:
        return {"type": "function_call", "call_id": f"c{n}", "name": "read", "arguments": "{}"}

    def answered(n: int, text: str = "ok") -> dict[str, Any]:
        return {"type": "function_call_output", "call_id": f"c{n}", "output": text}

    watched = Watched(small(threshold=300, short_term_size=1), "openai_responses", checks_validity=False)
    long = "value " * 400
    watched.add_all([{"role": "user", "content": "go"}, called(1), called(2), answered(1, long), called(3)])
    watched.add_all([answered(3, long), called(4), answered(4, long), called(5), answered(5, long), answered(2)])
    assert validate(watched.memory.get_context_for_llm(), "openai_responses") == []


class CutsBetween:
    """A strategy that drops every unit but tells the compressor that calls and results are units of their own."""

    name = "cuts_between"

    def plan(self, situation: Situation) -> Plan:
        decisions = []
        for unit in situation.units:
            for offset, entry in enumerate(unit.entries):
                start = unit.start + offset
                part = Unit(start=start, stop=start + 1, entries=(entry,), tokens=entry.tokens, is_open=False)
                drops = bool(entry.reading.results) and unit.start > 0
                action = Action.DROP if drops else Action.KEEP
                after = 0 if drops else entry.tokens
                decisions.append(Decision(unit=part, action=action, reason="odd", tokens_after=after))
        return Plan(strategy=self.name, decisions=tuple(decisions))


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_plan_that_would_break_a_providers_rule_replaces_nothing(dialect: DialectName) -> None:
    events: list[Any] = []
    memory = MemoryManager(
        small(threshold=100), dialect=dialect, counter=WordCounter(), strategy=CutsBetween(), on_event=events.append
    )
    build = builder_for(dialect)
    messages = build.user("go")
    for n in range(6):
        messages += build.assistant("", [(f"c{n}", "read", {"n": n})])
        messages += build.results([(f"c{n}", "read", "word " * 60)])
    for message in messages:
        memory.add_message_sync(message)
    assert memory.get_context_for_llm() == messages
    assert any(isinstance(event, Degraded) and "would break" in event.reason for event in events)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
@settings(max_examples=25)
def test_the_laws_hold_at_the_hard_limit_too(dialect: DialectName, strategy: str, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect))
    limit = data.draw(st.sampled_from([200, 400, 900]))
    watched = Watched(small(strategy, threshold=limit // 2, max_context_tokens=limit), dialect)
    for message in messages:
        with contextlib.suppress(ContextOverflowError):
            watched.add(message)
    assert watched.memory.messages[-1] is messages[-1] or watched.memory.get_stats()["masked_count"]
    watched.check_bytes()


def test_after_a_compression_the_context_must_grow_before_the_next() -> None:
    events: list[Any] = []
    memory = MemoryManager(
        small(threshold=300, short_term_size=2), dialect="openai_chat", counter=WordCounter(), on_event=events.append
    )
    memory.add_message_sync({"role": "user", "content": "word " * 290})  # a floor just below the threshold
    for message in _chatter(60, words=20)[1:]:
        memory.add_message_sync(message)
    compressions = [event for event in events if isinstance(event, Compressed)]
    gaps = [b.tokens_before - a.tokens_after for a, b in pairwise(compressions)]
    assert gaps
    assert min(gaps) >= 300 * 0.2


def test_one_archive_serves_one_conversation() -> None:
    archive = InMemoryArchive()
    first = MemoryManager(small(threshold=100), counter=WordCounter(), archive=archive, dialect="openai_chat")
    second = MemoryManager(small(threshold=100), counter=WordCounter(), archive=archive, dialect="openai_chat")
    for message in _chatter(20):
        first.add_message_sync(message)
    with pytest.raises(ConfigError, match="archive"):
        second.load_history_sync(_chatter(20))
    with pytest.raises(ConfigError, match="another conversation"):
        MemoryManager(archive=archive)


def test_an_llm_message_in_a_responses_conversation_can_be_summarised() -> None:
    events: list[Any] = []
    memory = MemoryManager(
        small(threshold=150), dialect="openai_responses", counter=WordCounter(), on_event=events.append
    )
    for n in range(30):
        memory.add_message_sync(
            LLMMessage("user" if n % 2 == 0 else "assistant", f"path/to/file_{n}.py " + "word " * 20)
        )
    assert any(isinstance(event, Compressed) for event in events)
    assert not any(isinstance(event, Degraded) for event in events)


def test_a_message_of_another_format_is_refused_once_the_format_is_known() -> None:
    memory = MemoryManager(small(), counter=WordCounter())
    memory.add_message_sync({"role": "user", "content": "hi"})
    memory.add_message_sync(builder_for("openai_chat").assistant("", [("c", "f", {})])[0])
    with pytest.raises(MessageError):
        memory.add_message_sync({"role": "user", "parts": [{"text": "of Gemini"}]})
    assert len(memory.messages) == 2
