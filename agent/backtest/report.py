"""What `aloop backtest` prints: a table for each model with the cheapest policies in words, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .comparison import Row, cheapest, compared, over_all_models
from .outcome import Outcome
from .parallel import Failure
from .policies import EVERYTHING


def print_report(
    console: Console, outcomes: Sequence[Outcome], failures: Sequence[Failure], *, adds_models: bool = False
) -> None:
    """Print the sums, what is cheapest, and what could not be run; with `adds_models` also sums over all models."""
    rows = compared([*outcomes, *(over_all_models(outcomes) if adds_models else ())])
    for model, of_model in groupby(rows, key=attrgetter("total.model")):
        found = list(of_model)
        _line(console, f"{model}: {_extent(found)}")
        console.print(_table(found))
        for sentence in sentences(found):
            _line(console, sentence)
        _line(console, "")
    for line in _LEGEND if rows else ():
        _line(console, line)
    for failure in failures:
        at = f" under {failure.policy}" if failure.policy else ""
        _line(console, f"left out: {failure.source}{at}: {failure.error}")


def report_as_dict(
    outcomes: Sequence[Outcome], failures: Sequence[Failure], *, adds_models: bool = False
) -> dict[str, Any]:
    """Return everything as JSON values, without any message text."""
    rows = compared([*outcomes, *(over_all_models(outcomes) if adds_models else ())])
    by_model = [(model, list(found)) for model, found in groupby(rows, key=attrgetter("total.model"))]
    return {
        "totals": [row.as_dict() for row in rows],
        "cheapest": [
            {
                "model": model,
                "retained_share": one.retained_share,
                "policy": one.row.total.policy,
                "usd": one.row.total.usd,
                "relative_usd": one.row.relative_usd,
            }
            for model, found in by_model
            for one in cheapest(found)
        ],
        "outcomes": [one.as_dict() for one in outcomes],
        "failures": [{"source": one.source, "policy": one.policy, "error": one.error} for one in failures],
    }


def sentences(rows: Sequence[Row]) -> list[str]:
    """Say which policy is the cheapest at each quality, for one model's rows."""
    has_probes = any(row.total.probes for row in rows)
    lines = [
        f"cheapest at {one.retained_share:.1%} kept: {_priced(one.row)}"
        if has_probes
        else f"cheapest: {_priced(one.row)}; no fact was used again, so what is kept cannot be told"
        for one in cheapest(rows)
    ]
    refused = [f"{row.total.policy} ({row.total.refused_requests:,})" for row in rows if row.total.refused_requests]
    if refused:
        lines.append(f"not among them, since a provider would refuse requests of theirs: {', '.join(refused)}")
    return lines


def _priced(row: Row) -> str:
    if row.total.policy == EVERYTHING:
        return f"send everything, ${_dollars(row.total.usd)}"
    share = "" if row.relative_usd is None else f", {row.relative_usd:.2f} of everything"
    return f"{row.total.policy}, ${_dollars(row.total.usd)}{share}"


def _extent(rows: Sequence[Row]) -> str:
    first = rows[0].total
    facts = f"{first.probes:,} fact{'s' * (first.probes != 1)} used again"
    counted = (
        f"{first.runs:,} run{'s' * (first.runs != 1)}, {first.requests:,} request{'s' * (first.requests != 1)}, {facts}"
    )
    return counted if first.is_price_known else f"{counted}; nobody knows its price: dollars are by a default one"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("policy", no_wrap=True, overflow="ellipsis")
    for name in ("input", "cached", "USD", "of all", "kept", "context", "breaks", "refused"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.total.policy), *_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    total = row.total
    return [
        _short(total.input_tokens),
        f"{total.cached_share:.1%}",
        _dollars(total.usd),
        "-" if row.relative_usd is None else f"{row.relative_usd:.3f}",
        "-" if total.retained_share is None else f"{total.retained_share:.1%}",
        _short(round(total.mean_context_tokens)),
        f"{total.prefix_changes:,}",
        f"{total.refused_requests:,}",
    ]


def _dollars(usd: float) -> str:
    return f"{usd:,.0f}" if usd >= 1_000 else f"{usd:.2f}" if usd >= 1 else f"{usd:.4f}"


def _short(number: int) -> str:
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1_000 if unit == 'k' else size):,.1f}{unit}"
    return f"{number:,}"


_LEGEND = (
    "input: tokens sent, of which cached were read from the provider's cache; of all: dollars as a share of sending",
    "everything; kept: facts that stood in the very request that used them; context: tokens of a request; breaks:",
    "requests that did not begin with the one before; refused: against the provider's rules, or longer than it takes",
)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
