"""How much of what a loop sends could come from the provider's prompt cache, and how often compression breaks it.

A request is made before each answer of the model. Two requests in a row are compared byte by byte: what the second
begins with and the first began with too can be read from a cache; where the first is no beginning of the second, the
prefix has changed. Tokens are the memory's own count. No model, no network.

    python benchmarks/prefix.py [CORPUS] [--threshold 40000] [--sweep] [--check] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.transcripts import Transcript, read_transcripts  # noqa: E402
from benchmarks.loops import RECORDED_MEAN_TOKENS, RECORDED_SPREAD, react_loop  # noqa: E402
from memory import MemoryConfig, MemoryManager  # noqa: E402
from memory.dialects import dialect_named  # noqa: E402
from memory.messages import DialectName  # noqa: E402
from memory.native import to_wire  # noqa: E402
from memory.strategies import SlidingWindow, Strategy  # noqa: E402
from memory.tokens import TiktokenCounter  # noqa: E402

MESSAGES = 1_000
SIZES = (60, 80, 100, 120, 150)
MAX_CHANGES = 3.0
MIN_CACHED_SHARE = 0.988
SMALLEST_CACHED_TOKENS = 1_024
"""Providers cache no shorter prefix (https://platform.openai.com/docs/guides/prompt-caching, 2026-11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One loop's requests, summed up."""

    name: str
    messages: int
    mean_tokens: float
    """Of a message."""
    requests: int
    changes: int
    sent_tokens: int
    cached_tokens: int
    """Of those sent, what the request before had sent at the same place."""
    growing_share: float
    """The cached share if nothing were ever compressed: what the loop's own messages allow."""

    @property
    def changes_per_1000(self) -> float:
        return self.changes / self.messages * 1_000

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / self.sent_tokens if self.sent_tokens else 1.0

    @property
    def is_met(self) -> bool:
        return self.changes_per_1000 <= MAX_CHANGES and self.cached_share >= MIN_CACHED_SHARE


class Requests:
    """Compares each request with the one before."""

    def __init__(self, dialect: DialectName, counter: TiktokenCounter) -> None:
        self.count = self.changes = self.sent_tokens = self.cached_tokens = 0
        self._dialect = dialect_named(dialect)
        self._counter = counter
        self._known: dict[int, tuple[object, bytes, int]] = {}
        self._previous: list[object] = []

    def add(self, context: list[object]) -> None:
        """Take the next request."""
        same = next(
            (i for i, pair in enumerate(zip(self._previous, context, strict=False)) if not self._equal(*pair)), None
        )
        shared = min(len(self._previous), len(context)) if same is None else same
        cached = sum(self._tokens(message) for message in context[:shared])
        if shared < len(self._previous):
            self.changes += 1
            cached += self._partly(self._previous[shared], context[shared]) if shared < len(context) else 0
        self.count += 1
        self.sent_tokens += sum(map(self._tokens, context))
        self.cached_tokens += cached if cached >= SMALLEST_CACHED_TOKENS else 0
        self._previous = context

    def _equal(self, before: object, now: object) -> bool:
        return before is now or self._bytes(before) == self._bytes(now)

    def _partly(self, before: object, now: object) -> int:
        """Return the tokens of the common beginning of two messages, in proportion to their bytes."""
        old, new = self._bytes(before), self._bytes(now)
        common = next(
            (index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
        )
        return int(self._tokens(now) * common / len(new))

    def _bytes(self, message: object) -> bytes:
        return self._look_at(message)[1]

    def _tokens(self, message: object) -> int:
        return self._look_at(message)[2]

    def _look_at(self, message: object) -> tuple[object, bytes, int]:
        """Return the message, its bytes and its tokens. It is kept, so that no other gets its id."""
        known = self._known.get(id(message))
        if known is None:
            wire = to_wire(message)
            text = json.dumps(wire, ensure_ascii=False).encode("utf-8", "surrogatepass")
            known = message, text, self._counter.count_reading(self._dialect.read(wire))
            self._known[id(message)] = known
        return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; with `--check` return 1 if the loop of 100 tokens a message misses a target."""
    options = _options().parse_args(arguments)
    counter = TiktokenCounter()
    loops = [_played(size, counter, options.threshold) for size in SIZES]
    loops.append(_played(RECORDED_MEAN_TOKENS, counter, options.threshold, spread=RECORDED_SPREAD))
    recorded = list(_recorded(options.corpus, counter, options.threshold))
    sweep = list(_sweep(counter, options.threshold)) if options.sweep else []
    if options.json:
        print(json.dumps({"loops": _as_json(loops), "recorded": _as_json(recorded), "sweep": sweep}, indent=1))
    else:
        _print(loops, recorded, sweep, options)
    return 1 if options.check and not loops[SIZES.index(100)].is_met else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ALOOP_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("corpus", nargs="?", type=Path, default=default, help="folder of recorded transcripts, if any")
    parser.add_argument("--threshold", type=int, default=40_000)
    parser.add_argument("--sweep", action="store_true", help="also vary how full a compression leaves the window")
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    parser.add_argument("--json", action="store_true")
    return parser


def _played(
    size: int, counter: TiktokenCounter, threshold: int, *, spread: float = 0.0, strategy: Strategy | None = None
) -> Outcome:
    """Play a made-up loop through the memory."""
    messages = react_loop(MESSAGES, mean_tokens=size, spread=spread, count=counter.count_text)
    name = f"{size} tokens each" if not spread else "sizes as recorded"
    return _outcome(name, "openai_chat", messages, counter, threshold=threshold, strategy=strategy)


def _recorded(corpus: Path, counter: TiktokenCounter, threshold: int) -> Iterator[Outcome]:
    """Replay the recorded conversations that are long enough to compress."""
    for path in sorted(corpus.glob("*/*.jsonl.gz")):
        for transcript in read_transcripts(path):
            outcome = _replayed(transcript, counter, threshold)
            if outcome.changes:
                yield outcome


def _replayed(transcript: Transcript, counter: TiktokenCounter, threshold: int) -> Outcome:
    return _outcome(transcript.id, transcript.dialect, transcript.messages, counter, threshold=threshold)


def _outcome(
    name: str,
    dialect: DialectName,
    messages: Sequence[object],
    counter: TiktokenCounter,
    *,
    threshold: int,
    strategy: Strategy | None = None,
) -> Outcome:
    config = MemoryConfig(compression_threshold=threshold, max_context_tokens=max(100_000, threshold))
    memory = MemoryManager(config, dialect=dialect, counter=counter, strategy=strategy)
    requests, growing = Requests(dialect, counter), Requests(dialect, counter)
    reader = dialect_named(dialect)
    was_assistant = False
    for index, message in enumerate(messages):
        is_assistant = reader.read(to_wire(message)).role == "assistant"
        if is_assistant and not was_assistant:
            requests.add(memory.get_context_for_llm())
            growing.add(list(messages[:index]))
        was_assistant = is_assistant
        memory.add_message_sync(message)
    return Outcome(
        name=name,
        messages=len(messages),
        mean_tokens=sum(map(counter.count_reading, (reader.read(to_wire(m)) for m in messages))) / len(messages),
        requests=requests.count,
        changes=requests.changes,
        sent_tokens=requests.sent_tokens,
        cached_tokens=requests.cached_tokens,
        growing_share=growing.cached_tokens / max(1, growing.sent_tokens),
    )


def _sweep(counter: TiktokenCounter, threshold: int) -> Iterator[dict[str, Any]]:
    """Vary how full a compression leaves the window: emptier means fewer changes, and less that stays."""
    for after in (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6):
        strategy = SlidingWindow(after_share=after, recent_share=min(0.2, after / 2))
        for size in SIZES:
            outcome = _played(size, counter, threshold, strategy=strategy)
            yield {"after_share": after, "size": size, "changes": outcome.changes, "cached": outcome.cached_share}


def _as_json(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            **asdict(one),
            "changes_per_1000": one.changes_per_1000,
            "cached_share": one.cached_share,
            "is_met": one.is_met,
        }
        for one in outcomes
    ]


_HEAD = f"{'':46}{'messages':>9}{'mean tok':>9}{'requests':>9}{'changes':>8}{'/ 1,000':>8}{'cached':>8}{'uncut':>8}"


def _print(
    loops: Sequence[Outcome],
    recorded: Sequence[Outcome],
    sweep: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
) -> None:
    print(f"threshold {options.threshold:,}; targets: at most {MAX_CHANGES:g} changes, {MIN_CACHED_SHARE:.1%} cached")
    print(_HEAD)
    for outcome in loops:
        print(f"{_row(outcome)}  {'met' if outcome.is_met else 'MISSED'}")
    for outcome in recorded:
        print(_row(outcome))
    if recorded:
        print(_row(_total(recorded)))
    if sweep:
        print("\nafter_share: changes and cached share by message size")
        print(f"{'':11}" + "".join(f"{size:>14}" for size in SIZES))
        for after in sorted({row["after_share"] for row in sweep}):
            cells = [f"{row['changes']:>5} {row['cached']:>8.2%}" for row in sweep if row["after_share"] == after]
            print(f"{after:<11}" + "".join(cells))


def _row(one: Outcome) -> str:
    return (
        f"{one.name[:45]:46}{one.messages:>9,}{one.mean_tokens:>9.0f}{one.requests:>9,}{one.changes:>8}"
        f"{one.changes_per_1000:>8.1f}{one.cached_share:>8.2%}{one.growing_share:>8.2%}"
    )


def _total(outcomes: Sequence[Outcome]) -> Outcome:
    messages = sum(one.messages for one in outcomes)
    sent = sum(one.sent_tokens for one in outcomes)
    return Outcome(
        name=f"all {len(outcomes)} recorded",
        messages=messages,
        mean_tokens=sum(one.mean_tokens * one.messages for one in outcomes) / messages,
        requests=sum(one.requests for one in outcomes),
        changes=sum(one.changes for one in outcomes),
        sent_tokens=sent,
        cached_tokens=sum(one.cached_tokens for one in outcomes),
        growing_share=sum(one.growing_share * one.sent_tokens for one in outcomes) / sent,
    )


if __name__ == "__main__":
    raise SystemExit(main())
