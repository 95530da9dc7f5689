"""`aloop demo`: a ReAct loop explores a real folder until its memory has to compress, and accounts for it at the end.

A script plays the model. Everything else is in earnest: the loop, the tools, the files, the token counts, the
compressions, the statistics.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from memory import ContextOverflowError, MemoryConfig, MemoryManager, SessionStore, StorageError, format_stats
from memory.events import Compressed, Event
from memory.messages import ToolCall
from memory.native import to_wire

from .agent import ReActAgent
from .base import AgentResult, Step
from .explorer import TASK, explorer, findings_in, lines_about
from .lines import cut, describe_event, harmless
from .printing import json_text
from .scripted import ScriptedModel
from .tools import FolderTools, Toolbox, command_tool

MODEL = "gpt-4o-mini"
OWN_SOURCE = Path(__file__).resolve().parent.parent / "memory"
"""What is explored when no folder is named: it is there in a clone and in an installed package alike."""

# A longer result would be half of the demo's small context.
_RESULT_CHARACTERS = 8_000
_COLUMNS = 80


def run_demo(
    path: Path | None = None,
    *,
    console: Console,
    errors: Console | None = None,
    config: MemoryConfig | None = None,
    rounds: int = 12,
    as_json: bool = False,
    store: SessionStore | None = None,
) -> int:
    """Explore a folder, show what happens while it happens, and return the exit code.

    Args:
        path: The folder; None for this project's own source.
        console: Where everything is printed; without a terminal, plain lines.
        errors: Where errors are printed; None: there too.
        config: The memory's settings; None for ones so small that it has to compress several times.
        rounds: How many times the script reads, two files at once.
        as_json: Print one JSON object at the end and nothing else.
        store: Keep the run as a session there.

    Returns:
        0; 1 if what the folder holds cannot be made to fit; 2 if there is no such folder; 130 after an interruption.
    """
    began = time.perf_counter()
    screen = _Screen(console, errors=errors or console, is_quiet=as_json)
    try:
        folder = FolderTools(OWN_SOURCE if path is None else path)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        screen.fail(str(error))
        return 2
    demo = Demo(folder, config=config or demo_config(), rounds=rounds, screen=screen, store=store)
    try:
        report = demo.report(demo.run(), seconds=time.perf_counter() - began)
    except ContextOverflowError as error:
        screen.fail(str(error))
        return 1
    except KeyboardInterrupt:
        screen.fail("interrupted")
        return 130
    finally:
        demo.close()
    if as_json:
        console.out(json_text(report.as_dict()), highlight=False)
    else:
        screen.conclude(report)
    return 0


def demo_config() -> MemoryConfig:
    """Return settings under which a few files are too much."""
    return MemoryConfig(max_context_tokens=16_000, compression_threshold=6_000, short_term_size=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A name in the answer whose source has left the context: the memory carried it."""

    name: str
    path: str
    """The file that it belongs to, says the answer."""
    ref: str
    """Of the archived message in which it was read."""
    recalled: tuple[str, ...]
    """References of what `recall` finds for the name, best first; `ref` is one of them."""
    excerpt: str
    """The lines of that message that begin with the name's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo did and what it cost."""

    folder: Path
    result: AgentResult
    stats: dict[str, Any]
    survivor: Survivor | None
    seconds: float
    session_id: str | None
    """Under which it is kept; None where it is not."""

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
            "session_id": self.session_id,
        }


class Demo:
    """One run of the demo: a scripted model, real tools on a real folder, and a small memory."""

    def __init__(
        self,
        folder: FolderTools,
        *,
        config: MemoryConfig,
        rounds: int,
        screen: _Screen,
        store: SessionStore | None = None,
    ) -> None:
        self._folder = folder
        self._screen = screen
        # Only the script asks for commands, and it asks for `wc -l` and `python --version`.
        tools = [*self._folder.tools(), command_tool(self._folder.root, allow=True)]
        toolbox = Toolbox(tools, max_result_characters=_RESULT_CHARACTERS)
        # llm=None: summaries are extractive, so that they are real too; the script could not write one.
        self._memory = MemoryManager(
            config,
            None,
            model=MODEL,
            tools=toolbox.schemas,
            on_event=screen.on_event,
            store=store,
            title=None if store is None else f"Demo: explore {folder.root.name}",
        )
        self._session_id = self._memory.session_id
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

    def close(self) -> None:
        """Give the session up, if the run is kept as one."""
        with suppress(StorageError):  # the screen was told when it happened
            self._memory.close()

    def report(self, result: AgentResult, *, seconds: float) -> Report:
        """Account for the run."""
        return Report(
            session_id=self._session_id,
            folder=self._folder.root,
            result=result,
            stats=self._memory.get_stats(),
            survivor=self._survivor(result.answer),
            seconds=seconds,
        )

    def _survivor(self, answer: str) -> Survivor | None:
        """Find a name in the answer that stands in no original message of the context any more.

        The first one whose source is what `recall` finds first, else the first one that it finds.
        """
        context = self._memory.get_context_for_llm()[:-1]  # without the answer itself
        in_sight = "\n".join(_text(message) for message in context if not _is_summary(message))
        names = ((name, finding.path) for finding in findings_in(answer) for name in finding.names)
        found = [one for name, path in names if name not in in_sight and (one := self._recalled(name, path))]
        return next((one for one in found if one.recalled[0] == one.ref), found[0] if found else None)

    def _recalled(self, name: str, path: str) -> Survivor | None:
        """Return what the archive holds on a name that was read in a file, None where `recall` does not find it."""
        recalled = tuple(hit.ref for hit in self._memory.recall(name))
        texts = {ref: text for ref, text in self._read_in(path, name) if ref in recalled}
        if not texts:
            return None
        ref, text = min(texts.items(), key=lambda one: recalled.index(one[0]))
        return Survivor(name=name, path=path, ref=ref, recalled=recalled, excerpt=lines_about(name, text))

    def _read_in(self, path: str, name: str) -> Iterator[tuple[str, str]]:
        """Yield the archived results of reading that file in which the name stands, with their references."""
        paths: dict[str, str] = {}
        for record in self._memory.archive:
            paths |= {made.id: made.arguments for made in record.reading.calls if made.id}
            for result in record.reading.results:
                if name in result.text and json.dumps(path) in paths.get(result.call_id or "", ""):
                    yield record.ref, result.text


class _Screen:
    """Prints what happens, one line for each step; on a terminal the size of the context stands below them."""

    def __init__(self, console: Console, *, errors: Console, is_quiet: bool) -> None:
        self._console = console
        self._errors = errors
        self._is_quiet = is_quiet
        self._status: Status | None = None
        self._waiting: list[str] = []
        self._threshold_tokens = 0
        self._compression_count = 0
        self._compressed_from = 0

    def introduce(self, folder: Path, config: MemoryConfig) -> None:
        self._threshold_tokens = config.compression_threshold
        self._line(f"A ReAct loop explores {folder}", style="bold")
        self._line(f"Task: {TASK}")
        self._line("")
        self._line(
            "A script plays the model: no key, no network. Tools, files, token counts and compressions are real. Above "
            f"{config.compression_threshold:,} tokens the memory compresses ({config.compression_strategy}): the "
            f"newest {config.short_term_size} messages stay. Prices are those of {MODEL}."
        )
        self._line("")
        self._line("step  tokens  what the model does", style="bold")

    def live(self) -> AbstractContextManager[object]:
        """Show the size of the context while the block runs, where there is a terminal to show it on."""
        if self._is_quiet or not self._console.is_terminal:
            return nullcontext()
        self._status = self._console.status("reading")
        return self._status

    def on_step(self, step: Step, context_tokens: int) -> None:
        # Compressions happen while a step's results are added, before the step itself is told.
        grown_to = self._compressed_from or context_tokens
        self._compressed_from = 0
        calls = _describe(step.response.tool_calls) or "answers"
        failed = sum(result.is_error for result in step.results)
        errors = f" ({failed} failed)" if failed else ""
        self._line(f"{step.iteration:4}  {grown_to:6,}  {calls}{errors}", indent=14)
        while self._waiting:
            self._line(self._waiting.pop(0), style="green")
        if self._status is not None:
            self._status.update(_gauge(context_tokens, self._threshold_tokens, self._compression_count))

    def on_event(self, event: Event) -> None:
        match event:
            case Compressed():
                self._compression_count += 1
                self._compressed_from = event.tokens_before
            case _:
                pass
        self._waiting.append(f"      {describe_event(event)}")

    def fail(self, problem: str) -> None:
        self._errors.print(Text(harmless(f"error: {problem}", self._console.encoding), style="red"), soft_wrap=True)

    def conclude(self, report: Report) -> None:
        self._line("")
        self._line("The answer:", style="bold")
        self._line(report.result.answer)
        self._line("")
        if not report.stats["compression_count"]:
            self._line(
                "The folder holds too little text: the memory never had to compress. Try a larger one with --path."
            )
            self._line("")
        if report.survivor is not None:
            self._explain(report.survivor)
            self._line("")
        self._line(format_stats(report.stats))
        self._line("")
        if report.stats["compression_count"]:
            self._line(_comparison(report.stats))
        self._line(f"Done in {report.seconds:.1f} seconds.")
        self._line("")
        if report.session_id is None:
            self._line(
                "aloop demo --save keeps the run: aloop sessions and aloop report latest --html demo.html show it."
            )
        else:
            self._line(
                f"Kept as session {report.session_id}: aloop sessions show latest, aloop sessions search WORDS, "
                "aloop report latest --html demo.html"
            )

    def _explain(self, survivor: Survivor) -> None:
        self._line(
            f"{survivor.name} was read in {survivor.path}, in message {survivor.ref.removeprefix('r')}. That message "
            "has left the context; the answer has the name from the memory's summary. The archive has the message as "
            f"it was: memory.recall({survivor.name!r}) finds it, as {survivor.ref}, and there stands"
        )
        for line in survivor.excerpt.splitlines():
            self._line(f"  | {cut(line, _COLUMNS - 4)}".rstrip())

    def _line(self, text: str, *, style: str = "", indent: int = 2) -> None:
        """Print a text, each line of it wrapped to 80 columns where it has words to wrap at."""
        if not self._is_quiet:
            # Text: brackets in a file's name are no markup. Soft wrap: a line stays a line in a file or a pipe.
            wrapped = "\n".join(_wrapped(line, indent) for line in harmless(text, self._console.encoding).split("\n"))
            self._console.print(Text(wrapped, style=style), soft_wrap=True)


def _describe(calls: Sequence[ToolCall]) -> str:
    """Return calls as a short line: `read_file agent/base.py, agent/agent.py from line 101`."""
    parts: list[str] = []
    for made, before in zip(calls, [None, *calls], strict=False):
        name = "" if before and before.name == made.name else f"{made.name} "
        parts.append(name + _describe_arguments(json.loads(made.arguments)))
    return ", ".join(parts).strip()


def _describe_arguments(arguments: dict[str, Any]) -> str:
    first_line = arguments.get("first_line", 1)
    begin = f" from line {first_line}" if first_line > 1 else ""
    return " ".join(str(arguments[name]) for name in ("path", "text", "command") if name in arguments) + begin


def _wrapped(line: str, indent: int) -> str:
    if len(line) <= _COLUMNS:
        return line
    lines = textwrap.wrap(
        line,
        _COLUMNS,
        subsequent_indent=" " * indent if line[:1] in {" ", "-"} else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _gauge(tokens: int, threshold_tokens: int, compression_count: int) -> str:
    filled = min(20, 20 * tokens // threshold_tokens)
    bar = "#" * filled + "." * (20 - filled)
    compressions = f"{compression_count} compression{'s' * (compression_count != 1)}"
    return f"{bar} {tokens:,} of {threshold_tokens:,} tokens, {compressions}"


def _comparison(stats: dict[str, Any]) -> str:
    sent = stats["total_input_tokens"]
    return (
        f"With the whole history in each of them, the same {stats['request_count']} requests would have sent "
        f"{sent + stats['total_savings']:,} tokens instead of {sent:,}. (The total above has the "
        f"{stats['total_output_tokens']:,} tokens of the replies in it too.)"
    )


def _text(message: object) -> str:
    return json.dumps(to_wire(message), ensure_ascii=False)


def _is_summary(message: object) -> bool:
    content = to_wire(message).get("content")
    return isinstance(content, str) and content.startswith("[Memory: summary")
