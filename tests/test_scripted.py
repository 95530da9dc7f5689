"""ScriptedModel: deterministic replies, true usage."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent import Reply, ScriptedModel, Toolbox, call
from agent.llm import LLM, LLMResponse
from memory import LLMMessage, Usage
from memory.dialects import dialect_named
from memory.messages import Wire
from memory.native import to_wire
from memory.tokens import TiktokenCounter

TASK = LLMMessage("user", "Name the biggest file.")
LONG = LLMMessage("user", "a long text of many words " * 400)


def usage_of(response: LLMResponse) -> Usage:
    assert response.usage is not None
    return response.usage


def look_up(word: str) -> str:
    """Explain a word."""
    return word


def counted(messages: Sequence[object], tools: Sequence[Wire] = ()) -> int:
    """Count a request from scratch, message by message."""
    counter, chat = TiktokenCounter("gpt-4o-mini"), dialect_named("openai_chat")
    return sum(counter.count_reading(chat.read(to_wire(message))) for message in messages) + counter.count_tools(tools)


async def test_replies_come_in_the_order_of_the_script() -> None:
    model: LLM = ScriptedModel([Reply("Looking.", [call("look_up", word="a")]), "Done."])

    first = await model.call_async([TASK])
    second = await model.call_async([TASK])

    assert (first.content, first.stop_reason, second.content, second.stop_reason) == (
        "Looking.",
        "tool_use",
        "Done.",
        "end_turn",
    )
    assert first.tool_calls[0].arguments == '{"word": "a"}'


async def test_a_script_that_is_over_says_so() -> None:
    model = ScriptedModel(["Only this."])
    await model.call_async([TASK])

    with pytest.raises(RuntimeError, match="the script is over"):
        await model.call_async([TASK])


async def test_a_policy_sees_the_messages_and_tools_that_were_sent() -> None:
    def policy(messages: Sequence[Wire], tools: Sequence[Wire]) -> str:
        return f"{messages[-1]['content']} {[tool['function']['name'] for tool in tools]}"

    response = await ScriptedModel(policy).call_async([TASK], tools=Toolbox([look_up]).schemas)

    assert response.content == "Name the biggest file. ['look_up']"


async def test_calls_of_one_conversation_have_ids_of_their_own() -> None:
    model = ScriptedModel([Reply(calls=[call("a"), call("a")]), Reply(calls=[call("a")])])
    responses = [await model.call_async([TASK]) for _ in range(2)]

    ids = [made.id for response in responses for made in response.tool_calls]
    assert len(set(ids)) == 3


async def test_the_message_is_what_openai_chat_would_have_sent() -> None:
    response = await ScriptedModel([Reply(calls=[call("look_up", word="é")])]).call_async([TASK])

    assert to_wire(response.message) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "é"}'}}
        ],
    }


async def test_usage_is_the_count_of_everything_that_was_sent_and_said() -> None:
    tools = Toolbox([look_up]).schemas
    response = await ScriptedModel(["Fine."]).call_async([LONG, TASK], tools=tools)

    assert usage_of(response).input_tokens == counted([LONG, TASK], tools)
    assert usage_of(response).output_tokens == counted([response.message])
    assert usage_of(response).cache_read_tokens == 0


async def test_the_cached_share_is_the_common_prefix_of_two_requests_in_steps_of_128() -> None:
    model = ScriptedModel(["One.", "Two.", "Three."])
    await model.call_async([LONG, TASK])
    grown = await model.call_async([LONG, TASK, LLMMessage("user", "And the smallest?")])
    rewritten = await model.call_async([TASK, LONG])

    assert usage_of(grown).cache_read_tokens == counted([LONG, TASK]) // 128 * 128
    assert usage_of(rewritten).cache_read_tokens == 0
    assert usage_of(rewritten).input_tokens == counted([TASK, LONG])


async def test_other_tools_break_the_cached_prefix() -> None:
    model = ScriptedModel(["One.", "Two."])
    await model.call_async([LONG])
    response = await model.call_async([LONG], tools=Toolbox([look_up]).schemas)

    assert usage_of(response).cache_read_tokens == 0


async def test_a_prefix_under_1024_tokens_is_not_cached() -> None:
    model = ScriptedModel(["One.", "Two."])
    await model.call_async([TASK])

    assert usage_of(await model.call_async([TASK])).cache_read_tokens == 0


async def test_a_growing_conversation_is_tokenised_once() -> None:
    counter = TiktokenCounter("gpt-4o-mini")
    model = ScriptedModel(lambda messages, tools: "Go on.", counter=counter)
    messages: list[object] = []
    for number in range(50):
        messages.append(LLMMessage("user", f"question {number} " * 20))
        messages.append((await model.call_async(messages)).message)

    said = sum(len(str(to_wire(message)["content"])) for message in messages)
    assert counter.bytes_tokenised < said * 1.5


async def test_every_request_is_kept_for_inspection() -> None:
    model = ScriptedModel(["Fine."])
    await model.call_async([TASK])

    assert model.requests[0].messages[0] is TASK
    assert "script" in repr(model)


def test_a_reply_with_neither_text_nor_calls_is_an_error() -> None:
    with pytest.raises(ValueError, match="a text or a call"):
        Reply()


async def test_dicts_in_openai_form_are_messages_too() -> None:
    response: LLMResponse = await ScriptedModel(["Fine."]).call_async([{"role": "user", "content": "hi"}])

    assert usage_of(response).input_tokens == counted([{"role": "user", "content": "hi"}])
