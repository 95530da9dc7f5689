"""Plays conversations through the sessions of the OpenAI Agents SDK, and through its trimmer of tool outputs.

The SDK's runner leads the conversation, a run for each turn of the user; its model says what was recorded, and what it
is sent is the request. On the clock are the session and the trimmer, not the runner.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))

from agents import (
    Agent,
    FunctionTool,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    SQLiteSession,
    Usage,
    set_tracing_disabled,
)
from agents.extensions import ToolOutputTrimmer
from agents.memory import OpenAIResponsesCompactionSession, SessionSettings
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from benchmarks.peers.workers.desk import Desk, Message, serve, text_of
from benchmarks.peers.workers.turns import Recorded, RecordingEnded


def limited(desk: Desk) -> None:
    """Let the session hand over its newest items only."""
    asyncio.run(_run(desk, RunConfig(session_settings=SessionSettings(limit=desk.options["limit"]))))


def trimmed(desk: Desk) -> None:
    """Shorten the tool outputs of older turns before each model call."""
    trimmer: Any = ToolOutputTrimmer()

    def timed(data: Any) -> Any:
        with desk.clock:
            return trimmer(data)

    asyncio.run(_run(desk, RunConfig(call_model_input_filter=timed)))


def compacted(desk: Desk) -> None:
    """Have the stored history compacted between turns. The provider's part is played by the summariser."""
    asyncio.run(_run(desk, RunConfig(), wraps=True))


class Answering(Model):
    """Says what was recorded."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    async def get_response(
        self, system_instructions: str | None, input: Any, *rest: Any, **named: Any
    ) -> ModelResponse:
        index, answer = self._recorded.answer()
        self._recorded.send(index, [*self._recorded.system, *_written(input)])
        return ModelResponse(output=list(_output(index, answer)), usage=Usage(), response_id=f"response-{index}")

    def stream_response(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError


class TimedSession(SQLiteSession):
    """The SDK's own, on the clock."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("recorded")
        self._desk = desk

    async def get_items(self, *arguments: Any, **named: Any) -> Any:
        with self._desk.clock:
            return await super().get_items(*arguments, **named)

    async def add_items(self, *arguments: Any, **named: Any) -> None:
        with self._desk.clock:
            await super().add_items(*arguments, **named)


class Compacting:
    """Stands for `client.responses`, of which the compacting session calls `compact`.

    The provider answers with the user's messages and one opaque item in the place of everything else.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.responses = self

    async def compact(self, *, input: Any, **named: Any) -> Any:
        spoken = [item for item in input if item.get("role") == "user"]
        others = [item for item in input if item.get("role") != "user"]
        parts = [*_written(others)]
        text = self._desk.summarise(parts, prompt="\n".join(map(text_of, _written(input))))
        return _Compacted([*spoken, {"type": "compaction", "encrypted_content": text}])


class _Compacted:
    def __init__(self, output: list[Any]) -> None:
        self.output, self.usage = output, None


async def _run(desk: Desk, config: RunConfig, *, wraps: bool = False) -> None:
    set_tracing_disabled(True)
    recorded = Recorded(desk)
    agent: Agent[Any] = Agent(
        name="recorded",
        instructions="\n".join(map(text_of, recorded.system)) or None,
        model=Answering(recorded),
        tools=[_tool(name, recorded) for name in recorded.tool_names()],
    )
    session: Any = TimedSession(desk)
    if wraps:
        client: Any = Compacting(desk)
        session = OpenAIResponsesCompactionSession("recorded", session, client=client, compaction_mode="input")
    for turn in recorded.turns():
        said: Any = [{"role": "user", "content": text} for text in turn.said]
        try:
            await Runner.run(agent, said, session=session, run_config=config, max_turns=len(desk.messages))
        except RecordingEnded:
            return


def _tool(name: str, recorded: Recorded) -> FunctionTool:
    async def invoke(context: Any, arguments: str) -> str:
        return recorded.result(context.tool_call_id)

    return FunctionTool(
        name=name,
        description="recorded",
        params_json_schema={"type": "object", "properties": {}, "additionalProperties": True},
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )


def _output(index: int | None, answer: Message) -> Iterator[Any]:
    if text_of(answer) or not answer.get("tool_calls"):
        text = ResponseOutputText(text=text_of(answer), type="output_text", annotations=[])
        yield ResponseOutputMessage(
            id=f"message-{index}", content=[text], role="assistant", status="completed", type="message"
        )
    for call in answer.get("tool_calls") or ():
        function = call["function"]
        yield ResponseFunctionToolCall(
            call_id=call["id"], name=function["name"], arguments=function["arguments"] or "{}", type="function_call"
        )


def _written(items: Any) -> Iterator[Message]:
    """Yield the runner's items in chat format: an answer's text and its calls are one message."""
    answer: Message | None = None
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        kind, role = item.get("type", "message"), item.get("role")
        if kind == "function_call" or role == "assistant":
            if answer is not None and role == "assistant":
                yield answer
                answer = None
            answer = _continued(answer, item)
            continue
        if answer is not None:
            yield answer
            answer = None
        if kind == "function_call_output":
            yield {"role": "tool", "tool_call_id": item["call_id"], "content": _text(item["output"])}
        elif kind == "compaction":
            yield {"role": "assistant", "content": item["encrypted_content"]}
        else:
            yield {"role": role, "content": _text(item["content"])}
    if answer is not None:
        yield answer


def _continued(answer: Message | None, item: Any) -> Message:
    if item.get("type") != "function_call":
        return {"role": "assistant", "content": _text(item["content"])}
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    started = answer or {"role": "assistant", "content": ""}
    return {**started, "tool_calls": [*started.get("tool_calls", ()), call]}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    serve({"session_limit": limited, "tool_output_trimmer": trimmed, "compaction_session": compacted})
