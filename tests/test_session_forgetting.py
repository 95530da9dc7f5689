"""What stands where words were taken away: no words, and still a conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.dialects import DIALECTS
from memory.messages import DialectName
from memory.sessions import SqliteSessionStore
from memory.sessions.encoding import FORGOTTEN, encode
from memory.sessions.forgetting import forgotten_body, forgotten_compression, forgotten_layout
from memory.testing import WordCounter
from memory.testing.session_turns import compression, layout

from .conversations import DIALECT_NAMES, conversations

SECRET = "xylophone-4711"


def forgotten(message: object) -> Any:
    return json.loads(forgotten_body(encode(message).body))


def errors_of(dialect: DialectName, messages: Sequence[Any]) -> set[str]:
    return {issue.code for issue in DIALECTS[dialect].validate(messages) if issue.severity == "error"}


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_a_forgotten_conversation_is_still_one(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect, max_turns=8))
    chosen = data.draw(st.sets(st.integers(0, max(0, len(messages) - 1))))

    left = [forgotten(one) if place in chosen else one for place, one in enumerate(messages)]

    assert errors_of(dialect, left) <= errors_of(dialect, messages)
    read = DIALECTS[dialect].read
    for one, before in zip(map(read, left), map(read, messages), strict=True):
        assert one.role == before.role
        assert [(call.id, call.name) for call in one.calls] == [(call.id, call.name) for call in before.calls]
        assert [result.call_id for result in one.results] == [result.call_id for result in before.results]


PLACES: dict[str, Any] = {
    "text": {"role": "user", "content": SECRET},
    "parts": {"role": "user", "content": [{"type": "text", "text": SECRET}]},
    "image": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": SECRET}}]},
    "document": {"role": "user", "content": [{"type": "document", "title": SECRET, "source": {"data": SECRET}}]},
    "unknown part": {"role": "user", "content": [{"type": "hologram", SECRET: {SECRET: [SECRET]}}]},
    "arguments": {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": f'{{"a":"{SECRET}"}}'}}],
    },
    "input": {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {SECRET: SECRET}}],
    },
    "result": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": SECRET}]},
    "thinking": {"role": "assistant", "content": [{"type": "thinking", "thinking": SECRET, "signature": SECRET}]},
    "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": SECRET}]},
    "call item": {"type": "function_call", "call_id": "1", "name": "f", "arguments": f'"{SECRET}"'},
    "output item": {"type": "function_call_output", "call_id": "1", "output": SECRET},
    "reasoning item": {
        "type": "reasoning",
        "id": "1",
        "summary": [{"type": "summary_text", "text": SECRET}],
        "encrypted_content": SECRET,
    },
    "gemini text": {"role": "user", "parts": [{"text": SECRET, "thoughtSignature": SECRET}]},
    "gemini call": {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {SECRET: [SECRET]}}}]},
    "gemini result": {
        "role": "user",
        "parts": [{"functionResponse": {"name": "f", "response": {SECRET: SECRET}}}],
    },
    "gemini image": {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": SECRET}}]},
    "tuple": {"role": "user", "content": ({"type": "text", "text": SECRET},)},
    "odd keys": {"role": "user", "content": [{"type": "text", "text": {1: SECRET}}]},
    "long": {"role": "user", "content": SECRET * 1_000},
    "bytes": {"role": "user", "content": [{"type": "image", "data": SECRET.encode()}]},
}


@pytest.mark.parametrize("place", PLACES)
def test_no_words_are_left(place: str) -> None:
    body = forgotten_body(encode(PLACES[place]).body)

    assert SECRET not in body
    assert "xylophone" not in body
    assert "$aloop" not in body


def test_what_is_forgotten_again_stays_as_it_is() -> None:
    once = [forgotten_body(encode(message).body) for message in PLACES.values()]

    assert [forgotten_body(body) for body in once] == once


def test_a_compression_before_the_forgotten_message_keeps_its_summary() -> None:
    earlier = compression(1, first=1, last=4)

    assert forgotten_compression(earlier, [5, 9]) == earlier
    assert forgotten_compression(earlier, [4, 9]).summary == FORGOTTEN


def test_a_layout_of_before_the_forgotten_message_stays() -> None:
    earlier = layout(1, after_seq=4, body='{"entries":[[1,4]]}')

    assert forgotten_layout(earlier, [5]).layout == earlier


# --- With a memory ----------------------------------------------------------------------------------------------------


def config_of(strategy: CompressionStrategy) -> MemoryConfig:
    return MemoryConfig(max_context_tokens=300, compression_threshold=80, compression_strategy=strategy)


@pytest.mark.parametrize("strategy", list(CompressionStrategy))
def test_a_memory_is_resumed_without_the_words_and_goes_on(strategy: CompressionStrategy) -> None:
    with closing(SqliteSessionStore(":memory:")) as store:
        memory = MemoryManager(
            config_of(strategy), lambda _: f"the summary names {SECRET}", counter=WordCounter(), store=store
        )
        for number in range(60):
            text = f"remember {SECRET}" if number in (3, 40) else f"remark {number}"
            memory.add_message_sync({"role": ("user", "assistant")[number % 2], "content": f"{text} and more of it"})
        session_id = memory.session_id
        memory.close()
        assert session_id is not None
        assert store.compressions(session_id)

        store.forget(session_id, [4, 41])

        resumed = MemoryManager.resume(session_id, store=store, counter=WordCounter())
        assert SECRET not in json.dumps(resumed.get_context_for_llm())
        assert SECRET not in resumed.archive.get("r4").message["content"]  # type: ignore[index]  # a dict
        resumed.add_message_sync({"role": "user", "content": "go on"})
        resumed.compress_sync()
        resumed.close()
        for stored in store.layouts(session_id):
            assert SECRET not in stored.body
            assert all(SECRET.encode() not in store.blob(digest) for digest in stored.blobs)
        assert all(SECRET not in one.summary for one in store.compressions(session_id))
