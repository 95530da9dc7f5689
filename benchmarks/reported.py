"""How far the memory's figures are from what providers report: input tokens, and reads from the prompt cache.

Three kinds of evidence, told apart in the table:

* recorded: transcripts and session logs that carry each response's usage. Before each response the manager's estimate
  is taken, then the report is given to it as `actual_tokens`; the prompts run through the simulated cache.
* published: usage figures of short runs that others measured and published, for the cache alone.
* stand-in: transcripts without usage, "reported" by a tokenizer that the memory does not use, behind a system prompt
  and tools that it is never told of. It says how fast the calibration learns, not how a provider counts.

The error of a request is |estimate - report| / report. No model, no network.

    python benchmarks/reported.py [PATH ...] [--logs] [--stand-ins] [--check] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.backtest.logs import find_logs  # noqa: E402
from agent.transcripts import Transcript, read_transcripts  # noqa: E402
from memory import AgentMemoryError, MemoryConfig, MemoryManager  # noqa: E402
from memory.dialects import dialect_named  # noqa: E402
from memory.messages import DialectName, Reading  # noqa: E402
from memory.native import to_wire  # noqa: E402
from memory.prompt_cache import Block, CacheRules, PromptCache, cache_rules  # noqa: E402
from memory.tokens import encoding_named  # noqa: E402

CALLS_TO_LEARN = 5
MAX_ERROR = 0.03

Tokenize: TypeAlias = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One run's errors."""

    kind: str
    provider: str
    errors: Sequence[float] = field(repr=False)
    """Of each request after the first five, and of none if there were no more."""
    reported_reads: int = 0
    predicted_reads: int = 0
    reported_input: int = 0


# --- Recorded usage ---------------------------------------------------------------------------------------------------


def recorded(transcript: Transcript) -> Finding:
    """Replay a transcript with its reports: what was estimated before each, and what the cache would have given."""
    memory, usages, errors = _manager(transcript), dict(transcript.usages), []
    for index, message in enumerate(transcript.messages):
        usage = usages.get(index)
        if usage is not None and index:
            errors.append(abs(memory.current_tokens - usage.input_tokens) / usage.input_tokens)
        memory.add_message_sync(message, usage)
    times = [transcript.times[max(0, index - 1)] for index in usages] if transcript.times else None
    inputs = [usage.input_tokens for usage in usages.values()]
    return Finding(
        kind="recorded",
        provider=transcript.dialect,
        errors=errors[CALLS_TO_LEARN:],
        reported_reads=sum(usage.cache_read_tokens for usage in usages.values()),
        predicted_reads=predicted_reads(cache_rules(transcript.model, dialect=transcript.dialect), inputs, times),
        reported_input=sum(inputs),
    )


def predicted_reads(rules: CacheRules, inputs: Sequence[int], times: Sequence[float] | None = None) -> int:
    """Return what a run of prompts would read, each the one before and something more, marked at its end.

    A prompt that is smaller than the one before was edited; then nothing of it is taken to be as it was.
    """
    cache, read, before, generation = PromptCache(rules), 0, 0, 0
    blocks: list[Block] = []
    for number, tokens in enumerate(inputs):
        if tokens < before:
            blocks, before, generation = [], 0, generation + 1
        blocks.append(Block(key=(generation, number), tokens=tokens - before, breakpoint="5m"))
        read += cache.send(blocks, at_seconds=times[number] if times else 15.0 * number).read_tokens
        before = tokens
    return read


def _manager(transcript: Transcript) -> MemoryManager:
    return MemoryManager(
        MemoryConfig(enable_compression=False, max_context_tokens=10_000_000),
        model=transcript.model,
        dialect=transcript.dialect,
        system=transcript.system,
        tools=transcript.tools,
    )


# --- Published figures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An append-only run that somebody measured: input and cache reads of each request, as the provider reported."""

    source: str
    model: str
    requests: Sequence[tuple[int, int]]


PUBLISHED = (
    Published(
        source="https://github.com/anthropics/claude-cookbooks/issues/155 (2025-05)",
        model="claude-3-5-sonnet-20241022",
        requests=((187_358, 0), (187_394, 187_354), (187_702, 187_390)),
    ),
    Published(
        source="https://github.com/valkompass-ai/valkompass-ai/pull/16 (2026-08)",
        model="gpt-5.6-luna",
        requests=((8_535, 0), (17_175, 8_532)),
    ),
)


def published(run: Published) -> Finding:
    """Send the same sizes to the simulated cache."""
    inputs = [tokens for tokens, _ in run.requests]
    return Finding(
        kind="published",
        provider=run.model,
        errors=(),
        reported_reads=sum(read for _, read in run.requests),
        predicted_reads=predicted_reads(cache_rules(run.model), inputs),
        reported_input=sum(inputs),
    )


# --- Stand-ins for providers' tokenizers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A tokenizer that plays a provider's, with frames of its own around messages, calls and results."""

    tokenize: Tokenize
    frame: int
    call: int
    result: int

    def count(self, reading: Reading) -> int:
        strings = [reading.text, reading.reasoning, *(result.text for result in reading.results)]
        strings += [part for call in reading.calls for part in (call.name, call.arguments)]
        framed = self.frame + self.call * len(reading.calls) + self.result * len(reading.results)
        return framed + sum(self.tokenize(text) for text in strings if text)


def stand_ins() -> dict[DialectName, StandIn]:
    """Return one for each format: the older OpenAI encoding, and Claude 2's own tokenizer where it is installed."""
    older, newer = encoding_named("cl100k_base"), encoding_named("o200k_base")
    strange = StandIn(tokenize=lambda text: len(older.encode_ordinary(text)), frame=6, call=14, result=11)
    near = StandIn(tokenize=lambda text: len(newer.encode_ordinary(text)), frame=3, call=9, result=2)
    claude = _claude_2()
    return {
        "openai_chat": strange,
        "openai_responses": near,
        "gemini": strange,
        "anthropic": StandIn(tokenize=claude, frame=9, call=62, result=31) if claude else strange,
    }


def _claude_2() -> Tokenize | None:
    """Return Claude 2's tokenizer, which LiteLLM ships; None where it is not installed."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None or find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    path = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers" / "anthropic_tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def stood_in(transcript: Transcript, truth: StandIn, *, compresses: bool = False) -> Finding:
    """Replay a transcript whose usage the stand-in reports, behind 2,000 to 16,000 tokens nobody told us of."""
    hidden = 2_000 + int(sha256(transcript.id.encode()).hexdigest()[:6], 16) % 14_000
    dialect, known = dialect_named(transcript.dialect), {}

    def counted(message: object) -> int:
        if id(message) not in known:
            known[id(message)] = (message, truth.count(dialect.read(to_wire(message))))
        return known[id(message)][1]

    config = MemoryConfig(max_context_tokens=10_000_000, compression_threshold=40_000, enable_compression=compresses)
    memory, errors, is_answered = MemoryManager(config, dialect=transcript.dialect), [], True
    for message in transcript.messages:
        is_answer = dialect.read(message).role == "assistant" and not is_answered
        is_answered = dialect.read(message).role == "assistant"
        if not is_answer:
            memory.add_message_sync(message)
            continue
        reported = hidden + sum(map(counted, memory.messages))
        errors.append(abs(memory.current_tokens - reported) / reported)
        memory.add_message_sync(message, {"input": reported, "output": 1})
    name = "stand-in, compressing" if compresses else "stand-in"
    return Finding(kind=name, provider=transcript.dialect, errors=errors[CALLS_TO_LEARN:])


# --- The table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All runs of one kind and provider."""

    kind: str
    provider: str
    runs: int
    requests: int
    mean_error: float | None
    """Of estimated input tokens, after five calls; None: no run was that long."""
    worst_run: float | None
    cached_share_reported: float | None
    cached_share_predicted: float | None

    @property
    def is_met(self) -> bool:
        return self.mean_error is None or self.mean_error < MAX_ERROR


def rows(findings: Iterable[Finding]) -> list[Row]:
    """Sum up, one row for each kind of evidence and provider."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind, finding.provider].append(finding)
    return [_row(kind, provider, found) for (kind, provider), found in sorted(groups.items())]


def _row(kind: str, provider: str, found: Sequence[Finding]) -> Row:
    errors = [error for one in found for error in one.errors]
    total = sum(one.reported_input for one in found)
    return Row(
        kind=kind,
        provider=provider,
        runs=len(found),
        requests=len(errors),
        mean_error=mean(errors) if errors else None,
        worst_run=max((mean(one.errors) for one in found if one.errors), default=None),
        cached_share_reported=sum(one.reported_reads for one in found) / total if total else None,
        cached_share_predicted=sum(one.predicted_reads for one in found) / total if total else None,
    )


def findings(paths: Sequence[Path], *, with_logs: bool, with_stand_ins: bool) -> Iterator[Finding]:
    """Yield what every transcript and every published figure shows."""
    yield from map(published, PUBLISHED)
    truths = stand_ins() if with_stand_ins else {}
    for transcript in _transcripts(paths, with_logs=with_logs):
        if transcript.usages:
            yield recorded(transcript)
        elif transcript.dialect in truths:
            yield stood_in(transcript, truths[transcript.dialect])
            yield stood_in(transcript, truths[transcript.dialect], compresses=True)


def _transcripts(paths: Sequence[Path], *, with_logs: bool) -> Iterator[Transcript]:
    files = [file for path in paths for file in (sorted(path.glob("*/*.jsonl*")) if path.is_dir() else [path])]
    for file in [*files, *([log.path for log in find_logs()] if with_logs else [])]:
        try:
            yield from read_transcripts(file, is_lenient=True)
        except AgentMemoryError as error:
            print(f"{file.name}: {error}", file=sys.stderr)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def show(found: Sequence[Row]) -> None:
    """Print the table."""
    heads = ("runs", "requests", "error", "worst", "read", "predicted")
    print(f"{'evidence':22} {'provider':27} {heads[0]:>5}", *(f"{head:>9}" for head in heads[1:]))
    for row in found:
        shares = (row.mean_error, row.worst_run, row.cached_share_reported, row.cached_share_predicted)
        figures = (f"{row.requests}", *map(_percent, shares))
        print(f"{row.kind:22} {row.provider:27} {row.runs:5}", *(f"{figure:>9}" for figure in figures))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="transcripts, or folders of a corpus")
    parser.add_argument("--logs", action="store_true", help="also the session logs of coding agents on this machine")
    parser.add_argument("--stand-ins", action="store_true", help="let other tokenizers report where nobody did")
    parser.add_argument("--check", action="store_true", help=f"fail where a mean error is {MAX_ERROR:.0%} or more")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = rows(findings(asked.paths, with_logs=asked.logs, with_stand_ins=asked.stand_ins))
    if asked.json:
        print(json.dumps([asdict(row) for row in found], indent=2))
    else:
        show(found)
    return int(asked.check and not all(row.is_met for row in found))


if __name__ == "__main__":
    sys.exit(main())
