"""The ReAct loop: it ends where it should, and leaves a valid conversation whatever its tools do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import (
    AgentResult,
    BaseAgent,
    LLMResponse,
    ReActAgent,
    Reply,
    ScriptedModel,
    Step,
    Tool,
    Toolbox,
    ToolError,
    call,
)
from memory import ContextOverflowError, MemoryConfig, MemoryManager
from memory.dialects import validate
from memory.errors import ConfigError, MessageError
from memory.messages import Wire
from memory.native import to_wire


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def roles(agent: BaseAgent) -> list[str]:
    return [str(to_wire(message)["role"]) for message in agent.memory.get_context_for_llm()]


def contents(agent: BaseAgent) -> list[Any]:
    return [to_wire(message)["content"] for message in agent.memory.get_context_for_llm()]


def assert_valid(agent: BaseAgent) -> None:
    assert validate(agent.memory.get_context_for_llm(), "openai_chat") == []


def play(script: Any, *tools: Callable[..., Any], **options: Any) -> ReActAgent:
    return ReActAgent(ScriptedModel(script), tools=tools, **options)


# --- One run


async def test_a_run_thinks_acts_reads_and_answers() -> None:
    agent = play([Reply("I add.", [call("add", a=2, b=3)]), "It is 5."], add, system_prompt="Be brief.")
    result = await agent.run("2 + 3?")

    assert result == AgentResult(answer="It is 5.", end_reason="answered", iterations=2)
    assert str(result) == "It is 5."
    assert result.is_answered
    assert roles(agent) == ["system", "user", "assistant", "tool", "assistant"]
    assert contents(agent)[3] == "5"
    assert_valid(agent)


async def test_the_model_is_sent_the_context_of_the_memory_and_the_tools() -> None:
    model = ScriptedModel([Reply(calls=[call("add", a=1, b=1)]), "2"])
    agent = ReActAgent(model, tools=[add])
    await agent.run("1 + 1?")

    assert model.requests[1].messages == tuple(agent.memory.get_context_for_llm()[:-1])
    assert model.requests[0].tools == tuple(Toolbox([add]).schemas)


async def test_results_of_parallel_calls_stand_in_the_order_of_the_calls() -> None:
    agent = play([Reply(calls=[call("add", a=n, b=0) for n in range(5)]), "Done."], add)
    await agent.run("Add.")

    assert contents(agent)[3:8] == ["0", "1", "2", "3", "4"]
    assert_valid(agent)


async def test_two_runs_are_one_conversation_with_one_system_prompt() -> None:
    agent = play(["Blue.", "Because."])
    await agent.run("Which colour?")
    result = await agent.run("Why?")

    assert result.answer == "Because."
    assert roles(agent) == ["system", "user", "assistant", "user", "assistant"]


async def test_a_tool_that_fails_is_a_result_and_not_the_end() -> None:
    def fail() -> None:
        raise ToolError("the disk is full")

    agent = play([Reply(calls=[call("fail"), call("no_such_tool"), call("add", a="x")]), "I gave up."], fail, add)
    result = await agent.run("Try.")

    assert result.answer == "I gave up."
    assert contents(agent)[3] == "Error: the disk is full"
    assert all(text.startswith("Error:") for text in contents(agent)[3:6])
    assert_valid(agent)


async def test_usage_of_every_response_reaches_the_statistics() -> None:
    model = ScriptedModel([Reply(calls=[call("add", a=1, b=1)]), "2"])
    agent = ReActAgent(model, tools=[add])
    await agent.run("1 + 1?")

    stats = agent.memory.get_stats()
    assert stats["total_input_tokens"] == sum(request.usage.input_tokens for request in model.requests)
    assert stats["total_output_tokens"] == sum(request.usage.output_tokens for request in model.requests)
    assert stats["total_cost"] > 0


async def test_on_step_sees_each_response_with_its_results() -> None:
    steps: list[Step] = []
    agent = play([Reply(calls=[call("add", a=1, b=1)]), "2"], add, on_step=steps.append)
    await agent.run("1 + 1?")

    assert [(step.iteration, [result.text for result in step.results]) for step in steps] == [(1, ["2"]), (2, [])]


# --- Ends


async def test_a_run_ends_at_max_iterations_and_the_next_one_goes_on() -> None:
    agent = play([*[Reply(calls=[call("add", a=1, b=1)])] * 3, "Finally."], add, max_iterations=3)
    first = await agent.run("Go.")

    assert (first.end_reason, first.iterations) == ("max_iterations", 3)
    assert "3 iterations" in first.answer
    assert_valid(agent)
    assert (await agent.run("Go on.")).answer == "Finally."


async def test_a_run_ends_cleanly_before_the_call_that_would_pass_the_budget() -> None:
    model = ScriptedModel(lambda messages, tools: Reply(calls=[call("add", a=1, b=1)]))
    agent = ReActAgent(model, tools=[add], max_iterations=500, memory_config=MemoryConfig(max_cost_dollars=0.0005))
    result = await agent.run("Spend.")

    assert result.end_reason == "budget_exceeded"
    assert "max_cost_dollars" in result.answer
    # What the last call will say, and so cost, is not known before it is made.
    assert 0 < agent.memory.get_stats()["total_cost"] < 0.00052
    assert len(model.requests) == result.iterations


async def test_a_task_that_no_window_can_hold_is_an_error_with_its_size() -> None:
    agent = play(["Never said."], memory_config=MemoryConfig(max_context_tokens=500))

    with pytest.raises(ContextOverflowError):
        await agent.run("word " * 5_000)


async def test_a_cut_off_answer_is_not_passed_off_as_one() -> None:
    class CutOff(ScriptedModel):
        async def call_async(self, messages: Sequence[object], *args: Any, **options: Any) -> LLMResponse:
            whole = await super().call_async(messages, *args, **options)
            return LLMResponse(
                content=whole.content, stop_reason="max_tokens", usage=whole.usage, message=whole.message
            )

    result = await ReActAgent(CutOff(["It is because"])).run("Why?")

    assert (result.answer, result.end_reason) == ("It is because", "truncated")


async def test_of_an_answer_that_was_cut_off_the_last_call_is_not_run() -> None:
    class CutOff(ScriptedModel):
        async def call_async(self, *args: Any, **options: Any) -> LLMResponse:
            whole = await super().call_async(*args, **options)
            return replace(whole, stop_reason="max_tokens") if whole.tool_calls else whole

    run: list[int] = []
    model = CutOff([Reply(calls=[call("note", number=1), call("note", number=2)]), "Done."])
    agent = ReActAgent(model, tools=[_noting(run)])
    await agent.run("Go.")

    assert run == [1]
    assert "not run" in contents(agent)[-2]
    assert_valid(agent)


def _noting(numbers: list[int]) -> Callable[..., str]:
    def note(number: int) -> str:
        numbers.append(number)
        return "noted"

    return note


# --- Interruptions


async def _interrupt_while_running(agent: BaseAgent, started: asyncio.Event) -> None:
    running = asyncio.create_task(agent.run("Go."))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_run_answers_its_open_calls_and_keeps_the_results_that_were_there() -> None:
    started = asyncio.Event()

    async def quick() -> str:
        return "quick result"

    async def slow() -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    agent = play([Reply(calls=[call("quick"), call("slow")]), "Going on."], quick, slow)
    await _interrupt_while_running(agent, started)

    assert contents(agent)[3] == "quick result"
    assert contents(agent)[4].startswith("Interrupted")
    assert_valid(agent)
    assert (await agent.run("Go on.")).answer == "Going on."
    assert_valid(agent)


async def test_a_response_that_cannot_be_read_adds_nothing() -> None:
    class Garbled(ScriptedModel):
        async def call_async(self, messages: Sequence[object], *args: Any, **options: Any) -> LLMResponse:
            return replace(await super().call_async(messages, *args, **options), message=object())

    agent = ReActAgent(Garbled([Reply(calls=[call("add", a=1, b=1)])]), tools=[add])

    with pytest.raises(MessageError):
        await agent.run("Go.")
    assert roles(agent) == ["system", "user"]


async def test_a_run_cancelled_while_the_model_thinks_can_go_on() -> None:
    started = asyncio.Event()

    class Thinking(ScriptedModel):
        async def call_async(self, messages: Sequence[object], *args: Any, **options: Any) -> LLMResponse:
            if not started.is_set():
                started.set()
                await asyncio.Event().wait()
            return await super().call_async(messages, *args, **options)

    agent = ReActAgent(Thinking(["Here."]))
    await _interrupt_while_running(agent, started)

    assert (await agent.run("Still there?")).answer == "Here."
    assert_valid(agent)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_keyboard_interrupt_in_a_tool_ends_the_program_and_leaves_a_valid_conversation(is_async: bool) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    async def press_async() -> None:
        raise KeyboardInterrupt

    tool = press_async if is_async else press
    agent = play([Reply(calls=[call(tool.__name__), call("add", a=1, b=1)])], tool, add)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(agent.run("Go."))
    assert contents(agent)[3].startswith("Interrupted")
    assert_valid(agent)


async def test_an_error_in_on_step_leaves_a_valid_conversation() -> None:
    def stop(step: Step) -> None:
        raise RuntimeError("the window was closed")

    agent = play([Reply(calls=[call("add", a=1, b=1)])], add, on_step=stop)

    with pytest.raises(RuntimeError, match="window"):
        await agent.run("Go.")
    assert_valid(agent)


# --- Memory


async def test_a_long_run_is_compressed_and_what_was_said_first_is_still_known() -> None:
    def page(number: int) -> str:
        return f"page {number}: " + f"the quick brown fox number {number} jumps over the lazy dog. " * 40

    def policy(messages: Sequence[Wire], tools: Sequence[Wire]) -> Reply:
        return Reply(calls=[call("page", number=len(model.requests))]) if len(model.requests) < 30 else Reply("Read.")

    model = ScriptedModel(policy)
    memory = MemoryManager(
        MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=4), None, model=model.model
    )
    agent = ReActAgent(model, tools=[page], max_iterations=40, memory=memory)
    result = await agent.run("Read thirty pages. Never print /etc/passwd.")

    assert result.answer == "Read."
    assert memory.get_stats()["compression_count"] >= 2
    assert max(request.usage.input_tokens for request in model.requests) < 8_000
    assert "/etc/passwd" in str(contents(agent)[1])
    for request in model.requests:
        assert validate(request.messages, "openai_chat") == []


async def test_the_model_of_the_agent_writes_the_summaries_when_the_agent_makes_its_own_memory() -> None:
    def policy(messages: Sequence[Wire], tools: Sequence[Wire]) -> Reply | str:
        if not tools:
            return "## State of the work\nPages were read; valve V-21 opens at 9 bar."
        return Reply(calls=[call("page", number=len(messages))]) if len(model.requests) < 12 else "Read."

    def page(number: int) -> str:
        return f"page {number}: " + "the quick brown fox jumps over the lazy dog. " * 40

    model = ScriptedModel(policy)
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=3_000, short_term_size=4)
    agent = ReActAgent(model, tools=[page], memory_config=config)
    await agent.run("Read.")

    stats = agent.memory.get_stats()
    assert stats["compression_count"] >= 1
    assert stats["compression_cost"] > 0
    assert any("valve V-21" in str(content) for content in contents(agent))
    assert stats["total_input_tokens"] == sum(request.usage.input_tokens for request in model.requests)


@pytest.mark.parametrize(
    "options",
    [{"max_iterations": 0}, {"memory": MemoryManager(), "memory_config": MemoryConfig()}],
    ids=["no iterations", "two memories"],
)
def test_settings_that_cannot_work_are_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        play([], **options)


async def test_a_base_agent_says_that_run_is_for_subclasses() -> None:
    with pytest.raises(NotImplementedError):
        await BaseAgent(ScriptedModel([])).run("Go.")


# --- Whatever the tools do


class OddError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Never:
    """Can be awaited, and gives nothing."""

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.Event().wait().__await__()


BEHAVIOURS: list[Callable[[], Any]] = [
    lambda: "fine",
    lambda: "",
    lambda: None,
    lambda: "x" * 30_000,
    lambda: "\ud800 lone \udfff",
    lambda: b"\xff\x00",
    lambda: {"deep": [[[[["nested"]]]]]},
    lambda: object(),
    lambda: json.loads("{"),
    lambda: (_ for _ in ()).throw(OddError()),
    lambda: (_ for _ in ()).throw(SystemExit(1)),
    lambda: (_ for _ in ()).throw(asyncio.CancelledError()),
    lambda: (_ for _ in ()).throw(MemoryError()),
    Never,
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.integers(0, len(BEHAVIOURS)), min_size=1, max_size=4), max_size=6))
def test_whatever_the_tools_do_each_request_is_valid(rounds: list[list[int]]) -> None:
    def act(how: int) -> Any:
        return BEHAVIOURS[how]()  # one past the end is an IndexError

    async def go() -> None:

        script: list[Reply | str] = [*[Reply(calls=[call("act", how=how) for how in hows]) for hows in rounds], "Done."]
        model = ScriptedModel(script)
        config = MemoryConfig(max_context_tokens=20_000, compression_threshold=3_000, short_term_size=3)
        memory = MemoryManager(config, None, model=model.model)
        tool = Tool.from_function(act, timeout_seconds=0.005)
        result = await ReActAgent(model, tools=[tool], memory=memory, max_iterations=10).run("Go.")

        assert result.answer == "Done."
        for request in model.requests:
            assert validate(request.messages, "openai_chat") == []
        assert validate(memory.get_context_for_llm(), "openai_chat") == []

    asyncio.run(go())
