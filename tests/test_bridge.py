"""The laws for messages of a framework's own kind: what goes out is what came in, valid, and nothing is lost."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import CompressionStrategy, MemoryConfig, MemoryManager, validate
from memory.errors import ContextOverflowError
from memory.integrations._bridge import Bridge, Codec
from memory.testing import WordCounter

pytest.importorskip("langchain_core")
pytest.importorskip("pydantic_ai")
from langchain_core.messages import HumanMessage, convert_to_messages
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from memory.integrations import langchain, pydantic_ai

from .conversations import Message, conversations

CONFIG = MemoryConfig(max_context_tokens=1_000_000, compression_threshold=150, short_term_size=6)


def as_langchain(messages: Sequence[Message]) -> list[Any]:
    return convert_to_messages(messages)


def as_pydantic_ai(messages: Sequence[Message]) -> list[ModelMessage]:
    """Everything between two answers is one request of several parts."""
    runs = groupby(messages, key=lambda message: message["role"] == "assistant")
    return [one for is_answer, run in runs for one in (map(_response, run) if is_answer else [_request(list(run))])]


def _request(run: Sequence[Message]) -> ModelRequest:
    return ModelRequest([_request_part(message) for message in run])


def _request_part(message: Message) -> ModelRequestPart:
    match message["role"]:
        case "system":
            return SystemPromptPart(message["content"])
        case "tool":
            return ToolReturnPart("tool", message["content"], tool_call_id=message["tool_call_id"])
    content = message["content"]
    return UserPromptPart(content if isinstance(content, str) else [_item(part) for part in content])


def _item(part: Message) -> str | BinaryContent:
    if part["type"] == "text":
        return str(part["text"])
    return BinaryContent(base64.b64decode(part["image_url"]["url"].partition(",")[2]), media_type="image/png")


def _response(message: Message) -> ModelResponse:
    parts: list[ModelResponsePart] = []
    if thought := message.get("reasoning_content"):
        parts.append(ThinkingPart(thought, signature="c2lnbmVk", provider_name="anthropic"))
    if message["content"]:
        parts.append(TextPart(message["content"]))
    calls = [(call["function"], call["id"]) for call in message.get("tool_calls", ())]
    parts += [ToolCallPart(function["name"], function["arguments"], tool_call_id=id_) for function, id_ in calls]
    return ModelResponse(parts)


Written = Callable[[Sequence[Message]], list[Any]]
FRAMEWORKS: list[Any] = [
    pytest.param(langchain._Codec(), as_langchain, id="langchain"),
    pytest.param(pydantic_ai._Codec(), as_pydantic_ai, id="pydantic_ai"),
]
frameworks = pytest.mark.parametrize(("codec", "written"), FRAMEWORKS)
strategies = pytest.mark.parametrize("strategy", list(CompressionStrategy))


def new_bridge(codec: Codec[Any], strategy: CompressionStrategy) -> Bridge[Any]:
    return Bridge(MemoryManager(replace(CONFIG, compression_strategy=strategy), counter=WordCounter()), codec)


def wires(codec: Codec[Any], messages: Sequence[Any]) -> list[Any]:
    return [wire for message in messages for wire in codec.write(message)]


def turns(codec: Codec[Any], messages: Sequence[Any]) -> list[list[Any]]:
    """The list as it stands before each answer: what an agent sends."""
    ends = [index for index, message in enumerate(messages) if codec.write(message)[0]["role"] == "assistant"]
    return [list(messages[:end]) for end in (*ends, len(messages)) if end]


def kept_sources(memory: MemoryManager) -> set[int]:
    standing = [origin for origin in memory.origins() if origin is not None]
    return {id(chat.source) for chat in (*(record.message for record in memory.archive), *standing)}


def check(codec: Codec[Any], bridge: Bridge[Any], whole: Sequence[Any], sent: Sequence[Any]) -> None:
    assert wires(codec, sent) == bridge.memory.messages, "what is sent says what the memory counted"
    errors = [issue for issue in validate(wires(codec, sent), "openai_chat") if issue.severity == "error"]
    assert errors == []
    places = {id(message): place for place, message in enumerate(whole)}
    own = [places[id(message)] for message in sent if id(message) in places]
    assert own == sorted(own)
    written_anew = [codec.write(message) for message in sent if id(message) not in places]
    # What is left of a message may be equal to another one by chance.
    lists = [codec.write(message) for message in whole]
    left = [one[start:] for one in lists for start in range(1, len(one))]
    assert [one for one in written_anew if one in lists and one not in left] == []
    assert kept_sources(bridge.memory) == set(places)


@frameworks
@strategies
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_every_list_is_valid_in_order_and_nothing_is_lost(
    codec: Codec[Any], written: Written, strategy: CompressionStrategy, data: st.DataObject
) -> None:
    messages = written(data.draw(conversations("openai_chat", min_turns=3)))
    bridge = new_bridge(codec, strategy)

    for whole in turns(codec, messages):
        check(codec, bridge, whole, bridge.follow_sync(whole))


@frameworks
@strategies
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_framework_that_keeps_what_it_was_given_is_followed_too(
    codec: Codec[Any], written: Written, strategy: CompressionStrategy, data: st.DataObject
) -> None:
    messages = written(data.draw(conversations("openai_chat", min_turns=3)))
    keeps_all, keeps_given = new_bridge(codec, strategy), new_bridge(codec, strategy)

    held: list[Any] = []
    length = 0
    for whole in turns(codec, messages):
        held = keeps_given.follow_sync([*held, *whole[length:]])
        length = len(whole)
        check(codec, keeps_given, whole, held)
        assert wires(codec, held) == wires(codec, keeps_all.follow_sync(whole))


@frameworks
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_the_same_list_again_gives_the_same_objects(codec: Codec[Any], written: Written, data: st.DataObject) -> None:
    messages = written(data.draw(conversations("openai_chat", min_turns=4)))
    bridge = new_bridge(codec, CompressionStrategy.MASKING)

    for whole in turns(codec, messages):
        first, second = bridge.follow_sync(whole), bridge.follow_sync(whole)
        assert list(map(id, first)) == list(map(id, second))


@frameworks
@given(data=st.data())
@settings(max_examples=10, deadline=None)
async def test_an_event_loop_gives_the_same(codec: Codec[Any], written: Written, data: st.DataObject) -> None:
    messages = written(data.draw(conversations("openai_chat", min_turns=3)))
    sync, loop = (new_bridge(codec, CompressionStrategy.SLIDING_WINDOW) for _ in range(2))

    for whole in turns(codec, messages):
        assert wires(codec, await loop.follow(whole)) == wires(codec, sync.follow_sync(whole))


@frameworks
def test_a_list_that_the_framework_copied_is_the_same_conversation(codec: Codec[Any], written: Written) -> None:
    chat: list[Message] = [{"role": "user", "content": "Count the pumps."}]
    for number in range(30):
        chat += [
            {"role": "assistant", "content": f"Pump {number}."},
            {"role": "user", "content": f"And then, {number}?"},
        ]
    bridge = new_bridge(codec, CompressionStrategy.SLIDING_WINDOW)

    for whole in turns(codec, written(chat)):
        bridge.follow_sync(written(chat)[: len(whole)])

    assert bridge.memory.get_stats()["message_count"] == len(chat)


def test_an_object_that_stands_twice_in_a_list_is_sent_twice() -> None:
    again = HumanMessage("Go on.")
    bridge = new_bridge(langchain._Codec(), CompressionStrategy.SLIDING_WINDOW)

    assert bridge.follow_sync([again, again]) == [again, again]


def test_what_is_pinned_by_its_reference_stays() -> None:
    bridge = new_bridge(langchain._Codec(), CompressionStrategy.DELETION)
    secret = HumanMessage("The code is 4711.")
    messages: list[Any] = [HumanMessage("Count the pumps."), secret]
    bridge.follow_sync(messages)

    bridge.memory.pin("r2")
    for number in range(60):
        messages.append(HumanMessage(f"Pump {number} stands in the hall behind the others."))
        sent = bridge.follow_sync(messages)

    assert secret in sent
    assert len(sent) < len(messages)
    assert bridge.memory.recall("Pump 3")[0].message.source is messages[5]


def test_a_conversation_that_cannot_be_made_to_fit_is_an_error_with_the_list_intact() -> None:
    config = replace(CONFIG, max_context_tokens=200)
    bridge: Bridge[Any] = Bridge(MemoryManager(config, counter=WordCounter()), langchain._Codec())

    with pytest.raises(ContextOverflowError):
        bridge.follow_sync([HumanMessage("pump " * 1_000)])

    assert bridge.memory.get_stats()["message_count"] == 1
