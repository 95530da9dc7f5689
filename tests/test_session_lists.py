"""A caller who keeps the list and hands it to a resumed memory: what is in it is known, in whatever objects."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from memory import LLMMessage, MemoryConfig, MemoryManager
from memory.messages import DialectName
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing import WordCounter

from .twins import context_of, stats_of

CONFIG = MemoryConfig(max_context_tokens=4_000, compression_threshold=400, short_term_size=4)
OPENAI = pytest.importorskip("openai.types.responses", reason="openai is not installed")


def chat_turn(number: int) -> list[Any]:
    from openai.types.chat import ChatCompletion

    message = {"role": "assistant", "content": f"part {number} adds {number} " + "and so on " * 8}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice]}
    return [ChatCompletion.model_validate(whole), LLMMessage("user", f"and part {number + 1}?")]


def response_turn(number: int) -> list[Any]:
    calls = [
        {"type": "function_call", "call_id": f"{name}{number}", "name": name, "arguments": "{}", "id": f"i{name}"}
        for name in ("look", "read")
    ]
    whole = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-4o", "output": calls, "tools": []}
    whole |= {"parallel_tool_calls": True, "tool_choice": "auto"}
    text = f"part {number} " + "and so on " * 8
    results = [{"type": "function_call_output", "call_id": call["call_id"], "output": text} for call in calls]
    return [OPENAI.Response.model_validate(whole), *results]


def anthropic_turn(number: int) -> list[Any]:
    block = {"type": "text", "text": f"part {number} adds {number} " + "and so on " * 8}
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [block], "usage": {}}
    return [whole, {"role": "user", "content": f"and part {number + 1}?"}]


TURNS = {"openai_chat": chat_turn, "openai_responses": response_turn, "anthropic": anthropic_turn}
dialects = pytest.mark.parametrize("dialect", list(TURNS))


def followed(
    dialect: DialectName, store: SqliteSessionStore | None, turn_count: int
) -> tuple[MemoryManager, list[Any]]:
    """Return a memory that followed a list for so many turns, and the list."""
    memory = MemoryManager(CONFIG, dialect=dialect, counter=WordCounter(), store=store)
    messages: list[Any] = [{"role": "user", "content": "read all parts"}]
    for number in range(turn_count):
        memory.follow_sync(messages)
        messages = messages + TURNS[dialect](number)
    memory.follow_sync(messages)
    return memory, messages


def resumed_from(store: SqliteSessionStore) -> MemoryManager:
    return MemoryManager.resume(store=store, counter=WordCounter())


@dialects
@pytest.mark.parametrize("turn_count", [2, 25])
def test_a_list_of_whole_responses_is_known_after_a_resume(dialect: DialectName, turn_count: int) -> None:
    store = SqliteSessionStore(":memory:")
    memory, messages = followed(dialect, store, turn_count)
    memory.close()
    twin, _ = followed(dialect, None, turn_count)
    for _ in range(2):  # a second time of what the first one left
        with resumed_from(store) as resumed:
            resumed.follow_sync(deepcopy(messages))
            assert resumed.get_stats()["message_count"] == twin.get_stats()["message_count"]
            messages = messages + TURNS[dialect](turn_count)
            for one in (resumed, twin):
                one.follow_sync(messages)

            assert context_of(resumed) == context_of(twin)
            assert stats_of(resumed) == stats_of(twin)


@dialects
@pytest.mark.parametrize("place", [0, 1, 2, 5, -1, -2])
def test_only_what_departs_from_it_is_withdrawn(dialect: DialectName, place: int) -> None:
    store = SqliteSessionStore(":memory:")
    memory, messages = followed(dialect, store, 3)
    memory.close()
    twin, _ = followed(dialect, None, 3)
    resumed = resumed_from(store)
    messages = [*messages[:place], {"role": "user", "content": "something else"}]
    for one in (resumed, twin):
        one.follow_sync(messages)
        one.follow_sync([*messages, *TURNS[dialect](9)])

    assert context_of(resumed) == context_of(twin)
    assert stats_of(resumed) == stats_of(twin)


@dialects
def test_a_branch_of_a_resumed_memory_knows_the_list_as_far_as_it_goes(dialect: DialectName) -> None:
    store = SqliteSessionStore(":memory:")
    memory, messages = followed(dialect, store, 4)
    memory.close()
    twin, _ = followed(dialect, None, 4)
    resumed = resumed_from(store)
    for seq in range(2, 7):
        branches = [one.branch(f"r{seq}") for one in (resumed, twin)]
        for branch in branches:
            branch.follow_sync(messages)

        assert context_of(branches[0]) == context_of(branches[1])


def test_copies_that_the_memory_wrote_are_no_gaps_in_the_list() -> None:
    config = MemoryConfig(
        max_context_tokens=4_000,
        compression_threshold=1_000,
        compression_strategy="deletion",  # type: ignore[arg-type]  # a name is accepted
        auto_recall=True,
        auto_recall_tokens=140,
    )
    store = SqliteSessionStore(":memory:")
    memory = MemoryManager(config, dialect="openai_chat", counter=WordCounter(), store=store)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "look after the orders"}]
    for number in range(60):
        messages.append({"role": "assistant", "content": f"ord_{1000 + number} goes to {number} " + "and so on " * 12})
        messages.append({"role": "user", "content": f"what of ord_{1000 + number // 3}?"})
        memory.follow_sync(messages)
    stats = memory.get_stats()
    assert stats["recalled_count"] > 3
    assert len(memory._intake.followed.state()) == 1
    memory.close()

    with resumed_from(store) as resumed:
        resumed.follow_sync(deepcopy(messages))
        assert resumed.get_stats()["message_count"] == stats["message_count"]
        assert resumed.messages == memory.messages
        messages[-1] = {"role": "user", "content": "never mind"}
        resumed.follow_sync(messages)
        assert resumed.messages[-1] == messages[-1]
