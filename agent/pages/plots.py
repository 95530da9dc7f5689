"""Plots as SVG elements that stand in a page: no script, colours from the page's style.

What belongs together has a number, and by it one colour and one dash everywhere: classes `s0` to `s7`, then again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from .markup import el, fill, number
from .scales import Scale, scale, token_ticks, tokens, usd, usd_ticks

COLOURS: Final = 8
LINE: Final = 16.0
"""Pixels that a line of text takes."""
_BUCKETS: Final = 45
"""Of a curve that has more points; each keeps its least and its greatest."""
_DASHES: Final = (None, "7 3", "2 3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line along a run."""

    name: str
    series: int
    """Which colour it has, and which dash."""
    points: tuple[tuple[float, float], ...]
    """(where, value), ascending; at least one."""
    marks: tuple[tuple[float, float], ...] = ()
    """Points to be marked, such as compressions."""
    is_filled: bool = False
    """The area below it is tinted."""


def along_the_run(
    curves: Sequence[Curve],
    id: str,
    title: str,
    words: str,
    *,
    is_usd: bool,
    step: str = "message",
    events: Sequence[tuple[float, str]] = (),
) -> Element:
    """Return the curves over the steps of a run, each with its name at its end.

    Args:
        curves: At least one.
        id: Of the plot in its page.
        title: What it shows.
        words: The same for those who cannot see it.
        is_usd: The values are dollars; else tokens.
        step: What is counted along the run.
        events: (where, what happened), each an upright line.
    """
    left, right, top, bottom = 70, 560, 16, 300
    highest = max((value for curve in curves for _, value in curve.points), default=0.0)
    last = max((at for curve in curves for at, _ in curve.points), default=1.0)
    x = scale(0.0, last, start=left, end=right, is_whole=True)
    y = scale(0.0, highest, start=bottom, end=top)
    plot = plot_frame(id, title, words, height=350)
    y_words = usd_ticks(y) if is_usd else token_ticks
    axes(plot, x, y, x_words=lambda at: f"{at:,.0f}", y_words=y_words, x_name=step, y_name="")
    for at, happened in events:
        line = el("line", el("title", happened), class_="event", x1=x(at), x2=x(at), y1=top, y2=bottom)
        fill(plot, line)
    ends = _spread([y(curve.points[-1][1]) for curve in curves], top, bottom)
    for curve, end in zip(curves, ends, strict=True):
        fill(plot, _curve(curve, x, y, end, usd if is_usd else tokens, step))
    return plot


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return at most two points for each of the buckets, and the last one: peaks and valleys stay."""
    if len(points) <= 2 * _BUCKETS:
        return tuple(points)
    size = len(points) / _BUCKETS
    kept: list[tuple[float, float]] = []
    for index in range(_BUCKETS):
        bucket = points[int(index * size) : int((index + 1) * size)]
        kept += sorted({min(bucket, key=_value), max(bucket, key=_value)})
    return tuple(kept if kept[-1] == points[-1] else [*kept, points[-1]])


def _value(point: tuple[float, float]) -> float:
    return point[1]


# --- Parts of a plot --------------------------------------------------------------------------------------------------


def plot_frame(id: str, title: str, words: str, height: float) -> Element:
    return el(
        "svg",
        el("title", title, id=f"{id}-title"),
        el("desc", words, id=f"{id}-words"),
        id=id,
        class_="plot",
        viewBox=f"0 0 720 {number(height)}",
        role="img",
        aria_labelledby=f"{id}-title {id}-words",
    )


def axes(
    plot: Element,
    x: Scale,
    y: Scale,
    *,
    x_words: Callable[[float], str],
    y_words: Callable[[float], str],
    x_name: str,
    y_name: str,
) -> None:
    for tick in y.ticks:
        fill(plot, el("line", class_="grid", x1=x.start, x2=x.end, y1=y(tick), y2=y(tick)))
        fill(plot, el("text", y_words(tick), class_="tick end", x=x.start - 8, y=y(tick) + 4))
    vertical_axis(plot, x, y.end, y.start, x_words, x_name)
    if y_name:
        middle = (y.start + y.end) / 2
        turned = f"rotate(-90 14 {number(middle)})"
        fill(plot, el("text", y_name, class_="axis middle", x=14, y=middle, transform=turned))


def vertical_axis(plot: Element, x: Scale, top: float, bottom: float, words: Callable[[float], str], name: str) -> None:
    for tick in x.ticks:
        fill(plot, el("line", class_="grid", x1=x(tick), x2=x(tick), y1=top, y2=bottom))
        fill(plot, el("text", words(tick), class_="tick middle", x=x(tick), y=bottom + 18))
    fill(plot, el("text", name, class_="axis middle", x=(x.start + x.end) / 2, y=bottom + 38))


def series_class(number_: int) -> str:
    return f"series s{number_ % COLOURS}"


def path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


# --- Along the run ----------------------------------------------------------------------------------------------------


def _curve(curve: Curve, x: Scale, y: Scale, name_y: float, words: Callable[[float], str], step: str) -> Element:
    places = [(x(at), y(value)) for at, value in curve.points]
    points = path(places)
    area = path([(places[0][0], y.start), *places, (places[-1][0], y.start)])
    at, value = curve.points[-1]
    leader = [(x(at), y(value)), (x.end + 10, name_y), (x.end + 16, name_y)]
    return el(
        "g",
        el("title", f"{curve.name}: {words(value)} at {step} {at:,.0f}"),
        el("polygon", class_="area", points=area) if curve.is_filled else None,
        el("polyline", class_="line", points=points, stroke_dasharray=_DASHES[curve.series // COLOURS % 3]),
        *(el("circle", class_="mark", cx=x(at), cy=y(value), r=3) for at, value in curve.marks),
        el("polyline", class_="leader", points=path(leader)),
        el("text", curve.name, class_="name", x=x.end + 20, y=name_y + 4),
        class_=series_class(curve.series),
    )


def _spread(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Return heights near those wanted, far enough apart for a line of text each, in the order given."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(LINE, (bottom - top) / max(1, len(wanted) - 1))
    heights = [0.0] * len(wanted)
    floor = top
    for index in order:
        heights[index] = floor = max(floor, wanted[index])
        floor += gap
    ceiling = bottom
    for index in reversed(order):
        heights[index] = ceiling = min(ceiling, heights[index])
        ceiling -= gap
    return heights
