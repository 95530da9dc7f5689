"""A recorded conversation played again: its assistant turns as a simulator's answers, its results for the tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Lock
from typing import Final

from ...dialects import detect, dialect_named
from ...errors import MessageError
from ...messages import Dialect, DialectName, Reading, ToolCall, ToolResult, Wire
from .turns import Answer, Request, Turn

_CLOSING: Final = "The recording ends here."


@dataclass(frozen=True, slots=True)
class _Turn:
    """One assistant turn and everything up to the next."""

    messages: tuple[Wire, ...]
    replies: tuple[Wire, ...]


class Playback:
    """Serves the assistant turns of a recording, one a request, in their order and their own format.

    It counts turns and never compares messages, so it works for a caller who compresses: what the caller sends need
    not be what was recorded. Assistant messages in a row are one turn. When all turns are served, every further request
    is answered with `closing`, which ends an agent's loop.

        log = list(playback.opening)
        while not playback.is_over:
            log.append(ask(log))             # the answer comes from the recording
            log += playback.replies()        # its tool results and what the user said then
    """

    def __init__(
        self, messages: Iterable[Wire], dialect: DialectName | None = None, *, closing: str = _CLOSING
    ) -> None:
        """Divide the recording into turns; it is read, never changed.

        Args:
            messages: As the provider's format has them, without a system prompt that travels beside them.
            dialect: Their format; found out when None, and OpenAI chat where they read the same in several.
            closing: Said when the recording is over.

        Raises:
            MessageError: A message is not of that format, or none is the assistant's.
        """
        recorded = list(messages)
        self._dialect: Dialect = dialect_named(dialect) if dialect else detect(recorded) or dialect_named("openai_chat")
        runs = [(is_model, tuple(run)) for is_model, run in groupby(recorded, key=self._is_model)]
        self._opening = runs.pop(0)[1] if runs and not runs[0][0] else ()
        self._turns = [_Turn(run, _behind(runs, n)) for n, (is_model, run) in enumerate(runs) if is_model]
        if not self._turns:
            raise MessageError("the recording has no assistant message, so there is nothing to play back")
        self._closing = closing
        self._served = 0
        self._taken: set[int] = set()
        self._lock = Lock()

    @property
    def dialect(self) -> DialectName:
        """The format of the recording."""
        return self._dialect.name

    @property
    def opening(self) -> tuple[Wire, ...]:
        """What stands before the first assistant turn: system messages, the task."""
        return self._opening

    @property
    def user_messages(self) -> tuple[Wire, ...]:
        """What the user says in the whole recording, in order, without tool results."""
        behind = (message for turn in self._turns for message in turn.replies)
        return tuple(one for one in self._said((*self._opening, *behind)) if self._read(one).role == "user")

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The tools that the recording calls, sorted."""
        return tuple(sorted({call.name for turn in self._turns for call in self._calls(turn)}))

    @property
    def turn_count(self) -> int:
        """How many assistant turns there are."""
        return len(self._turns)

    @property
    def served(self) -> int:
        """How many of them were served."""
        return self._served

    @property
    def is_over(self) -> bool:
        """Whether all turns were served."""
        return self._served >= len(self._turns)

    def replies(self) -> list[Wire]:
        """Return the recorded messages between the turn that was served last and the next one.

        Results of tools, user messages, or both. Before the first turn: the opening.
        """
        return list(self._turns[self._served - 1].replies if self._served else self._opening)

    def says(self) -> list[Wire]:
        """Return the same without tool results, for a loop that runs tools itself and asks `result_of` for them."""
        return self._said(self.replies())

    def result_of(self, call: ToolCall) -> ToolResult:
        """Return the recorded result of a call of the turn that was served last.

        A call is known by its id; without one (a tool knows its arguments, not its id) by its name and arguments, and
        equal ones are given their results in order.

        Raises:
            LookupError: That turn has no such call, or the recording has no result for it.
        """
        turn = self._turns[max(0, self._served - 1)]
        calls, results = self._calls(turn), [one for message in turn.replies for one in self._read(message).results]
        with self._lock:
            position = self._position(call, calls)
            self._taken.add(position)
        return _paired(position, calls, results)

    def peek(self, request: Request) -> Answer | None:
        """Return the next turn."""
        return Turn(self._closing) if self.is_over else self._turns[self._served].messages

    def take(self, request: Request) -> Answer | None:
        """Return the next turn and go on."""
        with self._lock:
            answer = self.peek(request)
            self._served = min(self._served + 1, len(self._turns))
            self._taken.clear()
        return answer

    def _is_model(self, message: Wire) -> bool:
        return self._read(message).role == "assistant"

    def _read(self, message: Wire) -> Reading:
        return self._dialect.read(message)

    def _calls(self, turn: _Turn) -> list[ToolCall]:
        return [call for message in turn.messages for call in self._read(message).calls]

    def _said(self, messages: Sequence[Wire]) -> list[Wire]:
        said: list[Wire] = []
        for message in messages:
            results = self._read(message).results
            rest = self._without_results(message, len(results)) if results else message
            if rest is not None:
                said.append(rest)
        return said

    def _without_results(self, message: Wire, count: int) -> Wire | None:
        return self._dialect.without(message, calls=frozenset(), results=frozenset(range(count)))

    def _position(self, call: ToolCall, calls: Sequence[ToolCall]) -> int:
        for position, one in enumerate(calls):
            if call.id is not None and one.id == call.id:
                return position
            if call.id is None and position not in self._taken and _is_same(one, call):
                return position
        raise LookupError(f"turn {self._served} of the recording calls no {call.name!r} like this one")


def _behind(runs: Sequence[tuple[bool, tuple[Wire, ...]]], position: int) -> tuple[Wire, ...]:
    return runs[position + 1][1] if position + 1 < len(runs) else ()


def _is_same(one: ToolCall, other: ToolCall) -> bool:
    return one.name == other.name and _arguments(one) == _arguments(other)


def _arguments(call: ToolCall) -> object:
    try:
        return json.loads(call.arguments or "{}")
    except ValueError:
        return call.arguments


def _paired(position: int, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> ToolResult:
    """Return the result of the call at a position: by id, else by order among those of its name."""
    call = calls[position]
    if call.id is not None:
        found = [one for one in results if one.call_id == call.id]
        if found:
            return found[0]
    same = [n for n, one in enumerate(calls) if one.name == call.name].index(position)
    named = [one for one in results if one.call_id is None and one.name in (call.name, None)]
    if same < len(named):
        return named[same]
    raise LookupError(f"the recording has no result for this call of {call.name!r}")
