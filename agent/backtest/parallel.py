"""Many transcripts at once: in this process, on all cores, or on a Dask cluster; the same jobs, the same results.

Transcripts are taken from their source as workers become free, so that millions need not be in memory together.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from typing import Final, TypeAlias

from memory.errors import AgentMemoryError
from memory.prices import PriceBook

from ..transcripts import Transcript
from .cluster import dask_executor
from .engine import Bench
from .outcome import Outcome, Policy
from .recording import SECONDS_PER_STEP, recording_of

DEFAULT_MODELS: Final = ("gpt-5.6-terra", "claude-sonnet-5-5", "gemini-3.1-pro-preview")
"""For recordings whose own model is not told or has no known price: a middle-sized one of each large provider, all
with a price in genai-prices (2026-11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One transcript, and what is to be tried on it."""

    transcript: Transcript
    policies: tuple[Policy, ...]
    models: tuple[str, ...] = ()
    """Empty: the recording's own if its price is known, else `DEFAULT_MODELS`."""
    seconds_per_step: float = SECONDS_PER_STEP
    keeps_steps: bool = True
    """False: outcomes come without steps and compressions, a hundredth of their size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A transcript that could not be run, or a policy that could not be run on it."""

    source: str
    error: str
    policy: str | None = None


class WorkersLostError(AgentMemoryError):
    """The processes that work on the transcripts have ended before their work was done."""


Result: TypeAlias = tuple[tuple[Outcome, ...], tuple[Failure, ...]]
"""Of one job."""


def run_all(jobs: Iterable[Job], executor: Executor | None, *, workers: int = 1) -> Iterator[Result]:
    """Yield the result of each job, in the order of the jobs; without an executor they run here, one by one.

    Raises:
        WorkersLostError: The executor's processes ended before their work was done; what was done is yielded before.
    """
    if executor is None:
        yield from map(run, jobs)
        return
    try:
        yield from _in_order(iter(jobs), executor, in_flight=_JOBS_PER_WORKER * workers)
    except (BrokenProcessPool, CancelledError) as error:
        raise WorkersLostError(
            "a process that worked on them was ended from outside, perhaps for want of memory; "
            "--processes 1 works without others"
        ) from error


def run(job: Job) -> Result:
    """Run one job. What cannot be run is told in the result; the rest goes on. No outcome without an answer in it."""
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    try:
        recording = recording_of(job.transcript, seconds_per_step=job.seconds_per_step)
    except Exception as error:  # noqa: BLE001 - of a transcript from anywhere anything may be wrong
        return (), (_failure(job.transcript.source, error),)
    if not recording.requests:
        return (), ()
    for model in job.models or models_of(job.transcript):
        bench = Bench(recording, model=model)
        for policy in job.policies:
            try:
                found = bench.outcome(policy)
            except Exception as error:  # noqa: BLE001 - policies are plug-ins
                failures.append(_failure(job.transcript.source, error, policy))
            else:
                outcomes.append(found if job.keeps_steps else replace(found, steps=(), compressions=()))
    return tuple(outcomes), tuple(failures)


def models_of(transcript: Transcript) -> tuple[str, ...]:
    """Return the models to price a transcript as, where nobody named one."""
    own = transcript.model
    return DEFAULT_MODELS if own is None or PriceBook().rates(own).is_default else (own,)


@contextmanager
def executor_for(*, processes: int, dask: str | None) -> Iterator[tuple[Executor | None, int]]:
    """Give an executor and the number of its workers: a cluster's, this machine's cores, or none for one process.

    Args:
        processes: How many to start here; 1: none.
        dask: Address of a scheduler (`tcp://host:8786`), or `local` for a cluster on this machine.

    Raises:
        MissingDependencyError: Dask is asked for and not installed.
        ConfigError: The cluster does not answer.
    """
    if dask is not None:
        with dask_executor(dask, workers=processes) as found:
            yield found
    elif processes == 1:
        yield None, 1
    else:
        # Spawned, not forked: the progress bar's thread may hold a lock at any moment.
        pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_at_interrupts)
        try:
            yield pool, processes
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Return how many processes this machine can run at once, as far as this process may use them."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


_JOBS_PER_WORKER: Final = 4


def _in_order(jobs: Iterator[Job], executor: Executor, *, in_flight: int) -> Iterator[Result]:
    """Keep the workers busy, and no more than `in_flight` jobs on their way or done and not yet taken."""
    waiting: deque[tuple[str, Future[Result]]] = deque()
    while True:
        waiting += [
            (job.transcript.source, executor.submit(run, job)) for job in islice(jobs, in_flight - len(waiting))
        ]
        if not waiting:
            return
        yield _result(*waiting.popleft())


def _result(source: str, future: Future[Result]) -> Result:
    try:
        return future.result()
    except (BrokenProcessPool, CancelledError):
        raise  # there are no workers any more
    except Exception as error:  # noqa: BLE001 - a cluster gives up on a job that ends its workers, by errors of its own
        return (), (_failure(source, error),)


def _failure(source: str, error: Exception, policy: Policy | None = None) -> Failure:
    # The words of other errors may quote a message.
    said = str(error) if isinstance(error, AgentMemoryError) else f"it failed with {type(error).__name__}"
    return Failure(source=source, error=said, policy=policy.name if policy else None)


def _end_at_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal: a worker ends at once and in silence, the main process says so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
