"""Calls and results: which result answers which call, and which calls of the newest response still wait."""

from __future__ import annotations

from collections.abc import Mapping

from .messages import Reading, ToolCall, ToolResult


def answers(result: ToolResult, call: ToolCall) -> bool:
    """Return whether a result is a call's: by id where both have one, else by name, as `validate` pairs them."""
    if result.call_id is not None and call.id is not None:
        return result.call_id == call.id
    return result.name is None or result.name == call.name


class OpenCalls:
    """Which calls of the newest response still wait for a result, kept up to date message by message.

    A call whose response was followed by another response of the model is dead, not open: nothing will answer it.
    """

    def __init__(self, *, splits_responses: bool) -> None:
        self._splits_responses = splits_responses
        self._open: list[ToolCall] = []
        self._after_assistant = False

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def waiting(self) -> tuple[ToolCall, ...]:
        return tuple(self._open)

    def begins_response(self, reading: Reading) -> bool:
        """Return whether this message, added now, would begin a new response of the model."""
        return reading.role == "assistant" and not (self._splits_responses and self._after_assistant)

    def add(self, reading: Reading) -> None:
        """Take note of the next message."""
        if self.begins_response(reading):
            self._open.clear()
        self._open.extend(reading.calls)
        for result in reading.results:
            answered = next((i for i, call in enumerate(self._open) if answers(result, call)), None)
            if answered is not None:
                del self._open[answered]
        self._after_assistant = reading.role == "assistant"

    def state(self) -> dict[str, bool]:
        """Return what cannot be told from the messages that still stand, as JSON values."""
        return {"are_open": bool(self._open), "after_assistant": self._after_assistant}

    def restore(self, state: Mapping[str, bool]) -> None:
        """Know what was known when `state` was taken. Whatever is open stands, and was added already."""
        self._after_assistant = state["after_assistant"]
        if not state["are_open"]:
            self._open.clear()
