"""Gemini through `google-generativeai`, the SDK that Google has retired. For programs that cannot leave it yet.

"All support for this repository ended permanently on November 30, 2025", says the package's own description (version
0.8.6, and https://github.com/google-gemini/deprecated-generative-ai-python); its successor is `google-genai`, here
`agent/llm/gemini.py`. What that means in use:

* It knows no thoughts. Their signatures are dropped on the way in and out, so models that insist on them (Gemini 3 with
  tools, validity rule GE-8) refuse the second turn. Thinking tokens are billed all the same, and are counted here
  from the total.
* Its tool schemas know less than JSON Schema: of alternatives (`anyOf`) the first is declared, `$ref` is written out.
* `genai.configure` sets the key for the whole process. It is not used: each model has its own client, of the class
  that the SDK makes for itself.
* Its asynchronous client speaks gRPC alone, which takes no `base_url`; so its synchronous REST client is asked in a
  thread.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import Any, Self, TypeAlias

from memory.errors import ConfigError, MessageError
from memory.messages import DialectName, Wire
from memory.native import to_wire, unwrap

from .access import Endpoint, missing_package
from .beside import Conversation, divide
from .gemini_answers import GeminiAnswer
from .openapi_schema import declaration
from .protocol import LLMResponse, OnDelta
from .retrying import Attempt, Attempts, RetryPolicy
from .sendable import sendable

_KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
"""In the order of `google/generativeai/client.py`."""
_NO_KEY = "not-needed"
"""For a server of one's own, which takes any; the SDK insists on one."""
_REQUEST_OPTIONS = frozenset({"generation_config", "safety_settings", "tool_config", "cached_content"})

_Chunks: TypeAlias = Callable[[], Iterable[Any]]


class GoogleGenerativeAIModel:
    """One Gemini model. Satisfies `agent.llm.LLM`; usable as an asynchronous context manager, which closes it."""

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
            model: As the API names it, with or without `models/`.
            api_key: None takes GEMINI_API_KEY, then GOOGLE_API_KEY.
            base_url: Another server that speaks this API, without the version; it needs no key.
            timeout_seconds: Longest silence of the server in one attempt.
            retries: How often a request is repeated; the SDK's own retries are off.
            options: `generation_config`, `safety_settings`, `tool_config`, `cached_content`, or a field of the
                generation config by itself, for example `temperature`.

        Raises:
            MissingDependencyError: `google-generativeai` is not installed.
            CredentialsError: There is no key.
            ConfigError: The SDK has no option of this name.
        """
        self._endpoint = _endpoint(model, base_url)
        self._retries = retries or RetryPolicy()
        self._timeout_seconds = timeout_seconds
        self._sdk = _sdk()
        self._options = _sorted_options(options, self._sdk)
        key = self._endpoint.find_key(api_key) or _NO_KEY if base_url else self._endpoint.require_key(api_key)
        self._client = self._sdk.GenerativeServiceClient(
            transport="rest", client_options={"api_key": key, "api_endpoint": base_url and base_url.rstrip("/")}
        )

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def dialect(self) -> DialectName:
        return "gemini"

    def with_model(self, name: str) -> GoogleGenerativeAIModel:
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
        body = self._body(divide(messages, system, dialect="gemini"), tools or (), max_tokens)
        request = _request(self._sdk, body)
        call = {"timeout": self._timeout_seconds, "retry": None}

        def chunks() -> Iterable[Any]:
            if on_delta is None:
                return [self._client.generate_content(request, **call)]
            return self._client.stream_generate_content(request, **call)  # type: ignore[no-any-return]

        async def ask(attempt: Attempt) -> LLMResponse:
            answer = GeminiAnswer(self._endpoint, attempt)
            async with aclosing(_in_thread(chunks, attempt)) as stream:
                async for chunk in stream:
                    answer.take(_with_thoughts(chunk))
            return answer.whole()

        return await Attempts(self._endpoint, self._retries, on_delta).run(ask)

    async def aclose(self) -> None:
        """Close the connections."""
        self._client.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _body(self, conversation: Conversation, tools: Sequence[Wire], max_tokens: int | None) -> dict[str, Any]:
        """Return the request as JSON; the SDK's messages are made of it, and leave out what they do not know."""
        name = self.model if "/" in self.model else f"models/{self.model}"
        body = {**self._options, "model": name, "contents": [_known(message) for message in conversation.messages]}
        if conversation.system:
            body["systemInstruction"] = {"parts": [{"text": conversation.system}]}
        if max_tokens is not None:
            body["generationConfig"] = {**body.get("generationConfig", {}), "maxOutputTokens": max_tokens}
        if tools:
            functions = [declaration(tool["function"]) for tool in tools if tool.get("type") == "function"]
            others = [tool for tool in tools if tool.get("type") != "function"]
            body["tools"] = [*([{"functionDeclarations": functions}] if functions else []), *others]
        return body


def _endpoint(model: str, base_url: str | None) -> Endpoint:
    return Endpoint(provider="google-generativeai", model=model, key_variables=_KEY_VARIABLES, base_url=base_url)


def _sdk() -> Any:
    """Return the module with the SDK's clients and messages; `Any`, because its classes are made at run time."""
    try:
        import google.generativeai  # noqa: F401 - the package that is asked for; what is used of it is its base
        from google.ai import generativelanguage
    except ImportError as error:
        raise missing_package("google-generativeai", extra="google-generativeai") from error
    return generativelanguage


def _request(sdk: Any, body: Mapping[str, Any]) -> Any:
    """Return the SDK's request.

    Raises:
        MessageError: A value is none that the API has.
    """
    try:
        return sdk.GenerateContentRequest.from_json(json.dumps(sendable(body)), ignore_unknown_fields=True)
    except _parse_error():
        # Without its cause, which quotes the message.
        raise MessageError(
            "google-generativeai cannot write these messages, options or tools: a value is wrong"
        ) from None


def _parse_error() -> type[Exception]:
    error: type[Exception] = import_module("google.protobuf.json_format").ParseError  # it ships no annotations
    return error


def _sorted_options(options: Mapping[str, Any], sdk: Any) -> dict[str, Any]:
    """Put the fields of the generation config where they belong.

    Raises:
        ConfigError: One is unknown, and would be left out without a word.
    """
    generation = {name: value for name, value in options.items() if name in sdk.GenerationConfig.meta.fields}
    request = {name: value for name, value in options.items() if name in _REQUEST_OPTIONS}
    unknown = options.keys() - generation.keys() - request.keys()
    if unknown:
        raise ConfigError(f"google-generativeai has no option {sorted(unknown)[0]!r}", field=sorted(unknown)[0])
    config = {**request.pop("generation_config", {}), **generation}
    return request | ({"generationConfig": config} if config else {})


def _known(message: object) -> Wire:
    """Return a content without thoughts: the SDK would drop their mark and send them as if they had been said."""
    content = to_wire(unwrap(message)[0])
    parts = [part for part in content.get("parts") or () if not part.get("thought")]
    # A signature that travelled on an empty text leaves nothing behind.
    return {**content, "parts": [part for part in parts if part.get("text") != ""] or [{"text": " "}]}


def _with_thoughts(chunk: Any) -> Wire:
    """Return a chunk as JSON, with the thinking that its usage contains and does not name."""
    wire: dict[str, Any] = type(chunk).to_dict(
        chunk,
        use_integers_for_enums=False,
        preserving_proto_field_name=False,
        always_print_fields_with_no_presence=False,
    )
    usage = wire.get("usageMetadata", {})
    counted = usage.get("promptTokenCount", 0) + usage.get("candidatesTokenCount", 0)
    if (thoughts := usage.get("totalTokenCount", 0) - counted) > 0:
        wire["usageMetadata"] = {**usage, "thoughtsTokenCount": thoughts}
    return wire


async def _in_thread(chunks: _Chunks, attempt: Attempt) -> AsyncGenerator[Any, None]:
    """Iterate in a daemon thread: one that hangs costs its time limit, and nobody waits for it at the end."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[Any, Exception | None]] = asyncio.Queue()
    is_over = threading.Event()

    def put(chunk: Any, error: Exception | None = None) -> None:
        if not is_over.is_set():
            loop.call_soon_threadsafe(arrived.put_nowait, (chunk, error))

    def run() -> None:
        try:
            for chunk in chunks():
                put(chunk)
                if is_over.is_set():
                    return
            put(None)
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            put(None, error)

    threading.Thread(target=run, name="google-generativeai", daemon=True).start()
    try:
        while True:
            chunk, error = await arrived.get()
            if error is not None:
                raise _readable(error, attempt)
            if chunk is None:
                return
            yield chunk
    finally:
        is_over.set()


def _readable(error: Exception, attempt: Attempt) -> Exception:
    """Return the error; what the SDK raises for half an answer is a plain ValueError that quotes it."""
    if type(error) is ValueError or isinstance(error, _parse_error()):
        return attempt.broken("the answer is no complete JSON: it was cut")
    return error
