"""`aloop run`: a ReAct agent works on one task with a real model, and gives account of it at the end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from config import Loaded, LoadedAgent
from memory import MemoryConfig, MemoryManager
from memory.errors import AgentMemoryError, ConfigError, SessionInUseError, StorageError
from memory.events import Event, OverBudget
from memory.messages import DialectName, ToolCall, ToolResult, Wire
from memory.sessions import open_store
from memory.sessions.values import SessionInfo

from .agent import SYSTEM_PROMPT, ReActAgent
from .asking import Remarks, budget_problem, connected, problem_of
from .base import AgentResult, EndReason, Step
from .embedding import embedder_for
from .interrupts import Interrupts, interrupts
from .llm import Delta, LLMResponse, OnDelta, ProviderModel
from .sessions.places import refuse_unwritable
from .telemetry import Telemetry, TracedModel
from .tools import Tool, Toolbox, recall_tool, standard_tools

RunEnd: TypeAlias = EndReason | Literal["interrupted", "failed"]

RESULT_TOKENS = 8_000
"""`max_result_tokens` of a run that sets none; a quarter of the threshold where that is less."""
_PAGE_CHARACTERS = 8_000
_ERROR_CHARACTERS = 500
"""So much is told of the error that a tool gave for its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done, and with what."""

    task: str
    agent: LoadedAgent
    memory: Loaded
    root: Path
    """The folder of the tools."""
    system: str | None = None
    """System prompt; None for the agent's own."""
    session: SessionInfo | None = None
    """The session to go on in; None for a new one."""
    takes_over: bool = False
    """Also take a session that another process has open."""
    is_saved: bool = True
    """Keep the conversation. Where, the settings say; `~/.aloop/sessions.db` if they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """One tool call and what came of it."""

    name: str
    arguments: str
    """JSON, as the model wrote it."""
    result: str
    is_error: bool

    @property
    def error(self) -> str:
        """What went wrong, in a line of bounded length; empty where nothing did."""
        words = " ".join(self.result[: 4 * _ERROR_CHARACTERS].split()) if self.is_error else ""
        return words if len(words) <= _ERROR_CHARACTERS else f"{words[: _ERROR_CHARACTERS - 4]} ..."

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without the text of its result, unless that is an error."""
        told = {
            "name": self.name,
            "arguments": _parsed(self.arguments),
            "result_characters": len(self.result),
            "is_error": self.is_error,
        }
        return told | ({"error": self.error} if self.is_error else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One turn: what the model said and did, and where that left the context and the bill."""

    iteration: int
    text: str
    calls: tuple[CallReport, ...]
    events: tuple[Event, ...]
    """What the memory did meanwhile."""
    context_tokens: int
    """After the step."""
    cost_usd: float
    """Of the run so far."""
    cost_is_estimate: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without the texts of results that are no errors."""
        return {
            "iteration": self.iteration,
            "text": self.text,
            "calls": [call.as_dict() for call in self.calls],
            "events": [{"event": type(event).__name__, **asdict(event)} for event in self.events],
            "context_tokens": self.context_tokens,
            "cost_usd": self.cost_usd,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run came to."""

    provider: str
    model: str
    end_reason: RunEnd
    answer: str | None
    """What the model said last, where it came to an end by itself."""
    problem: str | None
    """Why there is no answer, or why nothing more can follow it; None where all is well."""
    steps: tuple[StepReport, ...]
    remarks: tuple[str, ...]
    """Requests that were repeated, and what else was logged of the model."""
    session_id: str | None
    """Under which the conversation is kept; None where it is not."""
    is_request_cut_off: bool
    """The model was answering when the run was interrupted: what its provider bills for that is an estimate at best."""
    stats: dict[str, Any]
    """As from `MemoryManager.get_stats`."""
    exit_code: int
    """0 answered, 1 not, 128 and the signal's number where one ended it."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "provider": self.provider,
            "model": self.model,
            "end_reason": self.end_reason,
            "answer": self.answer,
            "problem": self.problem,
            "steps": [step.as_dict() for step in self.steps],
            "remarks": list(self.remarks),
            "session_id": self.session_id,
            "is_request_cut_off": self.is_request_cut_off,
            "statistics": self.stats,
        }


class Watcher(Protocol):
    """Is told what happens while it happens."""

    def on_begin(self, order: Order, memory: MemoryConfig, tools: list[str]) -> None:
        """The task is about to be given to the model."""
        ...

    def on_asking(self, context_tokens: int) -> None:
        """The model is asked."""
        ...

    def on_delta(self, delta: Delta) -> None:
        """A piece of its answer came."""
        ...

    def on_answer(self, response: LLMResponse) -> None:
        """Its answer is whole; its tools run now."""
        ...

    def on_step(self, step: StepReport) -> None:
        """The step is done."""
        ...

    def on_remark(self, text: str) -> None:
        """A request is repeated, or something like it."""
        ...

    def on_interrupt(self) -> None:
        """The user wants it to end; the step is being closed."""
        ...

    def on_kill(self) -> None:
        """The process ends at once. Called in a signal handler."""
        ...


class Silence:
    """Watches nothing."""

    def on_begin(self, order: Order, memory: MemoryConfig, tools: list[str]) -> None: ...
    def on_asking(self, context_tokens: int) -> None: ...
    def on_delta(self, delta: Delta) -> None: ...
    def on_answer(self, response: LLMResponse) -> None: ...
    def on_step(self, step: StepReport) -> None: ...
    def on_remark(self, text: str) -> None: ...
    def on_interrupt(self) -> None: ...
    def on_kill(self) -> None: ...


def run_task(order: Order, watcher: Watcher) -> RunReport:
    """Work on a task until it is done, a limit ends it, or the user does.

    Raises:
        ConfigError: What was ordered cannot be begun: no model is named, the key is missing, there is no such folder.
        MissingDependencyError: The provider's SDK is not installed.
    """
    if not order.task.strip():
        raise ConfigError("the task is empty; give --task a text, or - to read it from standard input", field="task")
    return asyncio.run(_Run(order, watcher).work())


class _Run:
    """One run: builds the agent, lets it work, keeps what happened."""

    def __init__(self, order: Order, watcher: Watcher) -> None:
        self._order = order
        self._watcher = watcher
        self._steps: list[StepReport] = []
        self._events: list[Event] = []
        self._running: LLMResponse | None = None
        """The answer whose tools run now."""
        self._is_asking = False
        self._telemetry = _telemetry()
        # What is asked of the model while the agent does not ask it, the memory asks.
        self._remarks = Remarks(order.agent.agent, watcher.on_remark, is_for_summary=lambda: not self._is_asking)
        _refuse_file(order.root)
        tools = self._standard_tools()
        self._model = connected(order.agent)
        self._config = _memory_config(order.memory)
        if not order.is_saved:
            self._config = replace(self._config, session_db=None)
        self._store = open_store(self._config.session_db) if order.is_saved else None
        self._memory = self._new_memory() if order.session is None else self._resumed_memory(order.session)
        self._toolbox = _WatchedToolbox([*tools, self._recall_tool()])
        self._agent = self._new_agent()

    async def work(self) -> RunReport:
        """Run the agent to its end, whichever that is."""
        self._watcher.on_begin(self._order, self._memory.config, [tool.name for tool in self._toolbox.tools])
        self._warn_of_store()
        with interrupts(self._watcher.on_interrupt, self._watcher.on_kill) as taken, self._remarks.collected():
            async with self._model:
                report = await self._worked(taken)
        with suppress(StorageError):  # it was told when it happened: the report has the event
            self._memory.close()
        return report

    def _warn_of_store(self) -> None:
        """Say before the first step that nothing of this run will be kept, where that is so."""
        if self._store is None:
            return
        try:
            refuse_unwritable(self._store)
        except StorageError as error:
            text = f"warning: the session cannot be saved: {error}"
            self._remarks.texts.append(text)
            self._watcher.on_remark(text)

    async def _worked(self, taken: Interrupts) -> RunReport:
        try:
            result = await self._agent.run(self._order.task)
        except AgentMemoryError as error:
            return self._report("failed", problem=problem_of(error, self._order.agent))
        except asyncio.CancelledError:
            if taken.signal is None:
                raise
            return self._report("interrupted", problem="interrupted", exit_code=taken.exit_code)
        return self._finished(result)

    # --- What the agent tells -----------------------------------------------------------------------------------------

    def asking(self) -> None:
        """Note that the model is asked."""
        self._is_asking = True
        self._watcher.on_asking(self._memory.current_tokens)

    def failed(self) -> None:
        """Note that it gave no answer."""
        self._is_asking = False

    def answered(self, response: LLMResponse) -> None:
        """Note what it answered, before its tools run."""
        self._is_asking = False
        self._toolbox.forget()
        self._running = response
        self._watcher.on_answer(response)

    def _on_step(self, step: Step) -> None:
        self._add_step(step.response, step.results)

    def _add_step(self, response: LLMResponse, results: tuple[ToolResult, ...]) -> None:
        calls = tuple(
            CallReport(name=call.name, arguments=call.arguments, result=result.text, is_error=result.is_error)
            for call, result in zip(response.tool_calls, results, strict=True)
        )
        stats = self._memory.get_stats()
        step = StepReport(
            iteration=len(self._steps) + 1,
            text=response.content,
            calls=calls,
            events=tuple(self._events),
            context_tokens=stats["current_tokens"],
            cost_usd=stats["total_cost"],
            cost_is_estimate=stats["cost_is_estimate"],
        )
        self._running = None
        self._events.clear()
        self._steps.append(step)
        self._watcher.on_step(step)

    def _on_event(self, event: Event) -> None:
        self._events.append(event)
        if self._telemetry is not None:
            self._telemetry.on_event(event)

    # --- How it ends --------------------------------------------------------------------------------------------------

    def _finished(self, result: AgentResult) -> RunReport:
        match result.end_reason:
            case "answered" | "truncated" | "refused":
                return self._report(result.end_reason, answer=result.answer, problem=self._overflow_of(result))
            case "max_iterations":
                asked = f"{result.iterations} time{'s' * (result.iterations != 1)}"
                problem = f"the model was asked {asked} and gave no answer; raise --max-iterations to let it go on"
                return self._report(result.end_reason, problem=problem)
            case "budget_exceeded":
                refused = [event for event in self._events if isinstance(event, OverBudget)]
                return self._report(result.end_reason, problem=budget_problem(refused[-1]))

    def _overflow_of(self, result: AgentResult) -> str | None:
        if result.overflow is None:
            return None
        return f"nothing more can follow this answer: {problem_of(result.overflow, self._order.agent)}"

    def _report(
        self, end: RunEnd, *, answer: str | None = None, problem: str | None = None, exit_code: int | None = None
    ) -> RunReport:
        if self._running is not None:  # its step was never told: it did not come to its end
            self._add_step(self._running, tuple(map(self._toolbox.result_of, self._running.tool_calls)))
        return RunReport(
            provider=self._order.agent.agent.provider or "",
            model=self._model.model,
            end_reason=end,
            answer=answer,
            problem=problem,
            steps=tuple(self._steps),
            remarks=tuple(self._remarks.texts),
            session_id=self._memory.session_id,
            is_request_cut_off=end == "interrupted" and self._is_asking,
            stats=self._memory.get_stats(),
            exit_code=int(end != "answered") if exit_code is None else exit_code,
        )

    # --- What it is made of -------------------------------------------------------------------------------------------

    def _new_memory(self) -> MemoryManager:
        return MemoryManager(
            self._config,
            self._summariser(),
            dialect=self._model.dialect,
            model=self._model.model,
            store=self._store,
            embedder=embedder_for(self._config),
            on_event=self._on_event,
        )

    def _resumed_memory(self, session: SessionInfo) -> MemoryManager:
        try:
            memory = MemoryManager.resume(
                session.id,
                self._config,
                self._summariser(),
                store=self._store,
                takes_over=self._order.takes_over,
                model=self._model.model,
                embedder=embedder_for(self._config),
                on_event=self._on_event,
            )
        except SessionInUseError as error:
            raise ConfigError(
                f"the session {error.session_id} is open in process {error.process_id} on {error.host}: let that end, "
                "or give --take-over, and what it says from then on is not saved",
                field="session",
            ) from error
        _refuse_other_format(memory, self._model.dialect)
        return memory

    def _summariser(self) -> ProviderModel | TracedModel:
        return self._model if self._telemetry is None else TracedModel(self._model, self._telemetry)

    def _new_agent(self) -> ReActAgent:
        settings = self._order.agent.agent
        return ReActAgent(
            _WatchedModel(self._model, self),
            tools=self._toolbox,
            memory=self._memory,
            max_iterations=settings.max_iterations,
            system_prompt=self._order.system or SYSTEM_PROMPT,
            on_step=self._on_step,
            on_delta=self._watcher.on_delta if settings.stream else None,
            telemetry=self._telemetry,
        )

    def _standard_tools(self) -> list[Tool]:
        settings = self._order.agent.agent
        try:
            return standard_tools(
                self._order.root, allow_writes=settings.allow_writes, allow_commands=settings.allow_commands
            )
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
            raise ConfigError(f"--root: {error}", field="root") from error

    def _recall_tool(self) -> Tool:
        # At one character a token a page is still shorter than what would be archived again at once.
        page = min(_PAGE_CHARACTERS, self._memory.config.max_result_tokens or _PAGE_CHARACTERS)
        return recall_tool(self._memory, page_characters=page)


class _WatchedModel:
    """Says when it is asked, and what it answered, before the tools run. Summaries are asked of the model itself."""

    def __init__(self, model: ProviderModel, run: _Run) -> None:
        self._model = model
        self._run = run

    @property
    def model(self) -> str:
        return self._model.model

    @property
    def dialect(self) -> DialectName:
        return self._model.dialect

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
        self._run.asking()
        try:
            response = await self._model.call_async(messages, tools, max_tokens, system=system, on_delta=on_delta)
        except Exception:
            self._run.failed()
            raise
        self._run.answered(response)
        return response


class _WatchedToolbox(Toolbox):
    """Keeps the results that there are, for a step that does not come to its end."""

    def __init__(self, tools: list[Tool]) -> None:
        super().__init__(tools)
        self._results: dict[int, ToolResult] = {}

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call, as `Toolbox.call` says."""
        result = self._results[id(call)] = await super().call(call)
        return result

    def forget(self) -> None:
        """Begin with the calls of another answer."""
        self._results.clear()

    def result_of(self, call: ToolCall) -> ToolResult:
        """Return what a call of the newest answer came to."""
        ended = ToolResult(call_id=call.id, name=call.name, text="interrupted", is_error=True)
        return self._results.get(id(call), ended)


def _refuse_other_format(memory: MemoryManager, dialect: DialectName) -> None:
    """Raise ConfigError if a session's messages are in another format than the model's."""
    if memory.dialect not in (None, dialect):
        session_id = memory.session_id
        memory.close()
        raise ConfigError(
            f"the session {session_id} is in the format {memory.dialect}, and this provider takes {dialect}; give the "
            "provider that it was begun with",
            field="session",
        )


def _refuse_file(root: Path) -> None:
    """Raise ConfigError if what should be a folder is a file: "no folder" would send one looking for it."""
    if root.is_file():
        raise ConfigError(f"--root: {str(root)!r} is a file; name the folder it is in", field="root")


def _memory_config(loaded: Loaded) -> MemoryConfig:
    """Return the memory's settings, with a limit for results where none is set and none was refused."""
    config = loaded.memory
    if loaded.source_of("max_result_tokens") != "default":
        return config
    return replace(config, max_result_tokens=max(200, min(RESULT_TOKENS, config.compression_threshold // 4)))


def _telemetry() -> Telemetry | None:
    """Return OpenTelemetry's, where it is installed and told something: then somebody may listen."""
    if not any(name.startswith("OTEL_") for name in os.environ) or find_spec("opentelemetry") is None:
        return None
    from memory.integrations.opentelemetry import Telemetry as OpenTelemetry

    return OpenTelemetry()


def _parsed(arguments: str) -> Any:
    """Return a call's arguments as JSON values, or as the model wrote them where they are none."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
