"""ScriptedModel: a model that follows a script, for tests, examples and the demo. It calls no provider.

It is deterministic, needs no key and no network, and counts what a provider would have billed: the real messages
it is sent, with the library's own counter.

    ScriptedModel([Reply(calls=[call("read_file", path="a.py")]), "It is empty."])       # these replies, in order
    ScriptedModel(lambda messages, tools: f"You sent {len(messages)} messages.")         # decides by what it is sent
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memory.dialects import dialect_named
from memory.messages import DialectName, LLMMessage, ToolCall, Wire
from memory.native import to_wire
from memory.tokens import TiktokenCounter, TokenCounter
from memory.usage import Usage

from .llm import Delta, LLMResponse, OnDelta

# What OpenAI serves from its prompt cache: prefixes from 1,024 tokens on, in steps of 128.
# https://platform.openai.com/docs/guides/prompt-caching (read 2026-11)
_CACHE_MINIMUM_TOKENS = 1_024
_CACHE_STEP_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, which tools it calls, or both."""

    text: str = ""
    calls: Sequence[ToolCall] = ()
    """Made with `call`; ids are given when the reply is sent."""

    def __post_init__(self) -> None:
        if not self.text and not self.calls:
            raise ValueError("a reply needs a text or a call: providers reject an assistant message with neither")


Policy: TypeAlias = Callable[[Sequence[Wire], Sequence[Wire]], "Reply | str"]
"""Decides what the model replies from the messages and tool schemas of the request, in OpenAI chat form."""


def call(name: str, **arguments: object) -> ToolCall:
    """Return a tool call for a `Reply`."""
    return ToolCall(id=None, name=name, arguments=json.dumps(arguments, ensure_ascii=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the model was sent, once."""

    messages: tuple[object, ...]
    """The very objects."""
    tools: tuple[Wire, ...]
    usage: Usage


class ScriptedModel:
    """Plays a script behind the `LLM` protocol, and keeps every request for inspection.

    Usage is counted, not invented: input is every message and tool schema of the request, output the reply, and
    cached input is the part that the request shares with the one before, by OpenAI's rule. Each message is
    counted once, as long as the requests extend each other.
    """

    def __init__(
        self, script: Policy | Iterable[Reply | str], *, model: str = "gpt-4o-mini", counter: TokenCounter | None = None
    ) -> None:
        """Take a script: the replies in order, or a function that decides each one.

        Args:
            script: See `Policy`; a plain string is a reply that calls no tools.
            model: Whose prices and tokenizer apply.
            counter: Counts instead of the model's own tokenizer.
        """
        self._decide: Policy = script if callable(script) else _in_order(iter(script))
        self._counter = counter or TiktokenCounter(model)
        self._counted: list[tuple[object, int]] = []  # the last request, each message with its tokens
        self._last_tools: tuple[Wire, ...] = ()
        self._calls_made = 0
        self._model = model
        self.requests: list[Request] = []

    @property
    def model(self) -> str:
        """The model whose prices apply; it is not called."""
        return self._model

    def with_model(self, model: str) -> ScriptedModel:
        """Return a model that plays on in the same script under another name, for `compression_model`."""
        return ScriptedModel(self._decide, model=model)

    def __repr__(self) -> str:
        return f"<ScriptedModel: a script in the place of {self._model}>"

    @property
    def dialect(self) -> DialectName:
        return "openai_chat"

    async def call_async(
        self,
        messages: Sequence[object],
        tools: Sequence[Wire] | None = None,
        max_tokens: int | None = None,
        *,
        system: str | None = None,
        on_delta: OnDelta | None = None,
    ) -> LLMResponse:
        """Play the next line of the script. `max_tokens` is not enforced: the script's author is in control."""
        offered = tuple(tools or ())
        messages = [LLMMessage("system", system), *messages] if system else messages
        input_tokens, cached_tokens = self._count_input(messages, offered)
        decided = self._decide([to_wire(message) for message in messages], offered)
        reply = Reply(decided) if isinstance(decided, str) else decided
        calls = tuple(self._with_id(wanted) for wanted in reply.calls)
        message = LLMMessage(
            "assistant", reply.text or None, tool_calls=[_call_to_wire(made) for made in calls] or None
        )
        usage = Usage(input_tokens=input_tokens, output_tokens=self._count(message), cache_read_tokens=cached_tokens)
        self.requests.append(Request(messages=tuple(messages), tools=offered, usage=usage))
        if on_delta is not None:
            _show(reply, on_delta)
        return LLMResponse(
            content=reply.text,
            tool_calls=calls,
            stop_reason="tool_use" if calls else "end_turn",
            usage=usage,
            message=message,
        )

    def _with_id(self, wanted: ToolCall) -> ToolCall:
        self._calls_made += 1
        return ToolCall(id=f"call_{self._calls_made}", name=wanted.name, arguments=wanted.arguments)

    def _count_input(self, messages: Sequence[object], tools: tuple[Wire, ...]) -> tuple[int, int]:
        """Return the tokens of a request, and how many of them a prompt cache would have held."""
        shared = _shared_prefix([message for message, _ in self._counted], messages)
        kept = self._counted[:shared]
        tools_tokens = self._counter.count_tools(tools)
        # Tools stand in front of the messages in OpenAI's cached prefix.
        prefix_tokens = tools_tokens + sum(tokens for _, tokens in kept) if tools == self._last_tools else 0
        self._counted = kept + [(message, self._count(message)) for message in messages[shared:]]
        self._last_tools = tools
        cached = prefix_tokens // _CACHE_STEP_TOKENS * _CACHE_STEP_TOKENS
        total = tools_tokens + sum(tokens for _, tokens in self._counted)
        return total, cached if cached >= _CACHE_MINIMUM_TOKENS and self.requests else 0

    def _count(self, message: object) -> int:
        return self._counter.count_reading(dialect_named("openai_chat").read(to_wire(message)))


def _show(reply: Reply, on_delta: OnDelta) -> None:
    """Pass a reply on in pieces, word by word, as a stream would come."""
    for piece in _PIECE.findall(reply.text):
        on_delta(Delta(kind="text", text=piece))
    for wanted in reply.calls:
        on_delta(Delta(kind="tool_call", text=wanted.name))


_PIECE = re.compile(r"\s*\S+\s*")


def _in_order(replies: Iterator[Reply | str]) -> Policy:
    def decide(messages: Sequence[Wire], tools: Sequence[Wire]) -> Reply | str:
        try:
            return next(replies)
        except StopIteration:
            raise RuntimeError("the script is over: the model was asked once more than there are replies") from None

    return decide


def _shared_prefix(before: Sequence[object], after: Sequence[object]) -> int:
    """Return how many messages two requests have in common from the start."""
    pairs = zip(before, after, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a is not b and a != b), min(len(before), len(after)))


def _call_to_wire(made: ToolCall) -> dict[str, object]:
    return {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
