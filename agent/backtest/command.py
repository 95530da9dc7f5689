"""The command `aloop backtest`: which policy would have been the cheapest on transcripts that are there already."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from config import load
from memory.dialects import dialect_named
from memory.errors import ConfigError, TranscriptError
from memory.messages import DialectName

from ..reports import json_text
from ..transcripts import Transcript, parse_transcripts, read_transcripts

if TYPE_CHECKING:
    from .outcome import Outcome, Policy
    from .parallel import Failure, Job

OK, MISTAKE = 0, 2


def backtest_command(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="Transcripts or session logs: JSON or JSONL, gzipped or not; - is stdin. None: this machine's own "
            "session logs of Claude Code, Codex and Gemini CLI.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="none, window, a strategy, economic or own; NAME@NUMBER says its threshold. May be repeated.",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="TOKENS", help="For strategies without a number. May be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Count, cache and price as this model; else the recorded one. May be repeated.",
        ),
    ] = None,
    summariser: Annotated[
        str,
        typer.Option(
            "--summariser", metavar="KIND", help="extractive, or model: a pretended one of fixed size, priced."
        ),
    ] = "extractive",
    seconds_per_step: Annotated[
        str,
        typer.Option(
            "--seconds-per-step", metavar="SECONDS", help="Between requests, where the recording tells no times."
        ),
    ] = "15",
    processes: Annotated[
        str | None, typer.Option("--processes", metavar="COUNT", help="Work on so many transcripts at once.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="A Dask scheduler, tcp://host:port, or local.")
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option("--dialect", metavar="NAME", help="openai_chat, openai_responses, anthropic or gemini."),
    ] = None,
    is_lenient: Annotated[bool, typer.Option("--lenient", help="Leave out broken lines of JSONL, and say so.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run recorded conversations under several policies: what each would have cost, and what it would have kept.

    Everything happens on this machine; no model is called and nothing is sent anywhere. Exits with 2 if there is
    nothing to read, or if a transcript could not be read or run.
    """
    order = _Order(
        policies=_policies(policy, threshold, summariser),
        models=tuple(model or ()),
        seconds_per_step=_number("seconds-per-step", seconds_per_step),
        processes=None if processes is None else _whole("processes", processes),
        dask=dask,
        keeps_steps=as_json or html is not None,
        is_extractive=summariser == "extractive",
    )
    source = _Source(files or [], None if dialect is None else dialect_named(dialect).name, is_lenient)
    if not files:
        source.paths = _found_logs(Console(stderr=True, highlight=False))
    if html is not None:
        _refuse_unwritable(html)
    outcomes, failures = _results(source, order)
    if not outcomes and not as_json:
        raise typer.Exit(_nothing(source, failures))
    if html is not None:
        _write_page(html, outcomes, order)
    _show(outcomes, failures, source, order, as_json=as_json)
    raise typer.Exit(MISTAKE if failures or source.unreadable or not outcomes else OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be tried, and how."""

    policies: tuple[Policy, ...]
    models: tuple[str, ...]
    seconds_per_step: float
    processes: int | None
    """None: as many as the work deserves."""
    dask: str | None
    keeps_steps: bool
    is_extractive: bool

    def job(self, transcript: Transcript) -> Job:
        from .parallel import Job

        return Job(
            transcript=transcript,
            policies=self.policies,
            models=self.models,
            seconds_per_step=self.seconds_per_step,
            keeps_steps=self.keeps_steps,
        )


@dataclass(slots=True)
class _Source:
    """The files, read one after the other as their conversations are asked for."""

    paths: Sequence[str]
    dialect: DialectName | None
    is_lenient: bool
    unreadable: list[dict[str, str]] = field(default_factory=list)
    """Files that could not be read, each with the reason."""
    shares: list[float] = field(default_factory=list)
    """Of each conversation that was handed out: which part it is of its file, and of unreadable ones before that."""

    def __iter__(self) -> Iterator[Transcript]:
        files = 0
        for path in self.paths:
            found, files = self._read(path), files + 1
            if found:
                self.shares += [files / len(found)] * len(found)
                files = 0
            yield from found

    def _read(self, path: str) -> list[Transcript]:
        try:
            if path == "-":
                content = sys.stdin.buffer.read()
                return parse_transcripts(content, "standard input", dialect=self.dialect, is_lenient=self.is_lenient)
            return read_transcripts(path, dialect=self.dialect, is_lenient=self.is_lenient)
        except TranscriptError as error:
            Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)
            self.unreadable.append({"source": path, "error": str(error)})
            return []


def _policies(names: Sequence[str] | None, thresholds: Sequence[str] | None, summariser: str) -> tuple[Policy, ...]:
    from .policies import DEFAULT_POLICIES, THRESHOLD_TOKENS, policies_named

    if summariser not in ("extractive", "model"):
        raise ConfigError(f"--summariser must be extractive or model, got {summariser!r}", field="summariser")
    sizes = [_whole("threshold", one) for one in thresholds or ()] or [THRESHOLD_TOKENS]
    return tuple(
        policies_named(
            names or DEFAULT_POLICIES,
            thresholds=sizes,
            own=load().memory,
            summariser="model" if summariser == "model" else "extractive",
        )
    )


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"--{name} must be a whole number above 0, got {text[:80]!r}", field=name)
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ConfigError(f"--{name} must be a number above 0, got {text[:80]!r}", field=name)
    return number


def _found_logs(console: Console) -> list[str]:
    """Return this machine's own session logs, and say how many there are of which tool, and where."""
    from .logs import find_logs

    logs = find_logs()
    if not logs:
        raise ConfigError(
            "no session logs of Claude Code, Codex or Gemini CLI are found in this home folder; "
            "name the files: aloop backtest FILE..."
        )
    for tool, count in Counter(log.tool for log in logs).items():
        newest = next(log for log in logs if log.tool == tool)
        console.print(f"{tool}: {count:,} session log{'s' * (count != 1)}, the newest {newest.path}", soft_wrap=True)
    console.print("They are read here; nothing is sent anywhere.", soft_wrap=True)
    return [str(log.path) for log in logs]


def _refuse_unwritable(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--html must name a file in a folder that exists, got {str(path)!r}", field="html")


def _results(source: _Source, order: _Order) -> tuple[list[Outcome], list[Failure]]:
    from .parallel import executor_for, run_all

    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    with (
        _progress(len(source.paths)) as advance,
        executor_for(processes=order.processes or _processes(source.paths), dask=order.dask) as (executor, workers),
    ):
        results = run_all(map(order.job, source), executor, workers=workers)
        for number, (found, failed) in enumerate(results):
            outcomes += found
            failures += failed
            advance(source.shares[number])
    return outcomes, failures


def _processes(paths: Sequence[str]) -> int:
    """Return how many processes to start: one where starting others would take longer than the work."""
    from .parallel import cores

    size = sum(path.stat().st_size for path in map(Path, paths) if path.is_file())
    return cores() if size > _SMALL_BYTES else 1


_SMALL_BYTES = 500_000


@contextmanager
def _progress(total: int) -> Iterator[Callable[[float], None]]:
    """Show a bar on standard error while the block runs, on a terminal only."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("backtesting", total=total)
        yield lambda share: progress.advance(task, share)


def _nothing(source: _Source, failures: Iterable[Failure]) -> int:
    console = Console(stderr=True, highlight=False, markup=False)
    for failure in failures:
        console.print(f"error: {failure.source}: {failure.error}", soft_wrap=True)
    if not source.unreadable:
        console.print("error: no transcript holds an answer of a model, so there is nothing to compare", soft_wrap=True)
    return MISTAKE


def _write_page(path: Path, outcomes: Sequence[Outcome], order: _Order) -> None:
    from .page import page

    assumptions = {
        "Time between requests": f"As recorded; else {order.seconds_per_step:g} seconds.",
        "Summaries": "The memory's own, without a model." if order.is_extractive else "Of a fixed size, pretended.",
    }
    try:
        # Recorders write lone surrogates, which no file in UTF-8 can hold.
        path.write_text(page(outcomes, assumptions=assumptions), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}", field="html") from error


def _show(
    outcomes: Sequence[Outcome], failures: Sequence[Failure], source: _Source, order: _Order, *, as_json: bool
) -> None:
    from .report import print_report, report_as_dict

    console = Console(highlight=False)
    # Models that were named are alternatives, which nobody would add up.
    adds_models = not order.models
    if as_json:
        values: dict[str, Any] = report_as_dict(outcomes, failures, adds_models=adds_models)
        console.out(json_text(values | {"unreadable": source.unreadable}), highlight=False)
    else:
        print_report(console, outcomes, failures, adds_models=adds_models)
