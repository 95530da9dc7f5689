"""What recall finds, and how fast: figures for people, and a check for machines.

Talks: of each question's evidence, the share among the first ten messages that recall returns (recall@10), and the
share within the best 2,000 tokens; means over all questions with evidence. Facts: whether the message in which a
fact was first given, or any with the fact in it, is among the first five. Speed: medians and 99th percentiles on a
machine that does nothing else. Weights: what becomes of recall@10 when each weight is halved or doubled, and when it
is chosen anew without the talk that it is measured on.

    python benchmarks/recall.py [--section talks --section facts ...] [--vectors] [--check]
                                [--corpus FOLDER] [--talks FILE] [--messages 100000] [--rows 1000000] [--missing]

`--vectors` needs the extra `local-embeddings`. `--check` returns 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.recalled.facts import Sought, seek  # noqa: E402
from benchmarks.recalled.speed import Timing, time_many_namespaces, time_one_namespace  # noqa: E402
from benchmarks.recalled.talks import Answered, Talk, answer, leave_out, mean, read_talks, with_meaning  # noqa: E402

SECTIONS = ("talks", "facts", "speed", "weights")
SHARED = ROOT.parent / "shared"
SMALL_NAMESPACE = 200
MILLISECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number beside what it should be; a target of None is for information."""

    name: str
    value: float
    target: float | None = None
    is_time: bool = False

    @property
    def is_met(self) -> bool:
        return self.target is None or (self.value <= self.target if self.is_time else self.value >= self.target)

    def __str__(self) -> str:
        value, target = (
            f"{number:.1f} ms" if self.is_time else f"{number:.1%}" for number in (self.value, self.target or 0)
        )
        verdict = "" if self.target is None else f"   target {target}: {'met' if self.is_met else 'MISSED'}"
        return f"  {self.name:58}{value:>10}{verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the sections that were asked for; return 2 if their data are missing, 1 if a check fails."""
    options = _options().parse_args(arguments)
    sections = options.section or list(SECTIONS[:3])
    missing = _missing(sections, options)
    if missing:
        print(f"not found: {missing}", file=sys.stderr)
        return 2
    figures = []
    for section in sections:
        print(section)
        for figure in _FIGURES[section](options):
            print(figure, flush=True)
            figures.append(figure)
    return 1 if options.check and not all(figure.is_met for figure in figures) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", action="append", choices=SECTIONS, help="all but `weights` if left out")
    parser.add_argument("--corpus", type=Path, default=Path(os.environ.get("ALOOP_CORPUS", SHARED / "corpus")))
    parser.add_argument("--talks", type=Path, default=SHARED / "locomo" / "locomo.jsonl.gz")
    parser.add_argument("--vectors", action="store_true", help="with the local MiniLM beside words")
    parser.add_argument("--messages", type=int, default=100_000, help="of the long conversation")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of all short conversations together")
    parser.add_argument("--missing", action="store_true", help="list the facts that were not found")
    parser.add_argument("--check", action="store_true", help="return 1 if a figure misses its target")
    return parser


def _missing(sections: Sequence[str], options: argparse.Namespace) -> str:
    needed = {"talks": options.talks, "weights": options.talks, "facts": options.corpus / "probes.jsonl"}
    return ", ".join(
        str(needed[section]) for section in sections if section in needed and not needed[section].is_file()
    )


def _talk_figures(options: argparse.Namespace) -> Iterator[Figure]:
    talks = read_talks(options.talks)
    yield from _answer_figures("words", answer(talks), first=0.76, budget=0.88)
    if options.vectors:
        yield from _answer_figures("words and vectors", answer(with_meaning(talks)), first=0.79, budget=0.91)


def _answer_figures(name: str, answers: Sequence[Answered], *, first: float, budget: float) -> Iterator[Figure]:
    among = [one.among_first for one in answers]
    yield Figure(name=f"{name}: evidence among the first 10 ({len(among)} questions)", value=mean(among), target=first)
    within = mean(one.within_budget for one in answers)
    yield Figure(name=f"{name}: evidence within 2,000 tokens", value=within, target=budget)
    for category in sorted({one.category for one in answers}):
        some = [one.among_first for one in answers if one.category == category]
        yield Figure(name=f"{name}: first 10, category {category} ({len(some)})", value=mean(some))
    for talk in sorted({one.talk for one in answers}):
        yield Figure(
            name=f"{name}: first 10, talk {talk}", value=mean(one.among_first for one in answers if one.talk == talk)
        )


def _fact_figures(options: argparse.Namespace) -> Iterator[Figure]:
    sought = seek(options.corpus)
    halves = [one.found[one.is_in_blank_half] for one in sought]
    kept = [one.found[False] for one in sought if not one.is_in_blank_half]
    blanked = [one.found[True] for one in sought if one.is_in_blank_half]
    for name, found, target in (
        ("both halves together", halves, 0.95),
        ("half with the fact", kept, 0.95),
        ("half with the fact blanked out", blanked, 0.95),
        ("all, with the fact", [one.found[False] for one in sought], None),
        ("all, with the fact blanked out", [one.found[True] for one in sought], None),
    ):
        yield Figure(
            name=f"{name}: a message with it ({len(found)})", value=mean(any_ for _, any_ in found), target=target
        )
        yield Figure(name=f"{name}: the very first with it", value=mean(first for first, _ in found))
    if options.missing:
        _list_missing(sought)


def _list_missing(sought: Iterable[Sought]) -> None:
    for one in sought:
        for is_blanked, (_, is_found) in one.found.items():
            if not is_found:
                print(f"    missing {'without' if is_blanked else 'with'} the fact: {one.kind} {one.fact}")


def _speed_figures(options: argparse.Namespace) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield from _timing_figures(time_one_namespace(Path(folder), messages=options.messages))
        yield from _timing_figures(
            time_many_namespaces(Path(folder), rows=options.rows, messages=SMALL_NAMESPACE), untargeted=("everything",)
        )


def _timing_figures(timing: Timing, untargeted: Sequence[str] = ()) -> Iterator[Figure]:
    print(
        f"  {timing.messages:,} messages of {timing.mean_characters:,.0f} characters: indexed "
        f"{timing.messages_per_second:,.0f} a second, {timing.megabytes:,.0f} MB"
    )
    for name, (median, worst) in timing.milliseconds.items():
        yield Figure(name=f"{name}: median", value=median, is_time=True)
        target = None if name in untargeted else MILLISECONDS
        yield Figure(name=f"{name}: 99th percentile", value=worst, target=target, is_time=True)


def _weight_figures(options: argparse.Namespace) -> Iterator[Figure]:
    talks: list[Talk] = read_talks(options.talks)
    rows, chosen = leave_out(with_meaning(talks) if options.vectors else talks)
    for name, factor, share in rows:
        yield Figure(name=f"{name} x {factor:g}", value=share)
    yield Figure(name="chosen without the talk that is measured", value=chosen)


_FIGURES = {"talks": _talk_figures, "facts": _fact_figures, "speed": _speed_figures, "weights": _weight_figures}


if __name__ == "__main__":
    raise SystemExit(main())
