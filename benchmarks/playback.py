"""Recorded conversations played live through the real SDKs against simulated providers, with compression on.

Every recorded conversation with native tool calls is driven as a loop, behind our own models and behind `with_memory`
around the bare SDK: the simulator serves its assistant turns, its results answer the calls, and a memory without a
model decides what is sent. The simulator refuses what the provider refuses. Of each run is checked that nothing is
refused, nothing of the recording lost or doubled, the recorded answer reached, and every token booked that the
provider reported. What is printed are counts; no text of a recording is.

    python benchmarks/playback.py [CORPUS] [--strategy deletion ...] [--door with_memory ...] [--only ID] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from memory import CompressionStrategy  # noqa: E402
from tests.corpus import CORPUS_ENV  # noqa: E402
from tests.playback import Outcome, Run, every_run, native_recordings, one_run_each, play_now  # noqa: E402

COLUMNS = ("runs", "streamed", "requests", "refused", "compressions", "wrong")
Cell: TypeAlias = tuple[str, str, str]
"""Format, door, strategy."""


def main() -> int:
    """Print the table; return 1 if anything was refused or is not as it should be, 2 without a corpus."""
    arguments = _arguments()
    if arguments.corpus:
        os.environ[CORPUS_ENV] = str(arguments.corpus)
    began = time.perf_counter()
    runs = _chosen(arguments)
    if not runs:
        print(f"nothing to play: give the folder of the corpus, or set {CORPUS_ENV}", file=sys.stderr)
        return 2
    outcomes = _played(runs, processes=arguments.processes)
    print(json.dumps(_as_json(runs, outcomes)) if arguments.json else _table(runs, outcomes))
    for outcome in outcomes:
        for problem in outcome.problems:
            print(f"{outcome.name}: {problem}", file=sys.stderr)
    if not arguments.json:
        print(f"{len({run.recorded.id for run in runs})} conversations, {time.perf_counter() - began:.0f} s")
    return int(any(outcome.problems for outcome in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", type=Path, help="folder with index.jsonl")
    parser.add_argument("--strategy", nargs="+", default=[str(name) for name in CompressionStrategy])
    parser.add_argument("--door", nargs="+", default=[], help="with_memory, or names that agent.llm.connect takes")
    parser.add_argument("--only", default="", help="conversations whose id contains this")
    parser.add_argument("--quick", action="store_true", help="each conversation once, as the tests do")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Run]:
    recordings = [one for one in native_recordings() if arguments.only in one.id]
    runs = one_run_each(recordings) if arguments.quick else every_run(recordings)
    chosen = [
        run for run in runs if run.strategy in arguments.strategy and (not arguments.door or run.door in arguments.door)
    ]
    # The longest first, so that no process is left alone with one at the end.
    return sorted(chosen, key=lambda run: -int(run.recorded.header["tokens_est"]))


def _played(runs: Sequence[Run], *, processes: int) -> list[Outcome]:
    with ProcessPoolExecutor(max_workers=processes) as pool:
        return list(pool.map(play_now, runs))


def _totals(runs: Sequence[Run], outcomes: Sequence[Outcome]) -> dict[Cell, Counter[str]]:
    totals: dict[Cell, Counter[str]] = {}
    for run, outcome in zip(runs, outcomes, strict=True):
        for cell in ((run.dialect, run.door, str(run.strategy)), ("all", "", "")):
            totals.setdefault(cell, Counter()).update(
                runs=1,
                streamed=outcome.requests * run.is_streamed,
                requests=outcome.requests,
                refused=outcome.rejected,
                compressions=outcome.compressions,
                wrong=int(bool(outcome.problems)),
            )
    return dict(sorted(totals.items(), key=lambda row: (row[0][0] == "all", row[0])))


def _as_json(runs: Sequence[Run], outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    totals = _totals(runs, outcomes)
    return [
        {"format": cell[0], "door": cell[1], "strategy": cell[2], **{name: row[name] for name in COLUMNS}}
        for cell, row in totals.items()
    ]


def _table(runs: Sequence[Run], outcomes: Sequence[Outcome]) -> str:
    head = f"{'format':18}{'door':21}{'strategy':16}" + "".join(f"{name:>14}" for name in COLUMNS)
    rows = [
        f"{cell[0]:18}{cell[1]:21}{cell[2]:16}" + "".join(f"{row[name]:>14,}" for name in COLUMNS)
        for cell, row in _totals(runs, outcomes).items()
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    raise SystemExit(main())
