"""`with_memory`: a provider's client whose conversation the memory keeps short."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from types import MethodType
from typing import Any, TypeVar, cast

from ...errors import ConfigError
from ...manager import MemoryManager
from .calls import Call, Link
from .formats import AnthropicMessages, ChatCompletions, Format, GenerateContent, Responses, is_given
from .proxy import Proxy, target_of
from .streams import AsyncBlock, Block, RawResponse, delivered

ClientT = TypeVar("ClientT")


def with_memory(client: ClientT, memory: MemoryManager) -> ClientT:
    """Return the client such that the conversation it sends is managed by the memory.

    The caller goes on building its own full list and passes it to each call. What is new in it goes into the memory,
    the memory's context goes over the wire, and what the response says it used is booked. Everything else of the
    client is as it was; the client that was given stays unmanaged.

    Args:
        client: Of `openai` (OpenAI, AsyncOpenAI, Azure), `anthropic` (Anthropic, AsyncAnthropic, Bedrock, Vertex) or
            `google-genai` (Client), or another with the same methods. Which calls are managed: docs/integrations.md.
        memory: The conversation's own: one memory, one conversation.

    Raises:
        ConfigError: The client has none of these methods or has a memory already, or `memory` is none.
    """
    if not isinstance(memory, MemoryManager):
        raise ConfigError(f"memory must be a MemoryManager, got {type(memory).__name__}")
    if _is_wrapped(client):
        raise ConfigError("this client has a memory already; wrap the SDK's own client once for each conversation")
    if not any(_has(client, path) for path in _SIGNS):
        raise ConfigError(
            "with_memory takes a client of openai (OpenAI, AsyncOpenAI), anthropic (Anthropic, AsyncAnthropic) or "
            "google-genai (Client), or one with the same methods; "
            f"got {type(client).__module__}.{type(client).__name__}"
        )
    return cast(ClientT, _Node(client, Link(memory)))


def memory_of(client: object) -> MemoryManager:
    """Return the memory of a client that `with_memory` returned. No attribute of the client is taken for it.

    Raises:
        ConfigError: The client has no memory.
    """
    if not _is_wrapped(client):
        raise ConfigError(f"this {type(client).__name__} has no memory; `with_memory(client, memory)` gives it one")
    return _link_of(client).memory


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A method that sends a conversation."""

    format: Format
    opens_block: bool = False
    """It sends nothing itself, but returns what a `with` block opens."""


_CHAT, _RESPONSES, _MESSAGES, _CONTENTS = ChatCompletions(), Responses(), AnthropicMessages(), GenerateContent()
_ENDPOINTS = {
    **{
        f"{resource}.{method}": _Endpoint(form, opens_block=method == "stream")
        for resource, form in (
            ("chat.completions", _CHAT),
            ("beta.chat.completions", _CHAT),
            ("responses", _RESPONSES),
            ("messages", _MESSAGES),
            ("beta.messages", _MESSAGES),
        )
        for method in ("create", "parse", "stream")
    },
    **{
        f"{resource}.{method}": _Endpoint(_CONTENTS)
        for resource in ("models", "aio.models")
        for method in ("generate_content", "generate_content_stream")
    },
}
_ON_THE_WAY = frozenset(
    ".".join(parts[:length]) for path in _ENDPOINTS for parts in [path.split(".")] for length in range(1, len(parts))
)
_SIGNS = ("chat.completions.create", "messages.create", "models.generate_content", "responses.create")
"""A client has one of these."""
_VIEWS = frozenset({"with_raw_response", "with_streaming_response"})
"""The same methods, which return the response with its headers; they may stand anywhere in a path."""
_COPIES = frozenset({"copy", "with_options"})


class _Node(Proxy):
    """A client, or a part of it on the way to a method that sends a conversation."""

    __slots__ = ("__link", "__path", "__view", "__wrapped")
    __link: Link
    __path: str
    __view: str
    __wrapped: dict[str, tuple[object, Any]]
    """What was wrapped, by its name: the SDK's own and ours, so that a loop pays for the wrapping once."""

    def __init__(self, target: object, link: Link, path: str = "", view: str = "") -> None:
        super().__init__(target)
        self.__link, self.__path, self.__view, self.__wrapped = link, path, view, {}

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        theirs, ours = self.__wrapped.get(name, (None, None))
        # A method is made anew each time it is asked for, and equals another one of the same object.
        if ours is not None and (theirs is found or (isinstance(found, MethodType) and found == theirs)):
            return ours
        ours = self.__wrap(name, found)
        if ours is not found:
            self.__wrapped[name] = found, ours
        return ours

    def __wrap(self, name: str, found: Any) -> Any:
        if name in _VIEWS:
            return _Node(found, self.__link, self.__path, name)
        path = f"{self.__path}.{name}" if self.__path else name
        if path in _ON_THE_WAY:
            return _Node(found, self.__link, path, self.__view)
        if path in _ENDPOINTS:
            is_async = _is_async(found) or _is_async(getattr(target_of(self), "create", None))
            return _managed(found, _ENDPOINTS[path], self.__link, view=self.__view, is_async=is_async)
        return _copying(found, self.__link) if path in _COPIES else found


def _managed(
    method: Callable[..., Any], endpoint: _Endpoint, link: Link, *, view: str, is_async: bool
) -> Callable[..., Any]:
    if endpoint.opens_block or view == "with_streaming_response":
        return _opening(method, endpoint, link, is_async=is_async)
    deliver: Callable[[object, Call], Any] = RawResponse if view else delivered
    return (_asking_async if is_async else _asking)(method, endpoint.format, link, deliver)


def _asking(
    method: Callable[..., Any], form: Format, link: Link, deliver: Callable[[object, Call], Any]
) -> Callable[..., Any]:
    @wraps(method)
    def ask(*positional: Any, **arguments: Any) -> Any:
        if not _is_managed(form, link, arguments):
            return method(*positional, **arguments)
        call = Call(link, form, arguments, partial(method, *positional), streams=bool(arguments.get("stream")))
        return deliver(call.run(), call)

    return ask


def _asking_async(
    method: Callable[..., Any], form: Format, link: Link, deliver: Callable[[object, Call], Any]
) -> Callable[..., Any]:
    @wraps(method)
    async def ask(*positional: Any, **arguments: Any) -> Any:
        if not _is_managed(form, link, arguments):
            return await method(*positional, **arguments)
        call = Call(link, form, arguments, partial(method, *positional), streams=bool(arguments.get("stream")))
        return deliver(await call.arun(), call)

    return ask


def _opening(method: Callable[..., Any], endpoint: _Endpoint, link: Link, *, is_async: bool) -> Callable[..., Any]:
    block = AsyncBlock if is_async else Block

    @wraps(method)
    def open_block(*positional: Any, **arguments: Any) -> Any:
        if not _is_managed(endpoint.format, link, arguments):
            return method(*positional, **arguments)
        streams = endpoint.opens_block or bool(arguments.get("stream"))
        send = lambda **sent: block.entered(method(*positional, **sent))  # noqa: E731 - a def would need a name
        return block(Call(link, endpoint.format, arguments, send, streams=streams))

    return open_block


def _copying(copy: Callable[..., object], link: Link) -> Callable[..., object]:
    @wraps(copy)
    def wrapped_copy(*positional: Any, **options: Any) -> object:
        return _Node(copy(*positional, **options), link)

    return wrapped_copy


def _is_managed(form: Format, link: Link, arguments: dict[str, Any]) -> bool:
    """Whether a call belongs to the conversation: it sends one, and is not the memory's own for a summary."""
    return is_given(arguments.get(form.key)) and not link.is_preparing


def _is_async(method: object) -> bool:
    return callable(method) and inspect.iscoroutinefunction(inspect.unwrap(method))


def _has(client: object, path: str) -> bool:
    found: object = client
    for name in path.split("."):
        found = getattr(found, name, None)
    return callable(found)


def _is_wrapped(client: object) -> bool:
    return type(client) is _Node  # `isinstance` would ask the proxy, which says what it stands for


def _link_of(client: object) -> Link:
    link: Link = object.__getattribute__(client, "_Node__link")
    return link
