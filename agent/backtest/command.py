"""The command `aloop backtest`: which policy would have been the cheapest on transcripts that are there already."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from config import load
from memory.dialects import dialect_named
from memory.errors import ConfigError

from ..printing import json_text
from .sources import Source, found_logs, processes_for

if TYPE_CHECKING:
    from ..transcripts import Transcript
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
        is_for_page=html is not None and not as_json,
        is_extractive=summariser == "extractive",
    )
    source = Source(files or [], None if dialect is None else dialect_named(dialect).name, is_lenient)
    if not files:
        source.paths = found_logs(Console(stderr=True, highlight=False, markup=False))
        source.is_found = source.is_lenient = (
            True  # the last line of a session that is still going on may be half written
        )
    if html is not None:
        _refuse_unwritable(html)
    outcomes, failures = _results(source, order)
    if not outcomes and not as_json:
        raise typer.Exit(_nothing(source, failures))
    if html is not None:
        _write_page(html, outcomes, order)
    _show(outcomes, failures, source, order, as_json=as_json)
    is_mistaken = failures or not outcomes or (source.unreadable and not source.is_found)
    raise typer.Exit(MISTAKE if is_mistaken else OK)


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
    is_for_page: bool
    """Steps are kept for a page alone, which shows those of the longest runs."""
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


def _policies(names: Sequence[str] | None, thresholds: Sequence[str] | None, summariser: str) -> tuple[Policy, ...]:
    from .policies import DEFAULT_POLICIES, THRESHOLD_TOKENS, policies_named

    if summariser not in ("extractive", "model"):
        raise ConfigError(f"--summariser must be extractive or model, got {summariser!r}", field="summariser")
    sizes = [_whole("threshold", one) for one in thresholds or ()] or [THRESHOLD_TOKENS]
    return tuple(
        policies_named(
            names or DEFAULT_POLICIES,
            thresholds=sizes,
            own=replace(load().memory, session_db=None),  # what is tried out on a recording is no session
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


def _refuse_unwritable(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--html must name a file in a folder that exists, got {str(path)!r}", field="html")


def _results(source: Source, order: _Order) -> tuple[list[Outcome], list[Failure]]:
    from .page_runs import without_hidden_steps
    from .parallel import Failure, WorkersLostError, executor_for, run_all

    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    with (
        _progress(len(source.paths)) as advance,
        executor_for(processes=order.processes or processes_for(source.paths), dask=order.dask) as (executor, workers),
    ):
        results = run_all(map(order.job, source), executor, workers=workers)
        try:
            for number, (found, failed) in enumerate(results):
                outcomes += found
                failures += failed
                if order.is_for_page and number % _RUNS_BETWEEN == _RUNS_BETWEEN - 1:
                    outcomes = without_hidden_steps(outcomes)
                advance(source.shares[number])
        except WorkersLostError as error:  # hours of work may have been done before
            failures.append(Failure(source="the transcripts that were not done yet", error=str(error)))
    return outcomes, failures


_RUNS_BETWEEN = 100
"""After so many transcripts what no page shows is let go: of ten thousand, the steps would fill the memory."""


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


def _nothing(source: Source, failures: Sequence[Failure]) -> int:
    console = Console(stderr=True, highlight=False, markup=False)
    for failure in failures:
        console.print(f"error: {failure.source}: {failure.error}", soft_wrap=True)
    if source.is_found or not (source.unreadable or failures):
        console.print("error: no transcript holds an answer of a model, so there is nothing to compare", soft_wrap=True)
    return MISTAKE


def _write_page(path: Path, outcomes: Sequence[Outcome], order: _Order) -> None:
    from .page import page

    assumptions = {
        "Time between requests": f"As recorded; else {order.seconds_per_step:g} seconds.",
        "Summaries": "The memory's own, without a model." if order.is_extractive else "By a pretended model, priced.",
    }
    try:
        # Recorders write lone surrogates, which no file in UTF-8 can hold.
        path.write_text(page(outcomes, assumptions=assumptions), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}", field="html") from error


def _show(
    outcomes: Sequence[Outcome], failures: Sequence[Failure], source: Source, order: _Order, *, as_json: bool
) -> None:
    from .report import print_report, report_as_dict

    console = Console(highlight=False)
    # Models that were named are alternatives, which nobody would add up.
    adds_models = not order.models
    if as_json:
        values: dict[str, Any] = report_as_dict(outcomes, failures, adds_models=adds_models)
        values |= {"unreadable": source.unreadable, "skipped": source.skipped}
        console.out(json_text(values), highlight=False)
    else:
        print_report(console, outcomes, failures, adds_models=adds_models)
        for sentence in (*_caveats(source, order), *_first(source.skipped)):
            console.print(sentence, markup=False, soft_wrap=True)
    if source.is_found and source.unreadable:
        notes = Console(stderr=True, highlight=False, markup=False)
        notes.print(f"passed over, of the session logs: {len(source.unreadable):,}", soft_wrap=True)
        for sentence in _first([one["error"] for one in source.unreadable]):
            notes.print(sentence, soft_wrap=True)


def _caveats(source: Source, order: _Order) -> Iterator[str]:
    """Say what of the figures was assumed."""
    if source.unpriced and not order.models:
        from .parallel import DEFAULT_MODELS

        names = ", ".join("no model" if name is None else repr(name[:80]) for name in list(source.unpriced)[:3])
        yield (
            f"{sum(source.unpriced.values()):,} of the conversations name {names}, whose price nobody knows: each is "
            f"shown at {', '.join(DEFAULT_MODELS)} instead; --model names another"
        )
    if source.has_logs:
        reported = f" Their providers reported {source.reported_input_tokens:,} tokens of input in all."
        yield (
            "Session logs hold no tools and, but for Codex, no system prompt: the requests were longer by those than "
            f"what is counted here.{reported if source.reported_input_tokens else ''}"
        )


def _first(sentences: Sequence[str]) -> Iterator[str]:
    """Yield the first sentences and how many there are besides: of a thousand logs nobody reads all."""
    yield from sentences[:_MOST_SENTENCES]
    if len(sentences) > _MOST_SENTENCES:
        yield f"and {len(sentences) - _MOST_SENTENCES:,} more; --json has all of them"


_MOST_SENTENCES = 10
