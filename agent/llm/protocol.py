"""The one thing the agent knows of a model: `LLM`, and the value that each call returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from memory.messages import DialectName, ToolCall, Wire
from memory.usage import Usage

StopReason: TypeAlias = Literal["end_turn", "tool_use", "max_tokens", "refusal"]
"""Why the model stopped: it was done, it wants tools run, it was cut off, it declined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of an answer that is still being written; for showing, never for the memory."""

    kind: Literal["text", "reasoning", "tool_call", "restart"]
    """`restart`: the stream broke and is begun anew; what was shown of this answer is void."""
    text: str = ""
    """The new characters; of a `tool_call` the tool's name, once."""


OnDelta: TypeAlias = Callable[[Delta], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResponse:
    """One answer of a model."""

    content: str
    """What it said; empty when it only calls tools."""
    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: StopReason
    usage: Usage | None
    """What the provider counted for this call, cached input and reasoning included; None where it did not say, as some
    compatible servers do not when they stream."""
    message: object
    """The same answer as the memory takes it: the SDK's own response, or a message in the provider's form, untouched.
    Thinking, signatures and unknown fields are in it."""
    model: str | None = None
    """The model that answered, as the provider names it; None: the one that was asked."""
    wasted: tuple[Usage | None, ...] = ()
    """Of each attempt that broke off after the provider had begun to answer: what it had reported until then, which it
    will bill; None where it had reported nothing."""


class LLM(Protocol):
    """A model that takes messages and answers once. Retries and provider formats are its business."""

    @property
    def model(self) -> str:
        """The name under which the provider bills it."""
        ...

    @property
    def dialect(self) -> DialectName:
        """The format of the messages that it takes and gives."""
        ...

    async def call_async(
        self,
        messages: Sequence[object],
        tools: Sequence[Wire] | None = None,
        max_tokens: int | None = None,
        *,
        system: str | None = None,
        on_delta: OnDelta | None = None,
    ) -> LLMResponse:
        """Answer a conversation. One request to the provider, repeated where its failure may pass.

        Args:
            messages: What `MemoryManager.get_context_for_llm()` returned, in this model's dialect; `LLMMessage`s of
                plain text (a summary request) are taken too.
            tools: Tool schemas in OpenAI chat form, as `Toolbox.schemas` gives them.
            max_tokens: Longest answer in tokens; None leaves it to the provider.
            system: The system prompt, where the dialect has it beside the messages.
            on_delta: Given: the answer is streamed, and each piece passed to this as it comes.

        Raises:
            ProviderError: The provider refused or failed; its subclass says how (agent/llm/errors.py).
        """
        ...


class ProviderModel(LLM, Protocol):
    """A model with connections to a provider, as `connect` makes it. As a context manager it closes them."""

    def with_model(self, name: str, /) -> ProviderModel:
        """Return the same for another model of the provider, over the same connections."""
        ...

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a later call opens new ones."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
