"""The conversation manager for Strands Agents, under the framework's own agent with a model that plays a script."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.hooks import MessageAddedEvent
from strands.models import Model
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel
from strands.session import FileSessionManager
from strands.types.exceptions import ContextWindowOverflowException

from memory import CompressionStrategy, ConfigError, MemoryConfig, MemoryManager, MissingDependencyError
from memory.integrations.strands import MemoryConversationManager
from memory.testing.simulators import Call, ProviderSimulator, Turn

TASK = "Read every page of the manual. Which valve opens at 9 bar?"
CONFIG = MemoryConfig(max_context_tokens=8_000, compression_threshold=3_000, short_term_size=6)
USED = {"inputTokens": 900, "outputTokens": 10, "totalTokens": 910}


class PlayedModel(Model):
    """Answers with the blocks that `play` makes of the number of the request; keeps what it was sent."""

    def __init__(self, play: Callable[[int], list[Any]], *, window_tokens: int | None = None) -> None:
        self.inputs: list[list[Any]] = []
        self.used = USED
        self._play = play
        self._window_characters = 4 * window_tokens if window_tokens else None

    def update_config(self, **model_config: Any) -> None:
        raise AssertionError("nothing to configure")

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "claude-3-5-haiku-20241022"}

    def structured_output(self, *arguments: Any, **more: Any) -> Any:
        raise AssertionError("not asked for here")

    async def stream(self, messages: Any, *arguments: Any, **more: Any) -> AsyncIterator[Any]:
        if self._window_characters is not None and len(text(messages)) > self._window_characters:
            raise ContextWindowOverflowException("prompt is too long: 2000 tokens > 1600 maximum")
        self.inputs.append(list(messages))
        blocks = self._play(len(self.inputs))
        yield {"messageStart": {"role": "assistant"}}
        for block in blocks:
            for event in streamed(block):
                yield event
        is_calling = any("toolUse" in block for block in blocks)
        yield {"messageStop": {"stopReason": "tool_use" if is_calling else "end_turn"}}
        yield {"metadata": {"usage": dict(self.used), "metrics": {"latencyMs": 1}}}


def streamed(block: dict[str, Any]) -> list[Any]:
    if "toolUse" in block:
        use = block["toolUse"]
        start = {"toolUse": {"name": use["name"], "toolUseId": use["toolUseId"]}}
        return [
            {"contentBlockStart": {"start": start}},
            {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(use["input"])}}}},
            {"contentBlockStop": {}},
        ]
    if "reasoningContent" in block:
        thought = block["reasoningContent"]["reasoningText"]
        return [
            {"contentBlockDelta": {"delta": {"reasoningContent": {"text": thought["text"]}}}},
            {"contentBlockDelta": {"delta": {"reasoningContent": {"signature": thought["signature"]}}}},
            {"contentBlockStop": {}},
        ]
    return [
        {"contentBlockStart": {"start": {}}},
        {"contentBlockDelta": {"delta": {"text": block["text"]}}},
        {"contentBlockStop": {}},
    ]


def page(number: int) -> str:
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 40


@tool
def read_page(number: int) -> str:
    """Read a page.

    Args:
        number: Which.
    """
    return page(number)


def used(number: int, side: str) -> dict[str, Any]:
    return {"toolUse": {"name": "read_page", "toolUseId": f"t{number}{side}", "input": {"number": number}}}


def reading(pages: int, *, begins_at: int = 1) -> Callable[[int], list[Any]]:
    """Read two pages at a time, then answer."""

    def play(number: int) -> list[Any]:
        if number > pages:
            return [{"text": f"V-21, said in request {number}"}]
        return [{"text": f"Reading {number}."}, used(begins_at + number, "a"), used(begins_at + number, "b")]

    return play


def agent_of(model: Model, manager: MemoryConversationManager, **settings: Any) -> Agent:
    return Agent(
        model=model,
        tools=[read_page],
        system_prompt="Answer briefly.",
        conversation_manager=manager,
        callback_handler=None,
        **settings,
    )


def manager_of(config: MemoryConfig = CONFIG, **settings: Any) -> MemoryConversationManager:
    return MemoryConversationManager(MemoryManager(config, **settings))


def errors(messages: Sequence[Any]) -> list[str]:
    """What Bedrock's Converse refuses in a list: roles that do not alternate, calls and results that do not pair."""
    found = [] if messages[0]["role"] == "user" else ["the first message is not the user's"]
    for before, message in pairwise(messages):
        if before["role"] == message["role"]:
            found.append(f"two messages of the {message['role']} in a row")
        calls = [block["toolUse"]["toolUseId"] for block in before["content"] if "toolUse" in block]
        results = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if calls != results:
            found.append(f"calls {calls}, results {results}")
    return found + [f"{message['role']}: empty" for message in messages if not message["content"]]


def text(messages: Sequence[Any]) -> str:
    return json.dumps(list(messages), default=str)


def everything(manager: MemoryConversationManager) -> list[Any]:
    """The framework's own messages that the memory holds, in the archive or in the context."""
    memory = manager.memory
    chats = [record.message for record in memory.archive] + [one for one in memory.origins() if one is not None]
    return [chat.source for chat in chats]  # type: ignore[attr-defined]  # the adapters' chat messages have it


async def test_a_long_run_is_compressed_in_its_middle_and_every_request_is_valid() -> None:
    manager, model = manager_of(), PlayedModel(reading(20))
    agent = agent_of(model, manager)

    result = await agent.invoke_async(TASK)

    sizes = [len(messages) for messages in model.inputs]
    assert "request 21" in str(result)
    assert manager.memory.get_stats()["compression_count"] >= 2
    assert any(later < earlier for earlier, later in pairwise(sizes))
    assert [errors(messages) for messages in model.inputs] == [[]] * 21
    assert all(TASK in text(messages[:1]) for messages in model.inputs)


async def test_nothing_of_a_run_is_lost_and_kept_messages_are_the_very_same_dicts() -> None:
    added: list[Any] = []
    manager = manager_of()
    agent = agent_of(PlayedModel(reading(20)), manager)
    agent.add_hook(lambda event: added.append(event.message), MessageAddedEvent)

    await agent.invoke_async(TASK)

    kept = everything(manager)
    assert len(added) == 1 + 20 * 2 + 1
    assert [message for message in added if not any(message is one for one in kept)] == []
    assert all(any(message is one for one in added) for message in agent.messages[-6:])


async def test_each_call_is_booked_once_with_what_it_reported() -> None:
    manager = manager_of()

    await agent_of(PlayedModel(reading(20)), manager).invoke_async(TASK)

    stats = manager.memory.get_stats()
    assert (stats["total_input_tokens"], stats["total_output_tokens"]) == (21 * 900, 21 * 10)
    assert stats["cost_is_estimate"] is False
    assert stats["message_count"] == 1 + 20 * 3 + 1


@pytest.mark.parametrize(
    ("reported", "whole"),
    [
        ({"inputTokens": 900, "outputTokens": 10, "totalTokens": 910, "cacheReadInputTokens": 800}, 900),
        ({"inputTokens": 100, "outputTokens": 10, "totalTokens": 910, "cacheReadInputTokens": 800}, 900),
        ({"inputTokens": 100, "outputTokens": 10, "totalTokens": 110, "cacheReadInputTokens": 800}, 900),
    ],
    ids=["in the input, as OpenAI", "beside it, as Anthropic", "beside it and in no total"],
)
async def test_cached_tokens_are_counted_once_whichever_model_reported_them(reported: Any, whole: int) -> None:
    manager, model = manager_of(), PlayedModel(reading(0))
    model.used = reported

    await agent_of(model, manager).invoke_async(TASK)

    stats = manager.memory.get_stats()
    assert (stats["total_input_tokens"], stats["cached_tokens"]) == (whole, 800)


async def test_a_provider_that_reports_nothing_is_estimated_and_not_free() -> None:
    manager, model = manager_of(), PlayedModel(reading(2))
    model.used = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}

    await agent_of(model, manager).invoke_async(TASK)

    assert manager.memory.get_stats()["total_input_tokens"] > 0
    assert manager.memory.get_stats()["cost_is_estimate"] is True


def test_an_agent_that_is_called_without_an_event_loop_is_managed_too() -> None:
    manager, model = manager_of(), PlayedModel(reading(20))

    agent_of(model, manager)(TASK)

    assert manager.memory.get_stats()["compression_count"] >= 2
    assert [errors(messages) for messages in model.inputs] == [[]] * 21


async def test_the_next_question_goes_on_from_the_managed_context() -> None:
    manager, model = manager_of(), PlayedModel(reading(12))
    agent = agent_of(model, manager)
    await agent.invoke_async(TASK)
    standing = len(agent.messages)

    await agent.invoke_async("And at 12 bar?")

    assert len(model.inputs[-1]) <= standing + 1
    assert "12 bar?" in text(model.inputs[-1][-1:])
    assert errors(model.inputs[-1]) == []
    assert manager.memory.get_stats()["total_input_tokens"] == 14 * 900


async def test_a_summary_by_an_asynchronous_model_is_awaited() -> None:
    async def summarise(prompt: str) -> str:
        return "Pages were read; V-21 opens at 9 bar."

    manager, model = manager_of(llm=summarise), PlayedModel(reading(20))

    await agent_of(model, manager).invoke_async(TASK)

    assert "V-21 opens at 9 bar." in text(model.inputs[-1])
    assert manager.memory.get_stats()["degraded_count"] == 0


async def test_a_context_that_the_model_refuses_is_made_smaller_and_sent_again() -> None:
    config = MemoryConfig(max_context_tokens=100_000, compression_threshold=50_000, short_term_size=4)
    manager, model = manager_of(config), PlayedModel(reading(20), window_tokens=1_600)

    result = await agent_of(model, manager).invoke_async(TASK)

    assert "request 21" in str(result)
    assert manager.memory.get_stats()["compression_count"] >= 1
    assert [errors(messages) for messages in model.inputs] == [[]] * 21


async def test_what_cannot_be_made_smaller_is_refused_with_the_models_own_error() -> None:
    manager = manager_of()
    agent = agent_of(PlayedModel(reading(1), window_tokens=10), manager)

    with pytest.raises(ContextWindowOverflowException):
        await agent.invoke_async(TASK)


async def test_reduce_context_makes_the_list_strictly_smaller_or_raises_the_error_again() -> None:
    manager, model = manager_of(MemoryConfig(short_term_size=4)), PlayedModel(reading(8))
    agent = agent_of(model, manager)
    await agent.invoke_async(TASK)
    before = len(text(agent.messages))
    refusal = ContextWindowOverflowException("prompt is too long: 5000 tokens > 3000 maximum")

    manager.reduce_context(agent, refusal)

    assert len(text(agent.messages)) < before
    assert errors(agent.messages) == []

    def again() -> None:
        for _ in range(20):
            manager.reduce_context(agent, refusal)

    with pytest.raises(ContextWindowOverflowException):
        again()


async def test_reduce_context_without_an_error_compresses_now() -> None:
    manager = manager_of(MemoryConfig(short_term_size=4))
    agent = agent_of(PlayedModel(reading(8)), manager)
    await agent.invoke_async(TASK)
    before = len(agent.messages)

    manager.reduce_context(agent)

    assert len(agent.messages) < before
    assert errors(agent.messages) == []


async def test_a_saved_session_begins_with_the_managed_context(tmp_path: Path) -> None:
    manager, model = manager_of(), PlayedModel(reading(20))
    agent = agent_of(model, manager, session_manager=FileSessionManager("s1", storage_dir=str(tmp_path)), agent_id="a")
    await agent.invoke_async(TASK)
    assert manager.memory.get_stats()["compression_count"] >= 2

    again, model = manager_of(), PlayedModel(reading(12, begins_at=100))
    taken_up = agent_of(model, again, session_manager=FileSessionManager("s1", storage_dir=str(tmp_path)), agent_id="a")
    assert [message["content"] for message in taken_up.messages] == [message["content"] for message in agent.messages]
    await taken_up.invoke_async("And at 12 bar?")

    assert [errors(messages) for messages in model.inputs] == [[]] * 13
    assert TASK in text(model.inputs[-1][:1])
    assert again.memory.get_stats()["total_input_tokens"] == 13 * 900

    third = agent_of(
        PlayedModel(reading(0)),
        manager_of(),
        session_manager=FileSessionManager("s1", storage_dir=str(tmp_path)),
        agent_id="a",
    )
    assert [m["content"] for m in third.messages] == [m["content"] for m in taken_up.messages]


async def test_a_session_that_was_never_compressed_is_saved_as_it_is(tmp_path: Path) -> None:
    for question in ("one", "two", "three"):
        manager = manager_of()
        agent = agent_of(
            PlayedModel(reading(0)),
            manager,
            session_manager=FileSessionManager("s1", storage_dir=str(tmp_path)),
            agent_id="a",
        )
        await agent.invoke_async(question)

    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 3
    assert manager.get_state()["removed_message_count"] == 0
    assert manager.get_state()["messages"] == []


async def test_a_snapshot_is_taken_up(tmp_path: Path) -> None:
    manager = manager_of()
    agent = agent_of(PlayedModel(reading(20)), manager)
    await agent.invoke_async(TASK)
    snapshot = agent.take_snapshot(preset="session")

    model = PlayedModel(reading(1, begins_at=50))
    again = agent_of(model, manager_of())
    again.load_snapshot(snapshot)
    await again.invoke_async("And at 12 bar?")

    assert [errors(messages) for messages in model.inputs] == [[]] * 2
    assert TASK in text(model.inputs[0][:1])


async def test_messages_that_the_caller_sets_anew_are_followed() -> None:
    manager, model = manager_of(), PlayedModel(reading(0))
    agent = agent_of(model, manager)
    await agent.invoke_async("one")

    agent.messages = [
        {"role": "user", "content": [{"text": "zero"}]},
        {"role": "assistant", "content": [{"text": "0"}]},
    ]
    await agent.invoke_async("two")

    assert [message["content"][0]["text"] for message in model.inputs[-1]] == ["zero", "0", "two"]
    assert '"one"' in text(everything(manager))


async def test_two_agents_in_one_process_do_not_meet() -> None:
    managers = [manager_of() for _ in range(4)]
    models = [PlayedModel(reading(8 + n)) for n in range(4)]

    await asyncio.gather(
        *(
            agent_of(model, manager).invoke_async(f"{TASK} I am number {n}.")
            for n, (model, manager) in enumerate(zip(models, managers, strict=True))
        )
    )

    for n, (model, manager) in enumerate(zip(models, managers, strict=True)):
        assert manager.memory.get_stats()["total_input_tokens"] == (9 + n) * 900
        assert [other for other in range(4) if other != n and f"number {other}." in text(model.inputs)] == []


async def test_one_manager_under_two_agents_is_refused() -> None:
    manager = manager_of()
    first, second = (agent_of(PlayedModel(reading(0)), manager) for _ in range(2))
    await first.invoke_async("one")

    with pytest.raises(ConfigError, match="another agent"):
        await second.invoke_async("two")


async def test_a_memory_of_another_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="anthropic"):
        MemoryConversationManager(MemoryManager(dialect="anthropic"))


async def test_pictures_documents_thoughts_and_errors_are_kept_and_counted() -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "s" * 40}}}
    model = PlayedModel(lambda number: [thought, used(number, "a")] if number < 3 else [{"text": "done"}])
    manager = manager_of()
    agent = agent_of(model, manager)
    prompt: Any = [
        {"text": "Look."},
        {"image": {"format": "png", "source": {"bytes": b"\x89PNG" + b"0" * 400}}},
        {"document": {"format": "pdf", "name": "manual", "source": {"bytes": b"%PDF" + b"0" * 400}}},
        {"cachePoint": {"type": "default"}},
    ]

    await agent.invoke_async(prompt)

    readings = manager.memory.messages
    assert model.inputs[-1][0]["content"] == prompt
    assert model.inputs[-1][1]["content"][0] == thought
    assert [part["type"] for part in readings[0]["content"]] == ["text", "image_url", "file"]
    assert readings[1]["thinking_blocks"][0]["signature"] == "s" * 40


async def test_masked_results_keep_their_ids_and_stay_between_their_calls() -> None:
    config = replace(CONFIG, compression_strategy=CompressionStrategy.MASKING)
    manager, model = manager_of(config), PlayedModel(reading(20))

    await agent_of(model, manager).invoke_async(TASK)

    last = model.inputs[-1]
    assert manager.memory.get_stats()["masked_count"] > 0
    assert len(last) == 1 + 20 * 2
    assert [errors(messages) for messages in model.inputs] == [[]] * 21
    assert len(text(last)) < 0.6 * 20 * 2 * len(page(1))


@pytest.mark.parametrize("wire", ["openai_chat", "anthropic"])
async def test_a_long_run_with_the_frameworks_own_models_is_rejected_never(wire: Any) -> None:
    turns = [Turn(calls=[Call("read_page", {"number": n}), Call("read_page", {"number": n})]) for n in range(15)]
    manager = manager_of()
    with ProviderSimulator(wire, [*turns, Turn("V-21")]) as server:
        options = {"base_url": server.base_url, "api_key": "test", "max_retries": 0}
        model: Model = (
            OpenAIModel(client_args=options, model_id="gpt-4o-mini")
            if wire == "openai_chat"
            else AnthropicModel(client_args=options, model_id="claude-haiku-4-5", max_tokens=500)
        )
        result = await agent_of(model, manager).invoke_async(TASK)

    stats = manager.memory.get_stats()
    assert ("V-21" in str(result), server.rejected, len(server.requests)) == (True, [], 16)
    assert stats["compression_count"] >= 2
    assert stats["total_input_tokens"] == sum(e.used.input_tokens for e in server.requests if e.used)


def test_without_the_package_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memory.integrations.strands")
    monkeypatch.setitem(sys.modules, "strands.agent.conversation_manager", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[strands\]'"):
        importlib.import_module("memory.integrations.strands")
