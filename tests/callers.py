"""Callers who keep their own list and ask with a bare SDK: every client, synchronous and asynchronous, in every way.

A way takes a client and the list, and returns what the caller appends to it: the answer, in the SDK's own objects.
Connections load no certificates, which would take longer than most tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import anthropic
import openai
from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState

from memory.dialects import DIALECTS
from memory.messages import DialectName, ToolResult, Wire
from memory.native import to_wire, unwrap
from memory.testing.simulators import ProviderSimulator

Messages: TypeAlias = Sequence[Any]
SYSTEM = "You read technical manuals."
MODELS: Mapping[DialectName, str] = {
    "openai_chat": "gpt-4o",
    "openai_responses": "gpt-4o",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-2.5-flash",
}


class Caller(Protocol):
    """One SDK. Each way exists twice: `ask` for the synchronous client, `aask` for the asynchronous one."""

    dialect: DialectName

    def client(self, server: ProviderSimulator, api_key: str = "test") -> Any: ...
    def aclient(self, server: ProviderSimulator, api_key: str = "test") -> Any: ...
    def ask(self, client: Any, messages: Messages, **options: Any) -> list[Any]: ...
    def stream(self, client: Any, messages: Messages, **options: Any) -> list[Any]: ...
    def helper(self, client: Any, messages: Messages, **options: Any) -> list[Any]: ...
    async def aask(self, client: Any, messages: Messages, **options: Any) -> list[Any]: ...
    async def astream(self, client: Any, messages: Messages, **options: Any) -> list[Any]: ...
    async def ahelper(self, client: Any, messages: Messages, **options: Any) -> list[Any]: ...


class _OpenAI:
    def client(self, server: ProviderSimulator, api_key: str = "test") -> OpenAI:
        http = openai.DefaultHttpxClient(verify=False)
        return OpenAI(base_url=server.base_url, api_key=api_key, max_retries=0, http_client=http)

    def aclient(self, server: ProviderSimulator, api_key: str = "test") -> AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(verify=False)
        return AsyncOpenAI(base_url=server.base_url, api_key=api_key, max_retries=0, http_client=http)


class ChatCaller(_OpenAI):
    dialect: DialectName = "openai_chat"

    def ask(self, client: OpenAI, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(client.chat.completions.create(**self._request(messages), **options))

    def stream(self, client: OpenAI, messages: Messages, **options: Any) -> list[Any]:
        state: Any = ChatCompletionStreamState()
        for chunk in client.chat.completions.create(**self._request(messages), stream=True, **options):
            assert chunk.choices[0].delta is not None  # as most loops take for granted
            state.handle_chunk(chunk)
        return unwrap(state.get_final_completion())

    def helper(self, client: OpenAI, messages: Messages, **options: Any) -> list[Any]:
        with client.chat.completions.stream(**self._request(messages), **options) as stream:
            for event in stream:
                assert event.type != "chunk" or event.chunk.choices
            return unwrap(stream.get_final_completion())

    async def aask(self, client: AsyncOpenAI, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(await client.chat.completions.create(**self._request(messages), **options))

    async def astream(self, client: AsyncOpenAI, messages: Messages, **options: Any) -> list[Any]:
        state: Any = ChatCompletionStreamState()
        async for chunk in await client.chat.completions.create(**self._request(messages), stream=True, **options):
            assert chunk.choices[0].delta is not None
            state.handle_chunk(chunk)
        return unwrap(state.get_final_completion())

    async def ahelper(self, client: AsyncOpenAI, messages: Messages, **options: Any) -> list[Any]:
        async with client.chat.completions.stream(**self._request(messages), **options) as stream:
            return unwrap(await stream.get_final_completion())

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {"model": MODELS[self.dialect], "messages": list(messages)}


class ResponsesCaller(_OpenAI):
    dialect: DialectName = "openai_responses"

    def ask(self, client: OpenAI, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(client.responses.create(**self._request(messages), **options))

    def stream(self, client: OpenAI, messages: Messages, **options: Any) -> list[Any]:
        *_, last = client.responses.create(**self._request(messages), stream=True, **options)
        return unwrap(last.response)

    def helper(self, client: OpenAI, messages: Messages, **options: Any) -> list[Any]:
        with client.responses.stream(**self._request(messages), **options) as stream:
            return unwrap(stream.get_final_response())

    async def aask(self, client: AsyncOpenAI, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(await client.responses.create(**self._request(messages), **options))

    async def astream(self, client: AsyncOpenAI, messages: Messages, **options: Any) -> list[Any]:
        events = await client.responses.create(**self._request(messages), stream=True, **options)
        return unwrap([event async for event in events][-1].response)

    async def ahelper(self, client: AsyncOpenAI, messages: Messages, **options: Any) -> list[Any]:
        async with client.responses.stream(**self._request(messages), **options) as stream:
            return unwrap(await stream.get_final_response())

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {"model": MODELS[self.dialect], "input": list(messages), "instructions": SYSTEM}


class AnthropicCaller:
    dialect: DialectName = "anthropic"

    def client(self, server: ProviderSimulator, api_key: str = "test") -> Anthropic:
        http = anthropic.DefaultHttpxClient(verify=False)
        return Anthropic(base_url=server.base_url, api_key=api_key, max_retries=0, http_client=http)

    def aclient(self, server: ProviderSimulator, api_key: str = "test") -> AsyncAnthropic:
        http = anthropic.DefaultAsyncHttpxClient(verify=False)
        return AsyncAnthropic(base_url=server.base_url, api_key=api_key, max_retries=0, http_client=http)

    def ask(self, client: Anthropic, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(client.messages.create(**self._request(messages), **options))

    def stream(self, client: Anthropic, messages: Messages, **options: Any) -> list[Any]:
        events: Any = client.messages.create(**self._request(messages), stream=True, **options)
        return [_put_together(list(events))]

    def helper(self, client: Anthropic, messages: Messages, **options: Any) -> list[Any]:
        with client.messages.stream(**self._request(messages), **options) as stream:
            assert isinstance("".join(stream.text_stream), str)
            return unwrap(stream.get_final_message())

    async def aask(self, client: AsyncAnthropic, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(await client.messages.create(**self._request(messages), **options))

    async def astream(self, client: AsyncAnthropic, messages: Messages, **options: Any) -> list[Any]:
        events: Any = await client.messages.create(**self._request(messages), stream=True, **options)
        return [_put_together([event async for event in events])]

    async def ahelper(self, client: AsyncAnthropic, messages: Messages, **options: Any) -> list[Any]:
        async with client.messages.stream(**self._request(messages), **options) as stream:
            assert all([isinstance(text, str) async for text in stream.text_stream])
            return unwrap(await stream.get_final_message())

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {"model": MODELS[self.dialect], "max_tokens": 99, "messages": list(messages), "system": SYSTEM}


def _put_together(events: Sequence[Any]) -> dict[str, Any]:
    """Make a message of text blocks, as a simple loop does."""
    texts = [event.delta.text for event in events if event.type == "content_block_delta"]
    return {"role": "assistant", "content": [{"type": "text", "text": "".join(texts)}]}


class GeminiCaller:
    dialect: DialectName = "gemini"

    def client(self, server: ProviderSimulator, api_key: str = "test") -> Any:
        unverified = {"verify": False}
        options = types.HttpOptions(
            base_url=server.base_url, client_args=unverified, async_client_args={**unverified, "ssl": False}
        )
        return genai.Client(http_options=options, api_key=api_key)

    def aclient(self, server: ProviderSimulator, api_key: str = "test") -> Any:
        return self.client(server, api_key)

    def ask(self, client: Any, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(client.models.generate_content(**self._request(messages), **options))

    def stream(self, client: Any, messages: Messages, **options: Any) -> list[Any]:
        return [_joined(list(client.models.generate_content_stream(**self._request(messages), **options)))]

    helper = stream

    async def aask(self, client: Any, messages: Messages, **options: Any) -> list[Any]:
        return unwrap(await client.aio.models.generate_content(**self._request(messages), **options))

    async def astream(self, client: Any, messages: Messages, **options: Any) -> list[Any]:
        chunks = await client.aio.models.generate_content_stream(**self._request(messages), **options)
        return [_joined([chunk async for chunk in chunks])]

    ahelper = astream

    def _request(self, messages: Messages) -> dict[str, Any]:
        config = types.GenerateContentConfig(system_instruction=SYSTEM)
        return {"model": MODELS[self.dialect], "contents": list(messages), "config": config}


def _joined(chunks: Sequence[Any]) -> types.Content:
    parts = [part for chunk in chunks for part in (chunk.candidates[0].content.parts or [])]
    return types.Content(role="model", parts=parts)


CALLERS: Sequence[Caller] = (ChatCaller(), ResponsesCaller(), AnthropicCaller(), GeminiCaller())
WAYS = ("ask", "stream", "helper", "aask", "astream", "ahelper")


class Connections:
    """Opens clients, and closes them in the loop that used them."""

    def __init__(self) -> None:
        self._clients: list[Any] = []

    def open(self, caller: Caller, way: str, server: ProviderSimulator, api_key: str = "test") -> Any:
        """Return the client that this way of asking needs."""
        client = (caller.client if way in ("ask", "stream", "helper") else caller.aclient)(server, api_key)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            closing = client.close()
            if inspect.isawaitable(closing):
                await closing
            if isinstance(client, genai.Client):
                await client.aio.aclose()


async def ask(caller: Caller, way: str, client: Any, messages: Messages, **options: Any) -> list[Any]:
    """Ask in one of the ways, synchronous or not."""
    answer = getattr(caller, way)(client, messages, **options)
    return list(answer if isinstance(answer, list) else await answer)


def results_for(caller: Caller, answer: Sequence[Any], run: Callable[[str, Wire], str]) -> list[dict[str, Any]]:
    """Run the calls of an answer; return the messages with their results, none if it called nothing."""
    dialect = DIALECTS[caller.dialect]
    calls = [call for message in answer for call in dialect.read(to_wire(message)).calls]
    results = [ToolResult(call_id=call.id, name=call.name, text=run(call.name, {})) for call in calls]
    return dialect.write_results(calls, results)
