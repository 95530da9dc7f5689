"""Every provider that LiteLLM knows, by its own names (`bedrock/…`, `groq/…`), in OpenAI's chat form.

LiteLLM prints advice and fetches a list of prices when it is imported; both are switched off here. Its callbacks and
other settings are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from memory.messages import DialectName, Wire
from memory.native import to_wire

from .access import Endpoint, missing_package
from .chat_answers import ChatAnswer, chat_messages, chat_response, whole_answer
from .protocol import LLMResponse, OnDelta
from .retrying import Attempt, Attempts, RetryPolicy
from .sendable import sendable

_LOCAL_PRICES = "LITELLM_LOCAL_MODEL_COST_MAP"


class LiteLLMModel:
    """One model behind LiteLLM. Satisfies `agent.llm.LLM`; it holds no connections of its own."""

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
            model: As LiteLLM names it, provider first.
            api_key: None: LiteLLM looks in the environment variable of the model's provider, when it is asked.
            base_url: LiteLLM's `api_base`.
            timeout_seconds: Longest wait for the next sign of life of the server.
            retries: How often a request is repeated; LiteLLM's own retries are off.
            options: Passed to `litellm.acompletion` as they are.

        Raises:
            MissingDependencyError: `litellm` is not installed.
        """
        self._endpoint = Endpoint(provider="litellm", model=model, base_url=base_url)
        self._retries = retries or RetryPolicy()
        self._litellm = _imported()
        given = {"api_key": api_key, "api_base": base_url}
        self._options: dict[str, Any] = {
            **{name: value for name, value in given.items() if value},
            "timeout": timeout_seconds,
            "max_retries": 0,
            "num_retries": 0,
            **options,
        }

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def dialect(self) -> DialectName:
        return "openai_chat"

    def with_model(self, name: str) -> LiteLLMModel:
        """Return the same for another model."""
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
        body: dict[str, Any] = {"model": self.model, "messages": chat_messages(messages, system)}
        body |= {"tools": list(tools)} if tools else {}
        body |= self._options | ({"max_tokens": max_tokens} if max_tokens is not None else {})
        body = sendable(body)

        async def ask(attempt: Attempt) -> LLMResponse:
            if on_delta is None:
                answer = whole_answer(await self._litellm.acompletion(**body), attempt)
            else:
                answer = await self._streamed(body, attempt)
            return chat_response(answer, attempt)

        return await Attempts(self._endpoint, self._retries, on_delta).run(ask)

    async def aclose(self) -> None:
        """Do nothing: LiteLLM keeps its connections itself, for all models of the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _streamed(self, body: dict[str, Any], attempt: Attempt) -> ChatAnswer:
        """Return the answer at the end of a stream; LiteLLM puts it together, because it knows how it cut it up."""
        shown, chunks = ChatAnswer(), []
        stream = await self._litellm.acompletion(**{"stream_options": {"include_usage": True}, **body, "stream": True})
        async with aclosing(stream):
            async for chunk in stream:
                attempt.note_usage()
                chunks.append(chunk)
                for kind, text in shown.add(to_wire(chunk)):
                    attempt.show(kind, text)
        if not _is_finished(stream):
            raise attempt.broken("the stream ended before the answer did")
        built = self._litellm.stream_chunk_builder(chunks)
        if not _reports_usage(stream):
            built.usage = None
        return whole_answer(built, attempt)


def _is_finished(stream: Any) -> bool:
    """Whether the provider said why it stopped; where it did not, LiteLLM's last chunk says "stop" nevertheless."""
    return bool(stream.received_finish_reason or stream.intermittent_finish_reason)


def _reports_usage(stream: Any) -> bool:
    """Whether the provider reported its usage; where it did not, LiteLLM's last chunk carries a guess.

    Both are fields of `CustomStreamWrapper` (litellm/litellm_core_utils/streaming_handler.py of litellm 1.106).
    """
    return any(getattr(chunk, "usage", None) is not None for chunk in stream.chunks)


def _imported() -> Any:
    """Import LiteLLM without a request for its price list, and without its advice on standard output."""
    try:
        with _set_in_environment(_LOCAL_PRICES, "True"):
            import litellm
    except ImportError as error:
        raise missing_package("litellm", extra="litellm") from error
    litellm.suppress_debug_info = True
    return litellm


@contextmanager
def _set_in_environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for as long as an import takes, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
