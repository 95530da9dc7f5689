"""LiteLLM behind the agent's protocol, through the real package, against a provider on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agent.llm import Delta, ProviderModel, connect
from agent.llm.errors import BrokenAnswerError, CredentialsError, RateLimitError, RequestRefusedError
from agent.llm.retrying import RetryPolicy
from memory.messages import LLMMessage
from memory.refusals import read_refusal
from memory.testing.simulators import Call, Fault, ProviderSimulator, Turn

from .canned import Canned, CannedServer

# Not `importorskip`: importing it here would fetch its list of prices.
pytestmark = pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")

TASK = LLMMessage("user", "What is the weather in Paris and in Rome?")
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLS = Turn("Let me look.", calls=[Call("weather", {"city": "Paris"}), Call("weather", {"city": "Rome"})])


def connected(server: ProviderSimulator | CannedServer, model: str = "openai/gpt-4.1", **options: Any) -> ProviderModel:
    options = {"retries": RetryPolicy(max_retries=2, first_wait_seconds=0.001, max_wait_seconds=0.01)} | options
    return connect("litellm", model, base_url=server.base_url, api_key="test", **options)


async def test_a_streamed_answer_is_the_same_message_as_one_in_one_piece() -> None:
    shown: list[Delta] = []
    with ProviderSimulator("openai_chat", [CALLS, CALLS]) as server:
        whole = await connected(server).call_async([TASK], tools=[WEATHER])
        pieces = await connected(server).call_async([TASK], tools=[WEATHER], on_delta=shown.append)

    assert without_ids(whole.message) == without_ids(pieces.message)
    assert whole.usage == pieces.usage
    assert [made.arguments for made in pieces.tool_calls] == ['{"city":"Paris"}', '{"city":"Rome"}']
    assert "".join(delta.text for delta in shown if delta.kind == "text") == "Let me look."


def without_ids(message: Any) -> Any:
    calls = [{key: value for key, value in call.items() if key != "id"} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


async def test_half_a_surrogate_pair_is_replaced_on_the_wire() -> None:
    with ProviderSimulator("openai_chat", ["Done."]) as server:
        await connected(server).call_async([LLMMessage("user", "half \ud83d")])

    assert server.requests[0].body["messages"][0]["content"] == "half \ufffd"


async def test_usage_is_what_the_provider_counted() -> None:
    with ProviderSimulator("openai_chat", ["Sunny."] * 2) as server:
        for on_delta in (None, lambda delta: None):
            response = await connected(server).call_async([LLMMessage("user", "word " * 3_000)], on_delta=on_delta)

    used = server.requests[-1].used
    assert used is not None
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (used.input_tokens, used.output_tokens)
    assert response.usage.cache_read_tokens == used.cache_read_tokens > 0


async def test_usage_that_was_not_reported_is_not_guessed() -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Sunny."}}]}
    end = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    with CannedServer([Canned(chunks=[said, end])]) as server:
        response = await connected(server).call_async([TASK], on_delta=lambda delta: None)

    assert (response.content, response.usage) == ("Sunny.", None)


async def test_a_stream_that_ends_without_a_reason_was_cut() -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "It is"}}]}
    with CannedServer([Canned(chunks=[said])] * 3) as server, pytest.raises(BrokenAnswerError, match="stream ended"):
        await connected(server).call_async([TASK], on_delta=lambda delta: None)


async def test_signed_thinking_of_another_provider_is_kept_whole() -> None:
    turn = Turn("Sunny.", reasoning="Let me think about the weather.")
    with ProviderSimulator("anthropic", [turn, turn]) as server:
        llm = connected(server, "anthropic/claude-sonnet-4-5")
        whole, pieces = await llm.call_async([TASK]), await llm.call_async([TASK], on_delta=lambda delta: None)

    for response in (whole, pieces):
        (block,) = response.message["thinking_blocks"]  # type: ignore[index] # a dict in OpenAI's form
        assert block["thinking"] == "Let me think about the weather."
        assert block["signature"]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("faults", [["server_error"], ["empty_answer"], ["rate_limit", "unavailable"]])
async def test_a_failure_that_passes_is_not_seen_and_litellm_repeats_nothing_itself(
    faults: Sequence[Any], is_streamed: bool
) -> None:
    with ProviderSimulator("openai_chat", ["Sunny."], faults=faults) as server:
        response = await connected(server).call_async([TASK], on_delta=(lambda delta: None) if is_streamed else None)

    assert (response.content, len(server.requests)) == ("Sunny.", len(faults) + 1)


async def test_retry_after_is_waited_for() -> None:
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    faults = [Fault("rate_limit", retry_after_seconds=7)] * 2
    with (
        ProviderSimulator("openai_chat", ["Sunny."], faults=faults) as server,
        pytest.raises(RateLimitError, match="after 2 attempts"),
    ):
        await connected(server, retries=RetryPolicy(max_retries=1, sleep=sleep)).call_async([TASK])
    assert sleeps == [7.0]


async def test_a_request_that_is_too_long_is_refused_and_the_memory_can_read_it() -> None:
    with (
        ProviderSimulator("openai_chat", ["Sunny."], context_window_tokens=50) as server,
        pytest.raises(RequestRefusedError) as caught,
    ):
        await connected(server).call_async([LLMMessage("user", "word " * 500)])

    refusal = read_refusal(caught.value)
    assert refusal is not None
    assert (refusal.kind, len(server.requests)) == ("context_overflow", 1)


async def test_a_key_that_is_not_valid_is_said() -> None:
    with ProviderSimulator("openai_chat", ["Sunny."], api_keys={"another"}) as server, pytest.raises(CredentialsError):
        await connected(server).call_async([TASK])


async def test_another_model_is_asked_by_its_name() -> None:
    with ProviderSimulator("openai_chat", ["Sunny."]) as server:
        await connected(server).with_model("openai/gpt-4.1-nano").call_async([TASK], max_tokens=99)

    assert server.requests[0].body["model"] == "gpt-4.1-nano"
    assert 99 in (server.requests[0].body.get("max_tokens"), server.requests[0].body.get("max_completion_tokens"))


SILENT = """
import asyncio, socket
from agent.llm import connect
from agent.llm.errors import ProviderError
asked = []
socket.getaddrinfo = lambda *arguments, **named: asked.append(arguments) or []
llm = connect("litellm", "no-such-provider/model", max_retries=0)
try:
    asyncio.run(llm.call_async([{"role": "user", "content": "Hi"}]))
except ProviderError:
    pass
import litellm
assert (litellm.callbacks, litellm.success_callback, asked) == ([], [], []), asked
"""


def test_litellm_prints_nothing_sets_no_callback_and_fetches_no_prices() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LITELLM_LOCAL_MODEL_COST_MAP"}
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SILENT], cwd=root, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
