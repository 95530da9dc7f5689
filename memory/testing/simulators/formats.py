"""What the server asks of each wire format, and the values that pass between them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from ...messages import DialectName, Wire
from .metering import Metered, Segment
from .turns import Answer, Request

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the provider knows of the caller and enforces."""

    models: frozenset[str] | None = None
    """None: every model exists."""
    api_keys: frozenset[str] | None = None
    """None: any key will do."""
    context_window_tokens: int | None = None
    binds_thinking: bool = False
    checks_signatures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is refused, in the provider's words."""

    message: str
    status: int = 400
    kind: str = "invalid_request_error"
    """The provider's error type (OpenAI, Anthropic) or status (Gemini)."""
    code: str | None = None
    param: str | None = None
    rule: str = ""
    """Of docs/validity.md, where it is one of those; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path asks for."""

    kind: Literal["generate", "count"]
    model: str | None = None
    """Where the path names it."""
    is_streamed: bool | None = None
    """Where the path says it; else the body does."""
    frames: Literal["sse", "array"] = "sse"
    """How a stream is written: events, or one JSON array piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a stream."""

    data: Mapping[str, Any] | str
    name: str | None = None

    def encoded(self) -> bytes:
        """Return the event as server-sent-event lines."""
        data = self.data if isinstance(self.data, str) else dumped(self.data)
        head = f"event: {self.name}\n" if self.name else ""
        return f"{head}data: {data}\n\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An answer in the provider's form: its messages, why it stopped, what it used."""

    messages: Sequence[Wire]
    """As the caller may add them to its list."""
    stop_reason: str
    """In the provider's words."""
    used: Metered = field(default_factory=lambda: Metered(input_tokens=0))


class WireFormat(Protocol):
    """One provider's API: paths, errors, answers, streams. One object serves one simulator."""

    @property
    def name(self) -> DialectName: ...

    @property
    def base_path(self) -> str:
        """What the SDK's base URL has behind the host."""
        ...

    def target(self, path: str) -> Target | None:
        """Say what a path asks for, None for one that this API does not have."""
        ...

    def api_key(self, headers: Mapping[str, str], path: str) -> str: ...

    def refusal(self, request: Request) -> Refusal | None:
        """Return why the provider would refuse the request, None if it would not. Changes nothing."""
        ...

    def segments(self, body: Wire) -> list[Segment]:
        """Return the prompt in the order in which it is read and cached."""
        ...

    def completion(self, answer: Answer, request: Request, *, adds_reasoning: bool) -> Completion:
        """Write an answer in this format, with fresh ids and signatures, for this request."""
        ...

    def metered(self, request: Request, completion: Completion) -> Metered:
        """Count what a request and its answer use; reads and fills the prompt cache."""
        ...

    def response(self, request: Request, completion: Completion) -> Json:
        """Return the body of a response that is not streamed."""
        ...

    def events(self, request: Request, completion: Completion) -> Iterator[Event]:
        """Yield the events of a streamed response."""
        ...

    def empty(self, request: Request) -> Completion:
        """Return an answer with nothing in it."""
        ...

    def count_response(self, tokens: int) -> Json:
        """Return the body of an answer to a request to count tokens."""
        ...

    def error_body(self, refusal: Refusal, number: int) -> Json: ...

    def error_event(self, refusal: Refusal, number: int) -> Event:
        """Return the error as it comes amid a stream."""
        ...

    def failure(self, kind: str) -> Refusal:
        """Return the refusal of a fault: rate_limit, server_error, unavailable, overloaded."""
        ...

    def too_long(self, tokens: int, limit: int) -> Refusal:
        """Return the refusal of a request beyond the context window."""
        ...

    def unknown_path(self, path: str) -> Refusal: ...

    def headers(self, number: int) -> Mapping[str, str]:
        """Return the headers of every response: the request's id, the rate limits."""
        ...


CREATED: Final = 1_767_225_600
"""A fixed time for every answer, so that a run gives the same bytes twice."""
_PIECES: Final = 8
_SMALLEST_PIECE: Final = 16


def dumped(value: object) -> str:
    """Return a value as JSON; lone surrogates survive, being escaped."""
    return json.dumps(value, separators=(",", ":"))


def pieces(text: str) -> Iterator[str]:
    """Split a text as a stream does: several pieces, whatever its length; none of an empty one."""
    size = max(_SMALLEST_PIECE, -(-len(text) // _PIECES))
    # A short text comes in two pieces at least, or nobody would notice that deltas are not joined.
    size = min(size, max(1, -(-len(text) // 2)))
    return (text[start : start + size] for start in range(0, len(text), size))


def opaque(*texts: str) -> str:
    """Return texts as one unreadable string, the way signatures and encrypted payloads look."""
    return base64.b64encode("\x1f".join(texts).encode("utf-8", "surrogatepass")).decode()


def revealed(payload: str) -> tuple[str, ...] | None:
    """Return the texts of an `opaque` string, None if it is none of ours."""
    try:
        return tuple(base64.b64decode(payload, validate=True).decode("utf-8", "surrogatepass").split("\x1f"))
    except ValueError:
        return None


def native_messages(answer: Answer) -> list[Wire] | None:
    """Return an answer's messages if it is in the provider's own format, else None."""
    if isinstance(answer, Mapping):
        return [answer]
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return list(answer)
    return None
