"""`aloop demo`: a ReAct loop explores a real folder until its memory has to compress, and accounts for it at the end.

A script plays the model. Everything else is in earnest: the loop, the tools, the files, the token counts, the
compressions, the statistics.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from memory import MemoryConfig, MemoryManager, format_stats
from memory.events import Compressed, Event
from memory.messages import ToolCall
from memory.native import to_wire

from .agent import ReActAgent
from .base import AgentResult, Step
from .explorer import TASK, Context, Finding, explorer
from .files import FolderTools
from .scripted import ScriptedModel
from .tools import Toolbox

MODEL = "gpt-4o-mini"
OWN_SOURCE = Path(__file__).resolve().parent.parent / "memory"
"""What is explored when no folder is named: it is there in a clone and in an installed package alike."""

# A longer result would be half of the demo's small context.
_RESULT_CHARACTERS = 8_000


def run_demo(
    path: Path | None = None,
    *,
    console: Console,
    config: MemoryConfig | None = None,
    rounds: int = 12,
    as_json: bool = False,
) -> int:
    """Explore a folder, show what happens while it happens, and return the exit code.

    Args:
        path: The folder; None for this project's own source.
        console: Where everything is printed; without a terminal, plain lines.
        config: The memory's settings; None for ones so small that it has to compress several times.
        rounds: How many times the script reads, two files at once.
        as_json: Print one JSON object at the end and nothing else.

    Returns:
        0; 2 if there is no such folder; 130 if the user interrupted it.
    """
    began = time.perf_counter()
    screen = _Screen(console, is_quiet=as_json)
    try:
        demo = Demo(OWN_SOURCE if path is None else path, config=config or demo_config(), rounds=rounds, screen=screen)
        result = demo.run()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        screen.fail(str(error))
        return 2
    except KeyboardInterrupt:
        screen.fail("interrupted")
        return 130
    report = demo.report(result, seconds=time.perf_counter() - began)
    if as_json:
        console.out(json.dumps(report.as_dict(), indent=2), highlight=False)
    else:
        screen.conclude(report)
    return 0


def demo_config() -> MemoryConfig:
    """Return settings under which a few files are too much."""
    return MemoryConfig(max_context_tokens=16_000, compression_threshold=6_000, short_term_size=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A name in the answer whose source had left the context: the memory carried it."""

    finding: Finding
    ref: str
    """Of the archived message in which it stood first."""
    excerpt: str
    """What `recall` shows of the best match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo did and what it cost."""

    folder: Path
    result: AgentResult
    stats: dict[str, Any]
    survivor: Survivor | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "folder": str(self.folder),
            "played_by": "a script",
            "answer": self.result.answer,
            "iterations": self.result.iterations,
            "statistics": self.stats,
            "survivor": None if self.survivor is None else asdict(self.survivor),
            "seconds": round(self.seconds, 3),
        }


class Demo:
    """One run of the demo: a scripted model, real tools on a real folder, and a small memory."""

    def __init__(self, path: Path, *, config: MemoryConfig, rounds: int, screen: _Screen) -> None:
        self._folder = FolderTools(path)
        self._screen = screen
        toolbox = Toolbox(self._folder.tools(), max_result_characters=_RESULT_CHARACTERS)
        # llm=None: summaries are extractive, so that they are real too; the script could not write one.
        self._memory = MemoryManager(config, None, model=MODEL, tools=toolbox.schemas, on_event=screen.on_event)
        self._agent = ReActAgent(
            ScriptedModel(explorer(rounds), model=MODEL),
            tools=toolbox,
            memory=self._memory,
            max_iterations=3 * rounds + 5,
            on_step=lambda step: screen.on_step(step, self._memory.current_tokens),
        )

    def run(self) -> AgentResult:
        """Explore."""
        self._screen.introduce(self._folder.root, self._memory.config)
        with self._screen.live():
            return asyncio.run(self._agent.run(TASK))

    def report(self, result: AgentResult, *, seconds: float) -> Report:
        """Account for the run."""
        return Report(
            folder=self._folder.root,
            result=result,
            stats=self._memory.get_stats(),
            survivor=self._survivor(result.answer),
            seconds=seconds,
        )

    def _survivor(self, answer: str) -> Survivor | None:
        """Find the oldest name in the answer that no original message of the context shows any more."""
        archived = [(record.ref, _text(record.message)) for record in self._memory.archive]
        # Without the answer itself, and without what the compressor wrote.
        originals = [m for m in self._memory.get_context_for_llm()[:-1] if not _is_summary(m)]
        in_sight = "\n".join(map(_text, originals))
        for finding in Context([{"role": "assistant", "content": answer}]).findings:
            ref = next((ref for ref, text in archived if finding.name in text), None)
            if ref is not None and finding.name not in in_sight:
                hit = self._memory.recall(finding.name, limit=1)[0]
                return Survivor(finding=finding, ref=ref, excerpt=hit.excerpt)
        return None


class _Screen:
    """Prints what happens, one line for each step; on a terminal the size of the context stands below them."""

    def __init__(self, console: Console, *, is_quiet: bool) -> None:
        self._console = console
        self._is_quiet = is_quiet
        self._status: Status | None = None
        self._waiting: list[str] = []
        self._threshold_tokens = 0
        self._compression_count = 0

    def introduce(self, folder: Path, config: MemoryConfig) -> None:
        self._threshold_tokens = config.compression_threshold
        self._line(f"A ReAct loop explores {folder}", style="bold")
        self._line(
            "A script plays the model: no key, no network. Tools, files, token counts and compressions are real."
        )
        self._line(
            f"The memory compresses at {config.compression_threshold:,} tokens ({config.compression_strategy}, the "
            f"newest {config.short_term_size} messages stay); prices are those of {MODEL}."
        )
        self._line("")

    def live(self) -> AbstractContextManager[object]:
        """Show the size of the context while the block runs, where there is a terminal to show it on."""
        if self._is_quiet or not self._console.is_terminal:
            return nullcontext()
        self._status = self._console.status("reading")
        return self._status

    def on_step(self, step: Step, context_tokens: int) -> None:
        calls = ", ".join(_describe(made) for made in step.response.tool_calls) or "answers"
        failed = sum(result.is_error for result in step.results)
        errors = f" ({failed} failed)" if failed else ""
        self._line(f"{step.iteration:3}  {context_tokens:6,} tokens  {calls}{errors}")
        # An event comes while the step's results are added, before the step itself is told.
        while self._waiting:
            self._line(self._waiting.pop(0), style="green")
        if self._status is not None:
            self._status.update(_gauge(context_tokens, self._threshold_tokens, self._compression_count))

    def on_event(self, event: Event) -> None:
        match event:
            case Compressed():
                self._compression_count += 1
                self._waiting.append(f"     compressed {_describe_compression(event)}")
            case _:
                self._waiting.append(f"     {event}")

    def fail(self, problem: str) -> None:
        self._console.print(Text(f"error: {problem}", style="red"), soft_wrap=True)

    def conclude(self, report: Report) -> None:
        self._line("")
        self._line("The answer:", style="bold")
        self._line(report.result.answer)
        self._line("")
        if not report.stats["compression_count"]:
            self._line(
                "The folder holds too little text: the memory never had to compress. Try a larger one with --path."
            )
        if report.survivor is not None:
            self._explain(report.survivor)
        self._line(format_stats(report.stats))
        self._line("")
        self._line(_comparison(report.stats))
        self._line(f"Done in {report.seconds:.1f} seconds.")

    def _explain(self, survivor: Survivor) -> None:
        name = survivor.finding.name
        self._line(
            f"`{name}` was read in message {survivor.ref}, which has left the context: the answer knows it from the "
            f"memory's summary. What left is archived, byte for byte; memory.recall({name!r}) finds:"
        )
        self._line("".join(f"  | {line}\n" for line in survivor.excerpt.splitlines()))

    def _line(self, text: str, *, style: str = "") -> None:
        if not self._is_quiet:
            # Text: brackets in a file's name are no markup. Soft wrap: a line stays a line in a file or a pipe.
            self._console.print(Text(text, style=style), soft_wrap=True)


def _describe(made: ToolCall) -> str:
    """Return a call as a short line: `read_file agent/base.py 121`."""
    values = [str(value) for name, value in json.loads(made.arguments).items() if name != "line_count"]
    return " ".join([made.name, *values])


def _describe_compression(event: Compressed) -> str:
    saved = 100 * (1 - event.tokens_after / event.tokens_before)
    return (
        f"{event.tokens_before:,} -> {event.tokens_after:,} tokens (-{saved:.0f} %): {event.first_ref} to "
        f"{event.last_ref}, summary by {event.method}, {event.summary_tokens:,} tokens"
    )


def _gauge(tokens: int, threshold_tokens: int, compression_count: int) -> str:
    filled = min(20, 20 * tokens // threshold_tokens)
    bar = "#" * filled + "." * (20 - filled)
    return f"{bar} {tokens:,} of {threshold_tokens:,} tokens, {compression_count} compressions"


def _comparison(stats: dict[str, Any]) -> str:
    sent = stats["total_input_tokens"]
    return (
        f"Without the memory the same {stats['request_count']} requests would have sent "
        f"{sent + stats['total_savings']:,} tokens instead of {sent:,}, for ${stats['cost_without_memory']:.4f} "
        f"instead of ${stats['total_cost']:.4f}, with the provider's prompt cache at work in both."
    )


def _text(message: object) -> str:
    return json.dumps(to_wire(message), ensure_ascii=False)


def _is_summary(message: object) -> bool:
    content = to_wire(message).get("content")
    return isinstance(content, str) and content.startswith("[Memory: summary")
