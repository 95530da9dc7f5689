"""A server that says what it is told, for answers that a well-behaved provider gives too rarely to simulate them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.llm.protocol import Delta
from agent.llm.retrying import RetryPolicy
from memory.testing.simulators.http import Listener, Reply


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


HASTY = RetryPolicy(max_retries=2, sleep=_at_once)
"""Repeats like everyone else, without the waiting."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@dataclass(slots=True)
class Served:
    """A server and what it was sent."""

    url: str
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


@contextmanager
def serving(*answers: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Answer with each in turn, with the last one for ever; a string is sent as it is, a list as server-sent events."""

    def reply(_path: str, sent: Mapping[str, str], body: bytes) -> Reply:
        server.bodies.append(json.loads(body))
        server.headers.append(sent)
        return _reply(answers[min(len(server.bodies), len(answers)) - 1], status, headers or {})

    listener = Listener(reply)
    server = Served(url=f"http://127.0.0.1:{listener.port}")
    try:
        yield server
    finally:
        listener.close()


def _reply(answer: object, status: int, headers: Mapping[str, str]) -> Reply:
    if isinstance(answer, list):
        return Reply(
            status=status,
            headers=headers,
            is_streamed=True,
            media_type="text/event-stream",
            chunks=[_event(event) for event in answer],
        )
    text = answer if isinstance(answer, str) else json.dumps(answer)
    media_type = "text/html" if isinstance(answer, str) else "application/json"
    return Reply(status=status, headers=headers, body=text.encode(), media_type=media_type)


def _event(event: Mapping[str, Any]) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def text_of(deltas: Sequence[Delta], kind: str) -> str:
    """Join what was shown of one kind."""
    return "".join(delta.text for delta in deltas if delta.kind == kind)
