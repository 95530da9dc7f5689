"""OpenAI's chat completions through the `openai` SDK, and every server that speaks them (Ollama, LM Studio, vLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memory.messages import DialectName, Wire
from memory.native import to_wire

from .chat_answers import ChatAnswer, chat_messages, chat_response, whole_answer
from .openai_client import is_openais_own, openai_clients, openai_endpoint, refuses
from .protocol import LLMResponse, OnDelta
from .retrying import Attempt, Attempts, RetryPolicy
from .sendable import sendable

if TYPE_CHECKING:
    from openai import AsyncStream
    from openai.types.chat import ChatCompletionChunk

_LIMITS = ("max_completion_tokens", "max_tokens")


class OpenAIChatModel:
    """One model behind OpenAI's chat completions. Satisfies `agent.llm.LLM`; as a context manager it closes itself."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_seconds: float = 600.0,
        retries: RetryPolicy | None = None,
        **options: Any,
    ) -> None:
        """Prepare a model; nothing is sent.

        Args:
            model: As the API names it.
            api_key: None takes OPENAI_API_KEY. A compatible server needs none.
            base_url: A compatible server, for example `http://localhost:11434/v1` (Ollama); None takes
                OPENAI_BASE_URL, else OpenAI's own.
            timeout_seconds: Longest wait for the next sign of life of the server.
            retries: How often a request is repeated; the SDK's own retries are off.
            options: Passed to `chat.completions.create` as they are, for example `temperature=0`.

        Raises:
            MissingDependencyError: `openai` is not installed.
            CredentialsError: There is no key.
        """
        self._endpoint = openai_endpoint(model, base_url)
        self._retries = retries or RetryPolicy()
        self._options = options
        self._clients = openai_clients(self._endpoint, api_key=api_key, timeout_seconds=timeout_seconds)
        self._is_asked_for_usage = True

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def dialect(self) -> DialectName:
        return "openai_chat"

    def with_model(self, name: str) -> OpenAIChatModel:
        """Return the same for another model; both share their connections, and closing one closes them."""
        other = copy(self)
        other._endpoint = replace(self._endpoint, model=name)
        return other

    async def call_async(
        self,
        messages: Sequence[object],
        tools: Sequence[Wire] | None = None,
        max_tokens: int | None = None,
        *,
        system: str | None = None,
        on_delta: OnDelta | None = None,
    ) -> LLMResponse:
        """Answer a conversation; see `agent.llm.LLM`."""
        body = self._body(messages, tools, max_tokens, system)

        async def ask(attempt: Attempt) -> LLMResponse:
            answer = await (self._whole(body, attempt) if on_delta is None else self._streamed(body, attempt))
            return chat_response(answer, attempt)

        return await Attempts(self._endpoint, self._retries, on_delta).run(ask)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _body(
        self, messages: Sequence[object], tools: Sequence[Wire] | None, max_tokens: int | None, system: str | None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": chat_messages(messages, system)}
        if tools:
            body["tools"] = list(tools)
        body |= self._options
        if max_tokens is not None:
            # OpenAI's newer models refuse the old name, many compatible servers do not know the new one.
            known, other = _LIMITS if is_openais_own(self._endpoint) else _LIMITS[::-1]
            body.pop(other, None)
            body[known] = max_tokens
        return sendable(body)

    async def _whole(self, body: Wire, attempt: Attempt) -> ChatAnswer:
        return whole_answer(await self._clients.here().chat.completions.create(**body), attempt)

    async def _streamed(self, body: Wire, attempt: Attempt) -> ChatAnswer:
        answer = ChatAnswer()
        async with await self._opened(body) as stream:
            async for chunk in stream:
                attempt.note_usage()
                for kind, text in answer.add(to_wire(chunk)):
                    attempt.show(kind, text)
                if chunk.usage is not None:
                    answer.usage = attempt.read_usage(chunk.usage)
        if answer.finish_reason is None:
            raise attempt.broken("the stream ended before the answer did")
        return answer

    async def _opened(self, body: Wire) -> AsyncStream[ChatCompletionChunk]:
        """Open a stream, and ask for the usage at its end.

        Some compatible servers refuse `stream_options` (Mistral and Azure's serverless models answered 422); they are
        asked without from then on, and report no usage.
        """
        create = self._clients.here().chat.completions.create
        asked = {"stream_options": {"include_usage": True}} if self._is_asked_for_usage else {}
        try:
            stream: AsyncStream[ChatCompletionChunk] = await create(**{**asked, **body, "stream": True})
        except Exception as error:
            if not asked or not refuses(error, "stream_options"):
                raise
            self._is_asked_for_usage = False
            stream = await create(**{**body, "stream": True})
        return stream
