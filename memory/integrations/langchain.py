"""Memory for LangChain agents (`MemoryMiddleware`) and for LangGraph nodes that call a model (`MemoryModel`).

The state of the graph keeps the full list of messages, so that checkpoints lose nothing; only what is sent to the
model is managed. Written for langchain 1.x: `wrap_model_call` of `langchain.agents.middleware`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, cast

from ..errors import MessageError, MissingDependencyError
from ..manager import MemoryManager
from ..messages import Wire
from ..usage import read_model
from . import _parts
from ._bridge import Bridge, Conversations

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import (
        AIMessage,
        AIMessageChunk,
        AnyMessage,
        BaseMessage,
        ChatMessage,
        FunctionMessage,
        HumanMessage,
        SystemMessage,
        ToolMessage,
        convert_to_messages,
    )
    from langchain_core.messages.ai import add_ai_message_chunks
    from langchain_core.prompt_values import PromptValue
    from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, ensure_config
    from langchain_core.utils.function_calling import convert_to_openai_tool
except ImportError as error:
    raise MissingDependencyError(
        "this adapter needs LangChain 1.x: pip install 'aloop-memory[langchain]'", name="langchain"
    ) from error

__all__ = ["MemoryMiddleware", "MemoryModel"]


class MemoryMiddleware(AgentMiddleware[AgentState[Any], Any]):
    """Puts a memory under an agent: `create_agent(model, tools, middleware=[MemoryMiddleware(memory)])`.

    Each model call is sent the managed context instead of the whole state, what it used is booked, and a context that
    the provider refuses as too long is compressed and sent once more. Put it last, next to the model.
    """

    def __init__(self, memory: MemoryManager | Callable[[], MemoryManager]) -> None:
        """Take the memory of one conversation, or a function that makes one for each thread.

        Args:
            memory: A `MemoryManager`, for an agent with one conversation; or a function that returns a new one, for
                an agent that serves several threads (`thread_id`). After a restart a thread's memory is made anew
                from its checkpoint.
        """
        super().__init__()
        self._conversations = Conversations(memory, _Codec())
        self._tools: tuple[list[Any], list[Wire]] = ([], [])
        """The tools of the last request and their schemas: to write schemas costs more than to call a fake model."""

    def memory(self, thread_id: str | None = None) -> MemoryManager:
        """Return the memory of a thread, for its statistics and for recall."""
        return self._conversations.memory(thread_id)

    def forget(self, thread_id: str) -> None:
        """Let go of a thread's memory; should it go on, a new one is made from its state."""
        self._conversations.forget(thread_id)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Send the managed context to the model. Called by LangChain."""
        bridge = self._bridge(request)
        response = bridge.ask_sync(request.messages, lambda context: handler(request.override(messages=context)))
        bridge.add_sync(_booked(bridge.memory, response.result))
        return response

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Send the managed context to the model like `wrap_model_call`, in an event loop. Called by LangChain."""
        bridge = self._bridge(request)
        response = await bridge.ask(request.messages, lambda context: handler(request.override(messages=context)))
        await bridge.add(_booked(bridge.memory, response.result))
        return response

    def _bridge(self, request: ModelRequest[Any]) -> Bridge[AnyMessage]:
        bridge = self._conversations.bridge(_thread_id())
        bridge.memory.set_fixed(system=request.system_prompt, tools=self._schemas(request.tools))
        return bridge

    def _schemas(self, tools: list[Any]) -> list[Wire]:
        known, schemas = self._tools
        if len(known) != len(tools) or any(one is not other for one, other in zip(known, tools, strict=True)):
            schemas = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in tools]
            self._tools = (list(tools), schemas)
        return schemas


class MemoryModel(Runnable[LanguageModelInput, AIMessage]):
    """A chat model that is sent the managed context of the messages it is called with.

    For graphs of your own: `model = MemoryModel(ChatOpenAI(…).bind_tools(tools), memory)`, then in the node
    `{"messages": [model.invoke(state["messages"])]}`. Give it the whole list each time.
    """

    def __init__(
        self,
        model: Runnable[LanguageModelInput, AIMessage],
        memory: MemoryManager | Callable[[], MemoryManager],
    ) -> None:
        """Wrap a chat model, bound tools and all.

        Args:
            model: A chat model, or one with tools bound to it.
            memory: As with `MemoryMiddleware`.
        """
        self._model = model
        self._conversations = Conversations(memory, _Codec())
        self._tools = _bound_tools(model)

    def memory(self, thread_id: str | None = None) -> MemoryManager:
        """Return the memory of a thread, for its statistics and for recall."""
        return self._conversations.memory(thread_id)

    def forget(self, thread_id: str) -> None:
        """Let go of a thread's memory; should it go on, a new one is made from the list it is called with."""
        self._conversations.forget(thread_id)

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Call the model with the managed context."""
        bridge = self._bridge(config)
        answer = bridge.ask_sync(_messages(input), lambda context: self._model.invoke(context, config, **kwargs))
        bridge.add_sync(_booked(bridge.memory, [answer]))
        return answer

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """Call the model like `invoke`, in an event loop."""
        bridge = self._bridge(config)
        answer = await bridge.ask(_messages(input), lambda context: self._model.ainvoke(context, config, **kwargs))
        await bridge.add(_booked(bridge.memory, [answer]))
        return answer

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> Iterator[AIMessage]:
        """Stream the model's answer to the managed context; its usage is booked when the stream ends."""
        bridge = self._bridge(config)
        chunks = bridge.ask_sync(
            _messages(input), lambda context: _begun(self._model.stream(context, config, **kwargs))
        )
        seen = []
        for chunk in chunks:
            seen.append(chunk)
            yield chunk
        bridge.add_sync(_booked(bridge.memory, _whole(seen)))

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> AsyncIterator[AIMessage]:
        """Stream the model's answer like `stream`, in an event loop."""
        bridge = self._bridge(config)
        chunks = await bridge.ask(
            _messages(input), lambda context: _abegun(self._model.astream(context, config, **kwargs))
        )
        seen = []
        async for chunk in chunks:
            seen.append(chunk)
            yield chunk
        await bridge.add(_booked(bridge.memory, _whole(seen)))

    def _bridge(self, config: RunnableConfig | None) -> Bridge[AnyMessage]:
        bridge = self._conversations.bridge(_thread_id(config))
        bridge.memory.set_fixed(tools=self._tools)
        return bridge


class _Codec:
    """LangChain's messages as chat messages: one each."""

    def write(self, message: AnyMessage) -> Sequence[Wire]:
        match message:
            case SystemMessage():
                return [{"role": "system", "content": _content(message)}]
            case HumanMessage():
                return [{"role": "user", "content": _content(message)}]
            case AIMessage():
                return [_assistant(message)]
            case ToolMessage():
                status = {"status": "error"} if message.status == "error" else {}
                return [{"role": "tool", "tool_call_id": message.tool_call_id, "content": _content(message), **status}]
            case FunctionMessage():
                return [{"role": "function", "name": message.name, "content": _content(message)}]
            case ChatMessage():
                return [{"role": message.role, "content": _content(message)}]
        raise MessageError(f"a message of type {type(message).__name__} is none that a model can be sent")

    def rewrite(self, message: AnyMessage, kept: Mapping[int, Wire]) -> AnyMessage:
        wire = kept[0]
        if isinstance(message, AIMessage):
            return _without_thinking(message) if "thinking_blocks" not in wire else message
        return message.model_copy(update={"content": wire["content"]})

    def write_user(self, text: str) -> AnyMessage:
        return HumanMessage(text)


def _content(message: BaseMessage) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return _parts.content([part for block in message.content_blocks if (part := _part(block)) is not None])


def _part(block: Any) -> dict[str, Any] | None:
    """Write a standard content block; None for calls and thinking, which have their own place in a message.

    Source: langchain_core/messages/content.py of langchain-core 1.7. The ids in blocks are left out: where a message
    has none, `content_blocks` makes up another each time.
    """
    match block:
        case {"type": "text", "text": str(text)}:
            return _parts.text(text)
        case {"type": "text-plain", "text": str(text)}:
            return _parts.text(text)
        case {"type": "image" | "audio" | "video" | "file" | "text-plain" as kind}:
            media_type = block.get("mime_type") or _MEDIA_TYPES[kind]
            address = block.get("url") or block.get("file_id")
            return _parts.media(media_type, base64=block.get("base64"), url=address)
        case {"type": "tool_call" | "invalid_tool_call" | "reasoning"}:
            return None
        case {"type": "non_standard", "value": {"type": "thinking" | "redacted_thinking"}}:
            return None
        case {"type": "non_standard", "value": value}:
            return _parts.unknown(value)
    return _parts.unknown(block)


_MEDIA_TYPES = {
    "image": "image/*",
    "audio": "audio/*",
    "video": "video/*",
    "file": "application/octet-stream",
    "text-plain": "text/plain",
}


def _assistant(message: AIMessage) -> Wire:
    wire: dict[str, Any] = {"role": "assistant", "content": _content(message)}
    # What LangChain could not parse it sends back as it came, and an agent answers it.
    calls = [
        *(_call(call["id"], call["name"], json.dumps(call["args"], ensure_ascii=False)) for call in message.tool_calls),
        *(_call(call["id"], call["name"], call["args"] or "") for call in message.invalid_tool_calls),
    ]
    if calls:
        wire["tool_calls"] = calls
    if thoughts := _thoughts(message):
        wire["thinking_blocks"] = thoughts
    if legacy := message.additional_kwargs.get("function_call"):
        wire["function_call"] = legacy
    return wire


def _call(call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name or "", "arguments": arguments}}


def _thoughts(message: AIMessage) -> list[dict[str, Any]]:
    return [thought for block in message.content_blocks if (thought := _thought(block)) is not None]


def _thought(block: Any) -> dict[str, Any] | None:
    match block:
        case {"type": "reasoning"}:
            signature = block.get("extras", {}).get("signature") or block.get("encrypted_content")
            return _parts.thinking(block.get("reasoning", ""), signature)
        case {"type": "non_standard", "value": {"type": "thinking" | "redacted_thinking"} as thought}:
            return dict(thought)
    return None


def _without_thinking(message: AIMessage) -> AIMessage:
    """Return a copy without what the model thought, as blocks or as the text that some servers send beside it."""
    content = [part for part in message.content if not (isinstance(part, dict) and part.get("type") in _THINKING)]
    extra = {key: value for key, value in message.additional_kwargs.items() if key != "reasoning_content"}
    update = {"content": message.content if isinstance(message.content, str) else content, "additional_kwargs": extra}
    return message.model_copy(update=update)


_THINKING = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})


def _thread_id(config: RunnableConfig | None = None) -> str | None:
    """Return the thread of this run; inside a graph it is known without a config."""
    thread_id = ensure_config(config).get("configurable", {}).get("thread_id")
    return None if thread_id is None else str(thread_id)


def _messages(given: LanguageModelInput) -> list[Any]:
    if isinstance(given, PromptValue):
        return given.to_messages()
    return [HumanMessage(given)] if isinstance(given, str) else convert_to_messages(given)


def _bound_tools(model: Runnable[LanguageModelInput, AIMessage]) -> list[Wire]:
    tools = model.kwargs.get("tools", ()) if isinstance(model, RunnableBinding) else ()
    return [tool for tool in tools if isinstance(tool, Mapping)]


def _booked(memory: MemoryManager, answers: Sequence[BaseMessage]) -> list[AnyMessage]:
    """Book what the provider reported for the answers, and return them; what is not reported is estimated."""
    for answer in answers:
        if isinstance(answer, AIMessage) and answer.usage_metadata:
            memory.record_usage(answer.usage_metadata, model=read_model(answer.response_metadata))
    return cast("list[AnyMessage]", answers)  # langchain types a response more widely than a request


def _begun(chunks: Iterator[AIMessage]) -> Iterator[AIMessage]:
    """Return the stream once its first piece is there: a refusal comes before it, and can still be recovered from."""
    first = list(islice(chunks, 1))
    return chain(first, chunks)


async def _abegun(chunks: AsyncIterator[AIMessage]) -> AsyncIterator[AIMessage]:
    return _behind(await anext(chunks, None), chunks)


async def _behind(first: AIMessage | None, rest: AsyncIterator[AIMessage]) -> AsyncIterator[AIMessage]:
    if first is not None:
        yield first
    async for chunk in rest:
        yield chunk


def _whole(chunks: Sequence[AIMessage]) -> Sequence[AIMessage]:
    """Return the answer that the pieces of a stream make up; a model that cannot stream gives it as the only piece."""
    pieces = [chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)]
    return [add_ai_message_chunks(*pieces)] if pieces else chunks
