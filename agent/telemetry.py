"""What an agent tells of itself while it runs, and to whom: `Telemetry`, and `NoTelemetry`, which listens to nothing.

`memory.integrations.opentelemetry.Telemetry` is one; anything else with these four methods will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from memory.errors import ConfigError
from memory.events import Event
from memory.messages import DialectName, Wire
from memory.usage import Usage

from .llm import LLM, LLMResponse, OnDelta


class OperationTrace(Protocol):
    """Something that is under way. An exception that leaves it is noticed without being told."""

    def failed(self, error_type: str = ...) -> None:
        """Mark it as failed, where that is no exception: a tool whose result is an error."""
        ...


class ModelCallTrace(OperationTrace, Protocol):
    """A model call that is under way."""

    def answered(self, *, usage: Usage | None = ..., model: str | None = ..., finish_reason: str | None = ...) -> None:
        """Say what the provider answered."""
        ...


class Telemetry(Protocol):
    """Follows the runs of agents. One may serve any number of them at once."""

    def agent(
        self, name: str, *, provider: str | None = ..., model: str | None = ...
    ) -> AbstractContextManager[OperationTrace]:
        """Follow one run of an agent; the rest happens inside."""
        ...

    def model_call(
        self, *, provider: str, model: str, is_streamed: bool = ..., max_tokens: int | None = ...
    ) -> AbstractContextManager[ModelCallTrace]:
        """Follow one call of a model. `provider` may be the name of its format."""
        ...

    def tool(self, name: str, call_id: str | None = ...) -> AbstractContextManager[OperationTrace]:
        """Follow one execution of a tool."""
        ...

    def on_event(self, event: Event) -> None:
        """Take an event of the memory."""
        ...


class NoTelemetry:
    """Follows nothing."""

    @contextmanager
    def agent(self, name: str, *, provider: str | None = None, model: str | None = None) -> Iterator[_Nothing]:
        yield _Nothing()

    @contextmanager
    def model_call(
        self, *, provider: str, model: str, is_streamed: bool = False, max_tokens: int | None = None
    ) -> Iterator[_Nothing]:
        yield _Nothing()

    @contextmanager
    def tool(self, name: str, call_id: str | None = None) -> Iterator[_Nothing]:
        yield _Nothing()

    def on_event(self, event: Event) -> None:
        return


class TracedModel:
    """A model whose every call is followed: the agent's own, and the summaries that its memory asks of it."""

    def __init__(self, llm: LLM, telemetry: Telemetry) -> None:
        self._llm = llm
        self._telemetry = telemetry

    @property
    def model(self) -> str:
        return self._llm.model

    @property
    def dialect(self) -> DialectName:
        return self._llm.dialect

    def with_model(self, name: str) -> TracedModel:
        """Return the same under another model's name, for `compression_model`.

        Raises:
            ConfigError: The model that is followed cannot do that.
        """
        switch = getattr(self._llm, "with_model", None)
        if switch is None:
            raise ConfigError(f"{type(self._llm).__name__} cannot be switched to {name!r}: it has no with_model(name)")
        return TracedModel(switch(name), self._telemetry)

    async def call_async(
        self,
        messages: Sequence[object],
        tools: Sequence[Wire] | None = None,
        max_tokens: int | None = None,
        *,
        system: str | None = None,
        on_delta: OnDelta | None = None,
    ) -> LLMResponse:
        """Answer a conversation, as `LLM.call_async` says."""
        with self._telemetry.model_call(
            provider=self.dialect, model=self.model, is_streamed=on_delta is not None, max_tokens=max_tokens
        ) as call:
            response = await self._llm.call_async(messages, tools, max_tokens, system=system, on_delta=on_delta)
            call.answered(usage=response.usage, model=response.model, finish_reason=response.stop_reason)
            return response


class _Nothing:
    def failed(self, error_type: str = "") -> None:
        return

    def answered(
        self, *, usage: Usage | None = None, model: str | None = None, finish_reason: str | None = None
    ) -> None:
        return
