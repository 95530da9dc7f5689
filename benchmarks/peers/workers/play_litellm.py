"""Plays conversations through LiteLLM's `trim_messages`, called on the whole history before each request."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from litellm.utils import trim_messages

from benchmarks.peers.workers.desk import Desk, Message, serve, text_of

MODEL = "gpt-4o"
"""Its tokenizer is o200k, the one that every peer is measured with; the function takes no counter."""


def trimming(desk: Desk) -> None:
    history: list[Message] = []

    def request() -> Iterable[Message]:
        with desk.clock:
            trimmed: list[Message] = trim_messages(history, model=MODEL, max_tokens=desk.options["max_tokens"])
        return trimmed

    # Its own arithmetic needs a text in every message, not a list of parts; what is said stays the same.
    desk.play(lambda _, message: history.append({**message, "content": text_of(message)}), request)


if __name__ == "__main__":
    serve({"trim_messages": trimming})
