"""The one thing the agent knows of a model: `LLM`, and the value that each call returns.

Each provider is one file in this package, behind this protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from memory.messages import ToolCall, Wire
from memory.usage import Usage

StopReason: TypeAlias = Literal["end_turn", "tool_use", "max_tokens", "refusal"]
"""Why the model stopped: it was done, it wants tools run, it was cut off, it declined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResponse:
    """One answer of a model."""

    content: str
    """What it said; empty when it only calls tools."""
    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: StopReason
    usage: Usage
    """What the provider counted for this call, cached input and reasoning included."""
    message: object
    """The same answer as the message that belongs into the memory, in the provider's own form, untouched."""


class LLM(Protocol):
    """A model that takes messages and answers once. Retries and provider formats are its business."""

    @property
    def model(self) -> str:
        """The name under which the provider bills it."""
        ...

    async def call_async(
        self, messages: Sequence[object], tools: Sequence[Wire] | None = None, max_tokens: int | None = None
    ) -> LLMResponse:
        """Answer a conversation. One request to the provider.

        Args:
            messages: What `MemoryManager.get_context_for_llm()` returned.
            tools: Tool schemas in OpenAI chat form, as `Toolbox.schemas` gives them.
            max_tokens: Longest answer in tokens; None leaves it to the provider.
        """
        ...
