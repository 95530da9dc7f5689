"""Plays and measures: peers in their workers first, then everybody by the same backtest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from agent.backtest.engine import Bench
from agent.backtest.outcome import Outcome
from agent.backtest.policies import Everything, Memory
from agent.backtest.recording import Recording, recording_of
from agent.backtest.ruler import RememberingCounter
from agent.transcripts import Transcript
from memory.tokens import TiktokenCounter, TokenCounter

from .environments import HERE, PEERS, Peer
from .plays import Job, Kept, Play, Worker, WorkerError, key_of
from .policies import Pace, PeerPolicy, pace_of_play
from .settings import Own, Setting
from .summaries import Kind, summariser

COUNTED_AS: Final = "gpt-5"
"""All requests are counted by this model's tokenizer, o200k, whoever prices them: so all budgets are the same."""
_SHARED: Final = ("langchain_messages", "turns")
"""What workers import of each other, besides the desk, whose changes `plays.PROTOCOL` tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The settings of one peer, to be played over some conversations."""

    peer: Peer
    settings: tuple[Setting, ...]
    recordings: tuple[Transcript, ...]
    kind: Kind
    folder: Path
    """Of the environments; the plays are kept there too."""
    limit_seconds: float
    """Of the peer's own time with one conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One conversation, to be measured under everybody at a model's prices."""

    transcript: Transcript
    settings: tuple[Setting, ...]
    own: tuple[Own, ...]
    model: str
    kind: Kind
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One conversation under one setting at one model's prices."""

    name: str
    is_own: bool
    family: str
    outcome: Outcome
    """Without its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A peer that gave up on a conversation."""

    name: str
    transcript_id: str
    reason: str


def play_all(tasks: Sequence[Task], *, processes: int) -> Iterator[int]:
    """Play what is not kept yet; yield the number of plays of each task as it is done."""
    with ProcessPoolExecutor(max_workers=processes) as pool:
        yield from pool.map(play_task, tasks)


def play_task(task: Task) -> int:
    """Play a peer's settings over its conversations, in one worker, and keep what comes of it."""
    kept, played = Kept(task.folder / "plays"), 0
    counter = RememberingCounter(TiktokenCounter(COUNTED_AS))
    with ExitStack() as stack:
        worker: Worker | None = None
        for transcript in task.recordings:
            recording = recording_of(transcript)
            for setting in task.settings:
                key = _key(task.peer, setting, recording, task.kind)
                if kept.find(key) is not None:
                    continue
                worker = worker or stack.enter_context(_worker(task.peer, task.folder))
                job = replace(_job(setting, recording), limit_seconds=task.limit_seconds)
                kept.put(key, _play(worker, job, setting, task.kind, counter))
                played += 1
    return played


def _play(worker: Worker, job: Job, setting: Setting, kind: Kind, counter: TokenCounter) -> Play:
    try:
        play = worker.play(job, summariser(kind, most_tokens=setting.summary_tokens, counter=counter))
    except WorkerError as error:
        return Play(failed=str(error))
    missing = next((index for index in job.requests if index not in play.requests), None)
    if missing is not None and play.failed is None:
        play.failed = f"no request: after message {missing}"
    return play


def measure_all(trials: Sequence[Trial], *, processes: int) -> Iterator[list[Result | Failed]]:
    """Yield the results of each conversation, in order."""
    with ProcessPoolExecutor(max_workers=processes) as pool:
        yield from pool.map(measure, trials)


def measure(trial: Trial) -> list[Result | Failed]:
    """Measure everybody on one conversation."""
    recording = recording_of(trial.transcript)
    found: list[Result | Failed] = []
    policies: list[tuple[Setting, PeerPolicy]] = []
    for setting, play in _plays(trial, recording):
        if play.failed is None:
            policies.append((setting, PeerPolicy(setting.name, play, trial.kind)))
        else:
            found.append(Failed(name=setting.name, transcript_id=trial.transcript.id, reason=play.failed))
    found += _measured(Bench(recording, model=trial.model, counter=TiktokenCounter(COUNTED_AS)), policies, trial)
    return found


def _measured(bench: Bench, policies: Iterable[tuple[Setting, PeerPolicy]], trial: Trial) -> Iterator[Result]:
    yield _result(bench.outcome(Everything()), family="everything", is_own=False)
    for setting, policy in policies:
        yield _result(bench.outcome(policy), family=setting.family, is_own=False)
    for own in trial.own:
        yield _result(bench.outcome(_memory(own, trial.kind)), family=own.family, is_own=True)


def _memory(own: Own, kind: Kind) -> Memory:
    # Like for like: the peers quote what they summarise, so the memory does not extend its own cached prefix here.
    config = replace(own.config, summary_prefix=False)
    return Memory(name=own.name, config=config, summariser="model" if kind == "stub" else "extractive")


def _result(outcome: Outcome, *, family: str, is_own: bool) -> Result:
    light = replace(outcome, steps=(), compressions=())
    return Result(name=outcome.policy, family=family, is_own=is_own, outcome=light)


def _plays(trial: Trial, recording: Recording) -> Iterator[tuple[Setting, Play]]:
    kept = Kept(trial.folder / "plays")
    for setting in trial.settings:
        play = kept.find(_key(_peer_of(setting), setting, recording, trial.kind))
        if play is not None:
            yield setting, play


def paces_of_peers(
    settings: Iterable[Setting], recording: Recording, folder: Path, *, limit_seconds: float
) -> Iterator[tuple[Setting, Pace]]:
    """Yield what the turns of a loop cost with each setting; nothing else should run meanwhile."""
    for peer, group in groupby(sorted(settings, key=lambda one: one.peer), key=_peer_of):
        with _worker(peer, folder) as worker:
            for setting in group:
                job = replace(_job(setting, recording), remembers=False, limit_seconds=limit_seconds)
                yield setting, pace_of_play(_play(worker, job, setting, "stub", TiktokenCounter(COUNTED_AS)))


def _peer_of(setting: Setting) -> Peer:
    return next(peer for peer in PEERS if peer.name == setting.peer)


def _worker(peer: Peer, folder: Path) -> Worker:
    return Worker([str(peer.python(folder)), str(peer.worker)], cache=folder)


def _job(setting: Setting, recording: Recording) -> Job:
    return Job(
        way=setting.way,
        options=setting.options,
        messages=recording.transcript.messages,
        requests=[request.index for request in recording.requests],
    )


def _key(peer: Peer, setting: Setting, recording: Recording, kind: Kind) -> str:
    source = peer.worker.read_text(encoding="utf-8")
    shared = [peer.worker.with_name(f"{name}.py") for name in _SHARED if f"workers.{name} " in source]
    files = [peer.worker, peer.requirements, HERE / "summaries.py", *shared]
    return key_of(_job(setting, recording), kind, str(setting.summary_tokens), files=files)
