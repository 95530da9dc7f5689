"""OpenAI's Responses API through the `openai` SDK.

Nothing is kept on the server (`store=False`): the conversation is ours, and reasoning comes encrypted, so that its
items go back whole with the calls that they led to (OR-3, OR-6).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from memory.dialects import dialect_named
from memory.errors import MessageError
from memory.messages import DialectName, LLMMessage, Wire
from memory.native import to_wire

from .beside import no_answer
from .failures import ReportedError
from .openai_client import openai_clients, openai_endpoint, refuses
from .protocol import LLMResponse, OnDelta, StopReason
from .retrying import Attempt, Attempts, RetryPolicy
from .sendable import sendable

_ENCRYPTED_REASONING = "reasoning.encrypted_content"


class OpenAIResponsesModel:
    """One model behind OpenAI's Responses API. Satisfies `agent.llm.LLM`; as a context manager it closes itself."""

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
            base_url: Another server that speaks this API; None takes OPENAI_BASE_URL, else OpenAI's own.
            timeout_seconds: Longest wait for the next sign of life of the server.
            retries: How often a request is repeated; the SDK's own retries are off.
            options: Passed to `responses.create` as they are, for example `reasoning={"effort": "low"}`.

        Raises:
            MissingDependencyError: `openai` is not installed.
            CredentialsError: There is no key.
        """
        self._endpoint = openai_endpoint(model, base_url)
        self._retries = retries or RetryPolicy()
        self._options = options
        self._clients = openai_clients(self._endpoint, api_key=api_key, timeout_seconds=timeout_seconds)
        self._is_asked_for_reasoning = True

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def dialect(self) -> DialectName:
        return "openai_responses"

    def with_model(self, name: str) -> OpenAIResponsesModel:
        """Return the same for another model; both share their connections, and closing one closes them."""
        other = copy(self)
        other._endpoint = replace(self._endpoint, model=name)
        other._is_asked_for_reasoning = True
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
            if on_delta is None:
                return _response(to_wire(await self._created(body)), attempt)
            return _response(await self._streamed(body, attempt), attempt)

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
        body: dict[str, Any] = {"model": self.model, "input": [_item(message) for message in messages], "store": False}
        if system:
            body["instructions"] = system
        if tools:
            body["tools"] = [_tool(tool) for tool in tools]
        body |= self._options
        if max_tokens is not None:
            body["max_output_tokens"] = max_tokens
        return sendable(body)

    async def _created(self, body: Wire) -> Any:
        """Make the request, and ask for encrypted reasoning.

        Models that do not reason refuse that with 400, "Encrypted content is not supported with this model"
        (NousResearch/hermes-agent#24234); they are asked without from then on.
        """
        create = self._clients.here().responses.create
        asked = {"include": [_ENCRYPTED_REASONING]} if self._is_asked_for_reasoning and not body["store"] else {}
        try:
            return await create(**{**asked, **body})
        except Exception as error:
            if not asked or "include" in body or not refuses(error, "encrypted content"):
                raise
            self._is_asked_for_reasoning = False
            return await create(**body)

    async def _streamed(self, body: Wire, attempt: Attempt) -> Wire:
        """Return the response at the end of the stream; its last event carries it whole."""
        done: list[Wire] = []
        async with await self._created({**body, "stream": True}) as stream:
            async for event in stream:
                attempt.note_usage()
                match event.type:
                    case "error":
                        raise ReportedError(to_wire(event))
                    case "response.output_item.done":
                        done.append(to_wire(event.item))
                    case "response.completed" | "response.incomplete" | "response.failed":
                        response = to_wire(event.response)
                        # Some servers repeat the items at the end, some do not.
                        return response if response.get("output") else {**response, "output": done}
                    case _:
                        _show(event, attempt)
        raise attempt.broken("the stream ended before the answer did")


def _show(event: Any, attempt: Attempt) -> None:
    match event.type:
        case "response.output_text.delta" | "response.refusal.delta":
            attempt.show("text", event.delta)
        case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
            attempt.show("reasoning", event.delta)
        case "response.output_item.added" if event.item.type in ("function_call", "custom_tool_call"):
            attempt.show("tool_call", event.item.name)


def _response(response: Wire, attempt: Attempt) -> LLMResponse:
    usage = attempt.read_usage(response)
    if response.get("status") == "failed":
        raise ReportedError(response.get("error") or {})
    items = [_without_nulls(item) for item in response.get("output") or ()]
    readings = [dialect_named("openai_responses").read(item) for item in items]
    calls = tuple(call for reading in readings for call in reading.calls)
    text = "\n".join(reading.text for reading in readings if reading.text)
    stop_reason = _stop_reason(response, items, has_calls=bool(calls))
    if stop_reason == "end_turn" and not text.strip():
        raise attempt.broken("the answer is empty")
    return LLMResponse(
        content=text,
        tool_calls=calls,
        stop_reason=stop_reason,
        usage=usage,
        message={"object": "response", "output": list(_without_cut_reasoning(items, stop_reason))},
        model=response.get("model") or None,
    )


def _stop_reason(response: Wire, items: Sequence[Wire], *, has_calls: bool) -> StopReason:
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details") or {}
        return "refusal" if details.get("reason") == "content_filter" else "max_tokens"
    parts = (part for item in items if item.get("type") == "message" for part in item.get("content") or ())
    if any(part.get("type") == "refusal" for part in parts):
        return "refusal"
    return "tool_use" if has_calls else "end_turn"


def _without_cut_reasoning(items: Sequence[Wire], stop_reason: StopReason) -> Iterator[Wire]:
    """Yield the items that may be sent back: reasoning that was cut off before it led to anything may not (OR-3)."""
    last = max((index for index, item in enumerate(items) if item.get("type") != "reasoning"), default=None)
    if last is None:
        yield {"type": "message", "role": "assistant", "content": no_answer(stop_reason)}
        return
    yield from items[: last + 1]


def _without_nulls(item: Wire) -> dict[str, Any]:
    """Return the item as the API takes it back: it refuses some of the fields that it sends as null."""
    return {key: value for key, value in item.items() if value is not None}


def _item(message: object) -> Wire:
    if not isinstance(message, LLMMessage):
        return to_wire(message)
    if message.tool_calls or message.tool_call_id is not None:
        raise MessageError(
            f"an LLMMessage with role {message.role!r} that carries a tool call or result is in OpenAI's chat form; "
            "for this model give it as an item of the Responses API"
        )
    content = message.content if isinstance(message.content, str) else list(message.content or ())
    return {"type": "message", "role": message.role, "content": content}


def _tool(tool: Wire) -> Wire:
    """Return a tool in the flat form of this API; left out, `strict` would be true and narrow what a schema may say."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    return {"type": "function", "strict": False, **function}
