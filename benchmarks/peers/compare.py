"""The memory beside its peers: the same conversations, counter, summariser, cache model and prices for all.

Each peer runs in an environment of its own (`environments.py` makes them); what it would have sent is then measured by
the backtest's engine, as the memory is. No model is called, and nothing reaches a network.

    python benchmarks/peers/environments.py
    python benchmarks/peers/compare.py [CORPUS] [--quick] [--only NAME] [--json FILE] [--write docs/benchmarks.md]

`--quick` takes about two minutes, everything about half an hour the first time; what a peer did is kept beside its
environment, and a second run only measures again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.backtest.recording import recording_of  # noqa: E402
from agent.transcripts import Transcript  # noqa: E402
from benchmarks.loops import react_loop  # noqa: E402
from benchmarks.peers import tables  # noqa: E402
from benchmarks.peers.conversations import LOOP_MESSAGES, customer_service_loop, recorded  # noqa: E402
from benchmarks.peers.environments import PEERS, Peer, folder_of, is_installed  # noqa: E402
from benchmarks.peers.findings import Findings, read_findings  # noqa: E402
from benchmarks.peers.measuring import (  # noqa: E402
    COUNTED_AS,
    Failed,
    Result,
    Task,
    Trial,
    measure_all,
    paces_of_peers,
    play_all,
)
from benchmarks.peers.policies import pace_of_memory  # noqa: E402
from benchmarks.peers.settings import TRIGGERS, Own, Setting, curve_settings, own_settings, peers_settings  # noqa: E402
from benchmarks.peers.summaries import Kind  # noqa: E402
from benchmarks.peers.verdicts import LONG_TOKENS, Overhead, overhead  # noqa: E402
from memory.dialects import dialect_named  # noqa: E402
from memory.tokens import TiktokenCounter  # noqa: E402

MODELS = ("gpt-5", "claude-sonnet-4-5", "gemini-2.5-pro")
PARTS = ("loop", "recorded", "times")
QUICK_CONVERSATIONS = 2
QUICK_LOOP_MESSAGES = 300
LOOP_SECONDS, RECORDED_SECONDS, QUICK_SECONDS = 400.0, 40.0, 10.0
"""What a peer may take for one conversation; who takes longer is reported, and measured without it."""
PACE_MESSAGES = 600
PACE_TOKENS = 100
"""Of a message, in the loop on which time is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for."""

    corpus: Path
    folder: Path
    peers: tuple[Peer, ...]
    settings: tuple[Setting, ...]
    own: tuple[Own, ...]
    models: tuple[str, ...]
    parts: tuple[str, ...]
    is_quick: bool
    processes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and write them where told to; return 2 without a corpus."""
    options = _options().parse_args(arguments)
    order = _order(options)
    loop = customer_service_loop(order.corpus, message_count=QUICK_LOOP_MESSAGES if order.is_quick else LOOP_MESSAGES)
    if loop is None:
        print(f"no corpus at {order.corpus}: give its folder, or set ALOOP_CORPUS", file=sys.stderr)
        return 2
    findings = read_findings(options.show) if options.show else _found(order, loop)
    text = tables.written(findings, order, command=_command(options))
    print(text)
    if options.json:
        findings.save(options.json)
    if options.write:
        tables.put_between_marks(options.write, text)
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ALOOP_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("corpus", nargs="?", type=Path, default=default, help="folder of recorded transcripts")
    parser.add_argument("--quick", action="store_true", help="few conversations, one model, no times")
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this part only; may be repeated")
    parser.add_argument(
        "--model", action="append", help=f"price as this one; may be repeated; default: {', '.join(MODELS)}"
    )
    parser.add_argument("--only", default="", help="peers whose name contains this")
    parser.add_argument("--without", action="append", default=[], help="a peer to leave out; may be repeated")
    parser.add_argument("--folder", help="where the environments lie")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--show", type=Path, action="append", help="measure nothing: show what --json wrote; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured there")
    parser.add_argument("--write", type=Path, help="put the tables between the marks of this page")
    return parser


def _order(options: argparse.Namespace) -> Order:
    folder = folder_of(options.folder)
    wanted = [peer for peer in PEERS if options.only in peer.name and peer.name not in options.without]
    peers = tuple(peer for peer in wanted if is_installed(peer, folder))
    names = {peer.name for peer in peers}
    return Order(
        corpus=options.corpus,
        folder=folder,
        peers=peers,
        settings=tuple(
            one for one in peers_settings() if one.peer in names and (one.trigger == TRIGGERS[-1] or not options.quick)
        ),
        own=tuple(own_settings()),
        models=tuple(options.model or (MODELS[:1] if options.quick else MODELS)),
        parts=tuple(options.part or PARTS),
        is_quick=options.quick,
        processes=options.processes,
    )


def _found(order: Order, loop: Transcript) -> Findings:
    began = time.perf_counter()
    failures: list[Failed] = []
    kinds: tuple[Kind, ...] = ("extractive",) if order.is_quick else ("extractive", "stub")
    own = (*order.own, *curve_settings())
    on_loop: dict[Kind, list[Result]] = {}
    if "loop" in order.parts:
        on_loop = {kind: _measured(order, [loop], kind, own, failures) for kind in kinds}
    return Findings(
        loop=on_loop,
        recorded=_on_recorded(order, failures) if "recorded" in order.parts else [],
        overheads=_overheads(order) if "times" in order.parts and not order.is_quick else [],
        failures=failures,
        missing=[peer.name for peer in PEERS if not is_installed(peer, order.folder)],
        seconds=time.perf_counter() - began,
    )


def _on_recorded(order: Order, failures: list[Failed]) -> list[Result]:
    transcripts = recorded(order.corpus)
    long = [one for one in transcripts if _tokens(one) > LONG_TOKENS]
    short = [one for one in transcripts if _tokens(one) <= LONG_TOKENS]
    if order.is_quick:
        long, short = long[:QUICK_CONVERSATIONS], short[:QUICK_CONVERSATIONS]
    found = _measured(order, long, "extractive", order.own, failures)
    # There is little to compress in these, and peers are not compared on them: only how dear we can get.
    return found + _trials(order, short, "extractive", (), order.own, failures)


def _measured(
    order: Order, transcripts: Sequence[Transcript], kind: Kind, own: Sequence[Own], failures: list[Failed]
) -> list[Result]:
    """Play and measure some conversations; tell on stderr how far it is."""
    settings = tuple(one for one in order.settings if kind == "extractive" or one.family == "summary")
    tasks = [_task(order, peer, part, settings, kind) for peer in order.peers for part in _parts(transcripts)]
    for number, _ in enumerate(play_all(tasks, processes=order.processes), start=1):
        _tell(f"played {number} of {len(tasks)} ({kind})")
    return _trials(order, transcripts, kind, settings, own, failures)


def _trials(
    order: Order,
    transcripts: Sequence[Transcript],
    kind: Kind,
    settings: tuple[Setting, ...],
    own: Sequence[Own],
    failures: list[Failed],
) -> list[Result]:
    trials = [
        Trial(transcript=one, settings=settings, own=tuple(own), model=model, kind=kind, folder=order.folder)
        for one in transcripts
        for model in order.models
    ]
    found: list[Result] = []
    for number, results in enumerate(measure_all(trials, processes=order.processes), start=1):
        _tell(f"measured {number} of {len(trials)} ({kind})")
        found += (one for one in results if isinstance(one, Result))
        failures += (one for one in results if isinstance(one, Failed))
    return found


def _tokens(transcript: Transcript) -> int:
    counter, read = TiktokenCounter(COUNTED_AS), dialect_named("openai_chat").read
    return sum(counter.count_reading(read(message)) for message in transcript.messages)


def _task(order: Order, peer: Peer, transcripts: Sequence[Transcript], settings: Iterable[Setting], kind: Kind) -> Task:
    limit = LOOP_SECONDS if len(transcripts) == 1 else RECORDED_SECONDS
    return Task(
        peer=peer,
        settings=tuple(one for one in settings if one.peer == peer.name),
        recordings=tuple(transcripts),
        kind=kind,
        folder=order.folder,
        limit_seconds=QUICK_SECONDS if order.is_quick else limit,
    )


def _parts(transcripts: Sequence[Transcript], size: int = 8) -> Iterable[Sequence[Transcript]]:
    return [transcripts[start : start + size] for start in range(0, len(transcripts), size)]


def _overheads(order: Order) -> list[Overhead]:
    """Measure times on a made-up loop, one after the other."""
    messages = react_loop(PACE_MESSAGES, mean_tokens=PACE_TOKENS, count=TiktokenCounter().count_text)
    made_up = Transcript(id="made-up", source="", dialect="openai_chat", messages=tuple(messages))
    recording = recording_of(made_up)
    size = sum(len(json.dumps(message, ensure_ascii=False).encode()) for message in messages)
    requests = [request.index for request in recording.requests]
    found = []
    for own in order.own:
        _tell(f"timing {own.name}")
        found.append(
            overhead(own.name, pace_of_memory(own.config, messages, requests), conversation_bytes=size, is_own=True)
        )
    for setting, pace in paces_of_peers(order.settings, recording, order.folder, limit_seconds=60.0):
        _tell(f"timed {setting.name}")
        found.append(overhead(setting.name, pace, conversation_bytes=size, is_own=False))
    return found


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _command(options: argparse.Namespace) -> str:
    return "python benchmarks/peers/compare.py" + (" --quick" if options.quick else "")


if __name__ == "__main__":
    raise SystemExit(main())
