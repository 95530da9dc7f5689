"""What every agent here has: a model, tools, a memory, and two moves, to think and to act."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from memory import LLMMessage, MemoryConfig, MemoryManager
from memory.dialects import dialect_named
from memory.errors import ConfigError, ContextOverflowError
from memory.messages import ToolCall, ToolResult
from memory.usage import Usage

from .embedding import embedder_for
from .llm import LLM, LLMResponse, OnDelta
from .llm.errors import wasted_by
from .telemetry import NoTelemetry, Telemetry, TracedModel
from .tools import Tool, Toolbox, ToolFunction

EndReason: TypeAlias = Literal["answered", "truncated", "refused", "max_iterations", "budget_exceeded"]
"""How a run ended: with an answer, with one that the model could not finish, declined, or at one of two limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """How a run ended. `print(result)` shows the answer."""

    answer: str
    """What the model said last; where a limit ended the run, a sentence that says which."""
    end_reason: EndReason
    iterations: int
    """How often the model was asked in this run."""
    overflow: ContextOverflowError | None = None
    """Why the conversation cannot go on although the answer is there: with it, it is longer than the model accepts."""

    @property
    def is_answered(self) -> bool:
        """Whether the model came to an answer by itself."""
        return self.end_reason == "answered"

    def __str__(self) -> str:
        return self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One turn of the loop: what the model answered, and what its tools gave. Passed to `on_step`."""

    iteration: int
    response: LLMResponse
    results: tuple[ToolResult, ...] = ()
    """In the order of `response.tool_calls`."""
    overflow: ContextOverflowError | None = None
    """As in `AgentResult`."""


class BaseAgent:
    """A model with tools and a memory. Subclasses write `run`, the order in which it thinks and acts.

    It keeps the conversation valid whatever happens: each call the model makes gets its result, also when the
    run is interrupted, so that the next `run` can go on from there. What it writes itself, it writes in the format of
    the model's provider.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        max_iterations: int = 20,
        tools: Toolbox | Iterable[Tool | ToolFunction] = (),
        memory_config: MemoryConfig | None = None,
        memory: MemoryManager | None = None,
        system_prompt: str | None = None,
        on_step: Callable[[Step], None] | None = None,
        on_delta: OnDelta | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Put an agent together.

        Args:
            llm: The model.
            max_iterations: Ask the model at most so often in one run.
            tools: Plain functions, `Tool`s, or a `Toolbox`.
            memory_config: Settings of a new memory that uses `llm` for its summaries.
            memory: A memory of your own instead, for example one with `llm=None`, which never calls a model.
            system_prompt: First message of the conversation, or beside it where the provider wants it there.
            on_step: Called after each step, when the memory already holds it.
            on_delta: Given: answers are streamed, and their pieces passed to this as they come.
            telemetry: Follows the run, its model calls and its tools; the compressions too, unless `memory` is given:
                then that memory's own `on_event` is asked.

        Raises:
            ConfigError: A setting is out of range, or both `memory` and `memory_config` are given.
        """
        if max_iterations < 1:
            raise ConfigError(f"max_iterations must be at least 1, got {max_iterations!r}")
        if memory is not None and memory_config is not None:
            raise ConfigError("give memory or memory_config, not both: a memory has its settings already")
        self.telemetry: Telemetry = telemetry or NoTelemetry()
        self.llm: LLM = TracedModel(llm, telemetry) if telemetry is not None else llm
        self.max_iterations = max_iterations
        self.toolbox = tools if isinstance(tools, Toolbox) else Toolbox(tools)
        self._dialect = dialect_named(llm.dialect)
        self.memory = memory or MemoryManager(
            memory_config,
            self.llm,
            dialect=llm.dialect,
            model=llm.model,
            embedder=embedder_for(memory_config),
            on_event=self.telemetry.on_event,
        )
        self.system_prompt = system_prompt
        self.on_step = on_step
        self.on_delta = on_delta
        self.memory.set_fixed(system=self._system_beside, tools=self.toolbox.schemas)
        self._newest_refs: dict[str, str] = {}
        """Of each tool that keeps its newest result: the reference of the message that is pinned for it."""

    async def run(self, task: str) -> AgentResult:
        """Work on a task and return how it ended. A second call goes on in the same conversation."""
        raise NotImplementedError

    @asynccontextmanager
    async def settled_memory(self) -> AsyncIterator[None]:
        """Leave no summary behind that is still being written in the background: a task would outlive its run.

        It is waited for, since it is paid for and the next run can use it; a run that fails or is cancelled drops it.
        """
        try:
            yield
        except (Exception, asyncio.CancelledError):
            await self.memory.drop_background()
            raise
        await self.memory.finish_background()

    async def begin(self, task: str) -> None:
        """Add the task to the conversation, and before the first one the system prompt.

        Calls that a crash left without a result get one that says so: the conversation goes on from there.
        """
        await self._close_calls()
        if self.system_prompt and not self._system_beside and not self.memory.short_term:
            await self.memory.add_message(LLMMessage("system", self.system_prompt))
        await self.memory.add_message(self._dialect.write_user(task))

    async def _close_calls(self) -> None:
        calls = self.memory.open_calls
        results = [ToolResult(call_id=call.id, name=call.name, text=_INTERRUPTED, is_error=True) for call in calls]
        if calls:
            await self._remember(calls, results)

    async def think(self) -> LLMResponse:
        """Ask the model once, and remember nothing yet: `act` or `conclude` does.

        Once more, if the provider refuses the context as too long and the memory can make it smaller.

        Raises:
            BudgetExceededError: The call would pass `max_cost_dollars`; it was not made.
            ContextOverflowError: What may never be taken out is larger than the model's window.
            InvalidMessagesError: The provider refused the messages, by rules that `validate` knows.
            ProviderError: The provider failed otherwise, after all retries.
        """
        try:
            return await self._ask()
        except Exception as error:  # whatever a model of the user's own raises may tell of an overflow
            if not await self.memory.recover(error):
                raise
        return await self._ask()

    async def _ask(self) -> LLMResponse:
        options: dict[str, Any] = {}
        if self._system_beside:
            options["system"] = self._system_beside
        if self.on_delta is not None:
            options["on_delta"] = self.on_delta
        context = self.memory.get_context_for_llm()
        try:
            response = await self.llm.call_async(context, tools=self.toolbox.schemas or None, **options)
        except BaseException as error:  # a call that is cancelled is billed too
            self._book_wasted(wasted_by(error), self.llm.model)
            raise
        self._book_wasted(response.wasted, response.model or self.llm.model)
        return response

    def _book_wasted(self, wasted: Sequence[Usage | None], model: str) -> None:
        """Book attempts that broke off after the provider had begun: it bills them, whatever came of them."""
        for usage in wasted:
            known = usage or Usage(input_tokens=self.memory.current_tokens, output_tokens=0)
            self.memory.tracker.record(known, model=model, is_estimate=True)

    @property
    def _system_beside(self) -> str | None:
        """The system prompt, where the provider wants it beside the messages."""
        return self.system_prompt if self._dialect.system_is_beside else None

    async def conclude(self, response: LLMResponse) -> ContextOverflowError | None:
        """Remember a response that calls no tools.

        Returns:
            Why nothing more can follow it, None where something can. No reason to lose the answer: it was added, and
            whoever goes on is told by the memory.
        """
        try:
            await self.memory.add_message(response.message, actual_tokens=response.usage)
        except ContextOverflowError as error:
            return error
        return None

    async def act(self, response: LLMResponse) -> tuple[ToolResult, ...]:
        """Remember a response, run its calls side by side, and remember their results in the order of the calls.

        When this is interrupted, calls without a result get one that says so, and the interruption goes on. Of an
        answer that was cut off, the last call is not run: it may lack arguments that the model was about to write.
        """
        await self.memory.add_message(response.message, actual_tokens=response.usage)
        last = len(response.tool_calls) - 1 if response.stop_reason == "max_tokens" else None
        running = [
            asyncio.create_task(self._call_tool(call, is_cut_off=index == last))
            for index, call in enumerate(response.tool_calls)
        ]
        try:
            await asyncio.gather(*running)
        finally:
            # From here on the conversation has open calls: whatever happens, each gets its result.
            results = tuple(map(_result_of, response.tool_calls, running))
            await self._remember(response.tool_calls, results)
        return results

    async def _call_tool(self, call: ToolCall, *, is_cut_off: bool) -> ToolResult:
        with self.telemetry.tool(call.name, call.id) as trace:
            result = _cut_off(call) if is_cut_off else await self.toolbox.call(call)
            if result.is_error:
                trace.failed("tool_error")
            return result

    async def _remember(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Add all results, even if adding one of them fails: an unanswered call would make the list invalid."""
        failure: BaseException | None = None
        messages = self._dialect.write_results(calls, results)
        for message in messages:
            try:
                await self.memory.add_message(message)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failure = failure or error
        self._pin_newest(calls, results, messages)
        if failure is not None:
            raise failure

    def _pin_newest(self, calls: Sequence[ToolCall], results: Sequence[ToolResult], messages: Sequence[object]) -> None:
        """Let no compression take out the newest result of a tool that asks for that, and release the one before."""
        for index, (call, result) in enumerate(zip(calls, results, strict=True)):
            if self.toolbox.keeps_newest(call.name) and not result.is_error:
                before = self._newest_refs.get(call.name)
                # One message for each call, or one for all of them.
                self._newest_refs[call.name] = self.memory.pin(messages[min(index, len(messages) - 1)])
                if before is not None and before not in self._newest_refs.values():
                    self.memory.unpin(before)


def _cut_off(call: ToolCall) -> ToolResult:
    """Return the result of a call that may be half of one.

    It need not look like half: Anthropic's SDK closes the JSON of a stream that was cut, without what was incomplete
    (`accumulate_event` in `anthropic/lib/streaming/_messages.py` of anthropic 2.12).
    """
    text = "Error: not run, because your answer reached its longest length in this call. Call again with less to write."
    return ToolResult(call_id=call.id, name=call.name, text=text, is_error=True)


def _result_of(call: ToolCall, task: asyncio.Task[ToolResult]) -> ToolResult:
    """Return the call's own result where it has one, else one that says it was interrupted."""
    if task.done() and not task.cancelled() and task.exception() is None:
        return task.result()
    task.cancel()
    return ToolResult(call_id=call.id, name=call.name, text=_INTERRUPTED, is_error=True)


_INTERRUPTED = "Interrupted before it had a result; what it had done until then is not known."
