"""Servers that speak OpenAI's chat format almost as OpenAI does, through the real SDK."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm import Delta, LLMResponse
from agent.llm.chat_answers import ChatAnswer
from agent.llm.errors import BrokenAnswerError, ProviderUnavailableError, RequestRefusedError
from agent.llm.openai_chat import OpenAIChatModel
from agent.llm.openai_responses import OpenAIResponsesModel
from agent.llm.retrying import RetryPolicy
from memory.messages import LLMMessage
from memory.usage import Usage

from .canned import Canned, CannedServer, Chunk

TASK = LLMMessage("user", "What is the weather?")
NO_WAITING = RetryPolicy(max_retries=2, first_wait_seconds=0.001, max_wait_seconds=0.002)


def chunk(delta: Chunk, finish_reason: str | None = None, **fields: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}


def completion(message: Chunk, finish_reason: str = "stop", **fields: Any) -> Canned:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Canned({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields})


def call(arguments: str, *, name: str | None = "weather", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


async def ask(*replies: Canned, is_streamed: bool = False) -> tuple[LLMResponse, list[Delta], CannedServer]:
    shown: list[Delta] = []
    with CannedServer(replies) as server:
        async with OpenAIChatModel("m", base_url=server.base_url, retries=NO_WAITING) as llm:
            response = await llm.call_async([TASK], on_delta=shown.append if is_streamed else None)
        return response, shown, server


async def stream(*chunks: Chunk) -> LLMResponse:
    response, _, _ = await ask(Canned(chunks=chunks), is_streamed=True)
    return response


async def test_a_role_in_each_piece_is_one_role() -> None:
    response = await stream(
        chunk({"role": "assistant", "content": "It is "}), chunk({"role": "assistant", "content": "sunny."}, "stop")
    )

    assert response.message == {"role": "assistant", "content": "It is sunny."}


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[call("{}", id="a")], [call('{"n": 1}', id="b")]], id="no index"),
        pytest.param([[call("{}", id="a", index=0)], [call('{"n": 1}', id="b", index=0)]], id="always index 0"),
        pytest.param([[call("{}", id="a", index=1)], [call('{"n": 1}', id="b", index=2)]], id="index from 1"),
        pytest.param(
            [
                [call("{", id="a", index=0), call('{"n"', id="b", index=1)],
                [call("}", id="a", index=0), call(": 1}", id="b", index=1)],
            ],
            id="id and name in each piece",
        ),
        pytest.param(
            [
                [call("{}", id="a", index=0), call("", id="b", index=1)],
                [call('{"n": 1}', id=None, name=None, index=1)],
            ],
            id="as OpenAI does it",
        ),
        pytest.param(
            [[call("{}", id="a")], [call('{"n"', id="b")], [call(": 1}", name=None)]], id="pieces of the last"
        ),
    ],
)
async def test_parallel_calls_are_told_apart(deltas: Sequence[Sequence[dict[str, Any]]]) -> None:
    response = await stream(*[chunk({"tool_calls": pieces}) for pieces in deltas], chunk({}, "tool_calls"))

    assert [(made.id, made.name, made.arguments) for made in response.tool_calls] == [
        ("a", "weather", "{}"),
        ("b", "weather", '{"n": 1}'),
    ]
    assert "index" not in response.message["tool_calls"][0]  # type: ignore[index] # a dict in the provider's form


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_call_without_an_id_gets_one_so_that_its_result_can_name_it(is_streamed: bool) -> None:
    calls = [call("{}", id=""), call("{}", id="")]
    reply = completion({"role": "assistant", "content": None, "tool_calls": calls})
    pieces = Canned(chunks=[chunk({"tool_calls": [one]}) for one in calls] + [chunk({}, "tool_calls")])
    response, _, _ = await ask(pieces if is_streamed else reply, is_streamed=is_streamed)

    ids = [made.id for made in response.tool_calls]
    assert len({*ids, None, ""}) == 4


async def test_calls_beside_stop_are_a_wish_to_use_tools() -> None:
    response, _, _ = await ask(completion({"role": "assistant", "content": "", "tool_calls": [call("{}", id="a")]}))

    assert response.stop_reason == "tool_use"


async def test_an_empty_list_of_calls_is_not_kept_because_it_would_be_refused() -> None:
    response, _, _ = await ask(completion({"role": "assistant", "content": "Sunny.", "tool_calls": []}))

    assert response.message == {"role": "assistant", "content": "Sunny."}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_of_compatible_servers_is_kept_and_shown(field: str) -> None:
    whole, _, _ = await ask(completion({"role": "assistant", "content": "Sunny.", field: "Let me see."}))
    pieces, shown, _ = await ask(
        Canned(chunks=[chunk({field: "Let me "}), chunk({field: "see."}), chunk({"content": "Sunny."}, "stop")]),
        is_streamed=True,
    )

    assert whole.message == pieces.message == {"role": "assistant", "content": "Sunny.", field: "Let me see."}
    assert [delta.text for delta in shown if delta.kind == "reasoning"] == ["Let me ", "see."]


async def test_a_streamed_refusal_is_an_answer_that_says_so() -> None:
    response = await stream(chunk({"role": "assistant", "refusal": "I "}), chunk({"refusal": "will not."}, "stop"))

    assert (response.stop_reason, response.content) == ("refusal", "I will not.")
    assert response.message == {"role": "assistant", "content": None, "refusal": "I will not."}


async def test_a_signature_that_rides_on_a_call_is_kept() -> None:
    signature = {"google": {"thought_signature": "c2ln"}}
    response = await stream(chunk({"tool_calls": [call("{}", id="a", extra_content=signature)]}, "tool_calls"))

    assert response.message["tool_calls"][0]["extra_content"] == signature  # type: ignore[index]


async def test_usage_that_is_not_reported_is_unknown_and_not_zero() -> None:
    assert (await stream(chunk({"content": "Sunny."}, "stop"))).usage is None


async def test_usage_is_read_from_the_last_piece_with_or_without_choices() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    end = {**chunk({}), "choices": [], "usage": usage}

    for chunks in ([chunk({"content": "Hi"}, "stop"), end], [chunk({"content": "Hi"}, "stop", usage=usage)]):
        assert (await stream(*chunks)).usage == Usage(input_tokens=9, output_tokens=2)


async def test_a_usage_that_cannot_be_true_does_not_throw_the_answer_away() -> None:
    usage = {"prompt_tokens": -1, "completion_tokens": 2, "total_tokens": 1}
    response, _, _ = await ask(completion({"role": "assistant", "content": "Sunny."}, usage=usage))

    assert (response.content, response.usage) == ("Sunny.", None)


async def test_a_server_that_refuses_to_report_usage_is_asked_without() -> None:
    refused = Canned({"error": {"message": "extra fields not permitted: stream_options"}}, status=422)
    answer = Canned(chunks=[chunk({"content": "Sunny."}, "stop")])

    with CannedServer([refused, answer, answer]) as server:
        async with OpenAIChatModel("m", base_url=server.base_url, retries=NO_WAITING) as llm:
            for _ in range(2):
                response = await llm.call_async([TASK], on_delta=lambda delta: None)
    assert (response.content, response.usage) == ("Sunny.", None)
    assert ["stream_options" in body for body in server.requests] == [True, False, False]


async def test_a_model_that_does_not_reason_is_asked_without_encrypted_reasoning() -> None:
    refused = Canned({"error": {"message": "Encrypted content is not supported with this model."}}, status=400)
    said = {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "output_text", "text": "Sunny."}]}
    answer = Canned({"id": "r", "object": "response", "status": "completed", "model": "m", "output": [said]})

    with CannedServer([refused, answer, answer]) as server:
        async with OpenAIResponsesModel("m", base_url=server.base_url, retries=NO_WAITING) as llm:
            for _ in range(2):
                response = await llm.call_async([TASK])
    assert (response.content, response.usage) == ("Sunny.", None)
    assert ["include" in body for body in server.requests] == [True, False, False]


async def test_items_are_taken_from_the_stream_where_its_end_repeats_none() -> None:
    said = {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "output_text", "text": "Sunny."}]}
    end = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": []}
    chunks = [
        {"type": "response.output_item.done", "output_index": 0, "sequence_number": 1, "item": said},
        {"type": "response.completed", "sequence_number": 2, "response": end},
    ]
    with CannedServer([Canned(chunks=chunks)]) as server:
        async with OpenAIResponsesModel("m", base_url=server.base_url, retries=NO_WAITING) as llm:
            response = await llm.call_async([TASK], on_delta=lambda delta: None)

    assert response.content == "Sunny."


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "invalid_prompt"])
async def test_a_response_that_failed_is_an_error_and_asked_again_where_it_may_pass(code: str) -> None:
    failed = Canned(
        {"object": "response", "status": "failed", "error": {"code": code, "message": "Sorry."}, "output": []}
    )
    with CannedServer([failed] * 3) as server, pytest.raises(Exception, match=r"Sorry\.") as caught:
        async with OpenAIResponsesModel("m", base_url=server.base_url, retries=NO_WAITING) as llm:
            await llm.call_async([TASK])

    assert isinstance(caught.value, RequestRefusedError) == (code == "invalid_prompt")
    assert len(server.requests) == (1 if code == "invalid_prompt" else 3)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_error_in_the_place_of_an_answer_is_an_error(is_streamed: bool) -> None:
    error = {"error": {"code": 502, "message": "Upstream is down."}}
    reply = Canned(chunks=[chunk({"content": "It"}), error]) if is_streamed else Canned(error)

    with pytest.raises(ProviderUnavailableError, match=r"after 3 attempts \(status 502\): Upstream is down\."):
        await ask(*[reply] * 3, is_streamed=is_streamed)


async def test_a_stream_that_ends_without_a_reason_was_cut() -> None:
    with pytest.raises(BrokenAnswerError, match="the stream ended before the answer did") as caught:
        await ask(*[Canned(chunks=[chunk({"content": "It is"})])] * 3, is_streamed=True)

    assert caught.value.wasted == (None, None, None)


async def test_a_malformed_list_is_refused_with_the_servers_sentence() -> None:
    said = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."

    with pytest.raises(RequestRefusedError, match="preceeding message with 'tool_calls'") as caught:
        await ask(Canned({"error": {"message": said, "type": "invalid_request_error"}}, status=400))
    assert type(caught.value.__cause__).__name__ == "BadRequestError"


def cut(text: str, places: Sequence[int]) -> list[str]:
    """Cut a text at these places; pieces may be empty."""
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


PLACES = st.lists(st.integers(0, 50), max_size=4)


@given(
    content=st.text(max_size=30),
    reasoning=st.text(max_size=30),
    arguments=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=2), max_size=3),
    places=PLACES,
    repeats_ids=st.booleans(),
)
def test_however_an_answer_is_cut_into_pieces_it_is_the_same_message(
    content: str, reasoning: str, arguments: list[dict[str, str]], places: list[int], repeats_ids: bool
) -> None:
    calls = [call(json.dumps(given), id=f"call_{index}") for index, given in enumerate(arguments)]
    whole = {"role": "assistant", "content": content, "reasoning_content": reasoning, "tool_calls": calls}
    deltas: list[Chunk] = [{"reasoning_content": piece} for piece in cut(reasoning, places)]
    deltas += [{"content": piece} for piece in cut(content, places)]
    for index, made in enumerate(calls):
        for turn, piece in enumerate(cut(made["function"]["arguments"], places)):
            known = made if turn == 0 or repeats_ids else {}
            function = {**({"name": "weather"} if known else {}), "arguments": piece}
            deltas.append({"tool_calls": [{**known, "index": index, "function": function}]})

    answer = ChatAnswer()
    shown = [piece for delta in deltas for piece in answer.add(chunk({"role": "assistant", **delta}))]

    received = {key: value for key, value in answer.message.items() if value}
    expected = {key: value for key, value in whole.items() if value}
    for made in received.get("tool_calls", ()):
        del made["index"]
    assert received == expected
    assert "".join(text for kind, text in shown if kind == "text") == content
    assert "".join(text for kind, text in shown if kind == "reasoning") == reasoning
