"""Anthropic's Messages API through the `anthropic` SDK, and servers that speak it.

Thinking comes back as it was given: the answer's message is the SDK's own `Message`, and its blocks are sent again
unchanged, signatures included. The prompt cache is used by default; `cache_ttl=None` turns it off.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from memory.dialects import dialect_named
from memory.messages import DialectName, Wire
from memory.native import to_wire, unwrap
from memory.prompt_cache import Ttl

from .access import Endpoint, missing_package
from .anthropic_cache import mark
from .beside import Conversation, convert_tools, divide, no_answer
from .clients import PerLoop
from .errors import CredentialsError
from .protocol import LLMResponse, OnDelta, StopReason
from .retrying import Attempt, Attempts, RetryPolicy
from .sendable import sendable

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.resources.messages import AsyncMessages
    from anthropic.types import Message

DEFAULT_ANSWER_TOKENS = 8_192
"""The API requires `max_tokens`. This much every model since Claude 3.5 can write, and no client's time limit is in its
way: the SDK refuses to wait for an answer of more than 21,333 tokens that is not streamed (`_calculate_nonstreaming_
timeout` in `anthropic/_base_client.py` of anthropic 2.12)."""

_KEY_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
_NO_KEY = "not-needed"
"""For a server of one's own, which takes any; the SDK insists on one."""

_STOP_REASONS: Mapping[str, StopReason] = {
    "end_turn": "end_turn",
    "stop_sequence": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    # A turn of server tools that was interrupted: the answer so far is sent back as it is, and the model goes on.
    "pause_turn": "max_tokens",
    "refusal": "refusal",
}
"""`StopReason` in `anthropic/types/stop_reason.py` of anthropic 2.12. One that is not listed ends the turn."""


class AnthropicModel:
    """One Claude model. Satisfies `agent.llm.LLM`; usable as an asynchronous context manager, which closes it."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_seconds: float = 600.0,
        retries: RetryPolicy | None = None,
        cache_ttl: Ttl | None = "5m",
        **options: Any,
    ) -> None:
        """Prepare a model; nothing is sent.

        Args:
            model: As the API names it.
            api_key: None takes ANTHROPIC_API_KEY, then ANTHROPIC_AUTH_TOKEN, then what else the SDK finds (a profile).
            base_url: Another server that speaks this API; None takes ANTHROPIC_BASE_URL, else Anthropic's own.
            timeout_seconds: Longest silence of the server in one attempt.
            retries: How often a request is repeated; the SDK's own retries are off.
            cache_ttl: How long the prompt cache keeps what was sent. The first writing costs a quarter more than
                plain input (twice as much for an hour), each reading a tenth. None: no cache.
            options: Passed to `messages.create` as they are, for example `thinking={"type": "adaptive"}`. With a
                fixed `budget_tokens`, `max_tokens` is raised by it: the API counts thinking as part of the answer.

        Raises:
            MissingDependencyError: `anthropic` is not installed.
            CredentialsError: There is no key.
        """
        self._endpoint = _endpoint(model, base_url)
        self._retries = retries or RetryPolicy()
        self._cache_ttl = cache_ttl
        self._options = options
        self._clients = _clients(self._endpoint, api_key=api_key, timeout_seconds=timeout_seconds)

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def dialect(self) -> DialectName:
        return "anthropic"

    def with_model(self, name: str) -> AnthropicModel:
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
        body = self._body(divide(messages, system, dialect="anthropic"), tools or (), max_tokens)

        async def ask(attempt: Attempt) -> LLMResponse:
            messages = self._clients.here().messages
            answer = _whole if on_delta is None else _streamed
            return _response(await answer(messages, _arguments(messages, body), attempt), attempt)

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

    def _body(self, conversation: Conversation, tools: Sequence[Wire], max_tokens: int | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": _answer_tokens(max_tokens, self._options),
            "messages": [_sendable(message) for message in conversation.messages],
        }
        if conversation.system:
            body["system"] = conversation.system
        body |= {name: value for name, value in self._options.items() if name not in body}
        if tools:
            body["tools"] = [*body.get("tools", ()), *convert_tools(tools, _tool)]
        # What is asked once would be written to the cache, which costs extra, and never be read.
        if self._cache_ttl and "cache_control" not in self._options and not conversation.is_asked_once:
            mark(body, self._cache_ttl)
        return sendable(body)


def _endpoint(model: str, base_url: str | None) -> Endpoint:
    address = base_url or os.environ.get("ANTHROPIC_BASE_URL") or None
    return Endpoint(provider="anthropic", model=model, key_variables=_KEY_VARIABLES, base_url=address)


def _clients(endpoint: Endpoint, *, api_key: str | None, timeout_seconds: float) -> PerLoop[AsyncAnthropic]:
    endpoint.find_key(api_key)  # The SDK looks for it itself, in more places, but sends whatever it finds.

    def make() -> AsyncAnthropic:
        try:
            import anthropic
        except ImportError as error:
            raise missing_package("anthropic", extra="anthropic") from error
        try:
            client = anthropic.AsyncAnthropic(
                api_key=api_key or None, base_url=endpoint.base_url, timeout=timeout_seconds, max_retries=0
            )
        except anthropic.AnthropicError as error:  # a profile is named and cannot be read
            raise CredentialsError(str(error), provider=endpoint.provider, model=endpoint.model) from error
        if not _has_credentials(client):
            client.api_key = endpoint.require_key(None) if endpoint.base_url is None else _NO_KEY
        return client

    return PerLoop(make, _close)


def _has_credentials(client: AsyncAnthropic) -> bool:
    """Whether the SDK has found any; `credentials` are a profile's or an identity's, unknown to older versions."""
    return bool(client.api_key or client.auth_token or getattr(client, "credentials", None))


async def _close(client: AsyncAnthropic) -> None:
    await client.close()


def _arguments(messages: AsyncMessages, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body as arguments of the SDK, and what this version does not name as its `extra_body`.

    anthropic 2.12 has no `temperature` any more, which older models still take.
    """
    named = signature(messages.create).parameters
    extra = {name: value for name, value in body.items() if name not in named}
    arguments = {name: value for name, value in body.items() if name in named}
    return arguments | ({"extra_body": {**arguments.get("extra_body", {}), **extra}} if extra else {})


async def _whole(messages: AsyncMessages, arguments: Mapping[str, Any], attempt: Attempt) -> Message:
    answer: object = await messages.create(**arguments)
    if isinstance(answer, str):  # the SDK hands on what is no JSON
        raise attempt.broken("what came back is no message; is base_url right?")
    return cast("Message", answer)


async def _streamed(messages: AsyncMessages, arguments: Mapping[str, Any], attempt: Attempt) -> Message:
    """Stream an answer and return it whole.

    The SDK puts it together. Counts in a `message_delta` are totals and replace those before; it knows that
    (`accumulate_event` in `anthropic/lib/streaming/_messages.py`).
    """
    is_complete = False
    async with messages.stream(**arguments) as stream:
        async for event in stream:
            match event.type:
                case "message_start" | "message_delta":
                    attempt.read_usage(stream.current_message_snapshot)
                case "text":
                    attempt.show("text", event.text)
                case "thinking":
                    attempt.show("reasoning", event.thinking)
                case "content_block_start" if event.content_block.type == "tool_use":
                    attempt.show("tool_call", event.content_block.name)
                case "message_stop":
                    is_complete = True
        if not is_complete:
            raise attempt.broken("the stream ended before the answer did")
        snapshot = stream.current_message_snapshot
    return _plain_message(snapshot)


def _plain_message(snapshot: Message) -> Message:
    """Return the stream's message as the class that an answer in one piece has."""
    from anthropic.types import Message

    whole: dict[str, Any] = snapshot.to_dict(mode="python")
    return Message.construct(**whole)


def _response(message: Message, attempt: Attempt) -> LLMResponse:
    usage = attempt.read_usage(message)
    said, is_empty = _said(message), not message.content
    stop_reason = _STOP_REASONS.get(message.stop_reason or "", "end_turn")
    reading = dialect_named("anthropic").read(to_wire(unwrap(message)[0]))
    if not said.strip() and not reading.calls and stop_reason in ("end_turn", "tool_use"):
        raise attempt.broken("the answer is empty")
    return LLMResponse(
        content=said,
        tool_calls=reading.calls,
        stop_reason=stop_reason,
        usage=usage,
        message=_stand_in(message) if is_empty else message,
        model=message.model or None,
    )


def _said(message: Message) -> str:
    """Join the text blocks without anything between them: citations divide a sentence into several."""
    return "".join(block.text for block in message.content if block.type == "text")


def _stand_in(message: Message) -> Wire:
    """Return a message for an answer without any content, which the API would reject on the way back."""
    return {"role": "assistant", "content": [{"type": "text", "text": no_answer(message.stop_reason or "unknown")}]}


def _sendable(message: object) -> Wire:
    """Return a message as the API takes it: a response gives only its role and content."""
    return to_wire(unwrap(message)[0])


def _tool(function: Wire) -> Wire:
    tool = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return tool | ({"description": function["description"]} if function.get("description") else {})


def _answer_tokens(max_tokens: int | None, options: Mapping[str, Any]) -> int:
    """Return `max_tokens`, which has to be more than the thinking that is allowed (`thinking_config_enabled_param`)."""
    if max_tokens is None and "max_tokens" in options:
        return int(options["max_tokens"])
    thinking = options.get("thinking") or {}
    return (max_tokens or DEFAULT_ANSWER_TOKENS) + int(thinking.get("budget_tokens") or 0)
