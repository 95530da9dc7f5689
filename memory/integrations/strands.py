"""A conversation manager for Strands Agents: `Agent(conversation_manager=MemoryConversationManager(memory))`.

By the framework's contract `agent.messages` is what is sent, and the manager edits it in place. So the list becomes
the managed context before each call of the model, and the memory's archive keeps what left it.

Facts about the framework are those of strands-agents 1.62: `agent/conversation_manager/conversation_manager.py`,
`event_loop/event_loop.py`, `session/repository_session_manager.py`, `types/content.py`.
"""

from __future__ import annotations

import base64
import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Any, cast
from uuid import uuid4

from ..errors import ConfigError, ContextOverflowError, MissingDependencyError
from ..manager import MemoryManager
from ..messages import Wire
from ..usage import Usage
from . import _parts
from ._bridge import Bridge

try:
    from strands import Agent
    from strands.agent.conversation_manager import ConversationManager
    from strands.hooks import AfterInvocationEvent, AfterModelCallEvent, BeforeModelCallEvent, HookRegistry
    from strands.types.content import ContentBlock, Message
    from strands.types.event_loop import Usage as ReportedUsage
    from strands.types.tools import ToolResult
except ImportError as error:
    raise MissingDependencyError(
        "this adapter needs Strands Agents: pip install 'aloop-memory[strands]'", name="strands"
    ) from error

__all__ = ["MemoryConversationManager"]


class MemoryConversationManager(ConversationManager):
    """Keeps one agent's messages short, books what its calls use, and makes refused contexts smaller.

    A message that no compression touched stays the very dict that it was. Where a compression leaves two messages of
    one role side by side they become one, because Bedrock refuses lists whose roles do not alternate. With a session
    manager the state of the list is saved, and an agent that takes the session up begins with the managed context.
    """

    def __init__(self, memory: MemoryManager) -> None:
        """Take the memory of one agent's conversation; make it without a dialect, whatever the model."""
        super().__init__()
        self.memory = memory
        self._bridge: Bridge[Message] = Bridge(memory, _Codec())
        self._agent: weakref.ref[Agent] | None = None
        self._whole: list[Message] = []
        """The conversation as it came in, with nothing taken out."""
        self._shown: list[Message] = []
        """What `agent.messages` was made to be for it."""
        self._merged: dict[tuple[int, ...], tuple[list[Message], Message]] = {}
        """Neighbours of one role and the one message that stands for them, by the `id`s of the former."""
        self._restored: list[Message] = []
        """What a saved state brought: the session itself does not hold these."""
        self._removed_before = 0
        """How many of the session's messages these stand for."""

    # --- The framework's conversation manager -------------------------------------------------------------------------

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Subscribe to the calls of the model."""
        super().register_hooks(registry, **kwargs)
        registry.add_callback(BeforeModelCallEvent, self._before_model_call)
        registry.add_callback(AfterModelCallEvent, self._after_model_call)
        registry.add_callback(AfterInvocationEvent, self._after_invocation)

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        """Do nothing: the list is managed before each call of the model, where a summary can be awaited."""

    def reduce_context(self, agent: Agent, e: Exception | None = None, **kwargs: Any) -> None:
        """Make the list strictly smaller, or raise the error again.

        A refused context has been compressed already when the framework asks here, unless that was impossible.

        Args:
            agent: Its messages are edited in place.
            e: The provider's refusal. None: compress now, whatever the threshold says.
            kwargs: None that the framework gives.

        Raises:
            Exception: `e`, if nothing can be made smaller.
        """
        self._take(self._own(agent))
        try:
            self._bridge.follow_sync(self._whole)
            is_smaller = self.memory.compress_sync() if e is None else self.memory.recover_sync(e)
            context = self._bridge.context()
        except ContextOverflowError as overflow:
            raise e or overflow from overflow
        if e is not None and not is_smaller:
            raise e
        self._show(agent, context)

    def get_state(self) -> dict[str, Any]:
        """Return what a session is to save: how many of its messages are not sent as they are, and what is instead."""
        made = self._restored
        if self._shown:
            untouched, restored = self._untouched_count, self._restored_count
            made = self._shown[: len(self._shown) - untouched]
            self.removed_message_count = self._removed_before + len(self._whole) - restored - untouched
        return {**super().get_state(), "messages": list(made)}

    def restore_from_session(self, state: dict[str, Any]) -> list[Message] | None:
        """Take a saved state. Return the messages that stand before those that the session holds."""
        super().restore_from_session(state)
        self._removed_before = self.removed_message_count
        self._restored = list(state.get("messages") or ())
        return list(self._restored)

    # --- What the hooks call ------------------------------------------------------------------------------------------

    async def _before_model_call(self, event: BeforeModelCallEvent) -> None:
        agent = self._own(event.agent)
        self.memory.set_fixed(system=agent.system_prompt, tools=agent.tool_registry.get_all_tool_specs())
        self._take(agent)
        self._show(agent, await self._bridge.follow(self._whole))

    async def _after_model_call(self, event: AfterModelCallEvent) -> None:
        if event.exception is not None:
            # The framework would ask `reduce_context` next, which cannot wait for a model to write the summary.
            event.retry = event.retry or await self.memory.recover(event.exception)
        elif event.stop_response is not None:
            used = event.stop_response.message.get("metadata", {}).get("usage")
            if used is not None and used["totalTokens"]:  # a cancelled call, or a provider that says nothing, has 0
                self.memory.record_usage(_usage(used), model=_model_name(self._own(event.agent)))

    async def _after_invocation(self, event: AfterInvocationEvent) -> None:
        """Take the last answer, so that the books are complete."""
        agent = self._own(event.agent)
        newest = self._take(agent)
        if newest and len(newest) < len(self._whole):
            await self._bridge.add(newest)

    def _own(self, agent: Any) -> Agent:
        known = self._agent() if self._agent is not None else None
        if known is not None and known is not agent:
            raise ConfigError(
                "this MemoryConversationManager belongs to another agent; make one, with a memory of its own, for each"
            )
        self._agent = weakref.ref(agent)
        return cast(Agent, agent)

    def _take(self, agent: Agent) -> list[Message]:
        """Note what the agent's list holds that was not there before, and return it: all, if it was set anew."""
        count = len(self._shown)
        is_longer = count <= len(agent.messages) and all(map(_is, self._shown, agent.messages))
        newest = agent.messages[count:] if is_longer else list(agent.messages)
        self._whole = [*self._whole, *newest] if is_longer else newest
        self._shown = list(agent.messages)
        return newest

    def _show(self, agent: Agent, context: Sequence[Message]) -> None:
        is_whole = len(context) == len(self._whole) and all(map(_is, context, self._whole))
        self._shown = list(context) if is_whole else self._alternating(context)
        agent.messages[:] = self._shown

    def _alternating(self, context: Sequence[Message]) -> list[Message]:
        """Return the messages with neighbours of one role as one.

        Source: "A conversation must alternate between user and assistant roles", Bedrock's Converse
        (https://github.com/langchain-ai/langchain-aws/issues/192).
        """
        runs = [list(run) for _, run in groupby(context, key=lambda message: message["role"])]
        merged = {
            key: self._merged.get(key) or (run, _one_of(run)) for run in runs if len(run) > 1 for key in [_ids(run)]
        }
        self._merged = merged
        return [merged[_ids(run)][1] if len(run) > 1 else run[0] for run in runs]

    @property
    def _untouched_count(self) -> int:
        """How many of the newest messages stand at the end of the list just as they came, restored ones aside."""
        pairs = zip(reversed(self._shown), reversed(self._whole[self._restored_count :]), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], pairs))

    @property
    def _restored_count(self) -> int:
        """How many of the first messages came with a saved state. None, where a snapshot holds them itself."""
        restored = self._restored
        return len(restored) if self._whole[:1] and all(map(_is, restored, self._whole)) else 0


def _is(one: object, other: object) -> bool:
    return one is other


def _ids(messages: Sequence[Message]) -> tuple[int, ...]:
    return tuple(map(id, messages))


def _one_of(run: Sequence[Message]) -> Message:
    """Return one message with the content of all; it is the first of them to whoever knows that by its id."""
    one = Message(role=run[0]["role"], content=[block for message in run for block in message["content"]])
    if "tracking_id" in run[0]:
        one["tracking_id"] = run[0]["tracking_id"]
    return one


def _usage(reported: ReportedUsage) -> Usage:
    """Read the framework's usage: the cache is in its input with OpenAI and Gemini, beside it with the others.

    The total tells: `models/openai.py` has input and output in it, `models/anthropic.py` all four counts.
    """
    read, written = reported.get("cacheReadInputTokens") or 0, reported.get("cacheWriteInputTokens") or 0
    fresh, answer = reported["inputTokens"], reported["outputTokens"]
    is_beside = read + written > fresh or reported["totalTokens"] >= fresh + read + written + answer
    whole = fresh + read + written if is_beside else fresh
    return Usage(input_tokens=whole, output_tokens=answer, cache_read_tokens=read, cache_write_tokens=written)


def _model_name(agent: Agent) -> str | None:
    config = agent.model.get_config()
    name = config.get("model_id") if isinstance(config, Mapping) else getattr(config, "model_id", None)
    return name if isinstance(name, str) else None


class _Codec:
    """The framework's messages as chat messages: each tool result is one, and what stands beside them another."""

    def write(self, message: Message) -> Sequence[Wire]:
        blocks = message["content"]
        if message["role"] == "assistant":
            return [_assistant(blocks)]
        results = [_result(block["toolResult"]) for block in blocks if "toolResult" in block]
        said = [part for block in blocks if "toolResult" not in block for part in _said(block)]
        return [*results, {"role": "user", "content": _parts.content(said)}] if said or not results else results

    def rewrite(self, message: Message, kept: Mapping[int, Wire]) -> Message:
        if message["role"] == "assistant":
            is_stripped = "thinking_blocks" not in kept[0]
            blocks = [block for block in message["content"] if not (is_stripped and "reasoningContent" in block)]
        else:
            blocks = list(_left(message["content"], self.write(message), kept))
        copy = message.copy()
        copy["content"] = blocks
        return copy

    def write_user(self, text: str) -> Message:
        return Message(role="user", content=[{"text": text}], tracking_id=str(uuid4()))


def _left(blocks: Sequence[ContentBlock], written: Sequence[Wire], kept: Mapping[int, Wire]) -> Iterator[ContentBlock]:
    """Yield the blocks of a user's message that are left, results shortened as their chat messages are."""
    number = -1
    words = sum("toolResult" in block for block in blocks)
    for block in blocks:
        if "toolResult" not in block:
            if words in kept:
                yield block
            continue
        number += 1
        if number not in kept:
            continue
        now = kept[number]["content"]
        if now == written[number]["content"]:
            yield block
        else:
            result = block["toolResult"].copy()
            result["content"] = [{"text": now}]
            yield ContentBlock(toolResult=result)


def _assistant(blocks: Sequence[ContentBlock]) -> Wire:
    calls = [_call(block["toolUse"]) for block in blocks if "toolUse" in block]
    thoughts = [_thought(block["reasoningContent"]) for block in blocks if "reasoningContent" in block]
    said = [
        part for block in blocks if "toolUse" not in block and "reasoningContent" not in block for part in _said(block)
    ]
    wire: dict[str, Any] = {"role": "assistant", "content": _parts.content(said)}
    return wire | ({"tool_calls": calls} if calls else {}) | ({"thinking_blocks": thoughts} if thoughts else {})


def _call(use: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(use["input"], ensure_ascii=False, separators=(",", ":"))
    return {"id": use["toolUseId"], "type": "function", "function": {"name": use["name"], "arguments": arguments}}


def _thought(reasoning: Mapping[str, Any]) -> dict[str, Any]:
    if "redactedContent" in reasoning:
        return {"type": "redacted_thinking", "data": base64.b64encode(reasoning["redactedContent"]).decode()}
    words = reasoning.get("reasoningText", {})
    return _parts.thinking(words.get("text", ""), words.get("signature"))


def _result(result: ToolResult) -> Wire:
    content = _parts.content([part for item in result["content"] for part in _said(item)])
    wire: dict[str, Any] = {"role": "tool", "tool_call_id": result["toolUseId"], "content": content}
    return wire | ({"status": "error"} if result.get("status") == "error" else {})


def _said(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a block says in chat's parts; nothing for a cache point."""
    match block:
        case {"text": str(words)}:
            return [_parts.text(words)]
        case {"json": value}:
            return [_parts.text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))]
        case {"cachePoint": _}:
            return []
        case {"guardContent": {"text": {"text": str(words)}}}:
            return [_parts.text(words)]
        case {"citationsContent": {"content": [*cited]}}:
            return [_parts.text(part["text"]) for part in cited if part.get("text")]
    for kind, mime in _MEDIA.items():
        if kind in block:
            return [_file(mime, block[kind])]
    return [_parts.unknown(block)]


_MEDIA = {"image": "image", "audio": "audio", "video": "video", "document": "application"}


def _file(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    source = content.get("source") or {}
    media_type = f"{kind}/{content.get('format', '*')}"
    if isinstance(data := source.get("bytes"), bytes):
        return _parts.media(media_type, base64=base64.b64encode(data).decode())
    if "location" in source:
        return _parts.media(media_type, url=source["location"].get("uri"))
    return _parts.unknown(content)
