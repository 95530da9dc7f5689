"""OpenAI's two formats through the real SDK, against a provider on this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from agent.llm import LLM, Delta, LLMResponse, connect
from agent.llm.errors import (
    BrokenAnswerError,
    CredentialsError,
    ModelNotFoundError,
    ProviderUnavailableError,
    RateLimitError,
    RequestRefusedError,
)
from agent.llm.openai_chat import OpenAIChatModel
from agent.llm.openai_responses import OpenAIResponsesModel
from agent.llm.retrying import RetryPolicy
from memory.dialects import dialect_named, validate
from memory.messages import LLMMessage, ToolResult
from memory.native import to_wire, unwrap
from memory.refusals import read_refusal
from memory.testing.simulators import FAULT_KINDS, Call, Fault, ProviderSimulator, Turn

PROVIDERS = {"openai_chat": "openai", "openai_responses": "openai-responses"}
TASK = LLMMessage("user", "What is the weather in Paris and in Rome?")
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLS = Turn("Let me look.", calls=[Call("weather", {"city": "Paris"}), Call("weather", {"city": "Rome"})])


@pytest.fixture(params=sorted(PROVIDERS))
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sleeps() -> list[float]:
    return []


@pytest.fixture
def model(wire: str, sleeps: list[float]) -> Iterator[Callable[..., tuple[LLM, ProviderSimulator]]]:
    """Starts a provider with the given answers and faults, and connects a model to it."""
    servers: list[ProviderSimulator] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    def start(answers: Sequence[Any], *, options: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        server = ProviderSimulator(wire, answers, **settings)  # type: ignore[arg-type] # one of two dialects
        servers.append(server)
        given: dict[str, Any] = {"api_key": "test", "retries": RetryPolicy(sleep=sleep, max_retries=3)}
        given |= options or {}
        return connect(PROVIDERS[wire], "gpt-4.1", base_url=server.base_url, **given), server

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("on_delta", [None, lambda _piece: None], ids=["whole", "streamed"])
async def test_half_a_surrogate_pair_is_replaced_on_the_wire_alone(model: Any, on_delta: Any) -> None:
    task = LLMMessage("user", "half \ud83d of a pair")
    llm, server = model(["Done."])

    await llm.call_async([task], on_delta=on_delta)

    assert "half \ufffd of a pair" in str(server.requests[0].body)
    assert task.content == "half \ud83d of a pair"


def items(response: LLMResponse) -> list[Any]:
    return [to_wire(part) for part in unwrap(response.message)]


async def streamed(llm: LLM, messages: Sequence[object] = (TASK,), **arguments: Any) -> tuple[LLMResponse, list[Delta]]:
    shown: list[Delta] = []
    return await llm.call_async(messages, on_delta=shown.append, **arguments), shown


async def test_parallel_calls_come_in_order_with_their_ids(model: Any) -> None:
    llm, _ = model([CALLS])
    response = await llm.call_async([TASK], tools=[WEATHER])

    assert [json.loads(call.arguments)["city"] for call in response.tool_calls] == ["Paris", "Rome"]
    assert len({call.id for call in response.tool_calls}) == 2
    assert (response.content, response.stop_reason) == ("Let me look.", "tool_use")


@pytest.mark.parametrize("turn", [Turn("It is sunny."), CALLS, Turn(calls=[Call("weather", {"city": "Paris"})])])
async def test_a_streamed_answer_is_the_same_message_as_one_in_one_piece(model: Any, turn: Turn) -> None:
    whole, _ = await model([turn])[0].call_async([TASK], tools=[WEATHER]), None
    pieces, _ = await streamed(model([turn])[0], tools=[WEATHER])

    assert without_ids(items(pieces)) == without_ids(items(whole))
    assert pieces.usage == whole.usage
    assert [call.arguments for call in pieces.tool_calls] == [call.arguments for call in whole.tool_calls]


def without_ids(value: Any) -> Any:
    """Responses items have ids of their own; the simulator numbers them by request."""
    if isinstance(value, Mapping):
        return {key: without_ids(inner) for key, inner in value.items() if key not in ("id", "call_id")}
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


async def test_pieces_are_shown_as_they_come(model: Any) -> None:
    response, shown = await streamed(model([CALLS])[0], tools=[WEATHER])

    assert "".join(delta.text for delta in shown if delta.kind == "text") == response.content
    assert [delta.text for delta in shown if delta.kind == "tool_call"] == ["weather", "weather"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_conversation_with_calls_goes_on_and_is_accepted(wire: str, model: Any, is_streamed: bool) -> None:
    llm, server = model([CALLS, "Sunny in both."], adds_reasoning=True)
    on_delta = (lambda delta: None) if is_streamed else None
    dialect = dialect_named(wire)
    first = await llm.call_async([dialect.write_user("Weather?")], tools=[WEATHER], on_delta=on_delta)
    results = [ToolResult(call_id=call.id, name=call.name, text="sunny") for call in first.tool_calls]
    messages = [
        dialect.write_user("Weather?"),
        *items(first),
        *dialect.write_results(first.tool_calls, results),
    ]
    second = await llm.call_async(messages, tools=[WEATHER], on_delta=on_delta)

    assert (second.content, server.rejected) == ("Sunny in both.", [])
    assert [issue for issue in validate(messages, wire) if issue.severity == "error"] == []  # type: ignore[arg-type]


async def test_usage_is_what_the_provider_counted(model: Any) -> None:
    llm, server = model(["A short answer."] * 2, adds_reasoning=True)
    long = LLMMessage("user", "word " * 3_000)
    for arguments in ({}, {"on_delta": lambda delta: None}):
        response = await llm.call_async([long], **arguments)

    used = server.requests[-1].used
    assert response.usage is not None
    assert response.usage.input_tokens == used.input_tokens
    assert response.usage.output_tokens == used.output_tokens
    assert response.usage.cache_read_tokens == used.cache_read_tokens > 0
    assert response.usage.reasoning_tokens == used.reasoning_tokens > 0


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in FAULT_KINDS if kind not in ("context_length", "hang")])
async def test_a_failure_that_passes_is_not_seen(model: Any, kind: Any, is_streamed: bool) -> None:
    llm, server = model(["There."], faults=[kind])
    response = await llm.call_async([TASK], on_delta=(lambda delta: None) if is_streamed else None)

    assert (response.content, len(server.requests)) == ("There.", 2)


async def test_retry_after_is_waited_for(model: Any, sleeps: list[float]) -> None:
    await model(["There."], faults=[Fault("rate_limit", retry_after_seconds=7)])[0].call_async([TASK])

    assert sleeps == [7.0]


async def test_too_many_requests_after_all_retries_is_an_error_with_the_wait(model: Any, sleeps: list[float]) -> None:
    llm, server = model(["There."], faults=[Fault("rate_limit", retry_after_seconds=2)] * 4)

    with pytest.raises(RateLimitError, match="after 4 attempts") as caught:
        await llm.call_async([TASK])
    assert (caught.value.retry_after_seconds, sleeps, len(server.requests)) == (2.0, [2.0] * 3, 4)


@pytest.mark.parametrize("kind", ["cut_stream", "stream_error"])
async def test_a_stream_that_breaks_is_begun_anew_and_the_reader_is_told(model: Any, kind: Any) -> None:
    llm, _ = model(["It is sunny in Paris, and it rains in Rome."], faults=[Fault(kind, after_events=6)])
    response, shown = await streamed(llm)

    last = max(index for index, delta in enumerate(shown) if delta.kind == "restart")
    assert "".join(delta.text for delta in shown[last:]) == response.content
    assert len(response.wasted) == 1


async def test_a_provider_that_hangs_is_given_up_after_the_time_limit(model: Any) -> None:
    options = {"timeout_seconds": 0.05, "retries": RetryPolicy(max_retries=0)}
    for fault in (Fault("hang", after_events=0), Fault("hang", after_events=2)):
        llm, _ = model(["There."], faults=[fault], options=options)
        with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
            await streamed(llm)


async def test_empty_answers_to_the_end_are_an_error(model: Any) -> None:
    llm, _ = model(["There."], faults=["empty_answer"] * 4)

    with pytest.raises(BrokenAnswerError, match=r"the answer (is empty|has no choices)") as caught:
        await llm.call_async([TASK])
    assert len(caught.value.wasted) == 4
    assert all(usage is not None for usage in caught.value.wasted)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_request_that_is_too_long_is_refused_at_once_and_the_memory_can_read_it(
    model: Any, sleeps: list[float], is_streamed: bool
) -> None:
    llm, server = model(["There."], context_window_tokens=100)

    with pytest.raises(RequestRefusedError) as caught:
        await llm.call_async(
            [LLMMessage("user", "word " * 500)], on_delta=(lambda delta: None) if is_streamed else None
        )
    refusal = read_refusal(caught.value)
    assert refusal is not None
    assert (refusal.kind, sleeps, len(server.requests)) == ("context_overflow", [], 1)


async def test_a_key_that_is_not_valid_is_said_with_the_variable(model: Any) -> None:
    llm, _ = model(["There."], api_keys={"another"})

    with pytest.raises(CredentialsError, match="check the key that was given, or else OPENAI_API_KEY"):
        await llm.call_async([TASK])


async def test_an_unknown_model_is_named(model: Any) -> None:
    llm, _ = model(["There."], models={"gpt-4.1-mini"})

    with pytest.raises(ModelNotFoundError, match=r"gpt-4\.1"):
        await llm.call_async([TASK])


async def test_another_model_shares_the_connection(model: Any) -> None:
    llm, server = model(["There."])
    await llm.with_model("gpt-4.1-nano").call_async([TASK])

    assert (llm.model, server.requests[0].body["model"]) == ("gpt-4.1", "gpt-4.1-nano")


async def test_system_prompts_stand_where_the_format_has_them(wire: str, model: Any) -> None:
    llm, server = model(["There."] * 2)
    await llm.call_async([LLMMessage("system", "Be brief."), TASK])
    await llm.call_async([TASK], system="Be brief.")

    inside, beside = (exchange.body for exchange in server.requests)
    if wire == "openai_chat":
        assert inside["messages"] == beside["messages"]
        assert inside["messages"][0] == {"role": "system", "content": "Be brief."}
    else:
        assert inside["input"][0]["role"] == "system"
        assert beside["instructions"] == "Be brief."


async def test_the_longest_answer_is_passed_on(wire: str, model: Any) -> None:
    llm, server = model(["There."])
    await llm.call_async([TASK], max_tokens=77)

    # The simulator is a compatible server: many of those know the old name alone.
    assert server.requests[0].body["max_tokens" if wire == "openai_chat" else "max_output_tokens"] == 77


async def test_options_go_with_each_request(model: Any) -> None:
    llm, server = model(["There."], options={"temperature": 0.2})
    await llm.call_async([TASK])

    assert server.requests[0].body["temperature"] == 0.2


REFUSALS = {
    "openai_chat": {"role": "assistant", "content": None, "refusal": "I will not."},
    "openai_responses": {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "I will not."}],
    },
}


async def test_a_refusal_is_an_answer_that_says_so(wire: str, model: Any) -> None:
    response = await model([REFUSALS[wire]])[0].call_async([TASK])

    assert (response.stop_reason, response.content) == ("refusal", "I will not.")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_that_was_cut_off_by_its_limit_says_so(model: Any, is_streamed: bool) -> None:
    llm, _ = model([Turn("It is sun", stop_reason="max_tokens")])
    response = await llm.call_async([TASK], on_delta=(lambda delta: None) if is_streamed else None)

    assert (response.stop_reason, response.content) == ("max_tokens", "It is sun")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_reasoning_that_used_up_the_answer_leaves_a_message_that_may_be_sent_back(
    wire: str, model: Any, is_streamed: bool
) -> None:
    llm, _ = model([Turn(reasoning="Hmm.", stop_reason="max_tokens")])
    response = await llm.call_async([TASK], on_delta=(lambda delta: None) if is_streamed else None)

    assert (response.stop_reason, response.content) == ("max_tokens", "")
    list_sent = [dialect_named(wire).write_user("Weather?"), *items(response), dialect_named(wire).write_user("So?")]
    assert [issue for issue in validate(list_sent, wire) if issue.severity == "error"] == []  # type: ignore[arg-type]


def test_one_model_serves_several_event_loops(model: Any) -> None:
    llm, _ = model(["There."] * 3)

    for _ in range(3):
        assert asyncio.run(llm.call_async([TASK])).content == "There."


async def test_nothing_is_kept_on_the_server_and_reasoning_comes_encrypted() -> None:
    with ProviderSimulator("openai_responses", [CALLS], adds_reasoning=True) as server:
        async with OpenAIResponsesModel("gpt-5", base_url=server.base_url, api_key="test") as llm:
            response = await llm.call_async([TASK], tools=[WEATHER])

    body = server.requests[0].body
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
    assert items(response)[0]["encrypted_content"]
    assert body["tools"][0]["name"] == "weather"


async def test_a_closed_model_can_be_asked_again() -> None:
    with ProviderSimulator("openai_chat", ["One.", "Two."]) as server:
        async with OpenAIChatModel("gpt-4.1", base_url=server.base_url) as llm:
            await llm.call_async([TASK])
        assert (await llm.call_async([TASK])).content == "Two."
