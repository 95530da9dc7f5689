"""The same jobs in one process, in several, and on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest

from agent.backtest.cluster import dask_executor
from agent.backtest.outcome import Policy, Session
from agent.backtest.parallel import (
    DEFAULT_MODELS,
    Failure,
    Job,
    WorkersLostError,
    executor_for,
    models_of,
    run,
    run_all,
)
from agent.backtest.policies import Everything, policies_named
from agent.transcripts import Transcript
from memory import MemoryConfig
from memory.errors import ConfigError, MissingDependencyError
from memory.prices import PriceBook
from memory.tokens import TokenCounter

from .test_backtest import a_loop


def jobs() -> Iterator[Job]:
    policies = tuple(policies_named(["window", "sliding_window"], thresholds=[2_000], own=MemoryConfig()))
    for seed in range(5):
        yield Job(transcript=a_loop(30, seed=seed), policies=policies, models=("gpt-5.1",))


def test_processes_give_what_one_process_gives() -> None:
    alone = list(run_all(jobs(), None))

    with executor_for(processes=2, dask=None) as (executor, workers):
        together = list(run_all(jobs(), executor, workers=workers))

    assert workers == 2
    assert together == alone
    assert [len(outcomes) for outcomes, _ in alone] == [3] * 5


def test_transcripts_are_read_only_as_workers_become_free() -> None:
    read: list[int] = []

    def many() -> Iterator[Job]:
        for number in range(100):
            read.append(number)
            yield Job(transcript=a_loop(4), policies=(Everything(),), models=("gpt-5.1",))

    with ThreadPoolExecutor(1) as executor:
        results = run_all(many(), executor, workers=1)
        next(results)

        assert len(read) < 10
        assert len(list(results)) == 99


@pytest.fixture
def scheduler() -> Iterator[str]:
    """A Dask cluster of one thread of this process, which listens on 127.0.0.1."""
    distributed: Any = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    )
    with cluster:
        yield cluster.scheduler_address


def test_a_dask_cluster_gives_what_one_process_gives(scheduler: str) -> None:
    with executor_for(processes=1, dask=scheduler) as (executor, workers):
        together = list(run_all(jobs(), executor, workers=workers))

    assert together == list(run_all(jobs(), None))


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("agent.backtest.cluster._CONNECT_SECONDS", 0.2)

    with pytest.raises(ConfigError, match="no Dask scheduler answers"), dask_executor("tcp://127.0.0.1:1", workers=1):
        pass


def test_without_dask_the_error_gives_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with (
        pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[dask\]'"),
        dask_executor("local", workers=1),
    ):
        pass


@dataclass(frozen=True, kw_only=True)
class Failing:
    name: str = "failing"

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        raise RuntimeError("with the words of a message in it")


def test_a_policy_that_fails_is_told_without_its_words_and_the_others_go_on() -> None:
    policies: tuple[Policy, ...] = (Failing(), Everything())

    outcomes, failures = run(Job(transcript=a_loop(10), policies=policies, models=("gpt-5.1",)))

    assert [one.policy for one in outcomes] == ["none"]
    assert failures == (Failure(source="loop.json", error="it failed with RuntimeError", policy="failing"),)


def test_a_broken_transcript_is_told_and_the_others_go_on() -> None:
    broken = replace(a_loop(10), messages=({"role": 7},))
    every = [Job(transcript=one, policies=(Everything(),), models=("gpt-5.1",)) for one in (broken, a_loop(10))]

    (nothing, failures), (outcomes, none) = run_all(every, None)

    assert (nothing, len(failures), len(outcomes), none) == ((), 1, 1, ())


class Lossy(Executor):
    """A cluster that gives up on one job, and from another one on has no workers."""

    def __init__(self, *, failing: int, broken: int = 99) -> None:
        self._failing, self._broken, self._count = failing, broken, 0

    def submit(self, work: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._count += 1
        if self._count >= self._broken:
            future.set_exception(BrokenProcessPool())
        elif self._count == self._failing:
            future.set_exception(RuntimeError("with the words of a message in it"))
        else:
            future.set_result(work(*arguments))
        return future


def test_a_job_that_a_cluster_gives_up_is_told_and_the_others_go_on() -> None:
    results = list(run_all(jobs(), Lossy(failing=2)))

    assert results[1] == ((), (Failure(source="loop.json", error="it failed with RuntimeError"),))
    assert [len(outcomes) for outcomes, _ in results] == [3, 0, 3, 3, 3]


def test_what_was_done_before_the_workers_ended_is_there() -> None:
    results = run_all(jobs(), Lossy(failing=99, broken=4))

    assert len(list(islice(results, 3))) == 3
    with pytest.raises(WorkersLostError, match="ended from outside"):
        next(results)


def test_a_conversation_without_an_answer_has_no_outcome() -> None:
    asked = replace(a_loop(10), messages=({"role": "user", "content": "Anybody?"},))

    assert run(Job(transcript=asked, policies=(Everything(),))) == ((), ())


def test_steps_are_left_out_where_nobody_wants_them() -> None:
    (outcome,), _ = run(Job(transcript=a_loop(10), policies=(Everything(),), models=("gpt-5.1",), keeps_steps=False))

    assert (outcome.steps, outcome.compressions) == ((), ())
    assert outcome.requests > 0


def test_a_recordings_own_model_is_taken_where_its_price_is_known() -> None:
    known, unknown = replace(a_loop(4), model="gpt-4o"), replace(a_loop(4), model="claude (managed agent)")

    assert [models_of(one) for one in (known, unknown, a_loop(4))] == [("gpt-4o",), DEFAULT_MODELS, DEFAULT_MODELS]


@pytest.mark.parametrize("model", DEFAULT_MODELS)
def test_the_models_taken_otherwise_have_prices(model: str) -> None:
    assert PriceBook().rates(model).source == "genai-prices"
