"""What the memory costs a loop in time, as ratios measured in one run, so that they hold on any machine.

Compared with a loop that reads and counts each message once, with the same counter and nothing else. Times are the
processor's, medians of repeated runs in turn; a turn is one message added and one context read. No model, no network.

    python benchmarks/speed.py [--repeat 5] [--check] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import mean, median
from time import process_time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.loops import RECORDED_MEAN_TOKENS, RECORDED_SPREAD, Message, react_loop  # noqa: E402
from memory import MemoryConfig, MemoryManager  # noqa: E402
from memory.dialects import dialect_named  # noqa: E402
from memory.messages import Reading  # noqa: E402
from memory.native import to_wire  # noqa: E402
from memory.tokens import TiktokenCounter  # noqa: E402

MESSAGES = 1_000
GROWTH = (100, 250, 500, 1_000, 2_500, 5_000)
STARTING = 300
"""Messages after which a loop is in its stride: it has compressed several times."""
SEEDS = 3
SIZES = (60, 100, 150)
COMPRESSED_TOKENS = 40_000
DIALECT = dialect_named("openai_chat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured ratio."""

    name: str
    value: float
    target: float | None = None
    """At most this; None where the figure is there to explain another."""

    @property
    def is_met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target


class TalliedCounter(TiktokenCounter):
    """The library's counter, which also notes how many bytes of added messages it was given."""

    def __init__(self, added: Iterable[Reading]) -> None:
        super().__init__()
        self.bytes_of_messages = 0
        self._added = frozenset(added)

    def count_reading(self, reading: Reading) -> int:
        before = self.bytes_tokenised
        tokens = super().count_reading(reading)
        if reading in self._added:
            self.bytes_of_messages += self.bytes_tokenised - before
        return tokens


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; with `--check` return 1 if a target is missed."""
    options = _options().parse_args(arguments)
    figures: list[Figure] = []
    for figure in _figures(options.repeat):
        figures.append(figure)
        if not options.json:
            print(_row(figure), flush=True)
    if options.json:
        print(json.dumps([{**asdict(figure), "is_met": figure.is_met} for figure in figures], indent=1))
    return 1 if options.check and any(figure.is_met is False for figure in figures) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each kind; the median counts")
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    parser.add_argument("--json", action="store_true")
    return parser


def _figures(repeat: int) -> Iterator[Figure]:
    counter = TiktokenCounter()
    counter.count_text("warm")  # the encoding is built once in a process, which is no part of a turn
    recorded = _recorded(MESSAGES, counter, seed=7)
    yield from _tokenised(recorded)
    yield from _turns("sizes as recorded", recorded, counter, repeat, target=1.5)
    for size in SIZES:
        yield from _turns(f"{size} tokens each", _even(size, counter), counter, repeat)
    loops = [_recorded(STARTING + max(GROWTH), counter, seed=seed) for seed in range(SEEDS)]
    for enabled in (False, True):
        yield from _growth(loops, counter, enabled=enabled)
    yield from _compression("sizes as recorded", recorded, counter, repeat)
    yield from _compression("100 tokens each", _even(100, counter), counter, repeat)


def _even(size: int, counter: TiktokenCounter) -> list[Message]:
    return react_loop(MESSAGES, mean_tokens=size, count=counter.count_text)


def _recorded(message_count: int, counter: TiktokenCounter, *, seed: int) -> list[Message]:
    """Return a loop whose messages differ in size as those of recorded runs do."""
    return react_loop(
        message_count, mean_tokens=RECORDED_MEAN_TOKENS, spread=RECORDED_SPREAD, count=counter.count_text, seed=seed
    )


# --- Bytes ------------------------------------------------------------------------------------------------------------


def _tokenised(messages: Sequence[Message]) -> Iterator[Figure]:
    """Compare what the encoder was given with what was added, both in bytes; an added byte is one of its JSON."""
    added = sum(len(json.dumps(message, ensure_ascii=False).encode()) for message in messages)
    for enabled, label in ((False, "compression off"), (True, "compression on, summaries aside")):
        counter = TalliedCounter(DIALECT.read(message) for message in messages)
        _run(messages, counter, enabled=enabled)
        yield Figure(name=f"bytes tokenised / added, {label}", value=counter.bytes_of_messages / added, target=1.0)
    yield Figure(name="bytes tokenised / added, summaries included", value=counter.bytes_tokenised / added)


# --- Turns ------------------------------------------------------------------------------------------------------------


def _turns(
    label: str, messages: Sequence[Message], counter: TiktokenCounter, repeat: int, *, target: float | None = None
) -> Iterator[Figure]:
    """Compare turns with counting: without compression, and with it, where turns that compress stand apart."""
    counted, off, quiet, whole = [], [], [], []
    for _ in range(repeat):
        counted.append(_seconds(partial(_count_all, messages, counter)))
        off.append(_seconds(partial(_run, messages, counter, enabled=False)))
        turns = _timed_turns(messages, counter)
        quiet.append(sum(seconds for seconds, compressed in turns if not compressed) * len(turns))
        quiet[-1] /= sum(not compressed for _, compressed in turns)
        whole.append(sum(seconds for seconds, _ in turns))
    base = median(counted)
    yield Figure(name=f"turn / counting, {label}, compression off", value=median(off) / base, target=target)
    yield Figure(name=f"turn / counting, {label}, between compressions", value=median(quiet) / base, target=target)
    yield Figure(name=f"turn / counting, {label}, compressions included", value=median(whole) / base)
    yield Figure(name=f"milliseconds a turn, {label}, compression off", value=median(off) / len(messages) * 1_000)


def _count_all(messages: Sequence[Message], counter: TiktokenCounter) -> int:
    return sum([counter.count_reading(DIALECT.read(to_wire(message))) for message in messages])


def _run(messages: Sequence[Message], counter: TiktokenCounter, *, enabled: bool) -> MemoryManager:
    memory = MemoryManager(MemoryConfig(enable_compression=enabled), counter=counter)
    for message in messages:
        memory.add_message_sync(message)
        memory.get_context_for_llm()
    return memory


def _timed_turns(
    messages: Sequence[Message], counter: TiktokenCounter, *, enabled: bool = True
) -> list[tuple[float, bool]]:
    """Return for each turn its seconds and whether it compressed."""
    memory = MemoryManager(MemoryConfig(enable_compression=enabled), counter=counter)
    turns: list[tuple[float, bool]] = []
    gc.collect()
    for message in messages:
        began = process_time()
        memory.add_message_sync(message)
        memory.get_context_for_llm()
        turns.append((process_time() - began, memory.was_compressed_last_iteration))
    return turns


# --- Growth -----------------------------------------------------------------------------------------------------------


def _growth(loops: Sequence[Sequence[Message]], counter: TiktokenCounter, *, enabled: bool) -> Iterator[Figure]:
    """Fit seconds = a x messages^b to the time a loop has taken so far, and give b: 1 is linear, 2 quadratic.

    From an empty memory the first compression is a step in that curve, which is no growth: most short loops never
    compress. So the target is for the messages that follow the first ones.
    """
    runs = [[seconds for seconds, _ in _timed_turns(loop, counter, enabled=enabled)] for loop in loops]
    turns = [sum(at_once) for at_once in zip(*runs, strict=True)]
    state = f"{GROWTH[0]} to {GROWTH[-1]:,}, compression {'on' if enabled else 'off'}"
    yield Figure(name=f"growth exponent {state}", value=_exponent(turns[STARTING:]), target=1.1)
    if enabled:
        yield Figure(name=f"growth exponent {state}, with the first compression", value=_exponent(turns))


def _exponent(turns: Sequence[float]) -> float:
    sums = list(accumulate(turns))
    return _slope([(math.log(count), math.log(sums[count - 1])) for count in GROWTH])


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle_x, middle_y = mean(x for x, _ in points), mean(y for _, y in points)
    rise = sum((x - middle_x) * (y - middle_y) for x, y in points)
    return rise / sum((x - middle_x) ** 2 for x, _ in points)


# --- Compression ------------------------------------------------------------------------------------------------------


def _compression(label: str, messages: Sequence[Message], counter: TiktokenCounter, repeat: int) -> Iterator[Figure]:
    """Compare one compression of 40,000 tokens with counting the same messages."""
    chosen = _first_tokens(messages, counter, COMPRESSED_TOKENS)
    counted, compressed = [], []
    for _ in range(repeat):
        counted.append(_seconds(partial(_count_all, chosen, counter)))
        compressed.append(_seconds(_filled(chosen, counter).compress_sync))
    name = f"compressing {COMPRESSED_TOKENS:,} tokens / counting them, {label}"
    yield Figure(name=name, value=median(compressed) / median(counted), target=10.0)
    yield Figure(name=f"{name}, an old summary among them", value=_later_compressions(messages[:MESSAGES], counter))


def _later_compressions(messages: Sequence[Message], counter: TiktokenCounter) -> float:
    """Compare the turns that compressed a second time or more with counting what stood in the context."""
    memory = MemoryManager(MemoryConfig(), counter=counter)
    counted, compressed, context = [], [], list[Message]()
    for message in messages:
        seconds = _seconds_without_collecting(partial(memory.add_message_sync, message))
        if memory.was_compressed_last_iteration:
            compressed.append(seconds)
            counted.append(_seconds_without_collecting(partial(_count_all, [*context, message], counter)))
        context = memory.get_context_for_llm()
    return sum(compressed[1:]) / sum(counted[1:])


def _first_tokens(messages: Sequence[Message], counter: TiktokenCounter, tokens: int) -> Sequence[Message]:
    """Return as many messages from the front as have that many tokens, cut after a result."""
    ends = accumulate(counter.count_reading(DIALECT.read(message)) for message in messages)
    stop = next((index for index, end in enumerate(ends, start=1) if end >= tokens), len(messages))
    return messages[: stop + stop % 2]


def _filled(messages: Sequence[Message], counter: TiktokenCounter) -> MemoryManager:
    """Return a memory that holds these messages and was never due to compress."""
    memory = MemoryManager(MemoryConfig(enable_compression=False), counter=counter)
    for message in messages:
        memory.add_message_sync(message)
    return memory


# --- Common -----------------------------------------------------------------------------------------------------------


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()  # so that no run pays for what another left behind
    return _seconds_without_collecting(work)


def _seconds_without_collecting(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


def _row(figure: Figure) -> str:
    target = "" if figure.target is None else f"<= {figure.target:g}"
    met = {None: "", True: "met", False: "MISSED"}[figure.is_met]
    return f"{figure.name:88}{figure.value:>9.3f}{target:>9}  {met}".rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
