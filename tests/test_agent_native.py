"""The agent in the formats of all providers: what it writes itself is native, and a refused request is recovered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent import Delta, LLMResponse, ReActAgent, Reply, ScriptedModel, Tool, Toolbox, call, connect
from memory import InvalidMessagesError, MemoryConfig, MemoryManager, Usage, validate
from memory.dialects import dialect_named
from memory.messages import DialectName, Wire
from memory.native import to_wire
from memory.testing import WordCounter
from memory.testing.simulators import Fault, ProviderSimulator

from .conversations import DIALECT_NAMES, builder_for


class NativeModel:
    """Answers with scripted replies in a provider's format; refuses the requests that it is told to, as too long."""

    def __init__(self, dialect: DialectName, *replies: Reply | str, refuses: Sequence[bool] = ()) -> None:
        self.model = "some-model"
        self.dialect = dialect
        self.requests: list[tuple[list[Wire], str | None]] = []
        self._replies = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
        self._refuses = list(refuses)

    async def call_async(
        self,
        messages: Sequence[object],
        tools: Sequence[Wire] | None = None,
        max_tokens: int | None = None,
        *,
        system: str | None = None,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> LLMResponse:
        self.requests.append(([to_wire(message) for message in messages], system))
        if self._refuses and self._refuses.pop(0):
            size = len(str(self.requests[-1]).split())
            raise RefusedError(f"prompt is too long: {size} tokens > {size * 3 // 4} maximum")
        return self._answer(self._replies.pop(0))

    def _answer(self, reply: Reply) -> LLMResponse:
        number = len(self.requests)
        calls = [
            (f"c{number}_{index}", made.name, json.loads(made.arguments)) for index, made in enumerate(reply.calls)
        ]
        said = builder_for(self.dialect).assistant(reply.text, calls)
        made = tuple(one for message in said for one in dialect_named(self.dialect).read(message).calls)
        message: Any = {"object": "response", "output": said} if self.dialect == "openai_responses" else said[0]
        return LLMResponse(
            content=reply.text,
            tool_calls=made,
            stop_reason="tool_use" if calls else "end_turn",
            usage=Usage(input_tokens=len(str(self.requests[-1]).split()), output_tokens=10),
            message=message,
        )


class RefusedError(Exception):
    status_code = 400


class Malformed(NativeModel):
    async def call_async(self, *args: Any, **options: Any) -> LLMResponse:
        raise RefusedError("messages.1: `tool_use` ids were found without `tool_result` blocks immediately after")


def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + "meaning " * 40


def small_memory(model: NativeModel) -> MemoryManager:
    config = MemoryConfig(max_context_tokens=100_000, compression_threshold=400, short_term_size=4)
    return MemoryManager(config, dialect=model.dialect, model=model.model, counter=WordCounter())


def turns(count: int) -> list[Reply]:
    return [Reply(calls=[call("lookup", word=f"a{n}"), call("lookup", word=f"b{n}")]) for n in range(count)]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_each_request_is_valid_for_its_provider_through_compressions(dialect: DialectName) -> None:
    model = NativeModel(dialect, *turns(12), "done")
    agent = ReActAgent(model, tools=[lookup], memory=small_memory(model))

    result = await agent.run("find out what the words mean")

    assert result.is_answered
    assert agent.memory.get_stats()["compression_count"] > 0
    for messages, _ in model.requests:
        assert [issue for issue in validate(messages, dialect) if issue.severity == "error"] == []


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_the_system_prompt_travels_where_the_provider_wants_it(dialect: DialectName) -> None:
    model = NativeModel(dialect, "done")
    await ReActAgent(model, system_prompt="Be brief.", memory=small_memory(model)).run("hello")

    ((messages, system),) = model.requests
    own = dialect_named(dialect)
    among = [reading.text for message in messages if (reading := own.read(message)).role == "system"]
    assert (among, system) == (([], "Be brief.") if own.system_is_beside else (["Be brief."], None))


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_a_context_that_is_too_long_is_compressed_and_sent_once_more(dialect: DialectName) -> None:
    model = NativeModel(dialect, *turns(5), "done", refuses=[False] * 5 + [True])
    memory = MemoryManager(dialect=dialect, counter=WordCounter())
    agent = ReActAgent(model, tools=[lookup], memory=memory)

    result = await agent.run("find out what the words mean")

    assert result.is_answered
    refused, sent_again = model.requests[5][0], model.requests[6][0]
    assert memory.get_stats()["compression_count"] == 1
    assert sum(len(str(m)) for m in sent_again) < sum(len(str(m)) for m in refused)


async def test_a_second_refusal_in_a_row_is_the_callers() -> None:
    model = NativeModel("anthropic", *turns(5), "done", refuses=[False] * 5 + [True, True])
    agent = ReActAgent(model, tools=[lookup], memory=MemoryManager(dialect="anthropic", counter=WordCounter()))

    with pytest.raises(RefusedError):
        await agent.run("find out what the words mean")

    assert len(model.requests) == 7


async def test_a_malformed_conversation_is_reported_with_its_rule() -> None:
    model = Malformed("anthropic")
    memory = MemoryManager(dialect="anthropic", counter=WordCounter())
    call_block = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": [call_block]}]
    await memory.load_history([*history, {"role": "user", "content": "never mind the call"}])

    with pytest.raises(InvalidMessagesError, match="AN-2"):
        await ReActAgent(model, memory=memory).run("and now?")


async def test_attempts_that_broke_off_are_booked_and_marked_as_estimates() -> None:
    class Interrupted(ScriptedModel):
        async def call_async(self, *args: Any, **options: Any) -> LLMResponse:
            response = await super().call_async(*args, **options)
            return replace(response, wasted=(Usage(input_tokens=1_000, output_tokens=5),))

    agent = ReActAgent(Interrupted(["done"]))
    await agent.run("hello")

    stats = agent.memory.get_stats()
    assert stats["total_input_tokens"] > 1_000
    assert stats["cost_is_estimate"]


async def test_a_call_that_is_cancelled_is_booked_as_far_as_it_came() -> None:
    with ProviderSimulator("anthropic", ["word " * 50], faults={1: Fault("hang", after_events=4)}) as server:
        async with connect("anthropic", "claude-sonnet-4-6", api_key="test", base_url=server.base_url) as llm:
            begun = asyncio.Event()
            agent = ReActAgent(llm, on_delta=lambda _piece: begun.set())
            running = asyncio.create_task(agent.run("hello"))
            await asyncio.wait_for(begun.wait(), 5)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    stats = agent.memory.get_stats()
    assert stats["total_input_tokens"] > 0
    assert stats["cost_is_estimate"]


async def test_pieces_of_an_answer_are_passed_on_as_they_come() -> None:
    shown: list[Delta] = []
    agent = ReActAgent(
        ScriptedModel([Reply("I look.", calls=[call("lookup", word="a")]), "It means a thing."]),
        tools=[lookup],
        on_delta=shown.append,
    )

    await agent.run("what is a?")

    assert "".join(delta.text for delta in shown if delta.kind == "text") == "I look.It means a thing."
    assert [delta.text for delta in shown if delta.kind == "tool_call"] == ["lookup"]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_the_newest_result_of_a_tool_that_asks_for_it_outlives_every_compression(dialect: DialectName) -> None:
    def plan(step: str) -> str:
        """Say what comes next."""
        return f"the plan is now at step {step}"

    plans = [Reply(calls=[call("plan", step=step)]) for step in ("one", "two")]
    model = NativeModel(dialect, *plans, *turns(14), "done")
    tools = Toolbox([Tool.from_function(plan, keeps_newest=True), lookup])
    agent = ReActAgent(model, tools=tools, memory=small_memory(model), max_iterations=30)

    await agent.run("find out what the words mean")

    assert agent.memory.get_stats()["compression_count"] > 0
    last = json.dumps(model.requests[-1][0])
    assert "the plan is now at step two" in last
