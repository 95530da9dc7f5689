"""The LiteLLM hook and wrapper, under LiteLLM's own functions: mocked, and against simulated providers."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

# Before LiteLLM is imported: it would fetch its price list otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from litellm.exceptions import ContextWindowExceededError
from litellm.router import Router

from memory import BudgetExceededError, ConfigError, MemoryConfig, MemoryManager, MissingDependencyError
from memory.integrations.litellm import MemoryHook, managed
from memory.native import to_wire
from memory.testing.simulators import Call, ProviderSimulator, Turn

TASK = "Read every page of the manual. Which valve opens at 9 bar?"
CONFIG = MemoryConfig(max_context_tokens=8_000, compression_threshold=3_000, short_term_size=6)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_page",
            "description": "Read a page.",
            "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
        },
    }
]
PROVIDERS = {"openai_chat": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-3-5-haiku-20241022"}


def reading(pages: int) -> list[Turn]:
    turns = [Turn(calls=[Call("read_page", {"number": n}), Call("read_page", {"number": n})]) for n in range(pages)]
    return [*turns, Turn("V-21")]


def page(number: int) -> str:
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 40


def new_memory() -> MemoryManager:
    return MemoryManager(CONFIG, model="gpt-4o-mini")


def of(server: ProviderSimulator, wire: str = "openai_chat") -> dict[str, Any]:
    # LiteLLM writes Anthropic's `/v1` itself.
    return {"model": PROVIDERS[wire], "api_base": server.base_url, "api_key": "test", "max_retries": 0, "tools": TOOLS}


def with_results(messages: list[Any], message: Any) -> bool:
    """Put an answer and its tools' results on the caller's list; False if there were no calls."""
    messages.append(message)
    for call in message.tool_calls or ():
        number = json.loads(call.function.arguments)["number"]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": page(number)})
    return bool(message.tool_calls)


async def run(ask: Callable[..., Any], messages: list[Any], **arguments: Any) -> str:
    while True:
        answer = await ask(messages=messages, **arguments)
        if not with_results(messages, answer.choices[0].message):
            return str(answer.choices[0].message.content)


def said(message: Any) -> dict[str, Any]:
    """LiteLLM hands its hooks copies, with its own message objects as dicts."""
    return {key: value for key, value in to_wire(message).items() if value}


def sizes(server: ProviderSimulator) -> list[int]:
    return [len(exchange.body["messages"]) for exchange in server.requests]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(litellm, "callbacks", [])
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)  # it complains of sessions that nobody closes
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()  # type: ignore[no-untyped-call]  # LiteLLM's own


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> MemoryHook:
    made = MemoryHook(new_memory)
    monkeypatch.setattr(litellm, "callbacks", [made])
    return made


@pytest.mark.parametrize("wire", PROVIDERS)
async def test_the_hook_compresses_a_long_loop_and_no_request_is_rejected(hook: MemoryHook, wire: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": TASK}]
    with ProviderSimulator(wire, reading(15)) as server:
        answer = await run(litellm.acompletion, messages, metadata={"session_id": "s1"}, **of(server, wire))

    stats = hook.memory("s1").get_stats()
    assert (answer, server.rejected, len(server.requests)) == ("V-21", [], 16)
    assert any(later < earlier for earlier, later in pairwise(sizes(server)))
    assert all(TASK in str(exchange.body["messages"][0]) for exchange in server.requests)
    assert stats["compression_count"] >= 2
    assert stats["total_input_tokens"] == sum(used.input_tokens for e in server.requests if (used := e.used))
    assert stats["total_output_tokens"] == sum(used.output_tokens for e in server.requests if (used := e.used))


async def test_nothing_that_the_caller_sent_is_lost(hook: MemoryHook) -> None:
    messages: list[Any] = [{"role": "user", "content": TASK}]
    with ProviderSimulator("openai_chat", reading(15)) as server:
        await run(litellm.acompletion, messages, litellm_session_id="s1", **of(server))

    memory = hook.memory("s1")
    kept = [record.message for record in memory.archive] + [one for one in memory.origins() if one is not None]
    assert [message for message in map(said, messages[:-1]) if message not in list(map(said, kept))] == []


async def test_conversations_with_different_ids_do_not_meet(hook: MemoryHook) -> None:
    with ProviderSimulator("openai_chat", {f"key-{n}": reading(6 + n) for n in range(4)}) as server:
        await asyncio.gather(
            *(
                run(
                    litellm.acompletion,
                    [{"role": "user", "content": f"{TASK} I am number {n}."}],
                    **of(server) | {"api_key": f"key-{n}", "litellm_session_id": f"s{n}"},
                )
                for n in range(4)
            )
        )

    for n in range(4):
        own = [e for e in server.requests if e.request.api_key == f"key-{n}"]
        assert len(own) == 7 + n
        assert all(f"number {n}." in str(e.body["messages"][0]) for e in own)
        assert hook.memory(f"s{n}").get_stats()["total_input_tokens"] == sum(e.used.input_tokens for e in own if e.used)
    assert server.rejected == []


async def test_a_request_without_a_session_id_is_left_alone(hook: MemoryHook) -> None:
    messages = [{"role": "user", "content": "hi"}]

    for arguments in ({}, {"metadata": {"session_id": "made up", "litellm_session_id_generated": True}}):
        await litellm.acompletion("openai/gpt-4o-mini", messages=messages, mock_response="hello", **arguments)

    with pytest.raises(ConfigError, match="made up"):
        hook.memory("made up")


async def test_messages_given_by_position_are_sent_as_they_are_and_said_so(
    hook: MemoryHook, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [{"role": "user", "content": "hi"}]
    await litellm.acompletion("openai/gpt-4o-mini", messages, mock_response="hello", litellm_session_id="s1")

    assert "by position" in caplog.text


async def test_a_stream_through_the_hook_is_booked_after_its_end(hook: MemoryHook) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "litellm_session_id": "s1", "stream": True}
    with ProviderSimulator("openai_chat", [Turn("a long answer"), Turn("again")]) as server:
        stream = await litellm.acompletion(**of(server), **asked, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        for _ in range(200):  # LiteLLM tells its callbacks from a task of its own
            if hook.memory("s1").get_stats()["total_input_tokens"]:
                break
            await asyncio.sleep(0.005)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a long answer"
    used = server.requests[0].used
    assert used is not None
    assert hook.memory("s1").get_stats()["total_input_tokens"] == used.input_tokens


async def test_a_refused_context_makes_the_routers_retry_smaller(hook: MemoryHook) -> None:
    messages: list[Any] = [{"role": "user", "content": TASK}]
    for n in range(8):
        messages += [{"role": "assistant", "content": f"I read {n}."}, {"role": "user", "content": page(n)}]
    with ProviderSimulator("openai_chat", [Turn("V-21")], context_window_tokens=1_600) as server:
        asked = {key: value for key, value in of(server).items() if key != "tools"}
        with pytest.raises(ContextWindowExceededError):
            await litellm.acompletion(messages=messages, litellm_session_id="s1", **asked)
        answer = await litellm.acompletion(messages=messages, litellm_session_id="s1", **asked)

    assert answer.choices[0].message.content == "V-21"
    assert [exchange.status for exchange in server.requests] == [400, 200]


async def test_a_router_goes_through_the_hook_once_for_each_attempt(hook: MemoryHook) -> None:
    with ProviderSimulator("openai_chat", reading(10)) as server:
        params = {key: value for key, value in of(server).items() if key != "tools"}
        router = Router([{"model_name": "reader", "litellm_params": params}], num_retries=0)
        messages: list[Any] = [{"role": "user", "content": TASK}]
        answer = await run(router.acompletion, messages, model="reader", tools=TOOLS, metadata={"session_id": "s1"})

    stats = hook.memory("s1").get_stats()
    assert (answer, server.rejected) == ("V-21", [])
    assert stats["compression_count"] >= 1
    assert stats["message_count"] == len(messages) - 1
    assert stats["total_input_tokens"] == sum(e.used.input_tokens for e in server.requests if e.used)


async def test_a_fallback_model_gets_the_managed_list_which_is_not_taken_for_the_callers(hook: MemoryHook) -> None:
    messages: list[Any] = [{"role": "user", "content": TASK}]
    for n in range(20):
        messages += [{"role": "assistant", "content": f"I read {n}."}, {"role": "user", "content": page(n)}]
    with ProviderSimulator("openai_chat", [Turn("V-21")], faults={1: "server_error"}) as server:
        asked = {key: value for key, value in of(server).items() if key != "tools"}
        fallbacks = ["openai/gpt-4o"]
        answer = await litellm.acompletion(
            messages=messages, litellm_session_id="s1", num_retries=0, fallbacks=fallbacks, **asked
        )

    stats = hook.memory("s1").get_stats()
    assert answer.choices[0].message.content == "V-21"
    assert [exchange.status for exchange in server.requests] == [500, 200]
    assert sizes(server)[0] == sizes(server)[1] < len(messages)
    assert stats["message_count"] == len(messages)
    assert stats["compression_count"] == 1


async def test_litellms_own_retry_of_our_list_is_not_taken_for_the_callers(hook: MemoryHook) -> None:
    request = {"messages": [{"role": "user", "content": TASK}], "litellm_session_id": "s1"}
    first = await hook.async_pre_call_deployment_hook(request, litellm.types.utils.CallTypes.acompletion)
    assert first is not None

    again = await hook.async_pre_call_deployment_hook(first, litellm.types.utils.CallTypes.acompletion)

    assert again is not None
    assert again["messages"] == request["messages"]
    assert hook.memory("s1").get_stats()["message_count"] == 1


async def test_over_budget_the_callers_own_call_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MemoryConfig(max_cost_dollars=0.0000001)
    monkeypatch.setattr(litellm, "callbacks", [MemoryHook(lambda: MemoryManager(config, model="gpt-4o"))])

    with pytest.raises(BudgetExceededError):
        await litellm.acompletion(
            "openai/gpt-4o", messages=[{"role": "user", "content": "hi"}], mock_response="x", litellm_session_id="s1"
        )


async def test_the_hook_holds_no_more_conversations_than_allowed() -> None:
    hook = MemoryHook(new_memory, max_conversations=2)
    for name in ("s1", "s2", "s1", "s3"):
        request = {"messages": [{"role": "user", "content": name}], "litellm_session_id": name}
        await hook.async_pre_call_deployment_hook(request, litellm.types.utils.CallTypes.acompletion)

    assert hook.memory("s1").get_stats()["message_count"] == 1
    with pytest.raises(ConfigError, match="s2"):
        hook.memory("s2")
    hook.forget("s1")
    with pytest.raises(ConfigError, match="s1"):
        hook.memory("s1")
    with pytest.raises(ConfigError, match="max_conversations"):
        MemoryHook(new_memory, max_conversations=0)


@pytest.mark.parametrize("wire", PROVIDERS)
def test_the_synchronous_function_is_managed(wire: Any) -> None:
    memory = new_memory()
    completion = managed(litellm.completion, memory)
    messages: list[Any] = [{"role": "user", "content": TASK}]
    with ProviderSimulator(wire, reading(15)) as server:
        while with_results(messages, completion(messages=messages, **of(server, wire)).choices[0].message):
            pass

    stats = memory.get_stats()
    assert (messages[-1].content, server.rejected, len(server.requests)) == ("V-21", [], 16)
    assert stats["compression_count"] >= 2
    assert any(later < earlier for earlier, later in pairwise(sizes(server)))
    assert stats["total_input_tokens"] == sum(e.used.input_tokens for e in server.requests if e.used)


async def test_the_asynchronous_function_is_managed_too() -> None:
    memory = new_memory()
    acompletion = managed(litellm.acompletion, memory)
    with ProviderSimulator("openai_chat", reading(15)) as server:
        answer = await run(acompletion, [{"role": "user", "content": TASK}], **of(server))

    assert (answer, server.rejected) == ("V-21", [])
    assert memory.get_stats()["total_input_tokens"] == sum(e.used.input_tokens for e in server.requests if e.used)


def test_messages_given_by_position_are_managed_by_the_wrapper() -> None:
    memory = new_memory()

    managed(litellm.completion, memory)("openai/gpt-4o-mini", [{"role": "user", "content": "hi"}], mock_response="x")

    assert memory.get_stats()["message_count"] == 1
    assert memory.get_stats()["total_input_tokens"] == 10


@pytest.mark.parametrize("wire", PROVIDERS)
def test_a_stream_is_handed_through_and_its_usage_booked(wire: Any) -> None:
    memory = new_memory()
    with ProviderSimulator(wire, [Turn("a long answer")]) as server:
        stream = managed(litellm.completion, memory)(
            messages=[{"role": "user", "content": "hi"}], stream=True, **of(server, wire)
        )
        chunks = list(stream)

    used = server.requests[0].used
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a long answer"
    assert [chunk for chunk in chunks if getattr(chunk, "usage", None)] == []
    assert used is not None
    assert memory.get_stats()["total_input_tokens"] == used.input_tokens
    assert memory.get_stats()["total_output_tokens"] == used.output_tokens


async def test_a_refused_context_is_made_smaller_and_sent_once_more() -> None:
    messages: list[Any] = [{"role": "user", "content": TASK}]
    for n in range(8):
        messages += [{"role": "assistant", "content": f"I read {n}."}, {"role": "user", "content": page(n)}]
    memory = new_memory()
    with ProviderSimulator("openai_chat", [Turn("V-21")], context_window_tokens=1_600) as server:
        asked = {key: value for key, value in of(server).items() if key != "tools"}
        answer = await managed(litellm.acompletion, memory)(messages=messages, **asked)

    assert answer.choices[0].message.content == "V-21"
    assert [exchange.status for exchange in server.requests] == [400, 200]


def test_without_the_package_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memory.integrations.litellm")
    monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[litellm\]'"):
        importlib.import_module("memory.integrations.litellm")
