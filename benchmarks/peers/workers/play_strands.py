"""Plays conversations through the conversation managers of Strands.

A real agent owns the messages. The events that its loop fires are fired here: before each model call (with the
projected size, estimated as its loop does), and the management at the end of each invocation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))

from strands import Agent
from strands.agent.conversation_manager import (
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.hooks import BeforeModelCallEvent
from strands.models import Model

from benchmarks.peers.workers.desk import Desk, Message, arguments_of, as_arguments, serve, text_of


class SummaryModel(Model):
    """Stands for the agent's model: of it, only the summaries are asked for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def get_config(self) -> dict[str, Any]:
        return {"context_window_limit": self._desk.options.get("window", 1_000_000)}

    def update_config(self, **config: Any) -> None:
        raise NotImplementedError

    def structured_output(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        written = [one for message in messages[:-1] for one in written_of(message)]
        prompt = "\n".join((named.get("system_prompt") or "", *map(json.dumps, messages)))
        text = self._desk.summarise(written, prompt=prompt)
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockDelta": {"delta": {"text": text}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def sliding_window(desk: Desk) -> None:
    _managed(desk, SlidingWindowConversationManager(window_size=desk.options["window_messages"], per_turn=True))


def summarizing(desk: Desk) -> None:
    proactive: Any = {"compression_threshold": desk.options["threshold"]}
    ratio = {name: desk.options[name] for name in ("summary_ratio",) if name in desk.options}
    _managed(desk, SummarizingConversationManager(proactive_compression=proactive, **ratio))


def _managed(desk: Desk, manager: Any) -> None:
    agent = Agent(
        model=SummaryModel(desk), conversation_manager=manager, callback_handler=None, load_tools_from_directory=False
    )
    projected = _Projected(desk, agent)
    system: list[Message] = []

    def add(index: int, message: Message) -> None:
        if message["role"] == "system":
            system.append(message)
            return
        _append(agent.messages, message)
        projected.note(message)
        if message["role"] == "assistant" and not message.get("tool_calls"):
            with desk.clock:
                manager.apply_management(agent)

    def request() -> Iterable[Message]:
        tokens = projected.tokens()
        event = BeforeModelCallEvent(agent=agent, invocation_state={}, projected_input_tokens=tokens)
        with desk.clock:
            agent.hooks.invoke_callbacks(event)
        sent = [*system, *(one for message in agent.messages for one in written_of(message))]
        projected.sent(sent)
        return sent

    desk.play(add, request)


class _Projected:
    """The size of the next request: what the provider reported of the last one, and the messages since.

    The report is simulated, so its counting is not on the peer's clock; counting what is new is.
    """

    def __init__(self, desk: Desk, agent: Agent) -> None:
        self._desk, self._reported = desk, 0
        self._known: dict[int, tuple[Message, int]] = {}
        self._new: list[Message] = []

    def note(self, message: Message) -> None:
        self._new.append(message)

    def tokens(self) -> int:
        with self._desk.clock:
            return self._reported + sum(map(self._desk.count_message, self._new))

    def sent(self, messages: list[Message]) -> None:
        with self._desk.uncounted():
            self._reported = sum(map(self._desk.count_message, messages))
        self._new = []


def _append(messages: Any, message: Message) -> None:
    """Add a message in Strands' form: the results of one response's calls stand in one message."""
    if message["role"] == "tool":
        result = {"toolUseId": message["tool_call_id"], "content": [{"text": text_of(message)}], "status": "success"}
        if messages and any("toolResult" in block for block in messages[-1]["content"]):
            messages[-1]["content"].append({"toolResult": result})
        else:
            messages.append({"role": "user", "content": [{"toolResult": result}]})
        return
    content: list[Any] = [{"text": text_of(message)}] if text_of(message) else []
    for call in message.get("tool_calls") or ():
        use = {"toolUseId": call["id"], "name": call["function"]["name"], "input": arguments_of(call)}
        content.append({"toolUse": use})
    messages.append({"role": message["role"], "content": content or [{"text": ""}]})


def written_of(message: Any) -> list[Message]:
    """Return a message of Strands in chat format, as its OpenAI model sends it."""
    blocks = message["content"]
    text = "\n".join(block["text"] for block in blocks if "text" in block)
    calls = [_call(block["toolUse"]) for block in blocks if "toolUse" in block]
    written: list[Message] = [
        {"role": "tool", "tool_call_id": block["toolResult"]["toolUseId"], "content": _result(block["toolResult"])}
        for block in blocks
        if "toolResult" in block
    ]
    if text or calls or not written:
        spoken: Message = {"role": message["role"], "content": text}
        written.append({**spoken, "tool_calls": calls} if calls else spoken)
    return written


def _call(use: Any) -> Any:
    function = {"name": use["name"], "arguments": as_arguments(use["input"])}
    return {"id": use["toolUseId"], "type": "function", "function": function}


def _result(result: Any) -> str:
    return "\n".join(block.get("text", "") for block in result["content"])


if __name__ == "__main__":
    serve({"sliding_window": sliding_window, "summarizing": summarizing})
