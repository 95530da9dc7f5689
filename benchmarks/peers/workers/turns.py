"""Recorded conversations for frameworks that lead the conversation themselves: their loop asks, the recording answers.

The framework runs once per user turn. Its model is a fake that says what the recorded model said, its tools return
what the recorded tools returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.workers.desk import Desk, Message, text_of


@dataclass(frozen=True, slots=True)
class Turn:
    """The user's messages, and where the agent's answer to them begins."""

    said: tuple[str, ...]
    start: int


class RecordingEnded(Exception):  # noqa: N818 - no error: the agent asks for an answer that was never given
    """The framework asks for more than was recorded."""


class Recorded:
    """Walks through the recording as the framework asks for answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.system = [message for message in desk.messages[:1] if message["role"] == "system"]
        self._at = 0

    def turns(self) -> Iterator[Turn]:
        """Yield the user's turns, each once the one before was answered."""
        self._at = len(self.system)
        messages = self.desk.messages
        while self._at < len(messages):
            start = self._at
            while start < len(messages) and messages[start]["role"] != "assistant":
                start += 1
            said = tuple(text_of(one) for one in messages[self._at : start] if one["role"] != "tool")
            self._at = start
            if start == len(messages):
                return
            yield Turn(said or ("",), start)

    def answer(self) -> tuple[int, Message]:
        """Return the next recorded answer and its place.

        Raises:
            RecordingEnded: There is none.
        """
        messages = self.desk.messages
        while self._at < len(messages) and messages[self._at]["role"] == "tool":
            self._at += 1
        if self._at >= len(messages) or messages[self._at]["role"] != "assistant":
            raise RecordingEnded
        self._at += 1
        return self._at - 1, messages[self._at - 1]

    def result(self, call_id: str) -> str:
        """Return what the tool answered to a call of the newest answer."""
        for message in self.desk.messages[self._at :]:
            if message["role"] != "tool":
                break
            if message.get("tool_call_id") == call_id:
                return text_of(message)
        raise RecordingEnded

    def tool_names(self) -> list[str]:
        """Return the names of all tools that are called, sorted."""
        calls: list[Any] = [call for one in self.desk.messages for call in one.get("tool_calls") or ()]
        return sorted({call["function"]["name"] for call in calls})
