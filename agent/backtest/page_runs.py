"""The part of the page that goes into single runs: curves along the run, and what each compression took out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final
from xml.etree.ElementTree import Element

from ..pages.document import figure
from ..pages.markup import el, fill
from ..pages.plots import Curve, along_the_run, thinned
from ..pages.scales import percent, tokens, usd
from .outcome import Compression, Outcome

_MOST_RUNS: Final = 24
_MOST_CURVES: Final = 160
"""Runs times policies that are shown one by one; the page stays below a megabyte."""
_MOST_ROWS: Final = 12
"""Of compressions, for each policy of a run."""


def runs_section(outcomes: Sequence[Outcome], series: Mapping[str, int]) -> Element:
    """Return the longest runs, each under all policies; a script shows one of them, without it they can be unfolded."""
    longest = _longest_first(outcomes)
    shown = longest[: min(_MOST_RUNS, max(1, _MOST_CURVES // len(series)))]
    has_models = len({one.model for one in outcomes}) > 1
    names = [_name(group[0], has_models) for group in shown]
    runs = [_run(group, name, series, index) for index, (group, name) in enumerate(zip(shown, names, strict=True))]
    return el(
        "section",
        el("h2", "Along one run"),
        el("p", f"The {len(shown)} longest of {len(longest):,}.") if len(longest) > len(shown) else None,
        _choice(names),
        *runs,
        id="runs",
    )


def without_hidden_steps(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes without the steps and compressions that no page shows, since those runs are too short."""
    shown = {id(one) for group in _longest_first(outcomes)[:_MOST_RUNS] for one in group}
    return [one if id(one) in shown or not one.steps else replace(one, steps=(), compressions=()) for one in outcomes]


def _longest_first(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Return the outcomes of each run at each model."""
    groups: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[one.source, one.transcript_id, one.model].append(one)
    return sorted(groups.values(), key=lambda group: -group[0].history_tokens)


def _choice(names: Sequence[str]) -> Element:
    options = (el("option", name, value=str(index)) for index, name in enumerate(names))
    # Hidden until the script, without which it would do nothing, shows it. Browsers restore old choices: not this one.
    box = el("select", *options, id="run", autocomplete="off")
    return el("div", el("label", "Run", for_="run"), box, class_="choice", hidden="")


def _name(one: Outcome, has_models: bool) -> str:
    return f"{one.transcript_id} · {tokens(one.history_tokens)} tokens" + f" · {one.model}" * has_models


def _run(group: Sequence[Outcome], name: str, series: Mapping[str, int], index: int) -> Element:
    first = group[0]
    words = f"{first.source} · {first.message_count:,} messages · {first.requests:,} requests · {first.model}"
    return el(
        "details",
        el("summary", name),
        el("p", words, class_="faint"),
        figure(
            "Tokens of each request",
            "A circle is a compression.",
            _plot(group, series, f"run-{index}-tokens", "Tokens of each request", is_usd=False),
        ),
        figure(
            "Dollars so far",
            "Where a policy's summaries cost something, that is spread evenly over its compressions.",
            _plot(group, series, f"run-{index}-dollars", "Dollars so far", is_usd=True),
        ),
        _table(group),
        el("h3", "What each compression took out"),
        *_compressions(group),
        class_="run",
        open="" if index == 0 else None,
    )


# --- Curves -----------------------------------------------------------------------------------------------------------


def _plot(group: Sequence[Outcome], series: Mapping[str, int], id: str, title: str, *, is_usd: bool) -> Element:
    with_steps = [one for one in group if one.steps]
    curves = [(_dollars if is_usd else _tokens)(one, series[one.policy]) for one in with_steps]
    word = usd if is_usd else tokens
    ends = "; ".join(f"{curve.name} {word(curve.points[-1][1])}" for curve in curves)
    return along_the_run(
        curves, id, title, f"A line for each policy over the messages, ending at: {ends}.", is_usd=is_usd
    )


def _tokens(one: Outcome, series: int) -> Curve:
    points = [(float(step.index), float(step.sent_tokens)) for step in one.steps]
    sizes = dict(points)
    marked = [(float(index), sizes[index]) for index in _indices(one.compressions) if index in sizes]
    marks = marked if len(marked) <= _MOST_ROWS * 2 else []  # a policy that changes every request marks none
    return Curve(name=one.policy, series=series, points=thinned(points), marks=tuple(marks))


def _dollars(one: Outcome, series: int) -> Curve:
    compressed = set(_indices(one.compressions))
    for_each = one.usd_summaries / len(compressed) if compressed else 0.0
    so_far, points = 0.0, []
    for step in one.steps:
        so_far += step.usd + (for_each if step.index in compressed else 0.0)
        points.append((float(step.index), so_far))
    return Curve(name=one.policy, series=series, points=thinned(points))


def _indices(compressions: Sequence[Compression]) -> list[int]:
    return list(dict.fromkeys(one.index for one in compressions))


# --- Tables -----------------------------------------------------------------------------------------------------------

_CELLS: Final[tuple[tuple[str, Callable[[Outcome], str]], ...]] = (
    ("dollars", lambda one: usd(one.usd)),
    ("input tokens", lambda one: tokens(one.input_tokens)),
    ("from cache", lambda one: percent(one.cached_share)),
    ("mean context", lambda one: tokens(one.mean_context_tokens)),
    ("facts retained", lambda one: f"{one.retained:,} of {one.probes:,}" if one.probes else "–"),
    ("prefix changes", lambda one: f"{one.prefix_changes:,}"),
)


def _table(group: Sequence[Outcome]) -> Element:
    head = el("tr", el("th", "policy", scope="col"), *(el("th", name, scope="col") for name, _ in _CELLS))
    rows = [
        el("tr", el("th", one.policy, scope="row"), *(el("td", cell(one)) for _, cell in _CELLS))
        for one in sorted(group, key=lambda one: one.usd)
    ]
    words = "This run under each policy, the cheapest first."
    return el("div", el("table", el("caption", words), el("thead", head), el("tbody", *rows)), class_="wide")


def _compressions(group: Sequence[Outcome]) -> list[Element]:
    having = [one for one in group if one.compressions]
    if not having:
        return [el("p", "No policy took anything out of this run.")]
    first = next((one for one in having if len(one.compressions) <= _MOST_ROWS), having[0])
    return [_compressions_of(one, is_open=one is first) for one in having]


def _compressions_of(one: Outcome, *, is_open: bool) -> Element:
    taken = sum(compression.tokens_before - compression.tokens_after for compression in one.compressions)
    count = len(one.compressions)
    words = f"{one.policy}: {count:,} {'time' if count == 1 else 'times'}, {tokens(taken)} tokens fewer"
    greatest = sorted(one.compressions, key=lambda it: it.tokens_after - it.tokens_before)[:_MOST_ROWS]
    note = f"The {_MOST_ROWS} that took out most." if count > _MOST_ROWS else None
    return el(
        "details",
        el("summary", words),
        el("div", _compression_table(one.policy, sorted(greatest, key=lambda it: it.index), note), class_="wide"),
        open="" if is_open else None,
    )


_HEADINGS: Final = ("message", "tokens before", "after", "messages out", "tokens out, by role", "put in their place")


def _compression_table(policy: str, compressions: Sequence[Compression], note: str | None) -> Element:
    caption = el("caption", f"Compressions by {policy}. {note or ''}".strip())
    cells = (el("th", name, scope="col", class_="words" if "role" in name else None) for name in _HEADINGS)
    head = el("thead", el("tr", *cells))
    return el("table", caption, head, el("tbody", *map(_compression_row, compressions)))


def _compression_row(one: Compression) -> Element:
    by_role = sorted(one.removed_tokens.items(), key=lambda item: -item[1])
    out = " · ".join(f"{role} {tokens(count)}" for role, count in by_role if count)
    put = f"{one.added_count:,} ({tokens(one.added_tokens)} tokens)" if one.added_count else "nothing"
    row = el("tr", el("td", f"{one.index:,}"), el("td", tokens(one.tokens_before)), el("td", tokens(one.tokens_after)))
    return fill(row, el("td", f"{one.removed_count:,}"), el("td", out or "–", class_="words"), el("td", put))
