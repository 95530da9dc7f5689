"""Every recorded transcript through the memory, at three thresholds, with every strategy: the laws hold."""

from __future__ import annotations

import pytest

from memory import CompressionStrategy, MemoryConfig, TiktokenCounter, repair
from memory.messages import Reading

from .corpus import Recorded, malformed, transcripts
from .laws import Watched

pytestmark = pytest.mark.usefixtures("corpus_dir")


class OnceCounter(TiktokenCounter):
    """Remembers what a reading measured, so that twelve replays of a transcript tokenise it once."""

    def __init__(self, sizes: dict[Reading, int]) -> None:
        super().__init__("gpt-4o")
        self._sizes = sizes

    def count_reading(self, reading: Reading) -> int:
        if reading not in self._sizes:
            self._sizes[reading] = super().count_reading(reading)
        return self._sizes[reading]


def _config(strategy: str, threshold: int) -> MemoryConfig:
    return MemoryConfig(
        max_context_tokens=400_000,
        compression_threshold=threshold,
        compression_strategy=CompressionStrategy(strategy),
    )


@pytest.mark.parametrize("recorded", transcripts(), ids=lambda recorded: recorded.id)
def test_the_laws_hold_for_every_transcript(recorded: Recorded) -> None:
    sizes: dict[Reading, int] = {}
    for threshold in (4_000, 12_000, 40_000):
        for strategy in CompressionStrategy:
            watched = Watched(_config(strategy, threshold), recorded.dialect, counter=OnceCounter(sizes), every=50)
            watched.add_all(recorded.messages)


@pytest.mark.parametrize("recorded", malformed(), ids=lambda recorded: recorded.id)
def test_a_broken_transcript_is_no_more_broken_afterwards(recorded: Recorded) -> None:
    repaired = repair(recorded.messages, recorded.dialect)
    watched = Watched(_config("sliding_window", 12_000), recorded.dialect, counter=OnceCounter({}))
    watched.add_all(list(repaired.messages))
    unrepaired = Watched(
        _config("sliding_window", 12_000), recorded.dialect, counter=OnceCounter({}), checks_validity=False
    )
    unrepaired.add_all(recorded.messages)
