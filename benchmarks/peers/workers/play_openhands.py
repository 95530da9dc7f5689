"""Plays conversations through the condensers of OpenHands' SDK.

As its agent does before each step: the view of all events is condensed; a condensation is itself an event, appended
to the view, which is then condensed again; when there is nothing more to condense, the view is what is sent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))

# The SDK needs Python 3.12, so it is installed nowhere but in its own environment.
from openhands.sdk.context.condenser import LLMSummarizingCondenser  # type: ignore[import-not-found]
from openhands.sdk.context.view import View  # type: ignore[import-not-found]
from openhands.sdk.event import (  # type: ignore[import-not-found]
    ActionEvent,
    Condensation,
    LLMConvertibleEvent,
    MessageEvent,
    ObservationEvent,
    SystemPromptEvent,
)
from openhands.sdk.llm import Message as Said  # type: ignore[import-not-found]
from openhands.sdk.llm import MessageToolCall, TextContent
from openhands.sdk.testing import TestLLM  # type: ignore[import-not-found]
from openhands.sdk.tool import Observation  # type: ignore[import-not-found]

from benchmarks.peers.workers.desk import Desk, Message, serve, text_of

MOST_ROUNDS = 5
"""More condensations in a row than a request can need."""


class Seen(Observation):  # type: ignore[misc]  # its base is untyped where the SDK is not installed
    """What a tool answered."""


class SummaryLLM(TestLLM):  # type: ignore[misc]  # likewise
    """Writes the condenser's summaries, of the events as its prompt quotes them."""

    def completion(self, messages: list[Any], *arguments: Any, **named: Any) -> Any:
        prompt = "\n".join(content.text for message in messages for content in message.content)
        parts: list[Message] = [{"role": "user", "content": event} for event in _EVENT.findall(prompt)]
        said = Said(role="assistant", content=[TextContent(text=_DESKS[0].summarise(parts, prompt=prompt))])
        return TestLLM.from_messages([said]).completion(messages)


_EVENT = re.compile(r"<EVENT>\n(.*?)\n</EVENT>", re.DOTALL)
_DESKS: list[Desk] = []
"""The one that is being played: an LLM of the SDK is a checked value, which holds nothing of a stranger."""


def summarizing(desk: Desk) -> None:
    _DESKS[:] = [desk]
    agent_llm = TestLLM.from_messages([], model="gpt-4o")
    limits = {name: desk.options[name] for name in ("max_size", "max_tokens", "keep_first") if name in desk.options}
    condenser = LLMSummarizingCondenser(llm=SummaryLLM.from_messages([], model="gpt-4o"), **limits)
    view, actions = View(), dict[str, str]()

    def add(index: int, message: Message) -> None:
        for event in _events(index, message, actions):
            with desk.clock:
                view.append_event(event)

    def request() -> Iterable[Message]:
        with desk.clock:
            for _ in range(MOST_ROUNDS):
                result = condenser.condense(view, agent_llm=agent_llm)
                if not isinstance(result, Condensation):
                    break
                view.append_event(result)
        return map(_written, LLMConvertibleEvent.events_to_messages(view.events))

    desk.play(add, request)


def _events(index: int, message: Message, actions: dict[str, str]) -> Iterable[Any]:
    content = [TextContent(text=text_of(message))]
    if message["role"] == "system" and index == 0:
        yield SystemPromptEvent(system_prompt=content[0], tools=[])
    elif message["role"] == "tool":
        observation = Seen(content=content)
        call_id = message["tool_call_id"]
        name, action_id = actions.get(call_id, "tool"), actions.get(f"id of {call_id}", "unknown")
        yield ObservationEvent(observation=observation, tool_name=name, tool_call_id=call_id, action_id=action_id)
    elif message.get("tool_calls"):
        for number, call in enumerate(message["tool_calls"]):
            event = _action(index, content if number == 0 and content[0].text else [], call)
            actions[call["id"]], actions[f"id of {call['id']}"] = event.tool_name, event.id
            yield event
    else:
        source = "agent" if message["role"] == "assistant" else "user"
        yield MessageEvent(source=source, llm_message=Said(role=message["role"], content=content))


def _action(index: int, thought: list[Any], call: Any) -> Any:
    name, arguments = call["function"]["name"], call["function"]["arguments"] or "{}"
    return ActionEvent(
        thought=thought,
        tool_name=name,
        tool_call_id=call["id"],
        tool_call=MessageToolCall(id=call["id"], name=name, arguments=arguments, origin="completion"),
        llm_response_id=f"response-{index}",
    )


def _written(message: Any) -> Message:
    """Return a message of the SDK in chat format."""
    text = "\n".join(content.text for content in message.content if isinstance(content, TextContent))
    written: Message = {"role": message.role, "content": text}
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
    return written


if __name__ == "__main__":
    serve({"summarizing": summarizing})
