"""A memory under LangChain agents and LangGraph graphs, with the real packages and models that need no network."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field, SecretStr

from memory import CompressionStrategy, MemoryConfig, MemoryManager, validate
from memory.errors import ConfigError, ContextOverflowError, MissingDependencyError
from memory.testing.simulators import Call, ProviderSimulator, Request, Turn

pytest.importorskip("langchain")
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from memory.integrations.langchain import MemoryMiddleware, MemoryModel

CONFIG = MemoryConfig(max_context_tokens=8_000, compression_threshold=2_000, short_term_size=6)
MASKING, DELETION = CompressionStrategy.MASKING, CompressionStrategy.DELETION
PAGES = 24
TASK = "Read the manual. Which valve opens at 9 bar?"
ANSWER = "V-21 opens at 9 bar."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


@tool
def read_page(number: int) -> str:
    """Read a page of the manual."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 30


class TooLongError(Exception):
    """What a provider's SDK raises when the context is too long."""

    status_code = 400
    code = "context_length_exceeded"


class Reader(BaseChatModel):
    """A model that reads two pages at a time and then answers; it keeps what it was sent."""

    requests: list[list[BaseMessage]] = Field(default_factory=list)
    answers: list[BaseMessage] = Field(default_factory=list)
    pages: int = PAGES
    task: str = TASK
    reports_usage: bool = False
    refuses_above: int = 1_000_000
    """Messages: a longer list is refused as too long."""

    @property
    def _llm_type(self) -> str:
        return "reader"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[{"type": "function", "function": {"name": one.name}} for one in tools])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.requests.append(list(messages))
        if len(messages) > self.refuses_above:
            raise TooLongError("the prompt is too long for this model")
        self.answers.append(self._answer(messages))
        return ChatResult(generations=[ChatGeneration(message=self.answers[-1])])

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        done = max((int(m.tool_call_id) for m in messages if isinstance(m, ToolMessage)), default=0)
        usage = UsageMetadata(input_tokens=100 * len(messages), output_tokens=10, total_tokens=100 * len(messages) + 10)
        reported: dict[str, Any] = {"usage_metadata": usage if self.reports_usage else None}
        reported["response_metadata"] = {"model_name": "gpt-4o-mini"}
        if done >= self.pages:
            return AIMessage(ANSWER, **reported)
        wanted = [tool_call(name="read_page", args={"number": n}, id=str(n)) for n in (done + 1, done + 2)]
        return AIMessage("", tool_calls=wanted, **reported)

    def input_tokens(self) -> int:
        """What it has reported altogether."""
        return sum(100 * len(sent) for sent in self.requests)


class StreamingReader(Reader):
    """The same in pieces."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        message = self._generate(messages).generations[0].message
        assert isinstance(message, AIMessage)
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            for index, call in enumerate(message.tool_calls)
        ]
        for word in str(message.content).split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
        last = AIMessageChunk(content="", tool_call_chunks=calls, usage_metadata=message.usage_metadata)
        yield ChatGenerationChunk(message=last)


class Conversation:
    """A model, a memory and an agent on top of both."""

    def __init__(self, model: Reader | None = None, config: MemoryConfig = CONFIG, **options: Any) -> None:
        self.model = model or Reader()
        self.memory = MemoryManager(config)
        self.agent: Any = create_agent(
            self.model, [read_page], middleware=[MemoryMiddleware(self.memory)], **options
        ).with_config(recursion_limit=200)

    def run(self, task: str = TASK) -> list[AnyMessage]:
        return list(self.agent.invoke({"messages": [HumanMessage(task)]})["messages"])

    def kept(self) -> list[Any]:
        """Everything the memory holds, in the archive and in the context, as the framework's own objects."""
        archived = [record.message for record in self.memory.archive]
        standing = [origin for origin in self.memory.origins() if origin is not None]
        return [chat.source for chat in (*archived, *standing)]


def check(model: Reader) -> None:
    """Every list that was sent is valid and holds the task."""
    for sent in model.requests:
        issues = validate(convert_to_openai_messages(sent), "openai_chat")
        assert [issue for issue in issues if issue.severity == "error"] == []
        assert model.task in [message.content for message in sent]


def ids(messages: Sequence[object]) -> set[int]:
    return set(map(id, messages))


# --- A whole run ------------------------------------------------------------------------------------------------------


def test_a_long_loop_is_compressed_and_every_list_is_valid_and_holds_the_task() -> None:
    conversation = Conversation(system_prompt="You are a reader.")

    messages = conversation.run()

    assert messages[-1].content == ANSWER
    assert conversation.memory.get_stats()["compression_count"] >= 2
    assert max(map(len, conversation.model.requests)) < 20 < len(messages)
    check(conversation.model)


def test_the_state_keeps_every_message_and_so_do_archive_and_context() -> None:
    conversation = Conversation()

    messages = conversation.run()

    assert len(messages) == 1 + PAGES // 2 + PAGES + 1
    assert ids(conversation.kept()) == ids(messages)


def test_what_is_sent_is_the_frameworks_own_objects_but_for_summaries() -> None:
    conversation = Conversation()

    own = ids(conversation.run())

    for sent in conversation.model.requests:
        others = [message for message in sent if id(message) not in own]
        assert all(isinstance(message, HumanMessage) for message in others)
        assert len(others) <= CONFIG.max_summaries


async def test_an_event_loop_sends_the_same_lists() -> None:
    sync, loop = Conversation(), Conversation()

    sync.run()
    await loop.agent.ainvoke({"messages": [HumanMessage(TASK)]})

    assert [[m.content for m in sent] for sent in loop.model.requests] == [
        [m.content for m in sent] for sent in sync.model.requests
    ]


def test_every_call_is_booked_with_what_was_reported() -> None:
    conversation = Conversation(Reader(reports_usage=True))

    conversation.run()

    calls = len(conversation.model.requests)
    stats = conversation.memory.get_stats()
    assert (stats["request_count"], stats["total_input_tokens"], stats["total_output_tokens"]) == (
        calls,
        conversation.model.input_tokens(),
        calls * 10,
    )
    assert not stats["cost_is_estimate"]


def test_every_call_is_counted_where_nothing_is_reported() -> None:
    conversation = Conversation()

    conversation.run()

    assert conversation.memory.get_stats()["request_count"] == len(conversation.model.requests)


def test_the_system_prompt_and_the_tools_are_counted() -> None:
    roomy = MemoryConfig(compression_threshold=50_000)  # what is compressed differs in other ways too
    bare, full = Conversation(config=roomy), Conversation(config=roomy, system_prompt="Be a careful reader. " * 50)

    bare.run()
    full.run()

    added = full.memory.current_tokens - bare.memory.current_tokens
    assert added > 200
    assert bare.memory.current_tokens > MemoryManager(CONFIG).current_tokens


def test_masked_results_are_tool_messages_of_the_same_call_and_the_archive_has_the_originals() -> None:
    conversation = Conversation(config=replace(CONFIG, compression_strategy=MASKING))

    messages = conversation.run()

    own = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    sent = [message for message in conversation.model.requests[-1] if isinstance(message, ToolMessage)]
    masked = [message for message in sent if message is not own[message.tool_call_id]]
    assert masked
    assert all(message.name == "read_page" for message in masked)
    assert all(len(message.content) < len(own[message.tool_call_id].content) for message in masked)
    assert ids(conversation.kept()) == ids(messages)
    check(conversation.model)


# --- Refusals ---------------------------------------------------------------------------------------------------------


async def ask_in_a_loop(conversation: Conversation) -> str:
    return str((await conversation.agent.ainvoke({"messages": [HumanMessage(TASK)]}))["messages"][-1].content)


def ask(conversation: Conversation) -> str:
    return str(conversation.run()[-1].content)


def test_a_context_that_is_refused_as_too_long_is_sent_once_more_and_smaller() -> None:
    conversation = Conversation(Reader(refuses_above=7), replace(CONFIG, compression_threshold=7_000))

    assert ask(conversation) == ANSWER

    sizes = [len(sent) for sent in conversation.model.requests]
    refused = [index for index, size in enumerate(sizes) if size > 7]
    assert refused
    assert all(sizes[index + 1] < sizes[index] for index in refused)
    check(conversation.model)


async def test_so_it_is_in_an_event_loop() -> None:
    conversation = Conversation(Reader(refuses_above=7), replace(CONFIG, compression_threshold=7_000))

    assert await ask_in_a_loop(conversation) == ANSWER


def test_a_second_refusal_reaches_the_caller() -> None:
    conversation = Conversation(Reader(refuses_above=3), replace(CONFIG, compression_threshold=7_000))

    with pytest.raises(TooLongError):
        conversation.run()


def test_another_error_of_the_model_reaches_the_caller_at_once() -> None:
    conversation = Conversation()
    conversation.model.requests = Refusing()

    with pytest.raises(ConnectionError):
        conversation.run()

    assert conversation.memory.get_stats()["request_count"] == 0


class Refusing(list[Any]):
    def append(self, request: object) -> None:
        raise ConnectionError("no network")


def test_an_answer_that_makes_the_context_too_long_is_not_lost() -> None:
    model = Reader(pages=0)
    model.answers = LongAnswer()
    conversation = Conversation(model, replace(CONFIG, max_context_tokens=2_100))

    assert len(str(conversation.run()[-1].content)) > 10_000

    with pytest.raises(ContextOverflowError):
        conversation.memory.get_context_for_llm()


class LongAnswer(list[Any]):
    def append(self, answer: Any) -> None:
        answer.content = "valve " * 4_000
        super().append(answer)


# --- Threads and checkpoints ------------------------------------------------------------------------------------------


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name}, "recursion_limit": 200}


def test_each_thread_has_a_memory_of_its_own() -> None:
    model, middleware = Reader(), MemoryMiddleware(lambda: MemoryManager(CONFIG))
    agent = create_agent(model, [read_page], middleware=[middleware], checkpointer=InMemorySaver())

    for _ in range(2):
        for name in ("one", "two"):
            agent.invoke({"messages": [HumanMessage(TASK)]}, thread(name))

    for name in ("one", "two"):
        held = agent.get_state(thread(name)).values["messages"]
        assert middleware.memory(name).get_stats()["message_count"] == len(held)
    assert middleware.memory("one") is not middleware.memory("two")
    check(model)


async def test_ten_threads_at_once_do_not_meet() -> None:
    middleware = MemoryMiddleware(lambda: MemoryManager(CONFIG))

    async def run(number: int) -> Reader:
        model = Reader(task=f"Task {number}", reports_usage=True, pages=10 + 2 * number)
        agent = create_agent(model, [read_page], middleware=[middleware])
        await agent.ainvoke({"messages": [HumanMessage(model.task)]}, thread(model.task))
        check(model)
        return model

    for model in await asyncio.gather(*map(run, range(10))):
        stats = middleware.memory(model.task).get_stats()
        assert (stats["request_count"], stats["total_input_tokens"]) == (len(model.requests), model.input_tokens())


def test_after_a_restart_a_thread_goes_on_from_its_checkpoint() -> None:
    saver = InMemorySaver()
    first = create_agent(
        Reader(), [read_page], middleware=[MemoryMiddleware(lambda: MemoryManager(CONFIG))], checkpointer=saver
    )
    first.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))

    model, middleware = Reader(), MemoryMiddleware(lambda: MemoryManager(CONFIG))
    second = create_agent(model, [read_page], middleware=[middleware], checkpointer=saver)
    held = second.invoke({"messages": [HumanMessage("And at 6 bar?")]}, thread("one"))["messages"]

    check(model)
    assert len(model.requests[0]) < 25 < len(held)
    requests = middleware.memory("one").get_stats()["request_count"]
    assert requests == len(model.requests), "what came before is not billed again"


def test_a_message_that_is_taken_out_of_the_state_leaves_the_context() -> None:
    saver, model, memory = InMemorySaver(), Reader(pages=2), MemoryManager(CONFIG)
    agent = create_agent(model, [read_page], middleware=[MemoryMiddleware(memory)], checkpointer=saver)
    held = agent.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))["messages"]

    agent.update_state(thread("one"), {"messages": [RemoveMessage(id=held[-1].id)]})
    agent.invoke({"messages": [HumanMessage("And at 6 bar?")]}, thread("one"))

    assert ANSWER not in [message.content for message in model.requests[-1]]
    assert ANSWER in [record.reading.text for record in memory.archive]


def test_a_single_memory_refuses_a_second_thread_and_says_what_to_do() -> None:
    agent = create_agent(Reader(pages=0), [], middleware=[MemoryMiddleware(MemoryManager(CONFIG))])
    agent.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))

    with pytest.raises(ConfigError, match=r"'one' and now 'two'.*lambda: MemoryManager"):
        agent.invoke({"messages": [HumanMessage(TASK)]}, thread("two"))


def test_many_memories_need_names() -> None:
    middleware = MemoryMiddleware(lambda: MemoryManager(CONFIG))
    agent = create_agent(Reader(pages=0), [], middleware=[middleware])

    with pytest.raises(ConfigError, match="thread_id"):
        agent.invoke({"messages": [HumanMessage(TASK)]})
    with pytest.raises(ConfigError, match="no conversation 'one'"):
        middleware.memory("one")


def test_a_forgotten_thread_begins_anew() -> None:
    middleware = MemoryMiddleware(lambda: MemoryManager(CONFIG))
    agent = create_agent(Reader(pages=0), [], middleware=[middleware])
    agent.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))
    before = middleware.memory("one")

    middleware.forget("one")
    agent.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))

    assert middleware.memory("one") is not before


# --- A graph of one's own ---------------------------------------------------------------------------------------------


def graph(model: MemoryModel) -> Any:
    def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def call_model_in_a_loop(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", RunnableLambda(call_model, call_model_in_a_loop))
    builder.add_node("tools", ToolNode([read_page]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile()


def test_a_graph_of_ones_own_sends_the_managed_context() -> None:
    model, memory = Reader(reports_usage=True), MemoryManager(CONFIG)

    held = graph(MemoryModel(model.bind_tools([read_page]), memory)).invoke(
        {"messages": [SystemMessage("You are a reader."), HumanMessage(TASK)]}, thread("one")
    )["messages"]

    check(model)
    assert held[-1].content == ANSWER
    assert max(map(len, model.requests)) < 25 < len(held)
    assert memory.get_stats()["total_input_tokens"] == model.input_tokens()
    assert all(isinstance(sent[0], SystemMessage) for sent in model.requests)


async def test_so_does_one_in_an_event_loop() -> None:
    model, memory = Reader(), MemoryManager(CONFIG)

    held = await graph(MemoryModel(model, memory)).ainvoke({"messages": [HumanMessage(TASK)]}, thread("one"))

    check(model)
    assert held["messages"][-1].content == ANSWER


def test_a_stream_is_passed_on_piece_by_piece_and_booked_at_its_end() -> None:
    memory = MemoryManager(CONFIG)
    model = MemoryModel(StreamingReader(pages=0, reports_usage=True), memory)

    pieces = list(model.stream([HumanMessage(TASK)]))

    assert "".join(str(piece.content) for piece in pieces).strip() == ANSWER
    assert len(pieces) > 3
    stats = memory.get_stats()
    assert (stats["request_count"], stats["total_input_tokens"], stats["message_count"]) == (1, 100, 2)


async def test_so_is_a_stream_in_an_event_loop() -> None:
    memory = MemoryManager(CONFIG)
    model = MemoryModel(StreamingReader(pages=0, reports_usage=True), memory)

    pieces = [piece async for piece in model.astream(TASK)]

    assert len(pieces) > 3
    assert memory.get_stats()["total_input_tokens"] == 100


def test_a_stream_that_is_refused_before_it_begins_is_sent_once_more() -> None:
    model = StreamingReader(refuses_above=5, pages=4)
    config = replace(CONFIG, compression_threshold=7_000, short_term_size=2, compression_strategy=DELETION)
    streamed = MemoryModel(model, MemoryManager(config))
    messages: list[BaseMessage] = [HumanMessage(TASK)]
    for number in range(1, 4):
        messages += [AIMessage(f"Note {number}. " + "And so on. " * 50), HumanMessage(f"Go on, {number}.")]

    list(streamed.stream(messages))

    assert len(model.requests) == 2
    assert len(model.requests[1]) < len(model.requests[0])


def test_a_prompt_is_taken_as_messages() -> None:
    model = Reader(pages=0)
    prompt = ChatPromptTemplate([("system", "You are a reader."), ("user", "{task}")])

    (prompt | MemoryModel(model, MemoryManager(CONFIG))).invoke({"task": TASK})

    assert [message.type for message in model.requests[0]] == ["system", "human"]


# --- What messages may hold -------------------------------------------------------------------------------------------


def context_of(memory: MemoryManager, *messages: BaseMessage) -> list[BaseMessage]:
    model = Reader(pages=0)
    MemoryModel(model, memory).invoke(list(messages))
    return model.requests[0]


def test_pictures_are_counted_as_pictures_and_parts_of_any_kind_go_back_as_they_came() -> None:
    memory = MemoryManager(CONFIG)
    parts: list[str | dict[Any, Any]] = [
        "Look at these.",
        {"type": "image", "base64": PIXEL + "A" * 100_000, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": "https://example.org/one.png"}},
        {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"},
        {"type": "file", "file_id": "file-1"},
        {"type": "search_result", "title": "a kind that chat has no words for"},
    ]
    message = HumanMessage(content=parts)

    sent = context_of(memory, message)

    assert sent[0] is message
    (chat,) = [origin for origin in memory.origins() if origin is not None and origin.source is message]
    assert [part["type"] for part in chat["content"]] == [
        "text",
        "image_url",
        "image_url",
        "input_audio",
        "file",
        "text",
    ]
    assert memory.current_tokens < 5_000


def test_thinking_and_its_signature_go_back_as_they_came_and_are_read_as_signed() -> None:
    memory = MemoryManager(CONFIG)
    thought = AIMessage(
        content=[
            {"type": "thinking", "thinking": "Page three says nine bar.", "signature": "c2lnbmVk"},
            {"type": "redacted_thinking", "data": "c2VhbGVk"},
            {"type": "text", "text": "It is V-21."},
        ],
        response_metadata={"model_provider": "anthropic"},
    )

    sent = context_of(memory, HumanMessage(TASK), thought, HumanMessage("Sure?"))

    assert sent[1] is thought
    chat = memory.origins()[1] or {}
    assert chat["content"] == "It is V-21."
    assert [block["type"] for block in chat["thinking_blocks"]] == ["thinking", "redacted_thinking"]


def test_a_call_that_could_not_be_parsed_stays_with_its_answer() -> None:
    broken = AIMessage(
        "",
        invalid_tool_calls=[
            {"id": "1", "name": "read_page", "args": "{number", "error": None, "type": "invalid_tool_call"}
        ],
    )
    memory = MemoryManager(CONFIG)

    context_of(memory, HumanMessage(TASK), broken, ToolMessage("no JSON", tool_call_id="1", status="error"))

    assert [issue for issue in validate(memory.messages, "openai_chat") if issue.severity == "error"] == []


def test_a_message_that_no_model_can_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="RemoveMessage"):
        context_of(MemoryManager(CONFIG), HumanMessage(TASK), RemoveMessage(id="1"))


def test_a_memory_for_another_format_is_refused() -> None:
    agent = create_agent(Reader(), [], middleware=[MemoryMiddleware(MemoryManager(CONFIG, dialect="anthropic"))])

    with pytest.raises(ConfigError, match="without a dialect"):
        agent.invoke({"messages": [HumanMessage(TASK)]})


def test_without_langchain_the_adapter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memory.integrations.langchain")
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[langchain\]'"):
        importlib.import_module("memory.integrations.langchain")


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


def chat_openai(server: ProviderSimulator) -> BaseChatModel:
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.base_url, api_key=SecretStr("test"), max_retries=0)


def chat_anthropic(server: ProviderSimulator) -> BaseChatModel:
    return ChatAnthropic(
        model_name="claude-opus-5-5",
        base_url=server.base_url,
        api_key=SecretStr("test"),
        max_retries=0,
        max_tokens_to_sample=4_000,
        thinking={"type": "adaptive"},
        timeout=10,
        stop=None,
    )


WIRES: list[Any] = [
    pytest.param("openai_chat", chat_openai, id="ChatOpenAI"),
    pytest.param("anthropic", chat_anthropic, id="ChatAnthropic"),
]


@pytest.mark.parametrize(("wire", "connect"), WIRES)
@pytest.mark.parametrize("strategy", list(CompressionStrategy))
def test_a_simulated_provider_rejects_nothing(
    wire: Any, connect: Callable[[ProviderSimulator], BaseChatModel], strategy: CompressionStrategy
) -> None:
    memory = MemoryManager(replace(CONFIG, compression_strategy=strategy))
    with ProviderSimulator(wire, Pages()) as server:
        agent = create_agent(connect(server), [read_page], middleware=[MemoryMiddleware(memory)])
        held = agent.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))["messages"]

    assert server.rejected == []
    assert held[-1].text == ANSWER
    stats = memory.get_stats()
    assert stats["compression_count"] >= 1
    assert stats["request_count"] == len(server.requests)
    assert stats["total_input_tokens"] == sum(one.used.input_tokens for one in server.requests if one.used)


@pytest.mark.parametrize(("wire", "connect"), WIRES)
async def test_a_provider_that_runs_out_of_context_is_asked_once_more(
    wire: Any, connect: Callable[[ProviderSimulator], BaseChatModel]
) -> None:
    memory = MemoryManager(replace(CONFIG, compression_threshold=7_000))
    with ProviderSimulator(wire, Pages(), faults={9: "context_length"}) as server:
        agent = create_agent(connect(server), [read_page], middleware=[MemoryMiddleware(memory)])
        held = (await agent.ainvoke({"messages": [HumanMessage(TASK)]}, thread("one")))["messages"]

    assert held[-1].text == ANSWER
    assert len(server.requests) == HTTP_PAGES + 2
    before, after = (len(server.requests[index].body["messages"]) for index in (8, 9))
    assert after < before


@pytest.mark.parametrize("strategy", list(CompressionStrategy))
def test_thinking_that_is_bound_to_the_conversation_is_never_sent_behind_another(strategy: CompressionStrategy) -> None:
    memory = MemoryManager(replace(CONFIG, compression_strategy=strategy))
    with ProviderSimulator("anthropic", Pages(), binds_thinking=True) as server:
        model = chat_anthropic(server)
        agent = create_agent(model, [read_page], middleware=[MemoryMiddleware(memory)])
        held = agent.invoke({"messages": [HumanMessage(TASK)]}, thread("one"))["messages"]

    assert server.rejected == []
    assert held[-1].text == ANSWER
    assert memory.get_stats()["compression_count"] >= 1
