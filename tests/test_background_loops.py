"""Loops over real SDKs, and the agent, with summaries that are written while they go on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agent import LLMResponse, ReActAgent, Reply, ScriptedModel, call
from memory import Compressed, MemoryConfig, MemoryManager
from memory.events import Event
from memory.integrations import with_memory
from memory.testing.simulators import Call, ProviderSimulator, Turn

from .callers import CALLERS, Caller, Connections, ask, results_for
from .conversations import builder_for

ROUNDS = 12
SUMMARY = "## State of the work\nPages of the manual were read; valve V-21 opens at 9 bar, as they say again and again."


def page(name: str, arguments: object) -> str:
    return "Valve V-21 opens at 9 bar. " + "The text goes on and on. " * 40


class SlowModel:
    """Answers when as many requests have been made as it was told to wait for."""

    def __init__(self, server: ProviderSimulator, *, requests: int) -> None:
        self._server = server
        self._requests = requests
        self._stop = threading.Event()

    def __call__(self, prompt: str) -> str:
        wanted = len(self._server.requests) + self._requests
        while len(self._server.requests) < wanted and not self._stop.wait(0.001):
            pass
        return SUMMARY

    def stop(self) -> None:
        self._stop.set()


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.dialect)
@pytest.mark.parametrize("way", ["ask", "aask"])
async def test_a_loop_goes_on_while_its_memory_is_compressed(caller: Caller, way: str) -> None:
    events: list[Event] = []
    script = [Turn(calls=[Call("read_page", {"number": number})]) for number in range(ROUNDS)]
    connections = Connections()
    with ProviderSimulator(caller.dialect, [*script, "V-21 opens at 9 bar."]) as server:
        model = SlowModel(server, requests=2)
        config = MemoryConfig(max_context_tokens=100_000, compression_threshold=1_500, background=True)
        memory = MemoryManager(config, model, on_event=events.append)
        client = with_memory(connections.open(caller, way, server), memory)
        messages: list[Any] = builder_for(caller.dialect).user("Which valve opens at 9 bar?")
        while results := await one_turn(caller, way, client, messages):
            messages += results
        model.stop()
        await connections.close()

    compressed = [event for event in events if isinstance(event, Compressed)]
    assert server.rejected == []
    assert len(server.requests) == ROUNDS + 1
    assert compressed
    assert all(event.in_background and event.late_count > 0 for event in compressed)
    assert memory.get_stats()["cost_is_estimate"] is True  # the callable reports no usage for its summaries
    await memory.drop_background()


async def one_turn(caller: Caller, way: str, client: Any, messages: list[Any]) -> list[Any]:
    answer = await ask(caller, way, client, messages)
    messages += answer
    return list(results_for(caller, answer, page))


def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + "meaning " * 60


class Held(ScriptedModel):
    """Plays its script; a request for a summary waits until it is let go."""

    def __init__(self, replies: list[Reply | str]) -> None:
        super().__init__(replies)
        self.go, self.is_held, self.is_over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.held = 0

    async def call_async(self, messages: Any, *args: Any, **options: Any) -> LLMResponse:
        if "You write the working memory" not in str(messages[0]):
            response = await super().call_async(messages, *args, **options)
            if not response.tool_calls:
                self.is_over.set()
            return response
        self.held += 1
        self.is_held.set()
        await self.go.wait()
        return await ScriptedModel([SUMMARY]).call_async(messages, *args, **options)


def agent_of(model: Held, events: list[Event]) -> ReActAgent:
    config = MemoryConfig(compression_threshold=600, short_term_size=4, background=True, summary_prefix=False)
    memory = MemoryManager(config, model, dialect="openai_chat", model=model.model, on_event=events.append)
    return ReActAgent(model, tools=[lookup], memory=memory)


def words(count: int) -> list[Reply | str]:
    return [*(Reply(calls=[call("lookup", word=f"word{n}")]) for n in range(count)), "done"]


async def test_the_agent_is_never_held_up_and_leaves_no_task_behind() -> None:
    model, events = Held(words(14)), list[Event]()
    agent = agent_of(model, events)
    run = asyncio.create_task(agent.run("look all up"))
    await asyncio.wait_for(model.is_over.wait(), 10)
    assert model.held == 1

    model.go.set()
    result = await asyncio.wait_for(run, 10)

    assert result.is_answered
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [event.in_background for event in events if isinstance(event, Compressed)] == [True]


async def test_a_run_that_is_cancelled_drops_the_summary() -> None:
    model, events = Held(words(400)), list[Event]()
    agent = agent_of(model, events)
    run = asyncio.create_task(agent.run("look all up"))
    await asyncio.wait_for(model.is_held.wait(), 10)
    run.cancel()
    await asyncio.wait([run], timeout=5)

    assert run.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not agent.memory.is_compressing
    assert agent.memory.get_stats()["compression_count"] == 0
