"""What a simulated model says, and what it was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from ...messages import Wire

StopReason: TypeAlias = Literal["end_turn", "tool_use", "max_tokens", "refusal"]


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a scripted answer."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    """None: the simulator numbers it (`call_1`, `toolu_1`)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of a model, whatever the provider's format."""

    text: str = ""
    calls: Sequence[Call] = ()
    reasoning: str = ""
    """Thinking before the answer; signed where the provider signs."""
    stop_reason: StopReason | None = None
    """None: `tool_use` with calls, else `end_turn`."""


Answer: TypeAlias = str | Turn | Wire | Sequence[Wire]
"""A text, a `Turn`, or the assistant's messages in the provider's own format (one dict or several)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came in; for callables that choose an answer or a fault."""

    number: int
    """From 1, in order of arrival, over all conversations of the simulator."""
    path: str
    """With its query."""
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: Mapping[str, Any]
    model: str
    api_key: str = field(repr=False)
    """Empty where none was sent. One key a conversation is how several share a simulator."""
    is_streamed: bool


AnswerTo: TypeAlias = Callable[[Request], Answer | None]
"""None: nothing to say, which is an error of the test: the simulator answers 400 and says so."""


class AnswerSource(Protocol):
    """Where the answers of one conversation come from; `Playback` is one."""

    def peek(self, request: Request) -> Answer | None:
        """Return the answer to a request without using it up, None when all are said."""
        ...

    def take(self, request: Request) -> Answer | None:
        """Return the answer to a request, which is then said; None when all are said."""
        ...


class Script:
    """Answers in their order, one for each request that is neither refused nor meets a fault."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = deque(answers)

    def peek(self, request: Request) -> Answer | None:
        """Return the next answer."""
        return self._answers[0] if self._answers else None

    def take(self, request: Request) -> Answer | None:
        """Return the next answer and go on."""
        return self._answers.popleft() if self._answers else None


class AnswersByCall:
    """Answers that a callable gives, which sees each request."""

    def __init__(self, answer_to: AnswerTo) -> None:
        self._answer_to = answer_to

    def peek(self, request: Request) -> Answer | None:
        """Ask the callable; it is asked again when the request comes again."""
        return self._answer_to(request)

    def take(self, request: Request) -> Answer | None:
        """Ask the callable."""
        return self._answer_to(request)
