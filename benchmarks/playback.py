"""Recorded conversations played through the real SDKs and a simulated provider, with compression on.

Every recorded conversation with native tool calls is driven live: the simulator serves its assistant turns, its results
answer the calls, and a `MemoryManager` decides what is sent. The simulator refuses what the provider refuses, so the
figure to look at is the number of refused requests.

    python benchmarks/playback.py [CORPUS] [--strategy deletion ...] [--max-tokens 40000] [--thinking] [--faults]
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
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from memory import CompressionStrategy, MemoryConfig, MemoryManager  # noqa: E402
from memory.testing.simulators import Playback, ProviderSimulator, RandomFaults  # noqa: E402
from tests.corpus import CORPUS_ENV, Recorded, transcripts  # noqa: E402
from tests.simulated import MODEL, SDK_ERRORS, Client  # noqa: E402

SMALLEST_THRESHOLD = 2_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a conversation is to be driven."""

    strategy: str
    share: float
    """Of the conversation's tokens: from there on it is compressed."""
    thinks: bool
    """Reasoning before every answer, bound to its conversation where the provider binds it."""
    fails: bool
    """One request in ten meets a fault, and is sent again."""


def driven(recorded: Recorded, run: Run) -> Counter[str]:
    """Drive one conversation to its end and count what became of its requests."""
    playback = Playback(recorded.messages, recorded.dialect)
    tokens = int(recorded.header["tokens_est"])
    config = MemoryConfig(
        max_context_tokens=max(4 * SMALLEST_THRESHOLD, 2 * tokens),
        compression_threshold=max(SMALLEST_THRESHOLD, int(tokens * run.share)),
        compression_strategy=CompressionStrategy(run.strategy),
        short_term_size=6,
    )
    memory = MemoryManager(config, model=MODEL[recorded.dialect])
    faults = RandomFaults(1, share=0.1, faults=("rate_limit", "server_error", "overloaded")) if run.fails else ()
    with ProviderSimulator(
        recorded.dialect,
        playback,
        binds_thinking=run.thinks,
        checks_signatures=True,
        adds_reasoning=run.thinks,
        faults=faults,
    ) as server:
        _drive(Client(server, recorded.dialect), playback, memory, server)
        rules = Counter(one.refusal.rule for one in server.rejected if one.refusal)
        return Counter(
            conversations=1,
            requests=len(server.requests),
            failed=sum(one.fault is not None for one in server.requests),
            refused=len(server.rejected),
            compressions=int(memory.get_stats()["compression_count"]),
            **{f"refused {rule}": count for rule, count in rules.items()},
        )


def _drive(client: Client, playback: Playback, memory: MemoryManager, server: ProviderSimulator) -> None:
    for message in playback.opening:
        memory.add_message_sync(message)
    while not playback.is_over and not server.rejected:
        try:
            said = client.ask(list(memory.get_context_for_llm()))
        except SDK_ERRORS:
            continue
        for message in (*said.messages, *playback.replies()):
            memory.add_message_sync(message)


def main() -> None:
    arguments = _arguments()
    if arguments.corpus:
        os.environ[CORPUS_ENV] = arguments.corpus
    recorded = [one for one in transcripts(max_tokens=arguments.max_tokens) if one.header.get("tool_style") == "native"]
    start = time.perf_counter()
    rows = [row for strategy in arguments.strategy for row in _rows(recorded, strategy, arguments)]
    print(json.dumps(rows) if arguments.json else _table(rows))
    if not arguments.json:
        print(f"{len(recorded)} conversations, {time.perf_counter() - start:.0f} seconds")
    sys.exit(any(row["refused"] for row in rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?")
    parser.add_argument("--strategy", nargs="+", default=[str(one) for one in CompressionStrategy])
    parser.add_argument("--max-tokens", type=int, default=None, help="leave longer conversations out")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--thinking", action="store_true", help="reasoning in every answer, bound where that exists")
    parser.add_argument("--faults", action="store_true", help="one request in ten fails")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _rows(recorded: Sequence[Recorded], strategy: str, arguments: argparse.Namespace) -> list[dict[str, object]]:
    run = Run(strategy=strategy, share=arguments.share, thinks=arguments.thinking, fails=arguments.faults)
    with ProcessPoolExecutor() as pool:
        counts = list(pool.map(driven, recorded, repeat(run)))
    rows: list[dict[str, object]] = []
    for dialect in sorted({one.dialect for one in recorded}):
        total: Counter[str] = Counter()
        for one, count in zip(recorded, counts, strict=True):
            total.update(count if one.dialect == dialect else {})
        rows.append({"strategy": strategy, "dialect": dialect, **total})
    return rows


def _table(rows: Sequence[dict[str, object]]) -> str:
    columns = ["strategy", "dialect", "conversations", "requests", "failed", "compressions", "refused"]
    more = sorted({name for row in rows for name in row} - set(columns))
    lines = [[str(row.get(name, 0)) for name in (*columns, *more)] for row in rows]
    widths = [max(map(len, column)) for column in zip([*columns, *more], *lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [[*columns, *more], *lines])


if __name__ == "__main__":
    main()
