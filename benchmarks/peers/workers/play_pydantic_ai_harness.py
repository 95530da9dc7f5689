"""Plays conversations through the compaction of Pydantic AI's harness, as capabilities of a real agent.

The agent's model is a `FunctionModel` that says what was recorded; what it is sent is the request. It reports the
exact usage of each request, on which the capabilities anchor their own estimates.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))

from pydantic_ai import Agent, RequestUsage, RunContext, Tool
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import UsageLimits

# The harness moves with Pydantic AI, faster than what this project's own environment holds.
from pydantic_ai_harness.compaction import (  # type: ignore[import-not-found]
    ClearToolResults,
    SlidingWindowCompaction,
    SummarizingCompaction,
    TieredCompaction,
)

from benchmarks.peers.workers.desk import Desk, Message, arguments_of, as_arguments, serve, text_of
from benchmarks.peers.workers.turns import Recorded, RecordingEnded

_ELEMENT = re.compile(r'<message role="(\w+)"[^>]*>\n(.*?)\n</message>', re.DOTALL)
_PREVIOUS = re.compile(r"<previous-summary>\n(.*?)\n</previous-summary>", re.DOTALL)
_ANY_ARGUMENTS: dict[str, Any] = {"type": "object", "additionalProperties": True}


def summarizing(desk: Desk) -> None:
    _played(desk, _summarizer(desk, max_tokens=desk.options["trigger"], **_keep(desk)))


def sliding_window(desk: Desk) -> None:
    options = {name: desk.options[name] for name in ("keep_tokens",) if name in desk.options}
    _played(desk, SlidingWindowCompaction(max_tokens=desk.options["trigger"], tokenizer=desk.count_text, **options))


def clearing(desk: Desk) -> None:
    _played(desk, ClearToolResults(max_tokens=desk.options["trigger"], tokenizer=desk.count_text))


def tiered(desk: Desk) -> None:
    tiers = [
        ClearToolResults(max_tokens=1, tokenizer=desk.count_text),
        _summarizer(desk, max_messages=1, **_keep(desk)),
    ]
    _played(desk, TieredCompaction(tiers=tiers, target_tokens=desk.options["trigger"], tokenizer=desk.count_text))


def _keep(desk: Desk) -> dict[str, Any]:
    if "keep" not in desk.options:
        return {}
    return {"keep_tokens": desk.options["keep"], "tool_return_max_chars": None}


def _summarizer(desk: Desk, **options: Any) -> Any:
    def write(messages: list[ModelMessage], info: Any) -> ModelResponse:
        prompt = "\n".join(str(getattr(part, "content", "")) for message in messages for part in message.parts)
        text = desk.summarise(_parts(prompt), prompt=prompt)
        return ModelResponse(parts=[TextPart(text)], usage=RequestUsage())

    return SummarizingCompaction(model=FunctionModel(write), tokenizer=desk.count_text, **options)


def _parts(prompt: str) -> Iterator[Message]:
    """Yield what the prompt quotes, message by message."""
    roles = {"user": "user", "tool_return": "tool", "summary": "user"}
    for text in _PREVIOUS.findall(prompt):
        yield {"role": "user", "content": text}
    for role, text in _ELEMENT.findall(prompt):
        if role != "system":
            written: Message = {"role": roles.get(role, "assistant"), "content": text}
            yield {**written, "tool_call_id": "quoted"} if role == "tool_return" else written


@dataclass
class Timed:
    """Stands in for a capability's hook before a request, on the clock."""

    desk: Desk
    hook: Any

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self.desk.clock:
            return await self.hook(*arguments, **named)


@dataclass
class Loop:
    """A real agent whose model and tools are the recording."""

    desk: Desk
    capability: Any
    recorded: Recorded = field(init=False)

    def __post_init__(self) -> None:
        self.recorded = Recorded(self.desk)
        object.__setattr__(
            self.capability, "before_model_request", Timed(self.desk, self.capability.before_model_request)
        )
        system = "\n".join(map(text_of, self.recorded.system))
        self.agent: Any = Agent(
            FunctionModel(self._answer),
            system_prompt=system or (),
            tools=[
                Tool.from_schema(self._result, name, "recorded", _ANY_ARGUMENTS, takes_ctx=True)
                for name in self.recorded.tool_names()
            ],
            capabilities=[self.capability],
        )

    async def run(self) -> None:
        history: list[ModelMessage] = []
        for turn in self.recorded.turns():
            try:
                result = await self.agent.run(
                    "\n".join(turn.said), message_history=history, usage_limits=UsageLimits(request_limit=None)
                )
            except RecordingEnded:
                return
            history = result.all_messages()

    def _answer(self, messages: list[ModelMessage], info: Any) -> ModelResponse:
        index, answer = self.recorded.answer()
        sent = [one for message in messages for one in _written(message)]
        self.recorded.send(index, sent)
        with self.desk.uncounted():
            tokens, own = sum(map(self.desk.count_message, sent)), self.desk.count_message(answer)
        parts: list[Any] = [TextPart(text_of(answer))] if text_of(answer) else []
        parts += [
            ToolCallPart(call["function"]["name"], arguments_of(call), call["id"])
            for call in answer.get("tool_calls") or ()
        ]
        return ModelResponse(parts=parts or [TextPart(" ")], usage=RequestUsage(input_tokens=tokens, output_tokens=own))

    async def _result(self, context: RunContext[Any], /, **arguments: Any) -> str:
        return self.recorded.result(context.tool_call_id or "")


def _played(desk: Desk, capability: Any) -> None:
    asyncio.run(Loop(desk, capability).run())


def _written(message: ModelMessage) -> Iterable[Message]:
    if isinstance(message, ModelResponse):
        yield _answered(message)
        return
    for part in message.parts:
        match part:
            case SystemPromptPart():
                yield {"role": "system", "content": part.content}
            case ToolReturnPart():
                yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.model_response_str()}
            case UserPromptPart():
                yield {"role": "user", "content": _user_text(part)}
            case _:  # a summary
                yield {"role": "user", "content": str(getattr(part, "content", ""))}


def _answered(message: ModelResponse) -> Message:
    text = "\n".join(part.content for part in message.parts if isinstance(part, TextPart))
    calls = [
        {"id": part.tool_call_id, "type": "function", "function": {"name": part.tool_name, "arguments": _json(part)}}
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    other = "".join(
        str(getattr(part, "content", "") or "")
        for part in message.parts
        if not isinstance(part, TextPart | ToolCallPart)
    )
    written: Message = {"role": "assistant", "content": text or other}
    return {**written, "tool_calls": calls} if calls else written


def _json(part: ToolCallPart) -> str:
    return as_arguments(part.args_as_dict())


def _user_text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    return "\n".join(one if isinstance(one, str) else str(getattr(one, "content", "")) for one in part.content)


if __name__ == "__main__":
    serve(
        {
            "summarizing": summarizing,
            "sliding_window": sliding_window,
            "clear_tool_results": clearing,
            "tiered": tiered,
        }
    )
