"""ReActAgent: think, act, read the results, again, until there is an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memory import MemoryConfig, MemoryManager
from memory.errors import BudgetExceededError

from .base import AgentResult, BaseAgent, EndReason, Step
from .llm import LLM, OnDelta
from .telemetry import Telemetry
from .tools import Tool, Toolbox, ToolFunction

SYSTEM_PROMPT = (
    "You solve the user's task with the tools you have. Think about what you need to know next, call tools to find "
    "out (several at once where they do not depend on each other), and read their results. A result that begins with "
    "'Error:' says what to do differently. When you have what the task asks for, answer without calling a tool."
)

_ENDS: dict[str, EndReason] = {"end_turn": "answered", "max_tokens": "truncated", "refusal": "refused"}


class ReActAgent(BaseAgent):
    """An agent that reasons and acts in turns (Yao et al., "ReAct", 2022), on a memory that never overflows."""

    def __init__(
        self,
        llm: LLM,
        *,
        max_iterations: int = 20,
        tools: Toolbox | Iterable[Tool | ToolFunction] = (),
        memory_config: MemoryConfig | None = None,
        memory: MemoryManager | None = None,
        system_prompt: str | None = SYSTEM_PROMPT,
        on_step: Callable[[Step], None] | None = None,
        on_delta: OnDelta | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Put an agent together; the arguments are those of `BaseAgent`, with a system prompt of its own."""
        super().__init__(
            llm,
            max_iterations=max_iterations,
            tools=tools,
            memory_config=memory_config,
            memory=memory,
            system_prompt=system_prompt,
            on_step=on_step,
            on_delta=on_delta,
            telemetry=telemetry,
        )

    async def run(self, task: str) -> AgentResult:
        """Work on a task until the model answers or a limit ends it.

        Raises:
            ContextOverflowError: What may never be taken out of the context is larger than the model's window.
        """
        with self.telemetry.agent(type(self).__name__, provider=self.llm.dialect, model=self.llm.model):
            async with self.settled_memory():
                return await self._work(task)

    async def _work(self, task: str) -> AgentResult:
        await self.begin(task)
        for iteration in range(1, self.max_iterations + 1):
            try:
                step = await self.step(iteration)
            except BudgetExceededError as error:
                return AgentResult(answer=str(error), end_reason="budget_exceeded", iterations=iteration - 1)
            if not step.response.tool_calls:
                return _answered(step)
        return _out_of_iterations(self.max_iterations)

    async def step(self, iteration: int) -> Step:
        """Think once, and act on it."""
        response = await self.think()
        if response.tool_calls:
            step = Step(iteration=iteration, response=response, results=await self.act(response))
        else:
            step = Step(iteration=iteration, response=response, overflow=await self.conclude(response))
        if self.on_step is not None:
            self.on_step(step)
        return step


def _answered(step: Step) -> AgentResult:
    return AgentResult(
        answer=step.response.content,
        end_reason=_ENDS.get(step.response.stop_reason, "answered"),
        iterations=step.iteration,
        overflow=step.overflow,
    )


def _out_of_iterations(iterations: int) -> AgentResult:
    answer = (
        f"Stopped after {iterations} iterations without an answer; call run() again to go on, or raise max_iterations."
    )
    return AgentResult(answer=answer, end_reason="max_iterations", iterations=iterations)
