"""Messages between OpenAI's chat format and LangChain's, for the workers of LangChain and LangMem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages

from benchmarks.peers.workers.desk import Desk, Message

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class Codec:
    """Turns recorded messages into LangChain's and back. Each carries its place in its id."""

    def __init__(self, *, keeps_system: bool = False) -> None:
        self._keeps_system = keeps_system
        """Whether the system prompt stands among the messages; an agent has it beside them."""
        self._system: list[Message] = []
        self._originals: dict[str, tuple[BaseMessage, Message]] = {}

    def into(self, state: list[Any]) -> Callable[[int, Message], None]:
        """Return what adds a recorded message to the state."""

        def add(index: int, message: Message) -> None:
            if message["role"] == "system" and index == 0 and not self._keeps_system:
                self._system.append(message)
                return
            converted = convert_to_messages([message])[0]
            converted.id = f"recorded-{index}"
            self._originals[converted.id] = converted.model_copy(), message
            state.append(converted)

        return add

    def context(self, messages: Iterable[BaseMessage]) -> Iterator[Message]:
        """Yield the request that a state stands for."""
        yield from self._system
        yield from map(self.message, messages)

    def message(self, message: BaseMessage) -> Message:
        """Return a message in chat format: the recorded one, where nothing that is sent has changed."""
        known = self._originals.get(message.id or "")
        if known is not None and known[0].content == message.content and _calls(known[0]) == _calls(message):
            return known[1]
        return _written(message)


def counter(desk: Desk) -> Callable[[Iterable[Any]], int]:
    """Return the exact counter in the form that LangChain's functions take."""

    def count(messages: Iterable[BaseMessage]) -> int:
        return sum(map(one, messages))

    def one(message: BaseMessage) -> int:
        texts: list[str] = [message.text]
        for call in _calls(message):
            texts += (call["name"], json.dumps(call["args"], ensure_ascii=False))
        return desk.count(texts, calls=len(_calls(message)), results=int(isinstance(message, ToolMessage)))

    return count


def _calls(message: BaseMessage) -> list[Any]:
    return list(message.tool_calls) if isinstance(message, AIMessage) else []


def _written(message: BaseMessage) -> Message:
    written: Message = {"role": _ROLES[message.type], "content": message.text}
    if isinstance(message, ToolMessage):
        written["tool_call_id"] = message.tool_call_id
    if _calls(message):
        written["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": _json(call)}}
            for call in _calls(message)
        ]
    return written


def _json(call: Any) -> str:
    return json.dumps(call["args"], ensure_ascii=False)
