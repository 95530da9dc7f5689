"""Cache marks that callers move with each request: a resumed context has those that were sent last, and no others."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import LLMMessage, MemoryConfig, MemoryManager, validate
from memory.marks import is_same, marks_of, unmarked, with_marks
from memory.messages import DialectName
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing import WordCounter

from .twins import context_of, wire

MARK = {"type": "ephemeral", "ttl": "1h"}
CONFIG = MemoryConfig(max_context_tokens=4_000, compression_threshold=400, short_term_size=4)


def answer(number: int) -> dict[str, Any]:
    use = {"type": "tool_use", "id": f"t{number}", "name": "read", "input": {"cache_control": "no mark"}}
    return {"role": "assistant", "content": [{"type": "text", "text": f"I read part {number}."}, use]}


def result(number: int) -> dict[str, Any]:
    inner = [{"type": "text", "text": f"part {number} says " + "so " * 20}]
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{number}", "content": inner}]}


def marked_copies(messages: list[Any]) -> list[Any]:
    copies = deepcopy(messages)
    copies[-1]["content"][-1] = {"cache_control": MARK, **copies[-1]["content"][-1]}
    copies[0]["content"][0]["cache_control"] = MARK
    return copies


def marked_in_place(messages: list[Any]) -> list[Any]:
    for message in messages:
        for part in message["content"]:
            part.pop("cache_control", None)
    messages[-1]["content"][-1]["cache_control"] = MARK
    return messages


def marked_inside_results(messages: list[Any]) -> list[Any]:
    last = messages[-1]["content"][-1]
    inner = [{**part, "cache_control": MARK} for part in last.get("content", [])]
    return [*messages[:-1], {"role": "user", "content": [{**last, "content": inner} if inner else last]}]


@pytest.mark.parametrize("moves", [marked_copies, marked_in_place, marked_inside_results])
@pytest.mark.parametrize("turn_count", [5, 30])
def test_a_resumed_context_has_the_marks_that_were_sent_last(
    moves: Callable[[list[Any]], list[Any]], turn_count: int
) -> None:
    store = SqliteSessionStore(":memory:")
    memory = MemoryManager(CONFIG, dialect="anthropic", counter=WordCounter(), store=store)
    whole = MemoryManager(CONFIG, dialect="anthropic", counter=WordCounter())
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "read all parts"}]}]
    for number in range(turn_count + 1):
        marked = moves(messages)
        memory.follow_sync(marked)
        whole.follow_sync(marked)
        messages += [answer(number), result(number)]
    sent = context_of(memory)
    memory.close()
    resumed = MemoryManager.resume(store=store, counter=WordCounter())

    assert context_of(resumed) == sent == context_of(whole)
    assert not [issue for issue in validate(resumed.messages, "anthropic") if issue.severity == "error"]
    marked = moves(messages)
    resumed.follow_sync(marked)
    whole.follow_sync(marked)
    assert context_of(resumed) == context_of(whole)


@pytest.mark.parametrize("dialect", ["anthropic", "openai_chat"])
def test_marks_that_nobody_moves_stay(dialect: DialectName) -> None:
    store = SqliteSessionStore(":memory:")
    memory = MemoryManager(CONFIG, dialect=dialect, counter=WordCounter(), store=store)
    part = {"type": "text", "text": "hello", "cache_control": MARK}
    memory.add_message_sync({"role": "user", "content": [part]})
    memory.add_message_sync({"role": "assistant", "content": "hello"})
    memory.add_message_sync(LLMMessage("user", [part]))
    memory.close()

    assert MemoryManager.resume(store=store, counter=WordCounter()).messages == memory.messages


def test_the_state_names_no_more_messages_than_are_marked() -> None:
    memory = MemoryManager(MemoryConfig(), dialect="anthropic", counter=WordCounter())
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "read all parts"}]}]
    for number in range(50):
        messages += [answer(number), result(number)]
        memory.follow_sync(marked_copies(messages))

    assert [seq for seq, _ in memory._window.state()["marks"]] == [1, 101]


fields = st.dictionaries(st.sampled_from(["type", "text", "cache_control", "id"]), st.just(MARK), max_size=4)
parts = st.recursive(
    fields, lambda inner: st.builds(lambda one, all_: {**one, "content": all_}, fields, st.lists(inner))
)


@given(one=parts)
def test_marks_are_put_back_where_they_were(one: dict[str, Any]) -> None:
    bare = unmarked(one)

    assert wire(with_marks(bare, marks_of(one))) == wire(one)
    assert wire(with_marks(one, marks_of(one))) == wire(one)
    assert marks_of(bare) == []
    assert is_same({"role": "user", **one}, {"role": "user", **bare})


@pytest.mark.parametrize("is_resumed", [False, True])
def test_an_undo_brings_no_stale_marks_into_the_next_request(is_resumed: bool) -> None:
    store = SqliteSessionStore(":memory:")
    memory = MemoryManager(CONFIG, dialect="anthropic", counter=WordCounter(), store=store)
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "read all parts"}]}]
    for number in range(30):
        messages += [answer(number), result(number)]
        memory.follow_sync([*messages[:-1], marked_copies(messages[-1:])[0]])
    if is_resumed:
        memory.close()
        memory = MemoryManager.resume(store=store, counter=WordCounter())
        memory.follow_sync([*messages[:-1], marked_copies(messages[-1:])[0]])
    memory.undo()
    memory.follow_sync([*messages[:-1], marked_copies(messages[-1:])[0]])

    assert [index for index, sent in enumerate(context_of(memory)) if '"ttl"' in sent] == [len(memory.messages) - 1]
