"""The plots of a backtest as SVG elements that stand in a page: no script, colours from the page's style.

A policy has a number, and by it one colour, one marker and one dash everywhere: classes `s0` to `s7`, then again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from xml.etree.ElementTree import Element

from ..pages.markup import el, fill
from ..pages.plots import COLOURS, LINE, axes, path, plot_frame, series_class, vertical_axis
from ..pages.scales import Scale, percent, scale, usd, usd_ticks
from .totals import Total

_LETTER: Final = 7.8
"""Pixels that a letter of a label takes, on the safe side."""


def cost_against_retention(
    totals: Sequence[Total], front: Sequence[Total], series: Mapping[str, int], id: str
) -> Element:
    """Return one point for each policy that has probes: retained facts to the right, dollars for a run upwards.

    Those of the front are joined by a line, in its order.
    """
    left, right, top, bottom = 70, 620, 16, 370
    shares = [(total, total.retained_share) for total in totals]
    placed = [(total, share) for total, share in shares if share is not None]
    x = scale(min((share for _, share in placed), default=0.0), 1.0, start=left, end=right)
    y = scale(0.0, max((total.usd_per_run for total, _ in placed), default=1.0), start=bottom, end=top)
    line = [(x(total.retained_share or 0.0), y(total.usd_per_run)) for total in front if total.probes]
    plot = plot_frame(id, "Cost against retention", _scatter_words(front, is_empty=not placed), height=424)
    y_words = usd_ticks(y)
    axes(plot, x, y, x_words=_whole_percent, y_words=y_words, x_name="facts retained", y_name="dollars for a run")
    fill(plot, el("polyline", class_="front", points=path(line)) if len(line) > 1 else None)
    taken = [_Box(x(share) - 8, y(total.usd_per_run) - 8, 16, 16) for total, share in placed] + _boxes_along(line)
    frame = _Box(left, top, 720 - left, bottom - top)
    for total, share in placed:
        words = f"{total.policy}: {usd(total.usd_per_run)} for a run, {percent(share)} of {total.probes} facts retained"
        at = (x(share), y(total.usd_per_run))
        point = el("g", el("title", words), class_=series_class(series[total.policy]))
        fill(point, *_label(total.policy, at, taken, frame))
        fill(plot, fill(point, _marker(*at, series[total.policy], is_hollow=total.refused_requests > 0)))
    return plot


def cost_parts(totals: Sequence[Total], id: str) -> Element:
    """Return a bar for each policy, made of what its dollars were paid for."""
    row, left, right, top = 30, 190, 640, 12
    bottom = top + row * len(totals)
    x = scale(0.0, max(total.usd_per_run for total in totals), start=left, end=right)
    plot = plot_frame(id, "What the dollars are paid for", "A bar for each policy, in dollars for a run.", bottom + 46)
    vertical_axis(plot, x, top, bottom, usd_ticks(x), "dollars for a run")
    for index, total in enumerate(totals):
        fill(plot, _bar(total, x, top + index * row, row - 10))
    return plot


PARTS: Final = (
    ("fresh input", "usd_input"),
    ("read from cache", "usd_cached"),
    ("written to cache", "usd_written"),
    ("output", "usd_output"),
    ("summaries", "usd_summaries"),
)
"""What is paid for, and the field of a total that says how much."""


# --- Cost against retention -------------------------------------------------------------------------------------------

_SHAPES: Final[tuple[Callable[[float, float], Element], ...]] = (
    lambda x, y: el("circle", cx=x, cy=y, r=6),
    lambda x, y: el("rect", x=x - 5.5, y=y - 5.5, width=11, height=11),
    lambda x, y: el("polygon", points=path([(x, y - 7), (x + 7, y + 5.5), (x - 7, y + 5.5)])),
    lambda x, y: el("polygon", points=path([(x, y - 7.5), (x + 7.5, y), (x, y + 7.5), (x - 7.5, y)])),
)


def _marker(x: float, y: float, series: int, *, is_hollow: bool) -> Element:
    # Series that share a colour differ in shape.
    shape = _SHAPES[(series + series // COLOURS) % len(_SHAPES)](x, y)
    shape.set("class", "marker hollow" if is_hollow else "marker")
    return shape


def _whole_percent(share: float) -> str:
    return f"{share:.0%}"


def _scatter_words(front: Sequence[Total], *, is_empty: bool) -> str:
    if is_empty:
        return "No run holds a fact that was used again, so no policy can be placed."
    names = ", ".join(total.policy for total in front)
    return (
        f"A point for each policy; low and to the right is better. None is both cheaper and keeps more than: {names}."
    )


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: _Box) -> float:
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, across) * max(0.0, down)

    def outside(self, frame: _Box) -> float:
        return self.width * self.height - self.overlap(frame)


def _boxes_along(path: Sequence[tuple[float, float]]) -> list[_Box]:
    """Return small boxes along a line, which names should not hide."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(path):
        count = max(1, round(max(abs(x2 - x1), abs(y2 - y1)) / 10))
        steps = [index / count for index in range(count + 1)]
        boxes += [_Box(x1 + (x2 - x1) * share - 2, y1 + (y2 - y1) * share - 2, 4, 4) for share in steps]
    return boxes


_DOWN: Final = (0, -16, 16, -32, 32, -48, 48)
"""Where a name may stand, from its point downwards; each to the right, to the left, and but for the first over it."""
_ANCHORS: Final = {1: "name", -1: "name end", 0: "name middle"}


def _label(words: str, at: tuple[float, float], taken: list[_Box], frame: _Box) -> list[Element]:
    """Return the name near its point, where it hides the least, and a line to it where it is not beside it."""
    places = [
        (side, _place(len(words) * _LETTER, at, side, down)) for down in _DOWN for side in (1, -1, 0) if side or down
    ]
    costs = [
        3 * sum(map(box.overlap, taken)) + 4 * box.outside(frame) + 12 * rank for rank, (_, box) in enumerate(places)
    ]
    side, box = places[costs.index(min(costs))]
    taken.append(box)
    x = {1: box.x, -1: box.x + box.width, 0: box.x + box.width / 2}[side]
    name = el("text", words, class_=_ANCHORS[side], x=x, y=box.y + 12)
    if box.y < at[1] < box.y + LINE:
        return [name]
    end = x - 2 * side, box.y + (0.0 if box.y > at[1] else LINE)
    return [el("polyline", class_="leader", points=path([at, end])), name]


def _place(width: float, at: tuple[float, float], side: int, down: float) -> _Box:
    x = {1: at[0] + 12, -1: at[0] - 12 - width, 0: at[0] - width / 2}[side]
    return _Box(x, at[1] - LINE / 2 + down, width, LINE)


# --- What the dollars are paid for ------------------------------------------------------------------------------------


def _bar(total: Total, x: Scale, top: float, height: float) -> Element:
    bar = el("g", el("text", total.policy, class_="name end", x=x.start - 8, y=top + height / 2 + 5), class_="bar")
    start = 0.0
    for index, (words, field) in enumerate(PARTS):
        amount = getattr(total, field) / total.runs
        title = el("title", f"{total.policy}, {words}: {usd(amount)} for a run")
        width = max(0.0, x(start + amount) - x(start))
        fill(bar, el("rect", title, class_=f"part p{index}", x=x(start), y=top, width=width, height=height))
        start += amount
    return fill(bar, el("text", usd(total.usd_per_run), class_="tick", x=x(start) + 6, y=top + height / 2 + 5))
