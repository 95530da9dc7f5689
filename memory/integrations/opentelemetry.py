"""Spans and metrics of model calls, tools, agents and compressions, by OpenTelemetry's conventions for generative AI.

    telemetry = Telemetry()
    memory = MemoryManager(config, llm, on_event=telemetry.on_event)
    with telemetry.model_call(provider="openai", model="gpt-4o-mini") as call:
        response = client.chat.completions.create(...)
        call.answered(usage=read_usage(response))

Names, kinds, attributes and buckets are those of the GenAI semantic conventions (status: Development), as
opentelemetry-semantic-conventions 0.66b1 has them; there they are marked as moved to
https://github.com/open-telemetry/semantic-conventions-genai, whose docs/gen-ai/gen-ai-spans.md, gen-ai-agent-spans.md
and gen-ai-metrics.md say the rest (read in September 2026, no release yet, hence no schema URL here). What is ours
begins with `aloop.memory.`.

No message, no argument or result of a tool, no exception text and no key is ever put into an attribute.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TypeAlias

from ..errors import MissingDependencyError
from ..events import (
    Compressed,
    Degraded,
    Event,
    FloorReached,
    OverBudget,
    Recalled,
    SaveFailed,
    SaveRecovered,
    Undone,
)
from ..usage import Usage

try:
    from opentelemetry.metrics import Histogram, MeterProvider, get_meter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_current_span, get_tracer
except ImportError as error:
    raise MissingDependencyError(
        "telemetry needs the OpenTelemetry API: pip install 'aloop-memory[otel]'", name="opentelemetry"
    ) from error

__all__ = ["ModelCall", "Operation", "Telemetry"]

Value: TypeAlias = str | bool | int | float
_Attributes: TypeAlias = dict[str, Value]

_SCOPE = "aloop-memory"

_TOKENS = tuple(4**power for power in range(14))
"""Buckets that the conventions advise for `gen_ai.client.token.usage`: 1 to 67,108,864."""
_SECONDS = tuple(0.01 * 2**power for power in range(14))
"""For `gen_ai.client.operation.duration` and `gen_ai.execute_tool.duration`: 0.01 to 81.92."""
_AGENT_SECONDS = tuple(0.1 * 2**power for power in range(13))
"""For `gen_ai.invoke_agent.duration`: 0.1 to 409.6."""

_PROVIDERS = {
    "openai_chat": "openai",
    "openai_responses": "openai",
    "openai-responses": "openai",
    "gemini": "gcp.gemini",
    "google-generativeai": "gcp.gemini",
}
"""Our names of formats and providers -> well-known values of `gen_ai.provider.name`; others are passed on."""

_FINISH_REASONS = {"end_turn": "stop", "tool_use": "tool_call", "max_tokens": "length", "refusal": "content_filter"}
"""Our stop reasons -> `FinishReason` of the conventions (gen-ai-output-messages.json); others are passed on."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NAMES = frozenset({"trigger", "strategy", "method", "failed", "next", "purpose", "first_ref", "last_ref", "error"})
"""Fields of events whose texts are names; what else is text (a reason) stays out of attributes."""


class Operation:
    """An operation that is under way: its span, and what its metrics are to say."""

    def __init__(self, span: Span, shared: _Attributes) -> None:
        self._span = span
        self._shared = shared

    def failed(self, error_type: str = "_OTHER") -> None:
        """Mark the operation as failed, where that is no exception: a tool whose result is an error.

        Args:
            error_type: A class of errors, not a message.
        """
        self._shared["error.type"] = error_type
        self._span.set_attribute("error.type", error_type)
        # Without a description: it would be the exception's text, and that may quote a message.
        self._span.set_status(Status(StatusCode.ERROR))


class ModelCall(Operation):
    """A model call that is under way."""

    usage: Usage | None = None
    """What the provider counted; None until it has answered, or unknown."""

    def answered(
        self, *, usage: Usage | None = None, model: str | None = None, finish_reason: str | None = None
    ) -> None:
        """Say what the provider answered.

        Args:
            usage: What it counted; None: unknown, and then no tokens are recorded.
            model: The model that answered, as the provider names it.
            finish_reason: Why it stopped: a `StopReason` of ours, or the provider's own word.
        """
        self.usage = usage
        if model is not None:
            self._shared["gen_ai.response.model"] = model
            self._span.set_attribute("gen_ai.response.model", model)
        if finish_reason is not None:
            reason = _FINISH_REASONS.get(finish_reason, finish_reason)
            self._span.set_attribute("gen_ai.response.finish_reasons", [reason])
        if usage is not None:
            self._span.set_attributes(_usage_attributes(usage))


class Telemetry:
    """Turns what happens into spans and metrics. Safe to share between agents, threads and event loops.

    A span is the child of the one that is current where it begins: an agent's of the request that it serves, a model
    call's and a tool's of the agent's, also for tools that run side by side.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        """Take where spans and metrics go; None: the providers that the program has set for all."""
        self._tracer = get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = get_meter(_SCOPE, meter_provider=meter_provider)

        def histogram(name: str, unit: str, buckets: tuple[float, ...], description: str) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)

        self._call_seconds = histogram("gen_ai.client.operation.duration", "s", _SECONDS, "GenAI operation duration.")
        self._call_tokens = histogram(
            "gen_ai.client.token.usage", "{token}", _TOKENS, "Number of input and output tokens used."
        )
        self._tool_seconds = histogram(
            "gen_ai.execute_tool.duration", "s", _SECONDS, "The duration of a single tool execution."
        )
        self._agent_seconds = histogram(
            "gen_ai.invoke_agent.duration", "s", _AGENT_SECONDS, "The duration of a single agent invocation."
        )
        self._saved = histogram(
            "aloop.memory.compression.tokens_saved", "{token}", _TOKENS, "Tokens that a compression took out."
        )
        self._compressions = meter.create_counter("aloop.memory.compressions", "{compression}", "Compressions.")
        self._cost = meter.create_counter("aloop.memory.compression.cost", "{USD}", "Cost of summary calls.")
        self._counters = {
            kind: meter.create_counter(f"aloop.memory.{name}", "{event}", description)
            for kind, (name, description) in _COUNTED.items()
        }

    @contextmanager
    def model_call(
        self, *, provider: str, model: str, is_streamed: bool = False, max_tokens: int | None = None
    ) -> Iterator[ModelCall]:
        """Trace one call of a model, from the request to the end of the answer.

        Args:
            provider: A provider's or a format's name of ours, or a well-known value of `gen_ai.provider.name`.
            model: The model that is asked.
            is_streamed: Whether the answer is streamed.
            max_tokens: The longest answer that is asked for.
        """
        provider = _PROVIDERS.get(provider, provider)
        # The conventions have a word of its own for Gemini's method.
        operation = "generate_content" if provider.startswith("gcp.") else "chat"
        shared: _Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
        }
        asked: _Attributes = {"gen_ai.request.stream": True} if is_streamed else {}
        if max_tokens is not None:
            asked["gen_ai.request.max_tokens"] = max_tokens
        with self._span(f"{operation} {model}", shared, self._call_seconds, asked, SpanKind.CLIENT) as span:
            call = ModelCall(span, shared)
            yield call
            self._record_tokens(call.usage, shared)

    @contextmanager
    def tool(self, name: str, call_id: str | None = None) -> Iterator[Operation]:
        """Trace one execution of a tool.

        Args:
            name: Of the tool. A name that no tool can have, which a model made up, is not passed on.
            call_id: Of the model's call.
        """
        name = name if _TOOL_NAME.fullmatch(name) else "_OTHER"
        shared: _Attributes = {"gen_ai.tool.name": name, "gen_ai.tool.type": "function"}
        own: _Attributes = {"gen_ai.operation.name": "execute_tool"}
        if call_id is not None:
            own["gen_ai.tool.call.id"] = call_id
        with self._span(f"execute_tool {name}", shared, self._tool_seconds, own) as span:
            yield Operation(span, shared)

    @contextmanager
    def agent(self, name: str, *, provider: str | None = None, model: str | None = None) -> Iterator[Operation]:
        """Trace one run of an agent; what happens inside becomes its children."""
        shared: _Attributes = {"gen_ai.agent.name": name}
        if model is not None:
            shared["gen_ai.request.model"] = model
        own: _Attributes = {"gen_ai.operation.name": "invoke_agent"}
        if provider is not None:
            own["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider)
        with self._span(f"invoke_agent {name}", shared, self._agent_seconds, own) as span:
            yield Operation(span, shared)

    def on_event(self, event: Event) -> None:
        """Take an event of the memory: `MemoryManager(on_event=telemetry.on_event)`.

        A compression becomes a span, without a duration of its own, for it is told when it is done; everything else
        becomes an event of the span that is current.
        """
        if isinstance(event, Compressed):
            self._record_compression(event)
            return
        name, _ = _COUNTED[type(event)]
        attributes = _event_attributes(event)
        get_current_span().add_event(f"aloop.memory.{name}", attributes)
        self._counters[type(event)].add(1, {key: part for key, part in attributes.items() if isinstance(part, str)})

    @contextmanager
    def _span(
        self,
        name: str,
        shared: _Attributes,
        seconds: Histogram,
        own: _Attributes,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[Span]:
        """Trace what happens inside and measure how long it takes.

        Args:
            name: Of the span.
            shared: Attributes of the span and of the metrics; what is added meanwhile counts for the metrics.
            seconds: Where the duration goes.
            own: Attributes of the span alone.
            kind: Of the span.
        """
        began = time.perf_counter()
        # Exceptions are not recorded by the SDK: their texts may quote messages.
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes={**own, **shared}, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                Operation(span, shared).failed(_error_type(error))
                raise
            finally:
                seconds.record(time.perf_counter() - began, shared)

    def _record_tokens(self, usage: Usage | None, shared: _Attributes) -> None:
        if usage is not None:
            self._call_tokens.record(usage.input_tokens, {**shared, "gen_ai.token.type": "input"})
            self._call_tokens.record(usage.output_tokens, {**shared, "gen_ai.token.type": "output"})

    def _record_compression(self, event: Compressed) -> None:
        self._tracer.start_span(f"compress {event.strategy}", attributes=_event_attributes(event)).end()
        kind = {f"aloop.memory.{name}": getattr(event, name) for name in ("strategy", "trigger", "method")}
        self._compressions.add(1, kind)
        self._cost.add(event.cost_usd, kind)
        # A histogram takes no negative values; a compression that was forced may win nothing.
        self._saved.record(max(0, event.tokens_before - event.tokens_after), kind)


_COUNTED: dict[type[Event], tuple[str, str]] = {
    Degraded: ("degraded", "Steps of the ladder of summarisers that failed."),
    OverBudget: ("over_budget", "Model calls that were not made because of max_cost_dollars."),
    FloorReached: ("floor_reached", "Contexts above the threshold that cannot be made smaller."),
    Undone: ("undone", "Compressions that were taken back."),
    Recalled: ("recalled", "Times that messages were brought back by themselves."),
    SaveFailed: ("save_failed", "Turns that could not be written to the session's store."),
    SaveRecovered: ("save_recovered", "Times that a session's store had everything again after a failure."),
}


def _usage_attributes(usage: Usage) -> _Attributes:
    """Return the token counts. Input contains what the cache gave and took, as the conventions want it."""
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def _event_attributes(event: Event) -> _Attributes:
    """Return an event's numbers and names."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return {
        f"aloop.memory.{name}": value
        for name, value in values.items()
        if isinstance(value, int | float) or name in _NAMES
    }


def _error_type(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
