"""A memory under Pydantic AI agents, with the real package, its own fake models, and its real ones over HTTP."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Union, get_origin

import pytest

from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.errors import ConfigError, MissingDependencyError
from memory.testing.simulators import Call, ProviderSimulator, Request, Turn

pytest.importorskip("pydantic_ai")
from anthropic import AsyncAnthropic
from anthropic.types.beta import BetaMessageParam
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    CachePoint,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RequestUsage, UsageLimits

from memory.integrations.pydantic_ai import ManagedMemory

CONFIG = MemoryConfig(max_context_tokens=8_000, compression_threshold=2_000, short_term_size=6)
MASKING, DELETION = CompressionStrategy.MASKING, CompressionStrategy.DELETION
PAGES = 24
TASK = "Read the manual. Which valve opens at 9 bar?"
ANSWER = "V-21 opens at 9 bar."
LIMITS = UsageLimits(request_limit=None)


def read_page(number: int) -> str:
    """Read a page of the manual."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 30


class Reader:
    """Plays a model that reads two pages at a time and then answers; it keeps what it was sent."""

    def __init__(self, *, pages: int = PAGES, refuses_above: int = 1_000_000) -> None:
        self.pages = pages
        self.refuses_above = refuses_above
        self.requests: list[list[ModelMessage]] = []
        self.model = FunctionModel(self.answer, stream_function=self.stream)

    def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.requests.append(list(messages))
        if len(messages) > self.refuses_above:
            body = {"code": "context_length_exceeded", "message": "the prompt is too long"}
            raise ModelHTTPError(400, "reader", body)
        parts = [part for message in messages for part in message.parts]
        done = max((int(part.tool_call_id) for part in parts if isinstance(part, ToolReturnPart)), default=0)
        usage = RequestUsage(input_tokens=100 * len(messages), output_tokens=10)
        if done >= self.pages:
            return ModelResponse(parts=[TextPart(ANSWER)], usage=usage)
        wanted = [ToolCallPart("read_page", {"number": n}, tool_call_id=str(n)) for n in (done + 1, done + 2)]
        return ModelResponse(parts=wanted, usage=usage)

    async def stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        for index, part in enumerate(self.answer(messages, info).parts):
            if isinstance(part, ToolCallPart):
                yield {index: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}
            elif isinstance(part, TextPart):
                for word in part.content.split(" "):
                    yield word + " "

    def input_tokens(self) -> int:
        return sum(100 * len(sent) for sent in self.requests)


class Conversation:
    """A model, a memory and an agent on top of both."""

    def __init__(self, reader: Reader | None = None, config: MemoryConfig = CONFIG, **options: Any) -> None:
        self.reader = reader or Reader()
        self.memory = MemoryManager(config)
        self.agent: Agent[None, str] = Agent(
            self.reader.model, tools=[read_page], capabilities=[ManagedMemory(self.memory)], **options
        )

    def run(self) -> list[ModelMessage]:
        return self.agent.run_sync(TASK, usage_limits=LIMITS).all_messages()

    def kept(self) -> list[ModelMessage]:
        """Everything the memory holds, in the archive and in the context, as the framework's own objects."""
        archived = [record.message for record in self.memory.archive]
        standing = [origin for origin in self.memory.origins() if origin is not None]
        return [chat.source for chat in (*archived, *standing)]


def ids(messages: Sequence[object]) -> set[int]:
    return set(map(id, messages))


def texts(messages: Sequence[ModelMessage]) -> list[object]:
    return [part.content for message in messages for part in message.parts if isinstance(part, UserPromptPart)]


def check(reader: Reader) -> None:
    """Every list that was sent pairs calls with results and holds the task."""
    for sent in reader.requests:
        assert TASK in texts(sent)
        assert isinstance(sent[-1], ModelRequest)
        open_calls: set[str] = set()
        for message in sent:
            if isinstance(message, ModelResponse):
                assert not open_calls
                open_calls = {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
                continue
            for part in message.parts:
                if isinstance(part, ToolReturnPart | RetryPromptPart) and part.tool_name:
                    open_calls.remove(part.tool_call_id)


# --- A whole run ------------------------------------------------------------------------------------------------------


def test_a_long_loop_is_compressed_and_every_list_is_valid_and_holds_the_task() -> None:
    conversation = Conversation(instructions="You are a reader.")

    messages = conversation.run()

    assert conversation.memory.get_stats()["compression_count"] >= 1
    assert max(map(len, conversation.reader.requests)) < 18 < len(messages)
    check(conversation.reader)


def test_the_history_keeps_every_message_and_so_do_archive_and_context() -> None:
    conversation = Conversation()

    messages = conversation.run()

    assert len(messages) == 2 * (PAGES // 2 + 1)
    assert ids(conversation.kept()) == ids(messages)


def test_what_is_sent_is_the_frameworks_own_objects_but_for_summaries() -> None:
    conversation = Conversation()

    own = ids(conversation.run())

    others = [[m for m in sent if id(m) not in own] for sent in conversation.reader.requests]
    assert all(len(found) <= 1 for found in others)
    assert all(isinstance(part, UserPromptPart) for found in others for m in found for part in m.parts)


def test_every_call_is_booked_with_what_was_reported() -> None:
    conversation = Conversation()

    conversation.run()

    stats = conversation.memory.get_stats()
    calls = len(conversation.reader.requests)
    assert (stats["request_count"], stats["total_input_tokens"], stats["total_output_tokens"]) == (
        calls,
        conversation.reader.input_tokens(),
        calls * 10,
    )


def test_instructions_and_tools_are_counted() -> None:
    roomy = MemoryConfig(compression_threshold=50_000)  # what is compressed differs in other ways too
    bare, full = Conversation(config=roomy), Conversation(config=roomy, instructions="Be a careful reader. " * 50)

    bare.run()
    full.run()

    assert full.memory.current_tokens - bare.memory.current_tokens > 100


def test_masked_results_are_returns_of_the_same_call_and_the_archive_has_the_originals() -> None:
    conversation = Conversation(config=replace(CONFIG, compression_strategy=MASKING))

    messages = conversation.run()

    own = {part.tool_call_id: part for m in messages for part in m.parts if isinstance(part, ToolReturnPart)}
    last = conversation.reader.requests[-1]
    sent = [part for message in last for part in message.parts if isinstance(part, ToolReturnPart)]
    masked = [part for part in sent if part is not own[part.tool_call_id]]
    assert masked
    assert all(part.tool_name == "read_page" for part in masked)
    assert all(len(str(part.content)) < len(str(own[part.tool_call_id].content)) for part in masked)
    assert ids(conversation.kept()) == ids(messages)
    check(conversation.reader)


async def test_a_streamed_run_sends_the_same_lists() -> None:
    whole, streamed = Conversation(), Conversation()

    await whole.agent.run(TASK, usage_limits=LIMITS)
    async with streamed.agent.run_stream(TASK, usage_limits=LIMITS) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

    assert "".join(pieces).strip() == ANSWER
    assert len(pieces) > 3
    assert list(map(len, streamed.reader.requests)) == list(map(len, whole.reader.requests))
    assert streamed.memory.get_stats()["request_count"] == len(streamed.reader.requests)
    check(streamed.reader)


async def test_a_run_that_is_stepped_through_sends_the_managed_context() -> None:
    conversation = Conversation()

    async with conversation.agent.iter(TASK, usage_limits=LIMITS) as run:
        async for _ in run:
            pass

    assert run.result is not None
    assert run.result.output == ANSWER
    assert conversation.memory.get_stats()["compression_count"] >= 1
    check(conversation.reader)


def test_the_frameworks_test_model_runs_under_a_memory() -> None:
    memory = MemoryManager(CONFIG)

    Agent(TestModel(), tools=[read_page], capabilities=[ManagedMemory(memory)]).run_sync(TASK)

    assert memory.get_stats()["request_count"] == 2


# --- Refusals ---------------------------------------------------------------------------------------------------------


def refusing(above: int) -> Conversation:
    return Conversation(Reader(refuses_above=above), replace(CONFIG, compression_threshold=7_000))


def test_a_context_that_is_refused_as_too_long_is_sent_once_more_and_smaller() -> None:
    conversation = refusing(7)

    conversation.run()

    sizes = [len(sent) for sent in conversation.reader.requests]
    refused = [index for index, size in enumerate(sizes) if size > 7]
    assert refused
    assert all(sizes[index + 1] < sizes[index] for index in refused)
    check(conversation.reader)


async def test_so_is_one_that_is_streamed() -> None:
    conversation = refusing(7)

    async with conversation.agent.run_stream(TASK, usage_limits=LIMITS) as result:
        assert (await result.get_output()).strip() == ANSWER


def test_a_second_refusal_reaches_the_caller() -> None:
    with pytest.raises(ModelHTTPError):
        refusing(2).run()


def test_another_error_of_the_model_reaches_the_caller_at_once() -> None:
    calls = []

    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls.append(messages)
        raise ConnectionError("no network")

    with pytest.raises(ConnectionError):
        Agent(FunctionModel(fail), capabilities=[ManagedMemory(MemoryManager(CONFIG))]).run_sync(TASK)

    assert len(calls) == 1


# --- Conversations ----------------------------------------------------------------------------------------------------


def test_a_second_run_goes_on_with_the_history_of_the_first() -> None:
    conversation = Conversation()
    first = conversation.agent.run_sync(TASK, usage_limits=LIMITS)

    second = conversation.agent.run_sync("And at 6 bar?", message_history=first.all_messages(), usage_limits=LIMITS)

    assert len(conversation.reader.requests[-1]) < 18 < len(second.all_messages())
    assert ids(conversation.kept()) == ids(second.all_messages())
    check(conversation.reader)


def test_a_history_from_a_file_goes_on_and_is_not_billed_again() -> None:
    stored = ModelMessagesTypeAdapter.dump_json(Conversation().run())
    conversation = Conversation()

    conversation.agent.run_sync(
        "And at 6 bar?", message_history=ModelMessagesTypeAdapter.validate_json(stored), usage_limits=LIMITS
    )

    assert conversation.memory.get_stats()["request_count"] == len(conversation.reader.requests)
    check(conversation.reader)


def test_a_history_that_is_loaded_anew_each_time_continues_the_conversation() -> None:
    conversation = Conversation()
    stored = ModelMessagesTypeAdapter.dump_json(conversation.run())
    before = len(conversation.memory.archive)

    conversation.agent.run_sync(
        "And at 6 bar?", message_history=ModelMessagesTypeAdapter.validate_json(stored), usage_limits=LIMITS
    )

    assert conversation.memory.get_stats()["message_count"] == 1 + PAGES // 2 + PAGES + 1 + 2
    assert len(conversation.memory.archive) >= before


async def test_ten_conversations_of_one_agent_do_not_meet() -> None:
    managed = ManagedMemory(lambda: MemoryManager(CONFIG))

    async def run(number: int) -> tuple[str, Reader]:
        reader = Reader(pages=10 + 2 * number)
        agent = Agent(reader.model, tools=[read_page], capabilities=[managed])
        result = await agent.run(TASK, usage_limits=LIMITS)
        return result.conversation_id, reader

    for name, reader in await asyncio.gather(*map(run, range(10))):
        stats = managed.memory(name).get_stats()
        assert (stats["request_count"], stats["total_input_tokens"]) == (len(reader.requests), reader.input_tokens())


def test_a_single_memory_refuses_a_second_conversation_and_says_what_to_do() -> None:
    conversation = Conversation()
    conversation.run()

    with pytest.raises(ConfigError, match=r"lambda: MemoryManager"):
        conversation.run()


def test_a_forgotten_conversation_begins_anew() -> None:
    managed = ManagedMemory(lambda: MemoryManager(CONFIG))
    agent = Agent(Reader(pages=0).model, capabilities=[managed])
    first = agent.run_sync(TASK)
    before = managed.memory(first.conversation_id)

    managed.forget(first.conversation_id)
    agent.run_sync("Sure?", message_history=first.all_messages())

    assert managed.memory(first.conversation_id) is not before


def test_a_tool_that_asks_for_another_try_is_an_error_that_stays_with_its_call() -> None:
    conversation = Conversation()

    @conversation.agent.tool_plain(name="other", retries=3)
    def other() -> str:
        raise ModelRetry("not now")

    history: list[ModelMessage] = [
        ModelRequest([UserPromptPart(TASK)]),
        ModelResponse([ToolCallPart("other", {}, tool_call_id="0")]),
        ModelRequest([RetryPromptPart("not now", tool_name="other", tool_call_id="0")]),
        ModelResponse([TextPart("I give up.")]),
        ModelRequest([RetryPromptPart("Say more.")]),
    ]
    conversation.agent.run_sync(message_history=history, usage_limits=LIMITS)

    readings = [record.reading for record in conversation.memory.archive]
    assert any(result.is_error for reading in readings for result in reading.results)
    check(conversation.reader)


# --- What messages may hold -------------------------------------------------------------------------------------------


def sent_with(memory: MemoryManager, *history: ModelMessage) -> list[ModelMessage]:
    reader = Reader(pages=0)
    agent = Agent(reader.model, capabilities=[ManagedMemory(memory)])
    agent.run_sync("What is it?", message_history=history)
    return reader.requests[0]


def test_pictures_are_counted_as_pictures_and_parts_of_any_kind_go_back_as_they_came() -> None:
    memory = MemoryManager(CONFIG)
    request = ModelRequest(
        [
            UserPromptPart(
                [
                    "Look at these.",
                    BinaryContent(b"\x89PNG" + b"\x00" * 300_000, media_type="image/png"),
                    BinaryContent(b"RIFF", media_type="audio/wav"),
                    ImageUrl("https://example.org/one"),
                    VideoUrl("https://example.org/two"),
                    CachePoint(),
                ]
            )
        ]
    )

    sent = sent_with(memory, request, ModelResponse([TextPart("Yes?")]))

    assert sent[0] is request
    content = (memory.origins()[0] or {})["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "input_audio", "image_url", "file"]
    assert memory.current_tokens < 5_000


def test_a_picture_in_a_result_is_counted_and_stays_with_it() -> None:
    memory = MemoryManager(CONFIG)
    picture = BinaryContent(b"\x89PNG" + b"\x00" * 300_000, media_type="image/png")
    returned = ModelRequest([ToolReturnPart("look", ["A pump.", picture], tool_call_id="1")])

    sent = sent_with(
        memory,
        ModelRequest([UserPromptPart(TASK)]),
        ModelResponse([ToolCallPart("look", {}, tool_call_id="1")]),
        returned,
        ModelResponse([TextPart("A pump.")]),
    )

    assert sent[2] is returned
    assert memory.current_tokens < 3_000


def test_thinking_and_its_signature_go_back_as_they_came_and_are_read_as_signed() -> None:
    memory = MemoryManager(CONFIG)
    thinking = ThinkingPart("Page three says nine bar.", signature="c2lnbmVk", provider_name="anthropic")
    thought = ModelResponse([thinking, TextPart("It is V-21.")])

    sent = sent_with(memory, ModelRequest([UserPromptPart(TASK)]), thought)

    assert sent[1] is thought
    chat = memory.origins()[1] or {}
    assert chat["content"] == "It is V-21."
    assert chat["thinking_blocks"] == [
        {"type": "thinking", "thinking": "Page three says nine bar.", "signature": "c2lnbmVk"}
    ]


def test_a_memory_for_another_format_is_refused() -> None:
    agent = Agent(TestModel(), capabilities=[ManagedMemory(MemoryManager(CONFIG, dialect="anthropic"))])

    with pytest.raises(ConfigError, match="without a dialect"):
        agent.run_sync(TASK)


def test_without_pydantic_ai_the_adapter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memory.integrations.pydantic_ai")
    monkeypatch.setitem(sys.modules, "pydantic_ai.capabilities", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[pydantic-ai\]'"):
        importlib.import_module("memory.integrations.pydantic_ai")


# --- Real model classes over HTTP -------------------------------------------------------------------------------------

HTTP_PAGES = 14


class Pages:
    """Answers of a simulated provider: a page at a time, then the answer."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: Request) -> Turn:
        self.count += 1
        if self.count > HTTP_PAGES:
            return Turn(ANSWER)
        return Turn(calls=[Call("read_page", {"number": self.count})], reasoning=f"Page {self.count} is next.")


def openai_chat(server: ProviderSimulator) -> Model:
    client = AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0)
    return OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))


def openai_responses(server: ProviderSimulator) -> Model:
    client = AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0)
    return OpenAIResponsesModel("gpt-5-mini", provider=OpenAIProvider(openai_client=client))


def anthropic(server: ProviderSimulator) -> Model:
    client = AsyncAnthropic(base_url=server.base_url, api_key="test", max_retries=0)
    settings = AnthropicModelSettings(max_tokens=4_000, anthropic_thinking={"type": "enabled", "budget_tokens": 2_000})
    return AnthropicModel("claude-haiku-4-5", provider=AnthropicProvider(anthropic_client=client), settings=settings)


older_anthropic = pytest.mark.xfail(
    get_origin(BetaMessageParam) is Union,
    raises=TypeError,
    strict=False,
    reason="AnthropicModel of pydantic-ai 2.31 calls a type that is a union since anthropic 1; that of 2.68 does not",
)
WIRES: list[Any] = [
    pytest.param("openai_chat", openai_chat, id="OpenAIChatModel"),
    pytest.param("openai_responses", openai_responses, id="OpenAIResponsesModel"),
    pytest.param("anthropic", anthropic, id="AnthropicModel", marks=older_anthropic),
]


@pytest.mark.parametrize(("wire", "connect"), WIRES)
@pytest.mark.parametrize("strategy", list(CompressionStrategy))
async def test_a_simulated_provider_rejects_nothing(
    wire: Any, connect: Callable[[ProviderSimulator], Model], strategy: CompressionStrategy
) -> None:
    memory = MemoryManager(replace(CONFIG, compression_strategy=strategy))
    with ProviderSimulator(wire, Pages()) as server:
        agent = Agent(connect(server), tools=[read_page], capabilities=[ManagedMemory(memory)])
        result = await agent.run(TASK, usage_limits=LIMITS)

    assert server.rejected == []
    assert result.output == ANSWER
    stats = memory.get_stats()
    assert stats["compression_count"] >= 1
    assert stats["request_count"] == len(server.requests)
    assert stats["total_input_tokens"] == sum(one.used.input_tokens for one in server.requests if one.used)


@pytest.mark.parametrize(("wire", "connect"), WIRES)
async def test_a_provider_that_runs_out_of_context_is_asked_once_more(
    wire: Any, connect: Callable[[ProviderSimulator], Model]
) -> None:
    memory = MemoryManager(replace(CONFIG, compression_threshold=7_000))
    with ProviderSimulator(wire, Pages(), faults={9: "context_length"}) as server:
        agent = Agent(connect(server), tools=[read_page], capabilities=[ManagedMemory(memory)])
        async with agent.run_stream(TASK, usage_limits=LIMITS) as result:
            assert await result.get_output() == ANSWER

    assert len(server.requests) == HTTP_PAGES + 2
    before, after = (len(str(server.requests[index].body)) for index in (8, 9))
    assert after < before
