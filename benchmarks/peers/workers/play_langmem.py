"""Plays conversations through LangMem's `summarize_messages`.

As in its documentation's example: the state keeps all messages, the running summary stands beside them, and each
request is what the function returns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableLambda
from langmem.short_term import summarize_messages  # type: ignore[import-not-found]  # its own environment

from benchmarks.peers.workers.desk import Desk, Message, serve
from benchmarks.peers.workers.langchain_messages import Codec, counter


def summarizing(desk: Desk) -> None:
    codec, state = Codec(keeps_system=True), list[Any]()
    count = counter(desk)
    running: list[Any] = [None]

    def model(messages: Any) -> AIMessage:
        given: list[BaseMessage] = messages if isinstance(messages, list) else messages.to_messages()
        older = [_said(running[0].summary)] if running[0] is not None else []
        parts = [codec.message(message) for message in given[:-1]]
        prompt = "\n".join(message.text for message in given)
        return AIMessage(desk.summarise([*older, *parts], prompt=prompt))

    def request() -> Iterable[Message]:
        with desk.clock:
            result = summarize_messages(
                state,
                running_summary=running[0],
                model=RunnableLambda(model),
                max_tokens=desk.options["max_tokens"],
                max_tokens_before_summary=desk.options["trigger"],
                max_summary_tokens=desk.options["summary_tokens"],
                token_counter=count,
            )
        running[0] = result.running_summary or running[0]
        return codec.context(result.messages)

    desk.play(codec.into(state), request)


def _said(text: str) -> Message:
    return {"role": "system", "content": text}


if __name__ == "__main__":
    serve({"summarize_messages": summarizing})
