"""What automatic recall brings back of what agents needed again, and what it costs; no model at all.

The probes and the replays are those of `retention.py`: a string that an agent saw, that nobody mentioned for ten
messages or more, and that the agent then wrote again. Each replay runs twice, with and without `auto_recall`. Counted
are the probes whose string was compressed away (it stands nowhere in the context without recall), how many of these
stand in the context with it, and the tokens and milliseconds that this took.

    python benchmarks/auto_recall.py [CORPUS] [--share 0.25] [--strategy deletion] [--tokens 2000] [--only TEXT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.transcripts import Transcript, read_transcripts  # noqa: E402
from memory import CompressionStrategy, MemoryConfig, MemoryManager, TokenCounter  # noqa: E402
from memory.dialects import dialect_named  # noqa: E402
from memory.native import to_wire  # noqa: E402
from memory.recall import searchable_text  # noqa: E402
from memory.testing import WordCounter  # noqa: E402
from memory.tokens import TiktokenCounter  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One replay: a conversation up to a message in which the agent used something again."""

    probes: int
    away: int
    """Probes whose string stands nowhere in the context without automatic recall."""
    back: int
    """Of these, how many stand in it with automatic recall."""
    present: int
    """Probes whose string stands in the context with automatic recall."""
    turns: int
    recalled_tokens: int
    added_tokens: int
    """What the whole conversation measures."""
    extra_context_tokens: int
    """By what the context is larger in the end."""
    compressions: int
    extra_compressions: int
    extra_seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return 2 if there is no corpus."""
    options = _options().parse_args(arguments)
    probes_file = options.corpus / "probes.jsonl"
    if not probes_file.is_file():
        print(f"no corpus at {options.corpus}: give its folder, or set ALOOP_CORPUS", file=sys.stderr)
        return 2
    rows = [json.loads(line) for line in probes_file.read_text(encoding="utf-8").splitlines()]
    jobs = [(row, options) for row in rows if options.only in row["file"] or options.only in row["id"]]
    with ProcessPoolExecutor(max_workers=options.processes) as pool:
        outcomes = [outcome for found in pool.map(_replays, jobs) for outcome in found]
    _print(outcomes, options)
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ALOOP_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("corpus", nargs="?", type=Path, default=default, help="folder with probes.jsonl")
    parser.add_argument("--share", type=float, default=0.25, help="threshold as a share of the history (0-1)")
    parser.add_argument("--strategy", default="deletion", choices=[name.value for name in CompressionStrategy])
    parser.add_argument("--tokens", type=int, default=2_000, help="auto_recall_tokens")
    parser.add_argument("--words", action="store_true", help="count words, not tokens: faster")
    parser.add_argument("--only", default="", help="files or conversations whose name contains this")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    return parser


def _replays(job: tuple[Mapping[str, Any], argparse.Namespace]) -> list[Outcome]:
    row, options = job
    transcript = next(t for t in read_transcripts(options.corpus / row["file"]) if t.id == row["id"])
    counter: TokenCounter = WordCounter() if options.words else TiktokenCounter()
    stops = sorted({probe["reuse_index"] for probe in row["probes"]})
    return [
        _replay(transcript, stop, [p["fact"] for p in row["probes"] if p["reuse_index"] == stop], options, counter)
        for stop in stops
    ]


def _replay(
    transcript: Transcript, stop: int, facts: Sequence[str], options: argparse.Namespace, counter: TokenCounter
) -> Outcome:
    messages = transcript.messages[:stop]
    whole = _added(transcript, messages, counter, MemoryConfig(enable_compression=False))[0]
    config = MemoryConfig(
        max_context_tokens=10_000_000,
        compression_threshold=max(50, int(whole.current_tokens * options.share)),
        compression_strategy=CompressionStrategy(options.strategy),
        auto_recall_tokens=options.tokens,
    )
    plain, plain_seconds = _added(transcript, messages, counter, config)
    recalling, seconds = _added(transcript, messages, counter, _with_recall(config))
    without, context = _text(plain.messages, transcript), _text(recalling.messages, transcript)
    away = [fact for fact in facts if fact not in without]
    stats, plain_stats = recalling.get_stats(), plain.get_stats()
    return Outcome(
        probes=len(facts),
        away=len(away),
        back=sum(fact in context for fact in away),
        present=sum(fact in context for fact in facts),
        turns=sum(message.get("role") == "assistant" for message in map(to_wire, messages)),
        recalled_tokens=stats["recalled_tokens"],
        added_tokens=whole.current_tokens,
        extra_context_tokens=recalling.current_tokens - plain.current_tokens,
        compressions=plain_stats["compression_count"],
        extra_compressions=stats["compression_count"] - plain_stats["compression_count"],
        extra_seconds=seconds - plain_seconds,
    )


def _with_recall(config: MemoryConfig) -> MemoryConfig:
    return MemoryConfig.from_given({**config.given(), "auto_recall": True})


def _added(
    transcript: Transcript, messages: Iterable[object], counter: TokenCounter, config: MemoryConfig
) -> tuple[MemoryManager, float]:
    memory = MemoryManager(config, dialect=transcript.dialect, system=transcript.system, counter=counter)
    began = time.process_time()
    for message in messages:
        memory.add_message_sync(message)
    return memory, time.process_time() - began


def _text(messages: Iterable[object], transcript: Transcript) -> str:
    dialect = dialect_named(transcript.dialect)
    parts = [searchable_text(dialect.read(to_wire(message))) for message in messages]
    return "\0".join([json.dumps(transcript.system), *parts])


def _print(outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    def total(name: str) -> float:
        return float(sum(getattr(outcome, name) for outcome in outcomes))

    away, turns, probes = total("away"), total("turns"), total("probes")
    print(f"{len(outcomes)} replays, {probes:,.0f} probes, {options.strategy}, threshold {options.share:.0%}")
    print(f"compressed away without recall      {away:,.0f}")
    print(f"of these back by themselves         {total('back'):,.0f} ({total('back') / max(1, away):.1%})")
    print(f"in the context, with recall         {total('present') / max(1, probes):.1%}")
    print(f"in the context, without             {1 - away / max(1, probes):.1%}")
    print(f"recalled, of all that was added     {total('recalled_tokens') / max(1, total('added_tokens')):.1%}")
    print(f"recalled per turn                   {total('recalled_tokens') / max(1, turns):,.0f} tokens")
    print(f"larger context in the end           {total('extra_context_tokens') / max(1, len(outcomes)):,.0f} tokens")
    print(f"compressions, and more of them      {total('compressions'):,.0f} + {total('extra_compressions'):,.0f}")
    print(f"time per turn                       {1_000 * total('extra_seconds') / max(1, turns):.2f} ms")


if __name__ == "__main__":
    raise SystemExit(main())
