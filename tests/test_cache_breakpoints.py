"""Prompt-cache marks that the manager places: where, on what, and what they win at the provider."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from anthropic import Anthropic
from hypothesis import given
from hypothesis import strategies as st

from memory import Compressed, CompressionStrategy, LLMMessage, MemoryConfig, MemoryManager, validate
from memory.dialects import DIALECTS
from memory.integrations import with_memory
from memory.native import to_wire
from memory.testing import FixedSummarizer, WordCounter
from memory.testing.simulators import ProviderSimulator

from .conversations import Message, builder_for, conversations

CLAUDE = builder_for("anthropic")
MARK = {"type": "ephemeral"}
FILLER = "and this is said in many words which nobody will ever need again " * 40


def manager(**options: Any) -> MemoryManager:
    settings: dict[str, Any] = {"compression_threshold": 6_000, "short_term_size": 4, "max_summaries": 3}
    config = MemoryConfig(cache_breakpoints=options.pop("marks", True), **(settings | options.pop("settings", {})))
    return MemoryManager(
        config,
        dialect="anthropic",
        model="claude-sonnet-4-6",
        summarizer=FixedSummarizer(text="They talked."),
        **options,
    )


def marked_at(context: list[Any]) -> list[int]:
    return [index for index, message in enumerate(context) if "cache_control" in json.dumps(to_wire(message))]


def unmarked(message: object) -> Any:
    """A message as the model sees it: without marks, a text as the block that it stands for."""
    wire = to_wire(message)
    content = wire["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    bare = [{name: value for name, value in block.items() if name != "cache_control"} for block in blocks]
    return {**wire, "content": bare}


def talk(memory: MemoryManager, turns: int) -> None:
    for turn in range(turns):
        memory.add_message_sync(CLAUDE.user(f"question {turn} {FILLER}")[0])
        memory.add_message_sync(CLAUDE.assistant(f"answer {turn} {FILLER}")[0])


# --- Where they stand


def test_this_request_the_one_before_and_the_task_end_in_a_mark() -> None:
    memory = manager(settings={"compression_threshold": 90_000})
    talk(memory, 3)
    memory.add_message_sync(CLAUDE.user("and now?")[0])
    assert marked_at(memory.get_context_for_llm()) == [0, 4, 6]


def test_after_a_compression_the_summaries_end_in_one() -> None:
    memory = manager()
    while not memory.compressed_memory:
        talk(memory, 1)
    memory.add_message_sync(CLAUDE.user("and now?")[0])

    context = memory.get_context_for_llm()
    summaries = [index for index, origin in enumerate(memory.origins()) if origin is None]
    assert marked_at(context)[0] == summaries[-1]
    assert marked_at(context)[-1] == len(context) - 1


def test_a_mark_stands_on_the_last_block_that_may_carry_one() -> None:
    memory = manager()
    memory.add_message_sync(CLAUDE.user("look")[0])
    memory.add_message_sync(CLAUDE.assistant(calls=[("a", "read", {}), ("b", "read", {})])[0])
    results = CLAUDE.results([("a", "read", "one"), ("b", "read", "two")])[0]
    memory.add_message_sync(results)

    *_, last = memory.get_context_for_llm()
    assert [block.get("cache_control") for block in last["content"]] == [None, MARK]
    assert results["content"][1].keys() == {"type", "tool_use_id", "content"}


def test_only_the_marks_move() -> None:
    memory = manager()
    memory.add_message_sync(CLAUDE.user("one")[0])
    first = memory.get_context_for_llm()
    assert memory.get_context_for_llm()[0] is first[0]
    memory.add_message_sync(CLAUDE.assistant("two")[0])
    memory.add_message_sync(CLAUDE.user("three")[0])
    assert memory.get_context_for_llm()[0] is first[0]


@pytest.mark.parametrize(
    "options",
    [
        {"marks": False},
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}]},
        {"tools": [{"name": "read", "input_schema": {}, "cache_control": MARK}]},
    ],
    ids=["switched off", "the system prompt is marked", "a tool is marked"],
)
def test_nothing_is_marked_where_it_is_not_wanted_or_the_caller_does_it(options: dict[str, Any]) -> None:
    memory = manager(**options)
    talk(memory, 2)
    assert all(sent is own for sent, own in zip(memory.get_context_for_llm(), memory.messages, strict=True))


def test_nothing_is_added_to_a_callers_own_marks() -> None:
    memory = manager()
    memory.add_message_sync({"role": "user", "content": [{"type": "text", "text": "mine", "cache_control": MARK}]})
    memory.add_message_sync(CLAUDE.assistant("yes")[0])
    memory.add_message_sync(CLAUDE.user("go on")[0])
    assert marked_at(memory.get_context_for_llm()) == [0]


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "gemini"])
def test_other_formats_know_no_marks(dialect: Any) -> None:
    memory = MemoryManager(MemoryConfig(cache_breakpoints=True), dialect=dialect)
    memory.add_message_sync(builder_for(dialect).user("hello")[0])
    assert memory.get_context_for_llm()[0] is memory.messages[0]


def test_an_llm_message_stays_one() -> None:
    memory = manager()
    memory.add_message_sync(LLMMessage("user", "hello"))
    (sent,) = memory.get_context_for_llm()
    assert isinstance(sent, LLMMessage)
    assert marked_at([sent]) == [0]
    assert memory.messages == [LLMMessage("user", "hello")]


def test_a_loop_that_keeps_what_it_was_given_goes_on_being_marked_at_its_end() -> None:
    memory = manager()
    log: list[Any] = [CLAUDE.user("start")[0]]
    for step in range(6):
        memory.follow_sync(log)
        log = memory.get_context_for_llm()
        assert marked_at(log)[-1] == len(log) - 1
        log += [*CLAUDE.assistant(f"answer {step}"), *CLAUDE.user(f"question {step}")]
    assert marked_at(memory.messages) == []
    assert memory.get_stats()["message_count"] == 11


# --- The law


@given(data=st.data())
def test_marks_change_nothing_but_what_is_cached(data: st.DataObject) -> None:
    strategy = data.draw(st.sampled_from(tuple(CompressionStrategy)))
    messages: list[Message] = data.draw(conversations("anthropic"))
    config = MemoryConfig(
        max_context_tokens=1_000_000,
        compression_threshold=150,
        short_term_size=6,
        compression_strategy=strategy,
        cache_breakpoints=True,
    )
    memory = MemoryManager(config, dialect="anthropic", counter=WordCounter())
    for message in messages:
        memory.add_message_sync(message)
        own, sent = memory.messages, memory.get_context_for_llm()
        assert [unmarked(one) for one in sent] == [unmarked(one) for one in own]
        assert marked_at(own) == []
        assert 1 <= len(marked_at(sent)) <= 3 or not any(map(_may_be_marked, own))
        assert json.dumps([to_wire(one) for one in sent]).count("cache_control") == len(marked_at(sent))
        assert [str(issue) for issue in validate(sent, "anthropic")] == [str(i) for i in validate(own, "anthropic")]
        assert all(
            one is other for i, (one, other) in enumerate(zip(sent, own, strict=True)) if i not in marked_at(sent)
        )
    assert all(memory.original(f"r{seq}") is message for seq, message in enumerate(messages, start=1))


def _may_be_marked(message: object) -> bool:
    return DIALECTS["anthropic"].read(to_wire(message)).role in ("user", "tool")


# --- What they win


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one request of a run was, by its provider."""

    input_tokens: int
    read_tokens: int
    follows_compression: bool


def long_run(*, marks: bool) -> list[Sent]:
    """Ask 30 questions after a long task, with compressions in between."""
    memory, compressed_at, step = manager(marks=marks), [], 0
    memory = MemoryManager(
        memory.config,
        dialect="anthropic",
        model="claude-sonnet-4-6",
        summarizer=FixedSummarizer(text="They talked of words."),
        on_event=lambda event: compressed_at.append(step) if isinstance(event, Compressed) else None,
    )
    memory.add_message_sync(CLAUDE.user(f"the task {FILLER * 3}")[0])
    with ProviderSimulator("anthropic", [f"answer {n} {FILLER}" for n in range(30)]) as server:
        client = Anthropic(base_url=server.base_url, api_key="test", max_retries=0)
        for step in range(30):
            context = memory.get_context_for_llm()
            memory.add_message_sync(client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=context))
            memory.add_message_sync(CLAUDE.user(f"question {step} {FILLER}")[0])
        used = [one.used for one in server.requests if one.used]
    return [
        Sent(input_tokens=u.input_tokens, read_tokens=u.cache_read_tokens, follows_compression=n - 1 in compressed_at)
        for n, u in enumerate(used)
    ]


def test_the_cached_share_rises_from_nothing_to_what_the_rules_allow() -> None:
    assert [one.read_tokens for one in long_run(marks=False)] == [0] * 30

    run = long_run(marks=True)
    task_tokens = run[0].input_tokens
    compressions = sum(one.follows_compression for one in run)
    assert 2 <= compressions <= 15
    for before, now in pairwise(run):
        if now.follows_compression:
            assert now.read_tokens >= task_tokens
        else:
            assert now.read_tokens == before.input_tokens


@pytest.mark.parametrize("asks_itself", [False, True], ids=["marks of the memory", "the call asks for caching"])
def test_a_wrapped_client_sends_the_marks_unless_the_call_asks_for_caching(asks_itself: bool) -> None:
    automatic: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}} if asks_itself else {}
    memory = manager()
    with ProviderSimulator("anthropic", ["one", "two"]) as server:
        client = with_memory(Anthropic(base_url=server.base_url, api_key="test", max_retries=0), memory)
        log: list[Any] = CLAUDE.user(f"task {FILLER * 4}")
        for step in range(2):
            reply = client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=log, **automatic)
            log += [{"role": "assistant", "content": reply.content}, *CLAUDE.user(f"question {step}")]
        bodies = [json.dumps(one.body["messages"]) for one in server.requests]
        used = [one.used for one in server.requests if one.used]

    assert [body.count("cache_control") for body in bodies] == ([0, 0] if asks_itself else [1, 2])
    assert used[1].cache_read_tokens == used[0].input_tokens
