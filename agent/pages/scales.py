"""Axes of a plot: round ticks, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A straight axis from values to pixels."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    ticks: tuple[float, ...]
    """Round values within the axis, ascending."""

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def scale(low: float, high: float, *, start: float, end: float, count: int = 5, is_whole: bool = False) -> Scale:
    """Return an axis that holds both values, ends on round ones, and has about `count` steps between them."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / count)
    step = max(1.0, step) if is_whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(index * step for index in range(first, last + 1))
    return Scale(low=ticks[0], high=ticks[-1], start=start, end=end, ticks=ticks)


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next((factor * power for factor in (1.0, 2.0, 2.5, 5.0) if factor * power >= raw * 0.999), 10.0 * power)


def usd(amount: float) -> str:
    """Return dollars with at least three digits that mean something."""
    if amount == 0:
        return "$0"
    decimals = 2 if abs(amount) >= 1 else min(6, 2 - math.floor(math.log10(abs(amount))))
    return f"${amount:,.{decimals}f}"


def usd_ticks(axis: Scale) -> Callable[[float], str]:
    """Return how to write the ticks of an axis: all with the same decimals."""
    step = axis.ticks[1] - axis.ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += round(step * 10**decimals, 6) % 1 > 0  # a step of 0.025 needs one more
    return lambda amount: f"${amount:,.{decimals}f}"


def tokens(count: float) -> str:
    """Return a token count, thousands as k."""
    if abs(count) >= 1_000_000:
        return f"{count / 1_000_000:,.2f}M"
    return f"{count / 1_000:,.1f}k" if abs(count) >= 1_000 else f"{count:,.0f}"


def token_ticks(count: float) -> str:
    """Return a round token count the shortest way."""
    return f"{count / 1_000:,g}k" if abs(count) >= 1_000 else f"{count:,.0f}"


def percent(share: float) -> str:
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{share:.1%}"
