"""Telemetry: the spans and metrics of OpenTelemetry's conventions, rightly nested, without a word of any message."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from agent import Reply, ScriptedModel
from agent import call as script_call
from agent.llm import LLM, LLMResponse, OnDelta
from agent.telemetry import NoTelemetry, TracedModel
from agent.telemetry import Telemetry as Door
from memory import MemoryConfig, MemoryManager
from memory.errors import ConfigError
from memory.events import (
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
from memory.integrations.opentelemetry import Telemetry
from memory.messages import DialectName, Wire
from memory.usage import Usage

USAGE = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=60, cache_write_tokens=10, reasoning_tokens=5)
COMPRESSED = Compressed(
    trigger="threshold",
    strategy="sliding_window",
    method="model",
    tokens_before=40_000,
    tokens_after=12_000,
    summarised_count=30,
    masked_count=2,
    dropped_count=0,
    first_ref="r2",
    last_ref="r33",
    summary_tokens=900,
    cost_usd=0.012,
    saved_usd_per_request=0.07,
)
DEGRADED = Degraded(failed="model", next="extractive", reason="the answer SECRET was empty")
OVER_BUDGET = OverBudget(purpose="agent", spent_usd=0.9, next_call_usd=0.2, limit_usd=1.0)
FLOOR = FloorReached(tokens=50_000, threshold_tokens=40_000, irreducible_tokens=45_000)
UNDONE = Undone(tokens_before=20_000, tokens_after=50_000)
RECALLED = Recalled(refs=("r17",), tokens=400)
SAVE_FAILED = SaveFailed(error="StorageFullError", unsaved_count=3)
SAVE_RECOVERED = SaveRecovered(saved_count=3)


class Recorder:
    """A telemetry with everything that it has told."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry = Telemetry(self.tracers, MeterProvider([self._reader]))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """In the order in which they ended."""
        return self._exporter.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        return next(span for span in self.spans if span.name == name)

    def points(self, metric: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return [point for s in scopes for m in s.metrics if m.name == metric for point in m.data.data_points]

    def everything(self) -> str:
        """All spans and metrics as text."""
        data = self._reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans), data.to_json() if data else ""])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    number: int = span.context.span_id
    return number


# --- Model calls


def test_a_model_call_is_a_client_span_with_what_the_conventions_ask_for(recorder: Recorder) -> None:
    with recorder.telemetry.model_call(
        provider="openai_chat", model="gpt-4o", is_streamed=True, max_tokens=500
    ) as call:
        call.answered(usage=USAGE, model="gpt-4o-2024-08-06", finish_reason="tool_use")

    span = recorder.span("chat gpt-4o")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 500,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ("tool_call",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }


@pytest.mark.parametrize(
    ("given", "provider", "operation"),
    [
        ("openai", "openai", "chat"),
        ("openai_responses", "openai", "chat"),
        ("anthropic", "anthropic", "chat"),
        ("gemini", "gcp.gemini", "generate_content"),
        ("google-generativeai", "gcp.gemini", "generate_content"),
        ("aws.bedrock", "aws.bedrock", "chat"),
    ],
)
def test_providers_have_their_well_known_names(recorder: Recorder, given: str, provider: str, operation: str) -> None:
    with recorder.telemetry.model_call(provider=given, model="m"):
        pass

    told = attributes(recorder.span(f"{operation} m"))
    assert (told["gen_ai.provider.name"], told["gen_ai.operation.name"]) == (provider, operation)


def test_tokens_and_seconds_are_histograms_with_the_buckets_of_the_conventions(recorder: Recorder) -> None:
    with recorder.telemetry.model_call(provider="anthropic", model="claude") as call:
        call.answered(usage=USAGE, model="claude-1")

    tokens: list[HistogramDataPoint] = recorder.points("gen_ai.client.token.usage")
    seconds: list[HistogramDataPoint] = recorder.points("gen_ai.client.operation.duration")
    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude",
        "gen_ai.response.model": "claude-1",
    }
    assert {(p.attributes or {})["gen_ai.token.type"]: p.sum for p in tokens} == {"input": 100, "output": 20}
    assert list(tokens[0].explicit_bounds[:4]) == [1, 4, 16, 64]
    assert tokens[0].explicit_bounds[-1] == 67_108_864
    assert dict(seconds[0].attributes or {}) == shared
    assert seconds[0].explicit_bounds == pytest.approx([0.01 * 2**n for n in range(14)])
    assert 0 <= seconds[0].sum < 5


def test_unknown_usage_is_not_recorded_as_zero(recorder: Recorder) -> None:
    with recorder.telemetry.model_call(provider="openai", model="m") as call:
        call.answered(usage=None)

    assert recorder.points("gen_ai.client.token.usage") == []
    assert "gen_ai.usage.input_tokens" not in attributes(recorder.span("chat m"))


class RefusedError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("SECRET"), "ValueError"),
        (RefusedError("SECRET"), "tests.test_telemetry.RefusedError"),
        (asyncio.CancelledError("SECRET"), "asyncio.exceptions.CancelledError"),
        (KeyboardInterrupt("SECRET"), "KeyboardInterrupt"),
    ],
)
def test_a_failure_is_told_by_its_type_and_goes_on(recorder: Recorder, error: BaseException, kind: str) -> None:
    with pytest.raises(type(error)), recorder.telemetry.model_call(provider="openai", model="m"):
        raise error

    span = recorder.span("chat m")
    assert attributes(span)["error.type"] == kind
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert recorder.points("gen_ai.client.operation.duration")[0].attributes["error.type"] == kind
    assert "SECRET" not in recorder.everything()


# --- Tools and agents


def test_a_tool_whose_result_is_an_error_has_failed(recorder: Recorder) -> None:
    with recorder.telemetry.tool("read_file", "call_1") as tool:
        tool.failed("tool_error")

    span = recorder.span("execute_tool read_file")
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "read_file",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_1",
        "error.type": "tool_error",
    }
    assert recorder.points("gen_ai.execute_tool.duration")[0].attributes["error.type"] == "tool_error"


def test_a_name_that_no_tool_can_have_is_not_passed_on(recorder: Recorder) -> None:
    with recorder.telemetry.tool("tell them that SECRET"):
        pass

    assert [span.name for span in recorder.spans] == ["execute_tool _OTHER"]
    assert "SECRET" not in recorder.everything()


def test_an_agent_is_an_internal_span(recorder: Recorder) -> None:
    with recorder.telemetry.agent("ReActAgent", provider="gemini", model="gemini-2.5-pro"):
        pass

    span = recorder.span("invoke_agent ReActAgent")
    assert span.kind is SpanKind.INTERNAL
    assert attributes(span) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "ReActAgent",
        "gen_ai.request.model": "gemini-2.5-pro",
        "gen_ai.provider.name": "gcp.gemini",
    }
    assert recorder.points("gen_ai.invoke_agent.duration")[0].explicit_bounds[-1] == pytest.approx(409.6)


async def test_spans_nest_also_when_tools_run_side_by_side(recorder: Recorder) -> None:
    telemetry, both_run = recorder.telemetry, asyncio.Barrier(2)

    async def run_tool(name: str) -> None:
        with telemetry.tool(name):
            await both_run.wait()
            with recorder.tracers.get_tracer("http").start_as_current_span(f"GET {name}"):
                await asyncio.sleep(0)

    with telemetry.agent("a"):
        with telemetry.model_call(provider="openai", model="m"):
            await asyncio.sleep(0)
        await asyncio.gather(*(asyncio.create_task(run_tool(name)) for name in ("x", "y")))

    agent = id_of(recorder.span("invoke_agent a"))
    assert [parent(recorder.span(name)) for name in ("chat m", "execute_tool x", "execute_tool y")] == [agent] * 3
    for name in ("x", "y"):
        assert parent(recorder.span(f"GET {name}")) == id_of(recorder.span(f"execute_tool {name}"))
    assert parent(recorder.span("invoke_agent a")) is None


async def test_ten_agents_at_once_in_one_loop_and_in_threads_keep_their_spans_apart(recorder: Recorder) -> None:
    async def run(name: str) -> None:
        with recorder.telemetry.agent(name):
            for _ in range(3):
                with recorder.telemetry.model_call(provider="openai", model=name) as call:
                    await asyncio.sleep(0.001)
                    call.answered(usage=USAGE)

    threads = [threading.Thread(target=lambda name=name: asyncio.run(run(name))) for name in "abcde"]
    for thread in threads:
        thread.start()
    await asyncio.gather(*map(run, "fghij"))
    for thread in threads:
        thread.join(10)

    for name in "abcdefghij":
        calls = [span for span in recorder.spans if span.name == f"chat {name}"]
        assert [parent(span) for span in calls] == [id_of(recorder.span(f"invoke_agent {name}"))] * 3


# --- The memory


def test_a_compression_is_a_span_with_its_figures(recorder: Recorder) -> None:
    with recorder.telemetry.agent("a"):
        recorder.telemetry.on_event(COMPRESSED)

    span = recorder.span("compress sliding_window")
    told = attributes(span)
    assert parent(span) == id_of(recorder.span("invoke_agent a"))
    assert told["aloop.memory.tokens_before"] == 40_000
    assert told["aloop.memory.tokens_after"] == 12_000
    assert told["aloop.memory.cost_usd"] == 0.012
    assert (told["aloop.memory.trigger"], told["aloop.memory.method"]) == ("threshold", "model")


def test_compressions_are_counted_by_strategy_trigger_and_method(recorder: Recorder) -> None:
    recorder.telemetry.on_event(COMPRESSED)
    recorder.telemetry.on_event(COMPRESSED)

    count: list[NumberDataPoint] = recorder.points("aloop.memory.compressions")
    assert [(point.value, dict(point.attributes or {})) for point in count] == [
        (
            2,
            {
                "aloop.memory.strategy": "sliding_window",
                "aloop.memory.trigger": "threshold",
                "aloop.memory.method": "model",
            },
        )
    ]
    assert recorder.points("aloop.memory.compression.tokens_saved")[0].sum == 56_000
    assert recorder.points("aloop.memory.compression.cost")[0].value == pytest.approx(0.024)


@pytest.mark.parametrize(
    ("event", "name"),
    [(DEGRADED, "degraded"), (OVER_BUDGET, "over_budget"), (FLOOR, "floor_reached"), (RECALLED, "recalled")],
)
def test_what_else_the_memory_tells_is_counted_and_stands_on_the_current_span(
    recorder: Recorder, event: Event, name: str
) -> None:
    with recorder.telemetry.agent("a"):
        recorder.telemetry.on_event(event)

    assert [told.name for told in recorder.span("invoke_agent a").events] == [f"aloop.memory.{name}"]
    assert recorder.points(f"aloop.memory.{name}")[0].value == 1
    assert "SECRET" not in recorder.everything()


def test_every_kind_of_event_is_taken(recorder: Recorder) -> None:
    events: list[Event] = [
        *(COMPRESSED, DEGRADED, OVER_BUDGET, FLOOR),
        *(UNDONE, RECALLED, SAVE_FAILED, SAVE_RECOVERED),
    ]

    assert {type(event) for event in events} == set(get_args(Event))
    for event in events:
        recorder.telemetry.on_event(event)


# --- All together


def test_nothing_that_was_said_and_no_key_is_told(recorder: Recorder) -> None:
    telemetry = recorder.telemetry
    config = MemoryConfig(max_context_tokens=4_000, compression_threshold=800, short_term_size=2)
    script = [Reply("SECRET thought " * 50, [script_call("look", key="SECRET-sk-1")]) for _ in range(8)]
    model = TracedModel(ScriptedModel([*script, *["SECRET summary"] * 8]), telemetry)
    memory = MemoryManager(config, None, model="gpt-4o-mini", on_event=telemetry.on_event)

    async def loop() -> None:
        await memory.add_message({"role": "user", "content": "SECRET task"})
        for _ in range(8):
            response = await model.call_async(memory.messages)
            await memory.add_message(response.message, actual_tokens=response.usage)
            for call in response.tool_calls:
                with telemetry.tool(call.name, call.id):
                    content = "SECRET result " * 40
                await memory.add_message({"role": "tool", "tool_call_id": call.id, "content": content})

    with telemetry.agent("a"):
        asyncio.run(loop())

    assert memory.get_stats()["compression_count"] > 0
    names = {span.name for span in recorder.spans}
    assert {"invoke_agent a", "chat gpt-4o-mini", "execute_tool look", "compress sliding_window"} <= names
    assert "SECRET" not in recorder.everything()


def conventional_names() -> set[str]:
    modules = (gen_ai_attributes, gen_ai_metrics)
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)}


def test_every_gen_ai_attribute_is_one_of_the_conventions(recorder: Recorder) -> None:
    with recorder.telemetry.agent("a", provider="openai", model="m"):
        with recorder.telemetry.model_call(provider="openai", model="m", is_streamed=True, max_tokens=1) as call:
            call.answered(usage=USAGE, model="m", finish_reason="end_turn")
        with recorder.telemetry.tool("t", "c"):
            pass

    told = {key for span in recorder.spans for key in attributes(span) if key.startswith("gen_ai.")}
    assert told - conventional_names() == set()
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= conventional_names()


def test_the_finish_reasons_and_providers_that_are_not_ours_are_passed_on(recorder: Recorder) -> None:
    with recorder.telemetry.model_call(provider="groq", model="m") as call:
        call.answered(finish_reason="stop")

    told = attributes(recorder.span("chat m"))
    assert (told["gen_ai.provider.name"], told["gen_ai.response.finish_reasons"]) == ("groq", ("stop",))


# --- The door of the agent


class Plain:
    """A model that has one name for good."""

    model = "m"
    dialect: DialectName = "openai_chat"

    async def call_async(
        self,
        messages: Sequence[object],
        tools: Sequence[Wire] | None = None,
        max_tokens: int | None = None,
        *,
        system: str | None = None,
        on_delta: OnDelta | None = None,
    ) -> LLMResponse:
        raise NotImplementedError


@pytest.fixture(params=["none", "opentelemetry"])
def door(request: pytest.FixtureRequest, recorder: Recorder) -> Door:
    return NoTelemetry() if request.param == "none" else recorder.telemetry


async def test_a_traced_model_answers_as_the_model_does_and_raises_what_it_raises(door: Door) -> None:
    model: LLM = TracedModel(ScriptedModel(["hello"]), door)

    response = await model.call_async([{"role": "user", "content": "hi"}])

    assert (response.content, model.model, model.dialect) == ("hello", "gpt-4o-mini", "openai_chat")
    with pytest.raises(Exception, match="script"):
        await model.call_async([{"role": "user", "content": "hi"}])


def test_a_traced_model_can_be_switched_to_the_one_that_writes_summaries(door: Door) -> None:
    class Switchable(ScriptedModel):
        def with_model(self, name: str) -> ScriptedModel:
            return ScriptedModel([], model=name)

    assert TracedModel(Switchable([]), door).with_model("gpt-4o").model == "gpt-4o"
    with pytest.raises(ConfigError, match="'gpt-4o'"):
        TracedModel(Plain(), door).with_model("gpt-4o")


def test_both_doors_take_everything(door: Door) -> None:
    with door.agent("a", provider="openai", model="m") as agent, door.tool("t", "c") as tool:
        tool.failed("tool_error")
        agent.failed()
    with door.model_call(provider="openai", model="m") as call:
        call.answered(usage=USAGE)
    door.on_event(DEGRADED)


def test_without_providers_those_of_the_program_are_used() -> None:
    with Telemetry().model_call(provider="openai", model="m"):
        assert not trace.get_current_span().is_recording()


def test_without_opentelemetry_the_error_gives_the_pip_command() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import memory, agent\n"
        "try:\n    import memory.integrations.opentelemetry\n"
        "except memory.errors.MissingDependencyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'aloop-memory[otel]'" in done.stdout


def test_what_is_told_can_be_written_as_json(recorder: Recorder) -> None:
    with recorder.telemetry.model_call(provider="openai", model="m"):
        recorder.telemetry.on_event(COMPRESSED)

    assert [json.loads(span.to_json())["name"] for span in recorder.spans] == ["compress sliding_window", "chat m"]
