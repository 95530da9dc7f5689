"""Recorded conversations for frameworks that lead the conversation themselves: their loop asks, the recording answers.

The framework runs once per user turn. Its model is a fake that says what the recorded model said, its tools return
what the recorded tools returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.workers.desk import Desk, Message, text_of

UNANSWERED = "(no answer was recorded)"


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

    def answer(self) -> tuple[int | None, Message]:
        """Return the next recorded answer and its place.

        The place is None where the user spoke before there was one; then it is `UNANSWERED`, which ends the turn.

        Raises:
            RecordingEnded: The conversation is over.
        """
        messages = self.desk.messages
        while self._at < len(messages) and messages[self._at]["role"] == "tool":
            self._at += 1
        if self._at >= len(messages):
            raise RecordingEnded
        if messages[self._at]["role"] != "assistant":
            return None, {"role": "assistant", "content": UNANSWERED}
        self._at += 1
        return self._at - 1, messages[self._at - 1]

    def send(self, index: int | None, context: Iterable[Message]) -> None:
        """Report a request, without the answers that nobody gave."""
        if index is not None:
            self.desk.send(index, (one for one in context if one.get("content") != UNANSWERED))

    def result(self, call_id: str) -> str:
        """Return what the tool answered to a call of the newest answer; nothing where the recording ends before."""
        for message in self.desk.messages[self._at :]:
            if message["role"] != "tool":
                break
            if message.get("tool_call_id") == call_id:
                return text_of(message)
        return ""

    def tool_names(self) -> list[str]:
        """Return the names of all tools that are called, sorted."""
        calls: list[Any] = [call for one in self.desk.messages for call in one.get("tool_calls") or ()]
        return sorted({call["function"]["name"] for call in calls})
