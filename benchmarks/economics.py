"""Deciding by money against a fixed threshold: dollars, facts kept, and the worst that a run can turn out dearer.

First a loop of 1,000 messages of recorded customer service, for every model named; then each recorded run of more
than 20,000 tokens. *Dollars* are a share of what sending everything costs with a warm prompt cache. *Worst end* is the
highest such share of a run as recorded, *worst anywhere* of a run that ends at any of its requests. No model, no
network.

    python benchmarks/economics.py [CORPUS] [--model NAME ...] [--loop] [--check]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.backtest.engine import Bench  # noqa: E402
from agent.backtest.outcome import Outcome  # noqa: E402
from agent.backtest.policies import Everything, Memory  # noqa: E402
from agent.backtest.recording import SECONDS_PER_STEP, recording_of  # noqa: E402
from agent.transcripts import Transcript, read_transcripts  # noqa: E402
from benchmarks.peers.conversations import customer_service_loop  # noqa: E402
from memory import MemoryConfig  # noqa: E402

MODELS = (
    *("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-5.4", "gpt-5.6"),
    *("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-7", "claude-sonnet-5-5", "claude-fable-5"),
    *("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.1-pro-preview"),
)
RECORDED_MODELS = ("gpt-5", "gpt-5.6", "claude-sonnet-4-5", "claude-sonnet-5-5", "gemini-2.5-pro")
POLICIES = (
    Memory(name="threshold", config=MemoryConfig(trigger="threshold")),  # type: ignore[arg-type]  # as users write it
    Memory(name="economic", config=MemoryConfig()),
    Memory(name="economic@9000", config=MemoryConfig(trigger="economic", compression_threshold=9_000)),  # type: ignore[arg-type]
)
LONG_TOKENS = 20_000
MOST_OVER = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run under one policy."""

    model: str
    policy: str
    share: float
    """Dollars, of what sending everything costs."""
    input_share: float
    """The same without the answers, which cost the same in any case."""
    worst_share: float
    """The highest share at any request, had the run ended there."""
    retained: int
    probes: int
    mean_context_tokens: float
    compressions: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; with `--check` return 1 if a target is missed."""
    options = _options().parse_args(arguments)
    loop = customer_service_loop(options.corpus)
    if loop is None:
        print(f"no corpus at {options.corpus}: give its folder, or set ALOOP_CORPUS", file=sys.stderr)
        return 2
    with ProcessPoolExecutor(max_workers=options.processes) as pool:
        loops = [row for rows in pool.map(_rows, [(loop, (m,), 0) for m in options.model or MODELS]) for row in rows]
        print("A loop of 1,000 messages of customer service")
        _print_loops(loops)
        if options.loop:
            return int(options.check and not _is_below(loops))
        models = tuple(options.model or RECORDED_MODELS)
        jobs = [
            (t, models, LONG_TOKENS) for path in sorted(options.corpus.glob("*/*.gz")) for t in read_transcripts(path)
        ]
        recorded = [row for rows in pool.map(_rows, jobs) for row in rows]
    print(f"\nRecorded runs of more than {LONG_TOKENS:,} tokens")
    _print_recorded(recorded)
    is_bounded = all(row.share <= MOST_OVER for row in recorded if row.policy.startswith("economic"))
    return int(options.check and not (_is_below(loops) and is_bounded))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ALOOP_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("corpus", nargs="?", type=Path, default=default, help="folder of recorded transcripts")
    parser.add_argument("--model", action="append", help="may be repeated; default: those that are known to be priced")
    parser.add_argument("--loop", action="store_true", help="the loop alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    return parser


def _rows(job: tuple[Transcript, Sequence[str], int]) -> list[Row]:
    transcript, models, least_tokens = job
    recording = recording_of(transcript, seconds_per_step=SECONDS_PER_STEP)
    return [row for model in models for row in _measured(Bench(recording, model=model), model, least_tokens)]


def _measured(bench: Bench, model: str, least_tokens: int) -> Iterator[Row]:
    everything = bench.outcome(Everything())
    if max((step.sent_tokens for step in everything.steps), default=0) <= least_tokens:
        return
    for policy in POLICIES:
        yield _row(model, bench.outcome(policy), everything)


def _row(model: str, found: Outcome, everything: Outcome) -> Row:
    ours, full = (list(accumulate(step.usd for step in outcome.steps)) for outcome in (found, everything))
    return Row(
        model=model,
        policy=found.policy,
        share=found.usd / everything.usd,
        input_share=(found.usd - found.usd_output) / (everything.usd - everything.usd_output),
        worst_share=max(mine / theirs for mine, theirs in zip(ours, full, strict=True)),
        retained=found.retained,
        probes=found.probes,
        mean_context_tokens=found.mean_context_tokens,
        compressions=len(found.compressions),
    )


def _is_below(loops: Sequence[Row]) -> bool:
    """Whether deciding by money cost less than the threshold with every model."""
    dollars = {(row.model, row.policy): row.share for row in loops}
    return all(dollars[model, "economic"] < dollars[model, "threshold"] for model, _ in dollars)


def _print_loops(rows: Sequence[Row]) -> None:
    print(f"{'model':24}{'policy':16}{'dollars':>9}{'input':>8}{'mean context':>14}{'compressions':>14}{'facts':>9}")
    for row in rows:
        facts = f"{row.retained}/{row.probes}"
        print(
            f"{row.model:24}{row.policy:16}{row.share:>9.3f}{row.input_share:>8.3f}{row.mean_context_tokens:>14,.0f}"
            f"{row.compressions:>14}{facts:>9}"
        )


def _print_recorded(rows: Sequence[Row]) -> None:
    print(f"{'model':24}{'policy':16}{'runs':>5}{'dollars':>9}{'facts':>8}{'worst end':>11}{'worst anywhere':>16}")
    for model, policy in dict.fromkeys((row.model, row.policy) for row in rows):
        own = [row for row in rows if (row.model, row.policy) == (model, policy)]
        facts = sum(row.retained for row in own) / max(1, sum(row.probes for row in own))
        print(
            f"{model:24}{policy:16}{len(own):>5}{sum(row.share for row in own) / len(own):>9.3f}{facts:>8.1%}"
            f"{max(row.share for row in own):>11.3f}{max(row.worst_share for row in own):>16.3f}"
        )


if __name__ == "__main__":
    sys.exit(main())
