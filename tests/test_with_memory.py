"""`with_memory` around real clients: the caller keeps its own list, the memory's context goes over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memory import MemoryConfig, MemoryManager
from memory.integrations import memory_of, with_memory
from memory.testing.simulators import Call, Exchange, ProviderSimulator, Turn

from .callers import CALLERS, SYSTEM, WAYS, Caller, Connections, ask, results_for
from .conversations import builder_for

ROUNDS = 12
every_client = pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.dialect)
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    opened = Connections()
    yield opened
    await opened.close()


def reading(rounds: int = ROUNDS) -> list[Turn | str]:
    """A model that reads a page a turn, two at once now and then, and answers."""
    calls = [
        [Call("read_page", {"number": number}) for number in range(2 if turn % 3 == 0 else 1)]
        for turn, number in enumerate(range(rounds))
    ]
    return [*(Turn(calls=of_turn) for of_turn in calls), "V-21 opens at 9 bar."]


def page(name: str, arguments: object) -> str:
    return "Valve V-21 opens at 9 bar. " + "The text goes on and on. " * 40


def user(caller: Caller, text: str) -> list[dict[str, Any]]:
    return builder_for(caller.dialect).user(text)


def sent(exchange: Exchange) -> list[Any]:
    body = exchange.body
    found: list[Any] = body.get("messages") or body.get("input") or body.get("contents") or []
    return found


def manager(**options: Any) -> MemoryManager:
    return MemoryManager(MemoryConfig(**{"max_context_tokens": 100_000, "compression_threshold": 50_000, **options}))


async def run_loop(caller: Caller, way: str, client: Any, messages: list[Any]) -> list[Any]:
    """The loop of a caller who knows of no memory."""
    while True:
        answer = await ask(caller, way, client, messages)
        messages += answer
        results = results_for(caller, answer, page)
        if not results:
            return answer
        messages += results


@every_client
@every_way
async def test_short_conversations_are_sent_as_the_bare_client_sends_them(
    caller: Caller, way: str, connections: Connections
) -> None:
    messages = [*user(caller, "hello"), *builder_for(caller.dialect).assistant("hi"), *user(caller, "how are you?")]
    with ProviderSimulator(caller.dialect, ["fine", "fine"]) as server:
        bare = await ask(caller, way, connections.open(caller, way, server), messages)
        managed = await ask(caller, way, with_memory(connections.open(caller, way, server), manager()), messages)

    first, second = (dict(exchange.body) for exchange in server.requests)
    if caller.dialect == "openai_chat" and "stream" in first:
        assert second.pop("stream_options") == {"include_usage": True}
    assert first == second
    assert [type(message) for message in bare] == [type(message) for message in managed]


@every_client
@pytest.mark.parametrize("way", ["ask", "aask", "helper", "ahelper"])
async def test_a_long_loop_is_compressed_on_the_way_and_nothing_is_refused(
    caller: Caller, way: str, connections: Connections
) -> None:
    memory = manager(compression_threshold=1_500)
    messages = user(caller, "Which valve opens at 9 bar?")
    with ProviderSimulator(caller.dialect, reading()) as server:
        client = with_memory(connections.open(caller, way, server), memory)
        await run_loop(caller, way, client, messages)

    stats = memory.get_stats()
    assert server.rejected == []
    assert len(server.requests) == ROUNDS + 1
    assert stats["compression_count"] >= 2
    assert len(sent(server.requests[-1])) < len(messages) / 2
    assert stats["net_savings"] > 0


@every_client
@every_way
async def test_what_a_call_used_is_booked_once(caller: Caller, way: str, connections: Connections) -> None:
    memory = manager()
    messages = user(caller, "hello")
    with ProviderSimulator(caller.dialect, ["one", "two", "three"]) as server:
        client = with_memory(connections.open(caller, way, server), memory)
        for number in range(3):
            messages += await ask(caller, way, client, messages)
            assert memory.tracker.by_purpose["agent"].calls == number + 1
            messages += user(caller, "go on")

    used = [exchange.used for exchange in server.requests]
    stats = memory.get_stats()
    assert stats["total_input_tokens"] == sum(one.input_tokens for one in used if one)
    assert stats["total_output_tokens"] == sum(one.output_tokens for one in used if one)
    assert not stats["cost_is_estimate"]


@every_client
@every_way
async def test_a_context_that_the_model_finds_too_long_is_sent_once_more_and_smaller(
    caller: Caller, way: str, connections: Connections
) -> None:
    memory = manager()
    build = builder_for(caller.dialect)
    messages = user(caller, "Which valve opens at 9 bar?")
    for number in range(ROUNDS):
        call = (f"call_{number}", "read_page", {"number": number})
        messages += [*build.assistant(calls=[call]), *build.results([(call[0], call[1], page("", {}))])]
    with ProviderSimulator(caller.dialect, ["V-21."] * 2, context_window_tokens=2_000) as server:
        client = with_memory(connections.open(caller, way, server), memory)
        messages += await ask(caller, way, client, messages)
        messages += user(caller, "Are you sure?")
        await ask(caller, way, client, messages)

    assert [exchange.status for exchange in server.requests] == [400, 200, 200]
    refused, repeated, _ = (sent(exchange) for exchange in server.requests)
    assert len(repeated) < len(refused)
    assert len(str(repeated)) < len(str(refused)) / 2
    assert memory.tracker.by_purpose["agent"].calls == 2


@every_client
@every_way
async def test_what_stays_too_long_raises_the_sdks_own_error(
    caller: Caller, way: str, connections: Connections
) -> None:
    messages = user(caller, "a word " * 400)
    with ProviderSimulator(caller.dialect, ["never said"], context_window_tokens=500) as server:
        with pytest.raises(Exception) as bare:  # noqa: PT011 - whichever the SDK raises
            await ask(caller, way, connections.open(caller, way, server), messages)
        with pytest.raises(type(bare.value)) as managed:
            await ask(caller, way, with_memory(connections.open(caller, way, server), manager()), messages)

    assert type(managed.value) is type(bare.value)
    assert str(managed.value).split("req_")[0] == str(bare.value).split("req_")[0]


@every_client
@every_way
async def test_a_malformed_list_keeps_the_sdks_error_and_notes_the_rule(
    caller: Caller, way: str, connections: Connections
) -> None:
    build = builder_for(caller.dialect)
    calls = [("call_1", "read_page", {"number": 1})]
    messages = [*user(caller, "hello"), *build.assistant(calls=calls), *user(caller, "never mind")]
    rules = {"openai_chat": "OC-1", "openai_responses": "OR-2", "anthropic": "AN-1", "gemini": "GE-3"}
    with ProviderSimulator(caller.dialect, ["never said"]) as server:
        with pytest.raises(Exception) as bare:  # noqa: PT011 - whichever the SDK raises
            await ask(caller, way, connections.open(caller, way, server), messages)
        with pytest.raises(type(bare.value)) as managed:
            await ask(caller, way, with_memory(connections.open(caller, way, server), manager()), messages)

    assert len(server.requests) == 2
    assert any(note.startswith(f"{rules[caller.dialect]} at ") for note in managed.value.__notes__)


@every_client
async def test_other_failures_are_the_callers_at_once(caller: Caller, connections: Connections) -> None:
    with ProviderSimulator(caller.dialect, ["never said"], faults={1: "rate_limit", 2: "server_error"}) as server:
        client = with_memory(connections.open(caller, "ask", server), manager())
        for _ in range(2):
            with pytest.raises(Exception) as raised:  # noqa: PT011 - whichever the SDK raises
                caller.ask(client, user(caller, "hello"))
            assert not getattr(raised.value, "__notes__", [])

        assert caller.ask(client, user(caller, "hello"))
    assert [exchange.status for exchange in server.requests] == [429, 500, 200]


@every_client
async def test_a_caller_may_drop_the_last_answer_and_ask_again(caller: Caller, connections: Connections) -> None:
    memory = manager()
    messages = user(caller, "Name a valve.")
    with ProviderSimulator(caller.dialect, ["V-1", "V-2", "V-3"]) as server:
        client = with_memory(connections.open(caller, "ask", server), memory)
        rejected = caller.ask(client, messages)
        caller.ask(client, [*messages, *rejected, *user(caller, "Another one.")])
        messages += caller.ask(client, messages)

    assert [len(sent(exchange)) for exchange in server.requests] == [1, 3, 1]
    assert memory.tracker.by_purpose["agent"].calls == 3
    assert [len(memory.archive), memory.get_stats()["context_count"]] == [2, 1]


async def test_two_clients_in_one_process_do_not_meet(connections: Connections) -> None:
    one, two = manager(), manager()
    chat, anthropic = CALLERS[0], CALLERS[2]
    with ProviderSimulator("openai_chat", ["a"]) as left, ProviderSimulator("anthropic", ["b"]) as right:
        caller_one = with_memory(connections.open(chat, "ask", left), one)
        caller_two = with_memory(connections.open(anthropic, "ask", right), two)
        chat.ask(caller_one, user(chat, "to the left"))
        anthropic.ask(caller_two, user(anthropic, "to the right"))

    assert memory_of(caller_one) is one
    assert memory_of(caller_two) is two
    assert [str(memory.messages).count("to the") for memory in (one, two)] == [1, 1]
    assert one.get_stats()["total_input_tokens"] != two.get_stats()["total_input_tokens"]


@every_client
async def test_ten_conversations_at_once_do_not_meet(caller: Caller, connections: Connections) -> None:
    keys = [f"key-{number}" for number in range(10)]
    memories = {key: manager(compression_threshold=600) for key in keys}
    logs = {key: user(caller, f"I am {key}. Which valve opens at 9 bar?") for key in keys}
    with ProviderSimulator(caller.dialect, {key: reading(4) for key in keys}) as server:
        clients = {key: with_memory(connections.open(caller, "aask", server, key), memories[key]) for key in keys}
        await asyncio.gather(*(run_loop(caller, "aask", clients[key], logs[key]) for key in keys))

    assert server.rejected == []
    for key in keys:
        own = [exchange for exchange in server.requests if exchange.request.api_key == key]
        assert len(own) == 5
        assert all(f"I am {key}." in str(sent(exchange)) for exchange in own)
        assert str(sent(own[-1])).count("I am ") == 1
        assert memories[key].get_stats()["total_input_tokens"] == sum(e.used.input_tokens for e in own if e.used)
        assert memories[key].get_stats()["compression_count"] >= 1


@every_client
async def test_calls_at_the_same_time_on_one_conversation_are_prepared_one_by_one(
    caller: Caller, connections: Connections
) -> None:
    memory = manager(compression_threshold=1_500)
    messages = user(caller, "Which valve opens at 9 bar?")
    with ProviderSimulator(caller.dialect, [*reading(6), *["same"] * 5]) as server:
        client = with_memory(connections.open(caller, "aask", server), memory)
        await run_loop(caller, "aask", client, messages)
        messages += user(caller, "Say it in one word.")
        await asyncio.gather(*(ask(caller, "aask", client, messages) for _ in range(5)))

    bodies = [sent(exchange) for exchange in server.requests[-5:]]
    assert server.rejected == []
    assert all(body == bodies[0] for body in bodies)


@every_client
async def test_what_travels_beside_the_messages_is_counted(caller: Caller, connections: Connections) -> None:
    memory = manager()
    with ProviderSimulator(caller.dialect, ["fine"]) as server:
        caller.ask(with_memory(connections.open(caller, "ask", server), memory), user(caller, "hello"))

    told = MemoryManager(memory.config, dialect=caller.dialect)
    told.follow_sync(memory.messages)
    without = told.current_tokens
    told.set_fixed(system=None if caller.dialect == "openai_chat" else SYSTEM)
    assert memory.current_tokens == told.current_tokens
    assert (told.current_tokens > without) == (caller.dialect != "openai_chat")
