"""Gemini through Google's current SDK, `google-genai`, and servers that speak its API.

Thoughts and their signatures come back as they were given: the answer's message is a content in the API's JSON, and
is sent again with the same bytes.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from memory.errors import MessageError
from memory.messages import DialectName, Wire
from memory.native import to_wire, unwrap

from .access import Endpoint, missing_package
from .beside import Conversation, divide
from .clients import PerLoop
from .gemini_answers import GeminiAnswer
from .protocol import LLMResponse, OnDelta
from .retrying import Attempt, Attempts, RetryPolicy
from .sendable import sendable

if TYPE_CHECKING:
    from google.genai import Client, types

_KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
_NO_KEY = "not-needed"
"""For a server of one's own, which takes any; the SDK insists on one."""
_VERTEX_VARIABLES = ("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI")
"""Set to true, the SDK asks Google Cloud instead, whose credentials are its own affair: both lists stand in
`google/genai/_api_client.py` of google-genai 3.4."""


class GeminiModel:
    """One Gemini model. Satisfies `agent.llm.LLM`; usable as an asynchronous context manager, which closes it.

    Thinking is switched on and off by the model's own default; `thinking_config={"include_thoughts": True}` shows it.
    """

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
            api_key: None takes GOOGLE_API_KEY, then GEMINI_API_KEY.
            base_url: Another server that speaks this API, without the version; it needs no key.
            timeout_seconds: Longest silence of the server in one attempt.
            retries: How often a request is repeated; the SDK's own retries are off.
            options: Fields of `GenerateContentConfig`, for example `temperature`.

        Raises:
            MissingDependencyError: `google-genai` is not installed.
            CredentialsError: There is no key.
        """
        self._endpoint = _endpoint(model, base_url)
        self._retries = retries or RetryPolicy()
        self._timeout_seconds = timeout_seconds
        self._options = options
        self._clients = _clients(self._endpoint, api_key)

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def dialect(self) -> DialectName:
        return "gemini"

    def with_model(self, name: str) -> GeminiModel:
        """Return the same for another model; both share their connections, and closing one closes them."""
        other = copy.copy(self)
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
        conversation = divide(messages, system, dialect="gemini")
        contents = [_content(message) for message in conversation.messages]
        config = self._config(conversation, tools or (), max_tokens)

        async def ask(attempt: Attempt) -> LLMResponse:
            answer = GeminiAnswer(self._endpoint, attempt)
            await (self._take_whole if on_delta is None else self._take_stream)(answer, contents, config)
            return answer.whole()

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

    async def _take_whole(
        self, answer: GeminiAnswer, contents: list[types.Content], config: types.GenerateContentConfig
    ) -> None:
        # The SDK's own limit means different things with aiohttp (the whole stream) and httpx (one read), and it uses
        # the one that it finds installed; so it is left off and the time is taken here.
        async with asyncio.timeout(self._timeout_seconds):
            response = await self._clients.here().aio.models.generate_content(
                model=self.model, contents=list(contents), config=config
            )
        answer.take(to_wire(response))

    async def _take_stream(
        self, answer: GeminiAnswer, contents: list[types.Content], config: types.GenerateContentConfig
    ) -> None:
        now = asyncio.get_running_loop().time
        async with asyncio.timeout(self._timeout_seconds) as limit:
            stream = await self._clients.here().aio.models.generate_content_stream(
                model=self.model, contents=list(contents), config=config
            )
            async with aclosing(stream):  # type: ignore[type-var]  # an async generator, declared as an iterator
                async for chunk in stream:
                    limit.reschedule(now() + self._timeout_seconds)
                    answer.take(to_wire(chunk))

    def _config(
        self, conversation: Conversation, tools: Sequence[Wire], max_tokens: int | None
    ) -> types.GenerateContentConfig:
        from google.genai import types

        config = {**self._options, "automatic_function_calling": {"disable": True}}
        if conversation.system:
            config["system_instruction"] = sendable(conversation.system)
        if max_tokens is not None:
            config["max_output_tokens"] = max_tokens
        if tools:
            config["tools"] = [*config.get("tools", ()), *_tools(tools)]
        return types.GenerateContentConfig.model_validate(config)


def _endpoint(model: str, base_url: str | None) -> Endpoint:
    address = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or None
    return Endpoint(provider="gemini", model=model, key_variables=_KEY_VARIABLES, base_url=address)


def _clients(endpoint: Endpoint, api_key: str | None) -> PerLoop[Client]:
    try:
        from google import genai
        from google.genai import types
    except ImportError as error:
        raise missing_package("google-genai", extra="gemini") from error
    key = _key(endpoint, api_key)

    def make() -> Client:
        # Given at all, they also stop the repetition that the SDK makes unasked when aiohttp loses a connection.
        once = types.HttpRetryOptions(attempts=1)
        return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=endpoint.base_url, retry_options=once))

    return PerLoop(make, _close)


async def _close(client: Client) -> None:
    await client.aio.aclose()
    client.close()


def _key(endpoint: Endpoint, api_key: str | None) -> str | None:
    if any(os.environ.get(name, "").lower() in ("true", "1") for name in _VERTEX_VARIABLES):
        return api_key
    if endpoint.base_url:
        return endpoint.find_key(api_key) or _NO_KEY
    return endpoint.require_key(api_key)


def _content(message: object) -> types.Content:
    """Return a message as the SDK's object; it decodes the base64 of signatures and data itself."""
    from google.genai import types

    try:
        return types.Content.model_validate(sendable(to_wire(unwrap(message)[0])))
    except ValidationError as error:
        where = ", ".join(".".join(map(str, issue["loc"])) for issue in error.errors(include_input=False))
        # Without its cause, which quotes the message.
        raise MessageError(f"google-genai does not know a field of this content, or its value: {where}") from None


def _tools(tools: Sequence[Wire]) -> list[Wire]:
    """Return all functions in one tool, which some models insist on, and other tools as they are."""
    functions = [_declaration(tool["function"]) for tool in tools if tool.get("type") == "function"]
    others = [tool for tool in tools if tool.get("type") != "function"]
    return [*([{"function_declarations": functions}] if functions else []), *others]


def _declaration(function: Wire) -> Wire:
    declaration = {"name": function["name"], "description": function.get("description")}
    return declaration | ({"parameters_json_schema": function["parameters"]} if function.get("parameters") else {})
