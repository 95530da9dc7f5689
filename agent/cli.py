"""The command `aloop`. Results go to standard output, progress and errors to standard error; `--json` gives one object.

Exit codes: 0 all is well, 1 something was found, 2 the user's mistake or output that cannot be written,
130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from config import load, load_agent
from memory import MemoryConfig, validate
from memory.dialects import dialect_named
from memory.errors import AgentMemoryError, ConfigError, SessionInUseError, TranscriptError
from memory.messages import DialectName
from memory.sessions import open_store

from . import reports
from .backtest.command import backtest_command
from .printing import json_text
from .replay import preview, replay
from .session_report.command import report_command
from .sessions.command import sessions_app
from .sessions.going_on import agent_for, session_named
from .sessions.options import Db, Session
from .sessions.places import refuse_unwritable
from .transcripts import Transcript, parse_transcripts, read_transcripts

OK, FOUND, MISTAKE, INTERRUPTED = 0, 1, 2, 130
CLOSED = 141
"""The reader of the output went away: 128 and the number of SIGPIPE, as a shell tells it of other tools."""

app = typer.Typer(
    name="aloop",
    help="Memory for agent loops: run an agent on it, see it at work, run your own transcripts through it.",
    epilog="Exit codes: 0 all is well, 1 something was found, 2 a mistake in what was asked for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave by `SystemExit`; a user's mistake is a sentence, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # Transcripts hold lone surrogates, and terminals hold encodings that cannot write every name.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # What memory and agent log, the reports tell; without a handler Python would print it between their lines.
    for name in ("memory", "agent"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        code = _run(arguments)
        _flush()
    except BrokenPipeError:
        # Somebody reads our output with `head`: as quiet as any tool.
        code = CLOSED
        _abandon_output()
    except OSError as error:
        code = MISTAKE
        _abandon_output()
        _complain(f"the output cannot be written: {error.strerror or error}")
    raise SystemExit(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command and return its exit code.

    Raises:
        OSError: The output cannot be written; a `BrokenPipeError` if its reader has gone away.
    """
    try:
        with _no_warnings():
            app(args=_with_command(sys.argv[1:] if arguments is None else arguments), prog_name="aloop")
    except SystemExit as left:
        # Both click and rich make an exit with code 1 of it, which here says that something was found.
        if isinstance(left.__context__, BrokenPipeError):
            raise left.__context__ from None
        return int(left.code or OK)
    except SessionInUseError as error:
        owner = f"process {error.process_id} on {error.host}"
        _complain(f"the session {error.session_id} is open in {owner} and stays as it is; let that process end first")
        return MISTAKE
    except AgentMemoryError as error:
        _complain(error)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep to ourselves what packages warn their programmers of, unless Python was asked for it (`-W`)."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def _with_command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the command `run` in front, where a task is given and no command."""
    has_task = any(one == "--task" or one.startswith("--task=") for one in arguments)
    return ["run", *arguments] if has_task and arguments[0].startswith("-") else list(arguments)


def _flush() -> None:
    if sys.stdout is None:  # it was closed before we began
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.flush()


def _abandon_output() -> None:
    # What the stream still holds, the interpreter would try to write once more at its end, and complain.
    sys.stdout = None  # it allows that, and skips the flush


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        try:
            _out().print(f"aloop {version('aloop-memory')}")
        except PackageNotFoundError:
            _out().print("aloop, from a source folder that is not installed")
        raise typer.Exit


Files: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Transcripts: JSON or JSONL, gzipped or not; - is stdin."),
]
OneFile: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="A transcript: JSON or JSONL, gzipped or not; - is stdin.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Lenient: TypeAlias = Annotated[bool, typer.Option("--lenient", help="Leave out broken lines of JSONL, and say so.")]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option("--dialect", help="openai_chat, openai_responses, anthropic or gemini; else found out."),
]
Strategy: TypeAlias = Annotated[
    str | None, typer.Option("--strategy", help="sliding_window, selective, deletion, masking or tiered.")
]
# Numbers come as text, so that a wrong one is told in the words of every other setting.
Threshold: TypeAlias = Annotated[
    str | None, typer.Option("--threshold", metavar="TOKENS", help="Compress above this many tokens.")
]
MaxContext: TypeAlias = Annotated[
    str | None, typer.Option("--max-context", metavar="TOKENS", help="What the model accepts, in tokens.")
]
Preset: TypeAlias = Annotated[str | None, typer.Option("--preset", help="aggressive, balanced or conservative.")]
Model: TypeAlias = Annotated[str | None, typer.Option("--model", help="Count and price as this model.")]


Provider: TypeAlias = Annotated[
    str | None,
    typer.Option("--provider", help="openai, openai-responses, anthropic, gemini, google-generativeai or litellm."),
]
BaseUrl: TypeAlias = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="A server that speaks the provider's format.")
]
Stream: TypeAlias = Annotated[
    bool | None, typer.Option("--stream/--no-stream", help="Take answers while they are written.", show_default=False)
]
MaxIterations: TypeAlias = Annotated[
    str | None, typer.Option("--max-iterations", metavar="COUNT", help="Ask the model at most so often.")
]
MaxCost: TypeAlias = Annotated[
    str | None, typer.Option("--max-cost", metavar="USD", help="Make no call that would bring the cost above this.")
]
AllowWrites: TypeAlias = Annotated[
    bool | None,
    typer.Option("--allow-writes/--no-writes", help="Let it write files in its folder.", show_default=False),
]
AllowCommands: TypeAlias = Annotated[
    bool | None,
    typer.Option("--allow-commands/--no-commands", help="Let it run commands: no sandbox.", show_default=False),
]


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    name="run",
    short_help="Give an agent a task, with a real model.",
    options_metavar="--task TEXT [OPTIONS]",
    context_settings={"allow_extra_args": True},  # for a task that is given without its option
)
def run_command(
    context: typer.Context,
    task: Annotated[str | None, typer.Option("--task", metavar="TEXT", help="What is to be done; - is stdin.")] = None,
    mode: Annotated[str, typer.Option("--mode", help="How it goes about it: react.", show_default=False)] = "react",
    provider: Provider = None,
    model: Annotated[str | None, typer.Option("--model", help="The model, as its provider writes it.")] = None,
    base_url: BaseUrl = None,
    stream: Stream = None,
    max_iterations: MaxIterations = None,
    max_cost: MaxCost = None,
    allow_writes: AllowWrites = None,
    allow_commands: AllowCommands = None,
    root: Annotated[Path, typer.Option("--root", help="The folder it works in.", show_default=False)] = Path(),
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="A system prompt of your own.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="SESSION", help="Go on in this session; latest is the last one.")
    ] = None,
    is_saved: Annotated[
        bool, typer.Option("--save/--no-session", help="Keep the conversation as a session.", show_default=False)
    ] = True,
    takes_over: Annotated[
        bool, typer.Option("--take-over", help="Also take a session that another process has open.")
    ] = False,
    db: Db = None,
    strategy: Strategy = None,
    threshold: Threshold = None,
    max_context: MaxContext = None,
    preset: Preset = None,
    as_json: AsJson = False,
) -> None:
    """Give an agent a task: it reads, searches and calculates until it has an answer, and says what that cost.

    Provider, model and everything else may also stand in .aloop/config and in the environment. Exits with 1 if there
    is no answer, with 130 after Ctrl-C, which ends the step in good order; a second one ends everything at once.
    """
    from . import live, run  # they bring in the agent, which most commands do not need

    task = _task(task, context.args)
    if mode != "react":
        raise ConfigError(f"--mode must be react, got {mode!r}", field="mode")
    settings: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "base_url": base_url,
        "stream": stream,
        "max_iterations": max_iterations,
        "allow_writes": allow_writes,
        "allow_commands": allow_commands,
    }
    is_saved = _saved(session, is_saved, takes_over)
    resumed = None if session is None else session_named(session, db)
    order = run.Order(
        task=_standard_input().decode(errors="replace") if task == "-" else task,
        agent=agent_for(resumed, {name: value for name, value in settings.items() if value is not None}),
        memory=load(**_given(strategy, threshold, max_context, preset, max_cost), **_place(db)),
        root=root,
        system=system,
        session=resumed,
        takes_over=takes_over,
        is_saved=is_saved,
    )
    if as_json:
        report = run.run_task(order, run.Silence())
        _print_json(report.as_dict())
    else:
        report = live.show(order, console=_out(), errors=Console(stderr=True, highlight=False))
    raise typer.Exit(report.exit_code)


@app.command(short_help="Watch an agent loop outgrow its context.")
def demo(
    path: Annotated[Path | None, typer.Option("--path", help="The folder to explore; else this project's own.")] = None,
    is_saved: Annotated[bool, typer.Option("--save", help="Keep the run as a session, to look at.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch an agent loop outgrow its context, compress, and account for itself.

    A script plays the model: no key, no network.
    """
    from .demo import run_demo  # it brings in the agent, which no other command needs

    store = open_store(load().memory.session_db) if is_saved else None
    if store is not None:
        refuse_unwritable(store)
    errors = Console(stderr=True, highlight=False)
    raise typer.Exit(run_demo(path, console=_out(), errors=errors, as_json=as_json, store=store))


@app.command(name="replay", short_help="Run transcripts through the memory.")
def replay_command(
    files: Files,
    strategy: Strategy = None,
    threshold: Threshold = None,
    max_context: MaxContext = None,
    preset: Preset = None,
    model: Model = None,
    dialect: Format = None,
    is_lenient: Lenient = False,
    as_json: AsJson = False,
) -> None:
    """Run transcripts through the memory: what would stay, what would go, what it would cost.

    Exits with 1 if a replay ended early, or if anything was lost or became invalid.
    """
    config = _config(strategy, threshold, max_context, preset)
    given = _read(files, dialect, is_lenient, as_json=as_json)
    with _progress("replaying", sum(len(one.messages) for one in given.transcripts)) as advance:
        replays = [replay(one, config, model=model, on_message=advance) for one in given.transcripts]
    if as_json:
        _print_json(given.as_dict(reports.replays_as_dict(replays, config)))
    else:
        reports.print_replays(_out(), replays, config)
    raise typer.Exit(_code(all(one.is_clean for one in replays), given))


app.command(name="backtest", short_help="Say which policy would have been cheapest.")(backtest_command)
app.add_typer(sessions_app, name="sessions", short_help="Find, show and keep the runs that were saved.")
app.command(name="report", short_help="Say what a session came to, as tables or a page.")(report_command)


@sessions_app.command(
    name="resume",
    short_help="Go on in a session.",
    options_metavar="--task TEXT [OPTIONS OF aloop run]",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def resume_command(context: typer.Context, session: Session) -> None:
    """Go on in a session with a new task: `aloop run --session SESSION`, with all its options."""
    app(args=["run", "--session", session, *context.args], prog_name="aloop")


@app.command(name="preview", short_help="Show what a compression would do.")
def preview_command(
    file: OneFile,
    strategy: Strategy = None,
    threshold: Threshold = None,
    max_context: MaxContext = None,
    preset: Preset = None,
    model: Model = None,
    dialect: Format = None,
    is_lenient: Lenient = False,
    as_json: AsJson = False,
) -> None:
    """Show what one compression of a whole transcript would keep, mask, summarise and drop, and why.

    Exits with 1 if what is left would still be more than the model accepts.
    """
    config = _config(strategy, threshold, max_context, preset)
    given = _read([file], dialect, is_lenient, as_json=as_json)
    previews = [preview(one, config, model=model) for one in given.transcripts]
    if as_json:
        _print_json(given.as_dict({"previews": [reports.preview_as_dict(one) for one in previews]}))
    else:
        reports.print_previews(_out(), previews)
    raise typer.Exit(_code(not any(one.is_over_limit for one in previews), given))


@app.command(name="validate", short_help="Check transcripts by their provider's rules.")
def validate_command(
    files: Files,
    dialect: Format = None,
    is_lenient: Lenient = False,
    as_json: AsJson = False,
) -> None:
    """Check transcripts against their provider's rules; exits with 1 if one would be rejected."""
    given = _read(files, dialect, is_lenient, as_json=as_json)
    findings = [(one, validate(one.messages, one.dialect)) for one in given.transcripts]
    if as_json:
        _print_json(given.as_dict({"transcripts": [reports.issues_as_dict(one, issues) for one, issues in findings]}))
    else:
        reports.print_issues(_out(), findings)
    is_valid = not any(issue.severity == "error" for _, issues in findings for issue in issues)
    raise typer.Exit(_code(is_valid, given))


@app.command(name="config", short_help="Show settings and their origins.")
def config_command(
    strategy: Strategy = None,
    threshold: Threshold = None,
    max_context: MaxContext = None,
    preset: Preset = None,
    as_json: AsJson = False,
) -> None:
    """Show the effective settings, and where each value came from."""
    loaded = load(**_given(strategy, threshold, max_context, preset))
    settings = (*loaded.settings, *load_agent().settings)
    if as_json:
        _print_json(reports.settings_as_dict(settings, loaded.files))
    else:
        reports.print_settings(_out(), settings)


# --- What the commands share ------------------------------------------------------------------------------------------


def _place(db: str | None) -> dict[str, Any]:
    return {} if db is None else {"session_db": db}


def _saved(session: str | None, is_saved: bool, takes_over: bool) -> bool:
    if session is None and takes_over:
        raise ConfigError("--take-over is about a session that is open; name it by --session", field="takes_over")
    if session is not None and not is_saved:
        raise ConfigError("--session names a session and --no-session wants none; give one of them", field="session")
    return is_saved


def _task(task: str | None, words: list[str]) -> str:
    """Return the task; words that no option takes were meant for it.

    Raises:
        ConfigError: There is none, or words of it stand outside `--task`.
    """
    if task is not None and not words:
        return task
    if not words:
        raise ConfigError('no task is given: aloop run --task "..."', field="task")
    meant = " ".join([*([task] if task else []), *words])
    quoted = shlex.quote(meant) if set(meant) & set('"$`\\!') else f'"{meant}"'
    raise ConfigError(f"the task is given by --task, in quotes: aloop run --task {quoted}", field="task")


def _given(
    strategy: str | None,
    threshold: str | None,
    max_context: str | None,
    preset: str | None,
    max_cost: str | None = None,
) -> dict[str, Any]:
    """Return the settings that were given as options, by their names in `MemoryConfig`."""
    options = {
        "compression_strategy": strategy,
        "compression_threshold": _number(threshold, int),
        "max_context_tokens": _number(max_context, int),
        "max_cost_dollars": _number(max_cost, float),
        "preset": preset,
    }
    return {name: value for name, value in options.items() if value is not None}


def _number(text: str | None, kind: Callable[[str], float]) -> float | str | None:
    """Return the number that a text says, else the text: `MemoryConfig` says what is allowed."""
    try:
        return None if text is None else kind(text)
    except ValueError:
        return text


def _config(strategy: str | None, threshold: str | None, max_context: str | None, preset: str | None) -> MemoryConfig:
    # What is tried out on a recording is no session.
    return replace(load(**_given(strategy, threshold, max_context, preset)).memory, session_db=None)


def _dialect(name: str | None) -> DialectName | None:
    return None if name is None else dialect_named(name).name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    """What the named files hold."""

    transcripts: list[Transcript]
    unreadable: list[dict[str, str]]
    """Files that could not be read, each with the reason."""

    def as_dict(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return a command's JSON with the files in it that it could not read."""
        return found | {"unreadable": self.unreadable}


def _read(files: Sequence[str], dialect: str | None, is_lenient: bool, *, as_json: bool) -> _Input:
    """Return the conversations of all files; those that could not be read are told at once."""
    named = _dialect(dialect)
    found = _Input(transcripts=[], unreadable=[])
    for path in files:
        try:
            found.transcripts.extend(_read_one(path, named, is_lenient))
        except TranscriptError as error:
            _complain(error)
            found.unreadable.append({"source": path, "error": str(error)})
    if not found.transcripts and not as_json:
        raise typer.Exit(MISTAKE)
    return found


def _read_one(path: str, dialect: DialectName | None, is_lenient: bool) -> list[Transcript]:
    if path != "-":
        return read_transcripts(path, dialect=dialect, is_lenient=is_lenient)
    return parse_transcripts(_standard_input(), "standard input", dialect=dialect, is_lenient=is_lenient)


def _standard_input() -> bytes:
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def _code(is_well: bool, given: _Input) -> int:
    return MISTAKE if given.unreadable else OK if is_well else FOUND


def _out() -> Console:
    return Console(highlight=False)


def _complain(problem: object) -> None:
    try:
        sys.stderr.write(f"error: {problem}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):  # full, or closed before we began: nobody is left to tell
        sys.stderr = None


def _print_json(value: Any) -> None:
    _out().out(json_text(value), highlight=False)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error while the block runs, on a terminal only; the value is called after each step."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
