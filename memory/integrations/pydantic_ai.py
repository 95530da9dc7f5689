"""Memory for Pydantic AI agents: `Agent(model, capabilities=[ManagedMemory(memory)])`.

A capability and no history processor: what a history processor returns replaces the history of the run, and with it
`result.all_messages()`. Here the history stays whole, and only what is sent to the model is managed.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from ..errors import MessageError, MissingDependencyError
from ..manager import MemoryManager
from ..messages import Wire
from . import _parts
from ._bridge import Bridge, ChatMessage, Conversations

try:
    from pydantic_ai import messages as ai
    from pydantic_ai.capabilities import AbstractCapability, WrapModelRequestHandler
    from pydantic_ai.models import Model, ModelRequestContext, ModelRequestParameters, StreamedResponse
    from pydantic_ai.models.wrapper import WrapperModel
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import RunContext, ToolDefinition
except ImportError as error:
    raise MissingDependencyError(
        "this adapter needs Pydantic AI 2.x: pip install 'aloop-memory[pydantic-ai]'", name="pydantic_ai"
    ) from error

__all__ = ["ManagedMemory"]


class ManagedMemory(AbstractCapability[Any]):
    """Puts a memory under an agent; works with `run`, `run_sync`, `run_stream` and `iter`.

    Each request is sent the managed context instead of the whole history, what it used is booked, and a context that
    the provider refuses as too long is compressed and sent once more. Put it last among the capabilities.
    """

    def __init__(self, memory: MemoryManager | Callable[[], MemoryManager]) -> None:
        """Take the memory of one conversation, or a function that makes one for each.

        Args:
            memory: A `MemoryManager`, for one conversation; or a function that returns a new one, for an agent that
                leads several. Pydantic AI names a conversation by `conversation_id`, which runs inherit through
                `message_history`; a run without a history begins a new one.
        """
        self._conversations = Conversations(memory, _Codec())

    def memory(self, conversation_id: str | None = None) -> MemoryManager:
        """Return the memory of a conversation (`result.conversation_id`), for its statistics and for recall."""
        return self._conversations.memory(conversation_id)

    def forget(self, conversation_id: str) -> None:
        """Let go of a conversation's memory; should it go on, a new one is made from its history."""
        self._conversations.forget(conversation_id)

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return None: an agent's specification file cannot hold a memory."""
        return None

    async def wrap_model_request(
        self,
        ctx: RunContext[Any],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ai.ModelResponse:
        """Send the managed context to the model. Called by Pydantic AI."""
        bridge = self._bridge(ctx, request_context.model_request_parameters)
        context = await bridge.follow(request_context.messages)
        response = await handler(_managed(request_context, context, bridge))
        if response.usage.has_values():  # else nothing was reported; 0 would be taken for the truth
            bridge.memory.record_usage(response.usage, model=response.model_name)
        await bridge.add([response])
        return response

    def _bridge(self, ctx: RunContext[Any], parameters: ModelRequestParameters) -> Bridge[ai.ModelMessage]:
        bridge = self._conversations.bridge(ctx.conversation_id)
        system = "\n\n".join(part.content for part in parameters.instruction_parts or ())
        tools = [_schema(tool) for tool in (*parameters.function_tools, *parameters.output_tools)]
        bridge.memory.set_fixed(system=system, tools=tools)
        return bridge


def _managed(
    request: ModelRequestContext, messages: list[ai.ModelMessage], bridge: Bridge[ai.ModelMessage]
) -> ModelRequestContext:
    changed = copy.copy(request)  # `replace` would lose the fields that take no argument
    changed.messages = messages
    changed.model = _AskedAgain(request.model, bridge)
    return changed


class _AskedAgain(WrapperModel):
    """Asks a model once more if its provider refused the context and it can be made smaller.

    Not in `wrap_model_request`: its handler may be called only once in later versions (pydantic_ai/_agent_graph.py of
    2.68), and a stream is opened behind its back, when the first piece is asked for.
    """

    def __init__(self, wrapped: Model, bridge: Bridge[ai.ModelMessage]) -> None:
        super().__init__(wrapped)
        self._bridge = bridge

    async def request(
        self,
        messages: list[ai.ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ai.ModelResponse:
        return await self._bridge.send(
            messages, lambda context: self.wrapped.request(context, model_settings, model_request_parameters)
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ai.ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        def stream_of(context: list[ai.ModelMessage]) -> AbstractAsyncContextManager[StreamedResponse]:
            return self.wrapped.request_stream(context, model_settings, model_request_parameters, run_context)

        async with AsyncExitStack() as stack:
            yield await self._bridge.send(messages, lambda context: stack.enter_async_context(stream_of(context)))


def _schema(tool: ToolDefinition) -> Wire:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters_json_schema}
    return {"type": "function", "function": function}


class _Codec:
    """Pydantic AI's messages as chat messages: a request gives one for each part, a response is one."""

    def write(self, message: ai.ModelMessage) -> Sequence[Wire]:
        match message:
            case ai.ModelRequest():
                # Without parts it has instructions alone, and still has to end the list.
                return [_request_part(part) for part in message.parts] or [{"role": "user", "content": ""}]
            case ai.ModelResponse():
                return [_response(message)]
        raise MessageError(f"{type(message).__name__} is no message of Pydantic AI")

    def rewrite(self, message: ai.ModelMessage, kept: Mapping[int, Wire]) -> ai.ModelMessage:
        if isinstance(message, ai.ModelResponse):
            return _without_thinking(message) if "thinking_blocks" not in kept[0] else message
        if not message.parts:
            return message
        parts = [_shortened(message.parts[index], wire) for index, wire in kept.items()]
        return replace(message, parts=parts)

    def write_user(self, text: str) -> ai.ModelMessage:
        # Made anew after each compression only, so the time that the part takes stays with it.
        return ai.ModelRequest(parts=[ai.UserPromptPart(text)])


def _request_part(part: ai.ModelRequestPart) -> Wire:
    match part:
        case ai.SystemPromptPart():
            return {"role": "system", "content": part.content}
        case ai.UserPromptPart():
            return {"role": "user", "content": _user_content(part.content)}
        case ai.ToolReturnPart():
            return _tool_return(part)
        case ai.RetryPromptPart(tool_name=None):
            return {"role": "user", "content": part.model_response()}
        case ai.RetryPromptPart():
            content = part.model_response()
            return {"role": "tool", "tool_call_id": part.tool_call_id, "content": content, "status": "error"}
        case ai.SpeechPart():
            return {"role": "user", "content": _parts.content(_speech(part))}
        case ai.ToolAvailabilityDeltaPart():
            return {"role": "user", "content": _parts.content([_parts.unknown({"tools_added": part.tools_added})])}
    raise MessageError(f"{type(part).__name__} is a part of a request that this adapter does not know")


def _user_content(content: str | Sequence[ai.UserContent]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return _parts.content([part for item in content if (part := _user_part(item)) is not None])


def _user_part(item: ai.UserContent) -> dict[str, Any] | None:
    match item:
        case str():
            return _parts.text(item)
        case ai.TextContent():
            return _parts.text(item.content)
        case ai.CachePoint():
            return None
    return _file(item)


def _file(item: ai.MultiModalContent) -> dict[str, Any]:
    match item:
        case ai.BinaryContent():
            detail = (item.vendor_metadata or {}).get("detail")
            return _parts.media(item.media_type, base64=item.base64, detail=detail)
        case ai.UploadedFile():
            return _parts.media(item.media_type, url=item.file_id)
        # A URL may not tell the media type, and asking for it raises then; the class tells the kind.
        case ai.ImageUrl():
            detail = (item.vendor_metadata or {}).get("detail")
            return _parts.media("image/*", url=item.url, detail=detail)
        case ai.AudioUrl():
            return _parts.media("audio/*", url=item.url)
        case ai.VideoUrl():
            return _parts.media("video/*", url=item.url)
        case ai.DocumentUrl():
            return _parts.media("application/*", url=item.url)


def _speech(part: ai.SpeechPart) -> list[dict[str, Any]]:
    return [_parts.text(part.content), *([_file(part.audio)] if part.audio else ())]


def _tool_return(part: ai.ToolReturnPart) -> Wire:
    content = part.model_response_str(wrap_if_error=False)
    files = [_file(item) for item in part.files]
    wire = {
        "role": "tool",
        "tool_call_id": part.tool_call_id,
        "content": [_parts.text(content), *files] if files else content,
    }
    return {**wire, "status": "error"} if part.outcome == "failed" else wire


def _shortened(part: ai.ModelRequestPart, wire: Wire) -> ai.ModelRequestPart:
    """Return the part as its chat message says it now; a result is all that is ever shortened."""
    if isinstance(wire, ChatMessage):
        return part
    if isinstance(part, ai.ToolReturnPart):
        # Not `replace`: the classes for the framework's own tools want their content in a shape of its own.
        return ai.ToolReturnPart(
            tool_name=part.tool_name,
            content=wire["content"],
            tool_call_id=part.tool_call_id,
            metadata=part.metadata,
            timestamp=part.timestamp,
            outcome=part.outcome,
        )
    assert isinstance(part, ai.RetryPromptPart)
    return replace(part, content=wire["content"])


def _response(message: ai.ModelResponse) -> Wire:
    said: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case ai.ThinkingPart():
                thoughts.append(_parts.thinking(part.content, part.signature))
            case ai.ToolCallPart():
                calls.append(_call(part))
            case _:
                said += _said(part)
    wire: dict[str, Any] = {"role": "assistant", "content": _parts.content(said)}
    return wire | ({"tool_calls": calls} if calls else {}) | ({"thinking_blocks": thoughts} if thoughts else {})


def _said(part: ai.ModelResponsePart) -> list[dict[str, Any]]:
    match part:
        case ai.TextPart():
            return [_parts.text(part.content)]
        case ai.FilePart():
            return [_file(part.content)]
        case ai.SpeechPart():
            return _speech(part)
        case ai.NativeToolCallPart():
            return [_parts.unknown({"tool": part.tool_name, "args": part.args})]
        case ai.NativeToolReturnPart():
            return [_parts.unknown({"tool": part.tool_name, "content": part.content})]
        case ai.CompactionPart():
            return [_parts.text(part.content) if part.content else _parts.unknown(part.provider_details)]
    raise MessageError(f"{type(part).__name__} is a part of a response that this adapter does not know")


def _call(part: ai.ToolCallPart) -> dict[str, Any]:
    function = {"name": part.tool_name, "arguments": part.args_as_json_str()}
    return {"id": part.tool_call_id, "type": "function", "function": function}


def _without_thinking(message: ai.ModelResponse) -> ai.ModelResponse:
    return replace(message, parts=[part for part in message.parts if not isinstance(part, ai.ThinkingPart)])
