"""What `aloop run` shows: a line for everything that happens; on a terminal, below them, what is happening now."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from memory import MemoryConfig, format_stats
from memory.events import Compressed
from memory.sessions.values import SessionInfo

from .lines import cut, describe_event, harmless, intention
from .llm import Delta, LLMResponse
from .printing import counted
from .run import CallReport, Order, RunEnd, RunReport, StepReport, run_task

_INDENT = 25
_MOST_TEXT_LINES = 12
_STREAMED_LINES = 6
_STREAMED_CHARACTERS = 4_000
"""More than this is never shown of an answer that is still being written."""

_HEADINGS: Final[Mapping[RunEnd, str]] = {
    "answered": "The answer:",
    "truncated": "The answer, cut off at its longest length:",
    "refused": "The model declined:",
}


def show(order: Order, *, console: Console, errors: Console) -> RunReport:
    """Work on a task as `run_task` does, and show it: what happens, the answer, the statistics."""
    screen = Screen(console, errors=errors)
    with screen.running():
        report = run_task(order, screen)
    screen.conclude(report)
    return report


class Screen:
    """Shows a run as it goes. Nothing that a model or a tool says can do anything to the terminal."""

    def __init__(self, console: Console, *, errors: Console) -> None:
        self._console = console
        self._errors = errors
        self._live: Live | None = None
        self._threshold_tokens = 0
        self._context_tokens = 0
        self._cost = "$0.0000"
        self._compression_count = 0
        self._doing = "starting"
        self._streamed = ""
        self._model = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show what is happening now while the block runs, where there is a terminal to show it on."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._now, transient=True, refresh_per_second=8) as self._live:
            yield
        self._live = None

    # --- While it runs ------------------------------------------------------------------------------------------------

    def on_begin(self, order: Order, memory: MemoryConfig, tools: list[str]) -> None:
        settings = order.agent.agent
        self._model = settings.model or ""
        self._threshold_tokens = memory.compression_threshold
        at = f", at {order.agent.shown('base_url')}" if settings.base_url else ""
        self._line(f"{settings.provider} {self._model}{at}", style="bold")
        self._line(f"Task: {' '.join(order.task.split())}")
        self._line(f"Folder: {order.root.resolve()}")
        if order.session is not None:
            self._line(_going_on(order.session))
        for line in textwrap.wrap(f"Tools: {', '.join(tools)}", self._width, subsequent_indent="  "):
            self._line(line)
        self._line(_intention(memory))
        self._line("")
        self._line("step  tokens       cost  what the model does", style="bold")

    def on_asking(self, context_tokens: int) -> None:
        self._context_tokens = context_tokens
        self._doing = f"asking {self._model}"

    def on_delta(self, delta: Delta) -> None:
        match delta.kind:
            case "text":
                self._streamed = (self._streamed + delta.text)[-_STREAMED_CHARACTERS:]
            case "reasoning":
                self._doing = f"{self._model} is thinking"
            case "tool_call":
                self._doing = f"{self._model} is calling {delta.text}"
            case "restart":
                self._streamed = ""

    def on_answer(self, response: LLMResponse) -> None:
        self._streamed = ""
        if response.tool_calls:
            calls = (_describe_call(call.name, call.arguments) for call in response.tool_calls)
            self._doing = f"running {'; '.join(calls)}"

    def on_step(self, step: StepReport) -> None:
        self._context_tokens = step.context_tokens
        self._cost = f"{'~' * step.cost_is_estimate}${step.cost_usd:.4f}"
        compressions = [event for event in step.events if isinstance(event, Compressed)]
        self._compression_count += len(compressions)
        # The compressions came when the results were there: what they began with is what the step had grown to.
        tokens = compressions[0].tokens_before if compressions else step.context_tokens
        head = f"{step.iteration:4}  {tokens:6,}  {self._cost:>9}  "
        for line in self._lines_of(step):
            self._line(f"{head:{_INDENT}}{line}")
            head = ""
        for call in step.calls:
            outcome = _describe_outcome(call, max(40, self._width - _INDENT))
            if call.is_error:
                self._whole(f"{head:{_INDENT}}{outcome}", indent=_INDENT)
            else:
                self._line(f"{head:{_INDENT}}{outcome}")
            head = ""
        for event in step.events:
            self._whole(f"      {describe_event(event)}", style="green")

    def on_remark(self, text: str) -> None:
        self._whole(f"      {text}", style="yellow")

    def on_interrupt(self) -> None:
        self._doing = "ending the step; once more ends everything at once"

    def on_kill(self) -> None:
        if self._live is not None:
            os.write(sys.__stdout__.fileno() if sys.__stdout__ else 1, b"\x1b[?25h\n")  # the cursor that was hidden

    # --- When it is over ----------------------------------------------------------------------------------------------

    def conclude(self, report: RunReport) -> None:
        """Print the answer or why there is none, and the statistics."""
        if report.answer is not None:
            self._line("")
            self._line(_HEADINGS[report.end_reason], style="bold")
            self._print(report.answer or "(nothing)")
        if report.problem is not None:
            kind = "error" if report.answer is None else "note"
            self._errors.print(Text(self._plain(f"{kind}: {report.problem}"), style="red"), soft_wrap=True)
        if _is_billed(report):
            self._line("")
            self._print(format_stats(report.stats))
        if report.is_request_cut_off:
            self._print(
                "The model was answering when it was interrupted; what that costs is estimated here, or missing."
            )
        self._tell_session(report)

    def _tell_session(self, report: RunReport) -> None:
        if report.session_id is None or not report.steps:
            return
        unsaved = report.stats["unsaved_count"]
        if unsaved:
            told = f"warning: the session could not be saved; {unsaved} messages are lost with this process"
            self._errors.print(Text(self._plain(told), style="red"), soft_wrap=True)
        else:
            self._print(f'Session {report.session_id}: go on with aloop run --session latest --task "..."')

    # --- Lines --------------------------------------------------------------------------------------------------------

    def _lines_of(self, step: StepReport) -> Iterator[str]:
        if not step.calls:
            yield "answers"
            return
        said = [line for line in step.text.splitlines() if line.strip()]
        yield from said[:_MOST_TEXT_LINES]
        if len(said) > _MOST_TEXT_LINES:
            yield f"({len(said) - _MOST_TEXT_LINES} more lines)"

    def _now(self) -> Group:
        """Return what is happening now: the end of what is being written, and a line of figures."""
        width = self._width
        written = [piece for line in self._plain(self._streamed).splitlines() for piece in textwrap.wrap(line, width)]
        compressions = f"{self._compression_count} compression{'s' * (self._compression_count != 1)}"
        size = f"{self._context_tokens:,} of {self._threshold_tokens:,} tokens"
        # Before the first request there is nothing to tell of.
        figures = f"{size}, {compressions}, {self._cost}: {self._doing}" if self._context_tokens else self._doing
        now = [Text(line) for line in written[-_STREAMED_LINES:]]
        return Group(*now, Text(cut(self._plain(figures).replace("\n", " "), width), style="dim"))

    @property
    def _width(self) -> int:
        return max(40, self._console.width)

    def _plain(self, text: str) -> str:
        return harmless(text, self._console.encoding)

    def _line(self, text: str, *, style: str = "") -> None:
        """Print one line, cut to the terminal's width."""
        line = self._plain(text).replace("\n", " ")
        self._print(cut(line, self._width), style=style)

    def _whole(self, text: str, *, indent: int = 6, style: str = "") -> None:
        """Print one line that says why: never cut, but wrapped on a terminal."""
        line = self._plain(text).replace("\n", " ")
        if not self._console.is_terminal:
            self._print(line, style=style)
            return
        for piece in textwrap.wrap(line, self._width, subsequent_indent=" " * (indent + 2)):
            self._print(piece, style=style)

    def _print(self, text: str, *, style: str = "") -> None:
        # Text: brackets are no markup. Soft wrap: a line stays a line in a file or a pipe.
        self._console.print(Text(self._plain(text), style=style), soft_wrap=True)


def _going_on(session: SessionInfo) -> str:
    return f"Session: {session.id} goes on, {counted(session.heading.last_seq, 'message')}: {session.heading.title}"


def _intention(memory: MemoryConfig) -> str:
    if not memory.enable_compression:
        return "Compression is switched off (MEMORY_ENABLED)"
    return f"Memory: {intention(memory)}"


def _is_billed(report: RunReport) -> bool:
    """Whether there is anything to give account of: where no request was answered, all figures are 0."""
    return bool(report.steps or report.stats["total_input_tokens"] + report.stats["total_output_tokens"])


def _describe_outcome(call: CallReport, width: int) -> str:
    """Return a call with the size of its result, or with what went wrong: that is whole, the arguments are cut."""
    called = _describe_call(call.name, call.arguments)
    if not call.is_error:
        outcome = f" -> {len(call.result):,} character{'s' * (len(call.result) != 1)}"
        return cut(called, width - len(outcome)) + outcome
    outcome = f" -> {call.error}"
    return cut(called, max(width // 2, width - len(outcome))) + outcome


def _describe_call(name: str, arguments: str) -> str:
    """Return a call as a short line: `read_file path=agent/base.py first_line=101`."""
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = arguments
    if not isinstance(parsed, dict):
        return f"{name} {arguments}"
    return " ".join([name, *(f"{key}={_brief(value)}" for key, value in parsed.items())])


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(" ".join(text.split()), 60)
