"""The recorded conversations as live loops over real SDKs: nothing refused, nothing lost, every token booked."""

from __future__ import annotations

import pytest

from memory import CompressionStrategy
from memory.messages import DialectName
from memory.testing.simulators import Playback

from .conversations import DIALECT_NAMES
from .corpus import Recorded
from .playback import Run, doors, native_recordings, one_run_each, play, played_by, signings, thresholds

pytestmark = [
    pytest.mark.usefixtures("corpus_dir"),
    pytest.mark.filterwarnings("ignore:.*google.generativeai:FutureWarning"),
]
RUNS = list(one_run_each(native_recordings()))
SUMMARISING = (CompressionStrategy.SLIDING_WINDOW, CompressionStrategy.SELECTIVE)
MEDIUM_TOKENS = 25_000


def compressed_runs(dialect: DialectName) -> list[Run]:
    """One recording long enough to be compressed, with each strategy; a model writes the summaries."""
    recordings = [one for one in native_recordings() if one.dialect == dialect]
    if not recordings:
        return []
    medium = min(recordings, key=lambda one: abs(int(one.header["tokens_est"]) - MEDIUM_TOKENS))
    return [_run(medium, strategy, number) for number, strategy in enumerate(CompressionStrategy)]


def _run(recorded: Recorded, strategy: CompressionStrategy, number: int) -> Run:
    door = doors(recorded.dialect)[number % 2]
    return Run(
        recorded=played_by(door, recorded),
        door=door,
        strategy=strategy,
        threshold_tokens=thresholds(recorded)[0],
        is_streamed=number in (0, 3),
        signing=signings(recorded.dialect, door)[-1],
        is_summarised=strategy in SUMMARISING,
    )


def test_there_are_recordings_to_play_in_every_format() -> None:
    assert {run.dialect for run in RUNS} == set(DIALECT_NAMES)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
async def test_every_recording_is_driven_through_an_sdk_without_a_refusal(run: Run) -> None:
    outcome = await play(run)

    assert outcome.problems == ()
    assert outcome.requests == Playback(run.recorded.messages, run.dialect).turn_count


@pytest.mark.parametrize(
    "run", [run for one in DIALECT_NAMES for run in compressed_runs(one)], ids=lambda run: run.name
)
async def test_every_strategy_compresses_every_format_to_lists_that_are_accepted(run: Run) -> None:
    outcome = await play(run)

    assert outcome.problems == ()
    assert outcome.compressions > 0
    assert (outcome.by_model > 0) == run.is_summarised


def test_all_strategies_both_kinds_of_loop_and_both_kinds_of_answer_take_part() -> None:
    for dialect in DIALECT_NAMES:
        assert len({run.door for run in RUNS if run.dialect == dialect}) > 1
    assert {run.strategy for run in RUNS} == set(CompressionStrategy)
    assert {run.is_streamed for run in RUNS} == {True, False}
