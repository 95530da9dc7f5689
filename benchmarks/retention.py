"""How much of what an agent needs again is still in its context after compression, with no model at all.

Each probe of the corpus is a string that an agent saw in a tool result or a user message, that nobody mentioned for
at least ten messages, and that the agent then wrote again. The conversation up to that message goes through a
`MemoryManager` whose threshold is a share of its tokens up to there, so each point of reuse is a replay of its own;
then we look for the string: plainly in the context, and through `recall`. Beside it stands the same for a plain
window of the last 20 messages. Sizes are tokens of messages and system prompt, tool schemas aside.

    python benchmarks/retention.py [CORPUS] [--share 0.25] [--strategy sliding_window] [--trigger economic]
                                   [--only TEXT] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.transcripts import Transcript, read_transcripts  # noqa: E402
from memory import CompressionStrategy, CompressionTrigger, MemoryConfig, MemoryManager  # noqa: E402
from memory.dialects import dialect_named  # noqa: E402
from memory.messages import Reading  # noqa: E402
from memory.native import to_wire  # noqa: E402
from memory.tokens import TiktokenCounter  # noqa: E402

PRICED_AS = "gpt-5"
"""For `--trigger economic`, which needs prices; sizes are those of the counter in any case."""
WINDOW = 20
RECALLED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one probe."""

    source: str
    conversation: str
    fact: str
    kind: str
    is_hardest: bool
    """Seen in one message only."""
    in_context: bool
    in_context_or_recall: bool
    in_window: bool
    """In the last 20 messages: the baseline."""
    context_share: float
    window_share: float
    compressions: int


class CachedCounter(TiktokenCounter):
    """The counter that the library uses; the same message is counted once over all replays."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[Reading, int] = {}

    def count_reading(self, reading: Reading) -> int:
        size = self._sizes.get(reading)
        if size is None:
            size = self._sizes[reading] = super().count_reading(reading)
        return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 2 if there is no corpus."""
    options = _options().parse_args(arguments)
    probes_file = options.corpus / "probes.jsonl"
    if not probes_file.is_file():
        print(f"no corpus at {options.corpus}: give its folder, or set ALOOP_CORPUS", file=sys.stderr)
        return 2
    began = time.perf_counter()
    rows = [json.loads(line) for line in probes_file.read_text(encoding="utf-8").splitlines()]
    jobs = [(row, options) for row in rows if options.only in row["file"] or options.only in row["id"]]
    with ProcessPoolExecutor(max_workers=options.processes) as pool:
        outcomes = [outcome for found in pool.map(_replay, jobs) for outcome in found]
    if options.json:
        print(json.dumps(_as_json(outcomes, options), indent=1))
    else:
        _print_table(outcomes, options, seconds=time.perf_counter() - began)
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ALOOP_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("corpus", nargs="?", type=Path, default=default, help="folder with probes.jsonl")
    parser.add_argument("--share", type=float, default=0.25, help="threshold as a share of the history (0-1)")
    parser.add_argument("--strategy", default="sliding_window", choices=[name.value for name in CompressionStrategy])
    parser.add_argument("--trigger", default="threshold", choices=[name.value for name in CompressionTrigger])
    parser.add_argument("--only", default="", help="files or conversations whose name contains this")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--missing", action="store_true", help="list the facts that are not in context")
    parser.add_argument("--json", action="store_true")
    return parser


def _replay(job: tuple[Mapping[str, Any], argparse.Namespace]) -> list[Outcome]:
    """Look for all probes of one conversation."""
    row, options = job
    transcript = next(t for t in read_transcripts(options.corpus / row["file"]) if t.id == row["id"])
    counter = CachedCounter()
    found: list[Outcome] = []
    for stop in sorted({probe["reuse_index"] for probe in row["probes"]}):
        probes = [probe for probe in row["probes"] if probe["reuse_index"] == stop]
        found += _look(
            transcript, stop, probes, options, counter, source=Path(row["file"]).name.removesuffix(".jsonl.gz")
        )
    return found


def _look(
    transcript: Transcript,
    stop: int,
    probes: Iterable[Mapping[str, Any]],
    options: argparse.Namespace,
    counter: CachedCounter,
    *,
    source: str,
) -> list[Outcome]:
    messages = transcript.messages[:stop]
    whole = _manager(transcript, counter, threshold=None)
    for message in messages:
        whole.add_message_sync(message)
    full_tokens = whole.current_tokens
    memory = _manager(
        transcript,
        counter,
        threshold=int(full_tokens * options.share),
        strategy=options.strategy,
        trigger=options.trigger,
    )
    for message in messages:
        memory.add_message_sync(message)
    context = _text(memory.get_context_for_llm(), transcript)
    window = _manager(transcript, counter, threshold=None)
    for message in messages[-WINDOW:]:
        window.add_message_sync(message)
    last = _text(messages[-WINDOW:], transcript)
    return [
        Outcome(
            source=source,
            conversation=transcript.id,
            fact=probe["fact"],
            kind=probe["kind"],
            is_hardest=probe["last_seen_index"] == probe["first_index"],
            in_context=probe["fact"] in context,
            in_context_or_recall=probe["fact"] in context or _is_recalled(memory, probe["fact"], transcript),
            in_window=probe["fact"] in last,
            context_share=memory.current_tokens / full_tokens,
            window_share=window.current_tokens / full_tokens,
            compressions=memory.get_stats()["compression_count"],
        )
        for probe in probes
    ]


def _manager(
    transcript: Transcript,
    counter: CachedCounter,
    *,
    threshold: int | None,
    strategy: str = "sliding_window",
    trigger: str = "threshold",
) -> MemoryManager:
    limit = 10_000_000
    config = MemoryConfig(
        max_context_tokens=limit,
        compression_threshold=threshold or limit,
        enable_compression=threshold is not None,
        compression_strategy=CompressionStrategy(strategy),
        trigger=CompressionTrigger(trigger),
    )
    return MemoryManager(config, dialect=transcript.dialect, model=PRICED_AS, system=transcript.system, counter=counter)


def _is_recalled(memory: MemoryManager, fact: str, transcript: Transcript) -> bool:
    return any(fact in _text([hit.message], transcript) for hit in memory.recall(fact, limit=RECALLED))


def _text(messages: Iterable[object], transcript: Transcript) -> str:
    dialect = dialect_named(transcript.dialect)
    parts = [transcript.system if isinstance(transcript.system, str) else json.dumps(transcript.system)]
    for message in messages:
        reading = dialect.read(to_wire(message))
        parts += [reading.text, reading.reasoning]
        parts += [call.arguments for call in reading.calls]
        parts += [result.text for result in reading.results]
    return "\0".join(parts)


def _totals(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    def mean(values: Iterable[float]) -> float:
        numbers = list(values)
        return round(sum(numbers) / len(numbers), 4)

    hardest = [outcome.in_context for outcome in outcomes if outcome.is_hardest]
    return {
        "probes": len(outcomes),
        "in_context": mean(outcome.in_context for outcome in outcomes),
        "with_recall": mean(outcome.in_context_or_recall for outcome in outcomes),
        "hardest_in_context": mean(hardest) if hardest else None,
        "context_share": mean(outcome.context_share for outcome in outcomes),
        "last_20_in_context": mean(outcome.in_window for outcome in outcomes),
        "last_20_share": mean(outcome.window_share for outcome in outcomes),
        "compressions": mean(outcome.compressions for outcome in outcomes),
    }


def _groups(outcomes: Sequence[Outcome], by: str) -> dict[str, dict[str, Any]]:
    names = sorted({getattr(outcome, by) for outcome in outcomes})
    return {name: _totals([outcome for outcome in outcomes if getattr(outcome, by) == name]) for name in names}


def _as_json(outcomes: Sequence[Outcome], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "share": options.share,
        "strategy": options.strategy,
        "total": _totals(outcomes),
        "by_source": _groups(outcomes, "source"),
        "by_kind": _groups(outcomes, "kind"),
        "probes": [asdict(outcome) for outcome in outcomes],
    }


def _print_table(outcomes: Sequence[Outcome], options: argparse.Namespace, *, seconds: float) -> None:
    print(f"threshold {options.share:.0%} of the history up to each reuse, {options.strategy}, no model")
    columns = ("probes", "in context", "+ recall", "hardest", "mean context", "last 20", "its size", "compressions")
    print(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    for title, groups in (("source", _groups(outcomes, "source")), ("kind", _groups(outcomes, "kind"))):
        print(f"by {title}")
        for name, totals in groups.items():
            print(_row(name, totals))
    print(_row("all", _totals(outcomes)))
    if options.missing:
        for outcome in outcomes:
            if not outcome.in_context:
                print(f"  missing: {outcome.conversation} {outcome.kind} {outcome.fact}")
    print(f"{seconds:.0f} s")


def _row(name: str, totals: Mapping[str, Any]) -> str:
    names = ("in_context", "with_recall", "hardest_in_context", "context_share", "last_20_in_context", "last_20_share")
    cells = [str(totals["probes"])] + ["" if totals[name] is None else f"{totals[name]:.1%}" for name in names]
    return f"{name:24}" + "".join(f"{cell:>14}" for cell in cells) + f"{totals['compressions']:>14.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
