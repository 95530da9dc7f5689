"""The session for the OpenAI Agents SDK, under the SDK's own runner with a model that plays a script."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

# Before the SDK is imported: it reads this once, and would send traces otherwise.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

from agents import (
    Agent,
    Model,
    ModelBehaviorError,
    ModelResponse,
    ModelSettings,
    OpenAIConversationsSession,
    RunConfig,
    RunContextWrapper,
    RunHooks,
    Runner,
    RunState,
    SQLiteSession,
    Usage,
    UserError,
    function_tool,
    handoff,
    set_tracing_disabled,
)
from agents.extensions.handoff_filters import remove_all_tools
from agents.memory import OpenAIResponsesCompactionSession, SessionSettings
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from agents.run import CallModelData, ModelInputData
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)

from memory import (
    BudgetExceededError,
    ConfigError,
    MemoryConfig,
    MemoryManager,
    MessageError,
    MissingDependencyError,
)
from memory.dialects import validate
from memory.integrations.openai_agents import MemorySession
from memory.testing.simulators import Call, ProviderSimulator, Turn

set_tracing_disabled(True)

TASK = "Read every page of the manual. Which valve opens at 9 bar?"
CONFIG = MemoryConfig(max_context_tokens=8_000, compression_threshold=3_000, short_term_size=6)


class PlayedModel(Model):
    """Answers with what `play` makes of the number of the request; keeps what it was sent."""

    def __init__(self, play: Callable[[int], list[Any]], *, reports_usage: bool = True) -> None:
        self.inputs: list[list[Any]] = []
        self.reports_usage = reports_usage
        self._play = play

    async def get_response(self, system_instructions: Any, input: Any, *others: Any, **more: Any) -> ModelResponse:
        usage = Usage(requests=1, input_tokens=900, output_tokens=10, total_tokens=910)
        return ModelResponse(
            output=self._answer(input), usage=usage if self.reports_usage else Usage(requests=1), response_id=None
        )

    async def stream_response(
        self, system_instructions: Any, input: Any, *others: Any, **more: Any
    ) -> AsyncIterator[Any]:
        response = Response.model_validate(
            {
                "id": "resp_1",
                "created_at": 0,
                "model": "played",
                "object": "response",
                "output": [],
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
                "usage": {
                    "input_tokens": 900,
                    "output_tokens": 10,
                    "total_tokens": 910,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                    "output_tokens_details": {"reasoning_tokens": 0},
                },
            }
        )
        response.output = self._answer(input)
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=0)

    def _answer(self, items: Any) -> list[Any]:
        self.inputs.append(list(items))
        return self._play(len(self.inputs))


def said(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id=f"msg_{abs(hash(text))}", type="message", role="assistant", status="completed", content=[part]
    )


def called(name: str, call_id: str, **arguments: Any) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", id=f"fc_{call_id}", call_id=call_id, name=name, arguments=json.dumps(arguments)
    )


def thought(number: int) -> ResponseReasoningItem:
    return ResponseReasoningItem(type="reasoning", id=f"rs_{number}", summary=[], encrypted_content="e" * 40)


@function_tool
def read_page(number: int) -> str:
    """Read a page."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 40


def reading(pages: int, name: str = "c") -> Callable[[int], list[Any]]:
    """Read two pages at a time, with reasoning before the calls, then answer."""

    def play(number: int) -> list[Any]:
        if number > pages:
            return [said(f"V-21, said in request {number}")]
        calls = [called("read_page", f"{name}{number}{side}", number=number) for side in "ab"]
        return [thought(number), *calls]

    return play


def memory_of(config: MemoryConfig = CONFIG, **settings: Any) -> MemoryManager:
    return MemoryManager(config, dialect="openai_responses", model="gpt-4o-mini", **settings)


def agent_of(model: Model, **settings: Any) -> Agent[Any]:
    return Agent(name="reader", instructions="Answer briefly.", model=model, tools=[read_page], **settings)


def everything(memory: MemoryManager) -> list[Any]:
    return [record.message for record in memory.archive] + [item for item in memory.origins() if item is not None]


def errors(items: Sequence[Any]) -> list[Any]:
    return [issue for issue in validate(items, "openai_responses") if issue.severity == "error"]


def text(items: Sequence[Any]) -> str:
    return json.dumps(list(items), default=str)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


async def test_a_long_run_is_compressed_in_its_middle_and_every_request_is_valid() -> None:
    memory, model = memory_of(), PlayedModel(reading(20))
    session = MemorySession(memory)

    result = await Runner.run(agent_of(model), TASK, max_turns=40, **session.for_run())

    sizes = [len(items) for items in model.inputs]
    assert result.final_output == "V-21, said in request 21"
    assert memory.get_stats()["compression_count"] >= 2
    assert any(later < earlier for earlier, later in pairwise(sizes))
    assert [errors(items) for items in model.inputs] == [[]] * 21
    assert all(TASK in text(items[:1]) for items in model.inputs)


async def test_nothing_of_a_run_is_lost() -> None:
    memory = memory_of()
    session = MemorySession(memory)

    result = await Runner.run(agent_of(PlayedModel(reading(20))), TASK, max_turns=40, **session.for_run())

    kept = everything(memory)
    assert [item for item in result.to_input_list()[1:] if item not in kept] == []
    assert len(kept) == 1 + 20 * 5 + 1


async def test_each_response_is_booked_once_with_what_it_reported() -> None:
    memory = memory_of()
    session = MemorySession(memory)

    await Runner.run(agent_of(PlayedModel(reading(20))), TASK, max_turns=40, **session.for_run())

    stats = memory.get_stats()
    assert (stats["total_input_tokens"], stats["total_output_tokens"]) == (21 * 900, 21 * 10)
    assert stats["cost_is_estimate"] is False


async def test_a_provider_that_reports_no_usage_is_estimated_and_not_free() -> None:
    memory = memory_of()
    session = MemorySession(memory)

    model = PlayedModel(reading(3), reports_usage=False)
    await Runner.run(agent_of(model), TASK, **session.for_run())

    stats = memory.get_stats()
    assert stats["total_input_tokens"] > 0
    assert stats["cost_is_estimate"] is True


async def test_a_streamed_run_is_managed_like_any_other() -> None:
    memory, model = memory_of(), PlayedModel(reading(20))
    session = MemorySession(memory)

    streamed = Runner.run_streamed(agent_of(model), TASK, max_turns=40, **session.for_run())
    async for _ in streamed.stream_events():
        pass

    stats = memory.get_stats()
    assert stats["compression_count"] >= 2
    assert stats["total_input_tokens"] == 21 * 900
    assert stats["message_count"] == 1 + 20 * 5 + 1
    assert [errors(items) for items in model.inputs] == [[]] * 21


async def test_the_next_run_begins_with_the_managed_context() -> None:
    memory, model = memory_of(), PlayedModel(reading(12))
    session = MemorySession(memory)
    await Runner.run(agent_of(model), TASK, max_turns=40, **session.for_run())
    standing = memory.messages

    await Runner.run(agent_of(model), "And at 12 bar?", **session.for_run())

    assert model.inputs[-1][: len(standing)] == standing
    assert model.inputs[-1][-1]["content"] == "And at 12 bar?"
    assert memory.get_stats()["message_count"] == 1 + 12 * 5 + 3


async def test_the_session_alone_compresses_between_runs() -> None:
    memory, model = memory_of(), PlayedModel(reading(12))
    session = MemorySession(memory)
    await Runner.run(agent_of(model), TASK, max_turns=40, session=session)

    await Runner.run(agent_of(model), "And at 12 bar?", session=session)

    assert len(model.inputs[-1]) < len(model.inputs[-2])
    assert errors(model.inputs[-1]) == []


async def test_pop_item_undoes_the_newest_items_and_the_archive_keeps_them() -> None:
    memory = memory_of()
    session = MemorySession(memory)
    await session.add_items([{"role": "user", "content": "first"}, {"role": "user", "content": "second"}])

    popped = await session.pop_item()

    assert popped == {"role": "user", "content": "second"}
    assert await session.get_items() == [{"role": "user", "content": "first"}]
    assert popped in everything(memory)
    assert [await session.pop_item(), await session.pop_item()] == [{"role": "user", "content": "first"}, None]
    assert await session.get_items() == []


async def test_pop_item_after_a_compression_gives_every_item_back_in_order() -> None:
    memory = memory_of()
    session = MemorySession(memory)
    result = await Runner.run(agent_of(PlayedModel(reading(12))), TASK, max_turns=40, **session.for_run())
    assert memory.get_stats()["compression_count"] >= 1

    popped = [await session.pop_item() for _ in range(6)]

    assert popped == result.to_input_list()[:-7:-1]
    assert errors(await session.get_items()) == []


async def test_clear_session_sends_nothing_any_more_and_loses_nothing() -> None:
    memory = memory_of()
    session = MemorySession(memory)
    await session.add_items([{"role": "user", "content": "the launch code is 4711"}])

    await session.clear_session()

    assert await session.get_items() == []
    assert memory.recall("launch code")[0].excerpt


async def test_a_limit_gives_the_newest_items_and_cuts_no_response_and_no_pair() -> None:
    session = MemorySession(memory_of())
    result = await Runner.run(agent_of(PlayedModel(reading(3))), TASK, **session.for_run())
    whole = result.to_input_list()

    for limit in range(len(whole) + 2):
        items = await session.get_items(limit)
        assert len(items) <= limit
        assert items == whole[len(whole) - len(items) :]
        assert not items or errors(items) == []
    assert await session.get_items() == whole


async def test_a_limit_in_the_settings_is_sent_and_no_more() -> None:
    memory, model = memory_of(), PlayedModel(reading(3))
    session = MemorySession(memory, session_settings=SessionSettings(limit=4))
    await Runner.run(agent_of(model), TASK, **session.for_run())

    await Runner.run(agent_of(model), "And at 12 bar?", **session.for_run())

    assert len(model.inputs[-1]) <= 5
    assert errors(model.inputs[-1]) == []


async def test_a_saved_session_is_taken_up_and_its_history_not_billed(tmp_path: Path) -> None:
    store = SQLiteSession("s1", tmp_path / "sessions.db")
    before = MemorySession(memory_of(), store=store)
    await Runner.run(agent_of(PlayedModel(reading(12))), TASK, max_turns=40, **before.for_run())
    store.close()

    memory, model = memory_of(), PlayedModel(lambda number: [said("V-28")])
    again = MemorySession(memory, store=SQLiteSession("s1", tmp_path / "sessions.db"))
    await Runner.run(agent_of(model), "And at 12 bar?", **again.for_run())

    stats = memory.get_stats()
    assert stats["message_count"] == 1 + 12 * 5 + 1 + 2
    assert (stats["total_input_tokens"], stats["total_output_tokens"]) == (900, 10)
    assert TASK in text(model.inputs[0][:1])
    assert "V-84" in text(model.inputs[0])
    assert errors(model.inputs[0]) == []


async def test_two_sessions_in_one_process_do_not_meet() -> None:
    sessions = [MemorySession(memory_of(), session_id=f"s{number}") for number in range(4)]
    models = [PlayedModel(reading(8 + number, name=f"n{number}-")) for number in range(4)]

    await asyncio.gather(
        *(
            Runner.run(agent_of(model), f"{TASK} I am number {number}.", max_turns=40, **session.for_run())
            for number, (model, session) in enumerate(zip(models, sessions, strict=True))
        )
    )

    for number, (model, session) in enumerate(zip(models, sessions, strict=True)):
        assert session.memory.get_stats()["total_input_tokens"] == (9 + number) * 900
        assert {f"number {other}." in text(model.inputs) for other in range(4) if other != number} == {False}


async def test_an_agent_that_runs_as_a_tool_does_not_touch_the_conversation() -> None:
    inner = PlayedModel(lambda number: [said("looked up")])
    helper = Agent(name="helper", model=inner).as_tool("ask_helper", "Ask the helper.")
    model = PlayedModel(
        lambda number: [called("ask_helper", f"h{number}", input="look")] if number < 3 else [said("ok")]
    )
    memory = memory_of()
    session = MemorySession(memory)

    await Runner.run(Agent(name="outer", model=model, tools=[helper]), TASK, **session.for_run())

    assert [len(items) for items in model.inputs] == [1, 3, 5]
    assert [text(items) for items in inner.inputs] == [text([{"content": "look", "role": "user"}])] * 2
    assert "looked up" in text(model.inputs[-1])
    assert memory.get_stats()["message_count"] == 6
    assert memory.get_stats()["total_input_tokens"] == 3 * 900


async def test_a_handoff_takes_the_memory_along() -> None:
    second = agent_of(PlayedModel(lambda number: [said("done by the second")]))
    second.name = "second"
    first = PlayedModel(lambda number: [called("transfer_to_second", "h1")])
    memory = memory_of()
    session = MemorySession(memory)

    result = await Runner.run(agent_of(first, handoffs=[second]), TASK, **session.for_run())

    assert result.final_output == "done by the second"
    assert [type(item) for item in await session.get_items()] == [dict] * 4
    assert memory.get_stats()["total_input_tokens"] == 2 * 900


async def test_an_input_callback_that_drops_history_is_obeyed() -> None:
    memory, model = memory_of(), PlayedModel(lambda number: [said(f"answer {number}")])
    session = MemorySession(memory)
    config = RunConfig(session_input_callback=lambda history, new: history[-1:] + new)
    for question in ("one", "two", "three"):
        await Runner.run(agent_of(model), question, **session.for_run(config))

    assert [item.get("content") if item["role"] == "user" else "answer" for item in model.inputs[-1]] == [
        "answer",
        "three",
    ]
    assert len(await session.get_items()) == 6


async def test_an_input_callback_that_puts_words_in_front_is_obeyed() -> None:
    memory, model = memory_of(), PlayedModel(lambda number: [said(f"answer {number}")])
    session = MemorySession(memory)
    note: Any = {"role": "user", "content": "a note"}
    config = RunConfig(session_input_callback=lambda history, new: [note, *history, *new])
    await Runner.run(agent_of(model), "one", **session.for_run())

    await Runner.run(agent_of(model), "two", **session.for_run(config))

    assert [item["role"] for item in model.inputs[-1]] == ["user", "user", "assistant", "user"]
    assert model.inputs[-1][0] == note


async def test_the_callers_own_filter_and_hooks_are_called_too() -> None:
    heard: list[str] = []

    class Hooks(RunHooks[Any]):
        async def on_llm_end(self, context: RunContextWrapper[Any], agent: Agent[Any], response: Any) -> None:
            heard.append("end")

        async def on_tool_start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Any) -> None:
            heard.append(tool.name)

    def shout(data: CallModelData[Any]) -> ModelInputData:
        return ModelInputData(input=data.model_data.input, instructions="SHOUT")

    model = PlayedModel(reading(1))
    session = MemorySession(memory_of())
    config = RunConfig(call_model_input_filter=shout, workflow_name="mine")

    arguments = session.for_run(config, Hooks())
    await Runner.run(agent_of(model), TASK, **arguments)

    assert heard == ["end", "read_page", "read_page", "end"]
    assert arguments["run_config"].workflow_name == "mine"


async def test_history_that_openai_holds_is_refused() -> None:
    session = MemorySession(memory_of())
    model = PlayedModel(lambda number: [said("hi")])

    with pytest.raises(UserError, match="previous_response_id"):
        await Runner.run(agent_of(model), TASK, previous_response_id="resp_1", **session.for_run())
    with pytest.raises(MessageError, match="item_reference"):
        await session.add_items([{"type": "item_reference", "id": "msg_1"}])
    client = AsyncOpenAI(api_key="test", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="OR-10"):
        MemorySession(memory_of(), store=OpenAIConversationsSession(openai_client=client))
    with pytest.raises(ConfigError, match="underlying"):
        MemorySession(
            memory_of(), store=OpenAIResponsesCompactionSession("s", SQLiteSession("s"), client=client, model="gpt-5")
        )


def test_a_memory_of_another_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="openai_responses"):
        MemorySession(MemoryManager(dialect="anthropic"))


async def test_a_run_over_its_budget_ends_with_our_error_and_the_conversation_is_intact() -> None:
    memory = memory_of(MemoryConfig(max_cost_dollars=0.0005))
    session = MemorySession(memory)

    with pytest.raises(BudgetExceededError):
        await Runner.run(agent_of(PlayedModel(reading(20))), TASK, max_turns=40, **session.for_run())

    assert errors(memory.messages) == []


async def test_a_run_that_failed_can_be_taken_up_again() -> None:
    def play(number: int) -> list[Any]:
        if number == 3:
            raise ModelBehaviorError("the connection broke")
        return reading(4)(number)

    memory, model = memory_of(), PlayedModel(play)
    session = MemorySession(memory)
    with pytest.raises(ModelBehaviorError):
        await Runner.run(agent_of(model), TASK, **session.for_run())

    result = await Runner.run(agent_of(model), "Go on.", **session.for_run())

    assert result.final_output == "V-21, said in request 5"
    assert [errors(items) for items in model.inputs] == [[]] * 5
    assert memory.get_stats()["message_count"] == len(await session.get_items())


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", ["openai_responses", "openai_chat"])
async def test_a_long_run_with_the_sdks_own_models_is_rejected_never(wire: Any, is_streamed: bool) -> None:
    calls = [Call("read_page", {"number": 1}), Call("read_page", {"number": 2})]
    memory = memory_of()
    session = MemorySession(memory)
    with ProviderSimulator(wire, [Turn(calls=calls)] * 15 + [Turn("V-21")], adds_reasoning=True) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
            model: Model = (
                OpenAIResponsesModel("gpt-4o-mini", client)
                if wire == "openai_responses"
                else OpenAIChatCompletionsModel("gpt-4o-mini", client)
            )
            arguments = session.for_run(RunConfig(model_settings=ModelSettings(include_usage=True)))
            if is_streamed:
                streamed = Runner.run_streamed(agent_of(model), TASK, max_turns=40, **arguments)
                async for _ in streamed.stream_events():
                    pass
                answer = streamed.final_output
            else:
                answer = (await Runner.run(agent_of(model), TASK, max_turns=40, **arguments)).final_output

    stats = memory.get_stats()
    assert (answer, server.rejected, len(server.requests)) == ("V-21", [], 16)
    assert stats["compression_count"] >= 1
    assert stats["total_input_tokens"] == sum(e.used.input_tokens for e in server.requests if e.used)
    assert stats["total_output_tokens"] == sum(e.used.output_tokens for e in server.requests if e.used)


async def test_a_refused_context_is_made_smaller_and_the_run_taken_up_where_it_stopped() -> None:
    calls = [Call("read_page", {"number": 1}), Call("read_page", {"number": 2})]
    memory = memory_of(MemoryConfig(short_term_size=4))
    session = MemorySession(memory)
    turns = [Turn(calls=calls)] * 8 + [Turn("V-21")]
    with ProviderSimulator("openai_responses", turns, context_window_tokens=3_000) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
            agent = agent_of(OpenAIResponsesModel("gpt-4o-mini", client))
            with pytest.raises(BadRequestError) as refused:
                await Runner.run(agent, TASK, max_turns=40, **session.for_run())
            is_recovered = await memory.recover(refused.value)
            result = await Runner.run(agent, [], max_turns=40, **session.for_run())

    assert is_recovered
    assert result.final_output == "V-21"
    assert [exchange.status for exchange in server.requests].count(400) >= 1


@pytest.mark.parametrize("is_rebuilt", [False, True], ids=["same process", "from saved state"])
async def test_a_run_that_waited_for_approval_goes_on(tmp_path: Path, is_rebuilt: bool) -> None:
    done: list[int] = []

    @function_tool(needs_approval=True)
    def open_valve(number: int) -> str:
        """Open a valve."""
        done.append(number)
        return f"V-{number} is open"

    def play(number: int) -> list[Any]:
        return [called("open_valve", f"o{number}", number=21)] if number == 5 else reading(5)(number)

    store = SQLiteSession("s1", tmp_path / "sessions.db")
    model = PlayedModel(play)
    agent = Agent[Any](name="reader", model=model, tools=[read_page, open_valve])
    session = MemorySession(memory_of(), store=store)
    waiting = await Runner.run(agent, TASK, **session.for_run())
    state = waiting.to_state()
    if is_rebuilt:
        session = MemorySession(memory_of(), store=store)
        state = await RunState.from_string(agent, state.to_string())
    state.approve(state.get_interruptions()[0])

    result = await Runner.run(agent, state, **session.for_run())

    kept = everything(session.memory)
    assert (done, result.final_output) == ([21], "V-21, said in request 6")
    assert [errors(items) for items in model.inputs] == [[]] * 6
    assert "V-21 is open" in text(model.inputs[-1])
    assert len(kept) == 1 + 4 * 5 + 2 + 1
    assert len(await session.get_items()) <= len(kept)


async def test_a_handoff_that_filters_its_input_is_obeyed_and_the_next_run_has_everything() -> None:
    second = agent_of(PlayedModel(lambda number: [said("done by the second")]))
    second.name = "second"
    first = PlayedModel(lambda number: reading(2)(number) if number < 3 else [called("transfer_to_second", "h1")])
    memory = memory_of()
    session = MemorySession(memory)
    agent = agent_of(first, handoffs=[handoff(second, input_filter=remove_all_tools)])

    await Runner.run(agent, TASK, **session.for_run())

    assert isinstance(second.model, PlayedModel)
    assert [item.get("role", item.get("type")) for item in second.model.inputs[0]] == ["user"]
    # The handoff's own call is gone from every session: the SDK saves it as the filter left it.
    assert [item["type"] for item in await session.get_items() if "call_id" in item].count("function_call") == 4
    assert errors(await session.get_items()) == []


async def test_without_the_package_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memory.integrations.openai_agents")
    monkeypatch.setitem(sys.modules, "agents", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[openai-agents\]'"):
        importlib.import_module("memory.integrations.openai_agents")
