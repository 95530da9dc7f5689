"""Units: the messages of a window that stay or go together. A window is cut only between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from .messages import ToolCall, ToolResult
from .pairing import answers
from .window import Entry, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Entries that stay or go together: `entries[start:stop]` of the window."""

    start: int
    stop: int
    entries: tuple[Entry, ...]
    tokens: int
    is_open: bool
    """A call of the newest response still waits for its result."""

    @property
    def is_summary(self) -> bool:
        return self.entries[0].kind is Kind.SUMMARY

    @property
    def is_recalled(self) -> bool:
        """Whether it is nothing but copies that the memory appended; the archive has what they repeat."""
        return all(entry.kind is Kind.RECALLED for entry in self.entries)

    @property
    def refs(self) -> str:
        """The references of the unit, for people: `r4` or `r4-r6`."""
        first, last = self.entries[0].ref, self.entries[-1].ref
        return first if first == last else f"{first}-{last}"

    def calls(self) -> Iterator[ToolCall]:
        """Yield every tool call of the unit in order."""
        for entry in self.entries:
            yield from entry.reading.calls

    def callers(self) -> dict[tuple[int, int], ToolCall]:
        """Return which call each result answers, by the entry's `seq` and the result's index in its reading."""
        waiting: list[ToolCall] = []
        found: dict[tuple[int, int], ToolCall] = {}
        for entry in self.entries:
            waiting += entry.reading.calls
            for index, result in enumerate(entry.reading.results):
                call = next((call for call in waiting if answers(result, call)), None)
                if call is not None:
                    waiting.remove(call)
                    found[entry.seq, index] = call
        return found


def units(entries: Sequence[Entry], *, splits_responses: bool) -> list[Unit]:
    """Divide the window into units, in order. O(n).

    A boundary lies before an entry if no call before it is answered at or after it, no reasoning before it belongs
    to it, and no call before it is still open. Where results may stand anywhere behind their call (Responses), a unit
    with an unanswered call counts as open however old it is: its result may still come.

    Source: Anthropic answers 400 when a `tool_use` lacks its `tool_result` in the next message, OpenAI chat when a
    call lacks its `tool` message, Gemini when the numbers of calls and responses differ (validity-rules C-3).
    """
    answered_at, unanswered, newest_response = _pair(entries, splits_responses=splits_responses)
    first_open = min((index for index in unanswered if index >= newest_response), default=len(entries))
    boundaries = list(_boundaries(entries, answered_at, first_open))
    waiting = unanswered if splits_responses else set()
    return [
        _unit(entries, start, stop, is_open=stop > first_open or any(i in waiting for i in range(start, stop)))
        for start, stop in pairwise([*boundaries, len(entries)])
    ]


def _unit(entries: Sequence[Entry], start: int, stop: int, *, is_open: bool) -> Unit:
    members = tuple(entries[start:stop])
    return Unit(start=start, stop=stop, entries=members, tokens=sum(e.tokens for e in members), is_open=is_open)


def _pair(entries: Sequence[Entry], *, splits_responses: bool) -> tuple[dict[int, int], set[int], int]:
    """Return (index of a calling entry -> index of its last answer), the unanswered ones, the newest response's."""
    answered_at: dict[int, int] = {}
    waiting: defaultdict[str | None, list[tuple[int, ToolCall]]] = defaultdict(list)
    newest_response = 0
    for index, entry in enumerate(entries):
        reading = entry.reading
        if reading.role == "assistant" and not (
            splits_responses and index and entries[index - 1].reading.role == "assistant"
        ):
            newest_response = index
        for call in reading.calls:
            waiting[call.id].append((index, call))
        for result in reading.results:
            caller = _pop_caller(waiting, result, newest_response)
            if caller is not None:
                answered_at[caller] = index
    unanswered = {index for calls in waiting.values() for index, _ in calls}
    return answered_at, unanswered, newest_response


def _pop_caller(
    waiting: dict[str | None, list[tuple[int, ToolCall]]], result: ToolResult, newest_response: int
) -> int | None:
    """Take the call that a result answers: the nearest earlier one of its id, else the first of its name.

    Calls of the newest response come first; a dead one is answered only if it alone fits.
    """
    if result.call_id is not None and waiting.get(result.call_id):
        return _take(waiting, waiting[result.call_id][-1])
    # Without an id any call will do: google-genai's `Part.from_function_response` leaves out the id that the call had.
    candidates = waiting.get(None, ()) if result.call_id is not None else chain.from_iterable(waiting.values())
    fitting = [place for place in candidates if answers(result, place[1])]
    if not fitting:
        return None
    return _take(waiting, min(fitting, key=lambda place: (place[0] < newest_response, place[0])))


def _take(waiting: dict[str | None, list[tuple[int, ToolCall]]], place: tuple[int, ToolCall]) -> int:
    calls = waiting[place[1].id]
    calls.remove(place)
    if not calls:
        del waiting[place[1].id]
    return place[0]


def _boundaries(entries: Sequence[Entry], answered_at: dict[int, int], first_open: int) -> Iterable[int]:
    bound_until = -1
    follows_reasoning = False
    for index, entry in enumerate(entries):
        is_assistant = entry.reading.role == "assistant"
        follows_reasoning = follows_reasoning and is_assistant
        if bound_until < index <= first_open and not follows_reasoning:
            yield index
        bound_until = max(bound_until, answered_at.get(index, -1))
        follows_reasoning = follows_reasoning or entry.reading.binds_next
