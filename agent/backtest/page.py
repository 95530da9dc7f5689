"""The page of a backtest: one HTML file that loads nothing, reads without a script, and holds no message text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element

from ..pages.document import counted, document, figure
from ..pages.markup import el, fill
from ..pages.scales import percent, tokens, usd
from . import plots
from .assumptions import assumptions_of
from .comparison import Cheapest, Row, cheapest, compared
from .outcome import Outcome
from .page_runs import runs_section
from .policies import EVERYTHING
from .totals import Total


def page(
    outcomes: Sequence[Outcome],
    *,
    assumptions: Mapping[str, str] | None = None,
    made_at: datetime | None = None,
) -> str:
    """Return the whole page as HTML, in UTF-8 when it is written.

    It shows, for each model, a table of the policies, their cost against what they retained, and what the dollars
    were paid for; for the longest runs tokens, dollars and compressions; and what all of it assumes.

    Args:
        outcomes: At least one; those of one model should have the same transcripts under every policy.
        assumptions: What else the reader should know, by its name; it stands before what the page finds itself.
        made_at: When the backtest was made; now, if left out.

    Raises:
        ValueError: There are no outcomes.
    """
    if not outcomes:
        raise ValueError("a page needs at least one outcome")
    made = made_at or datetime.now(UTC)
    rows = compared(outcomes)
    series = {policy: index for index, policy in enumerate(dict.fromkeys(one.policy for one in outcomes))}
    body = el("body", *_head(outcomes, made))
    for index, model in enumerate(dict.fromkeys(one.model for one in outcomes)):
        of_model = [row for row in rows if row.total.model == model]
        fill(body, _model_section(of_model, series, f"model-{index}"))
    fill(body, runs_section(outcomes, series))
    fill(body, _assumptions_section({**(assumptions or {}), **assumptions_of(outcomes, at=made)}))
    script = files(__package__).joinpath("assets", "page.js").read_text(encoding="utf-8")
    return document("Backtest of context policies", body, script=script)


def _head(outcomes: Sequence[Outcome], made: datetime) -> list[Element]:
    runs = len({(one.source, one.transcript_id) for one in outcomes})
    policies = len({one.policy for one in outcomes})
    models = len({one.model for one in outcomes})
    counts = f"{counted(runs, 'recorded run')}, {counted(policies, 'policy')}, {counted(models, 'model')}"
    day = made.strftime("%Y-%m-%d %H:%M UTC") if made.tzinfo is UTC else made.isoformat(" ", "minutes")
    what = (
        "What recorded agent runs would have cost, and what would have been forgotten, if their context had been "
        "managed by other policies. Every request of a run is made again as the policy would have sent it; the "
        "provider's prompt cache and its prices are in the sum. No model was called."
    )
    return [el("h1", "Backtest of context policies"), el("p", f"{counts} · {day}", class_="faint"), el("p", what)]


# --- One model --------------------------------------------------------------------------------------------------------


def _model_section(rows: Sequence[Row], series: Mapping[str, int], id: str) -> Element:
    found = [row.total for row in rows]
    best = cheapest(rows)
    return el(
        "section",
        el("h2", f"Policies at {found[0].model}"),
        _verdict(best),
        _table(rows),
        _caveats(found),
        figure(
            "Cost against retention",
            "Low and to the right is better. The dashed line joins the policies that none beats in both. Hollow: with "
            "requests that the provider would refuse.",
            plots.cost_against_retention(found, [one.row.total for one in best], series, f"{id}-retention"),
        ),
        figure(
            "What the dollars are paid for",
            "Mean of a run, the cheapest policy first.",
            plots.cost_parts(found, f"{id}-parts"),
            _key([(words, f"p{index}") for index, (words, _) in enumerate(plots.PARTS)]),
        ),
        id=id,
    )


def _key(entries: Sequence[tuple[str, str]]) -> Element:
    return el("ul", *(el("li", el("i", class_=colour), words) for words, colour in entries), class_="key")


def _verdict(best: Sequence[Cheapest]) -> Element | None:
    """Say what is cheapest at each quality, the best quality first."""
    if not best:
        return None
    if best[0].row.total.retained_share is None:
        return el("p", f"Cheapest: {_priced(best[0].row)}.", class_="verdict")
    items = [el("li", el("b", f"{percent(one.retained_share)}: "), _priced(one.row)) for one in best[:_MOST_VERDICTS]]
    return el(
        "div", el("p", "The cheapest policy, by how many of the facts are retained"), el("ul", *items), class_="verdict"
    )


_MOST_VERDICTS: Final = 4


def _priced(row: Row) -> str:
    return f"{row.total.policy}, {usd(row.total.usd)}" + (
        "" if row.total.policy == EVERYTHING or row.relative_usd is None else f" ({change(row)} against everything)"
    )


def change(row: Row) -> str:
    """Return the difference to the cost of sending everything, in percent."""
    return (
        "–"
        if row.relative_usd is None or row.total.policy == EVERYTHING
        else f"{row.relative_usd - 1:+.1%}".replace("-", "−")
    )


def _caveats(found: Sequence[Total]) -> Element | None:
    sentences = []
    if not all(total.is_price_known for total in found):
        sentences.append(
            "Nobody knows this model's price: the dollars are by a default price, good for comparison only."
        )
    if len({total.runs for total in found}) > 1:
        sentences.append("Not every policy was run on every transcript: compare means, not sums.")
    if not found[0].probes:
        sentences.append("No run holds a fact that the agent used again much later, so retention cannot be told.")
    return el("p", " ".join(sentences), class_="note") if sentences else None


_Column: TypeAlias = tuple[str, Callable[[Row], str], Callable[[Row], float] | None]
"""Heading, cell, and what is least in the best cell of the column."""

_COLUMNS: Final[tuple[_Column, ...]] = (
    ("dollars", lambda row: usd(row.total.usd), lambda row: row.total.usd_per_run),
    ("against everything", lambda row: change(row), None),
    ("for summaries", lambda row: usd(row.total.usd_summaries), None),
    ("input tokens", lambda row: tokens(row.total.input_tokens), None),
    ("from cache", lambda row: percent(row.total.cached_share), None),
    ("mean context", lambda row: tokens(row.total.mean_context_tokens), None),
    ("facts retained", lambda row: _retained(row.total), lambda row: -(row.total.retained_share or 0.0)),
    ("prefix changes", lambda row: f"{row.total.prefix_changes:,}", None),
)
_FAULTS: Final = (
    ("invalid requests", "invalid_requests"),
    ("too long", "oversized_requests"),
    ("without first task", "lost_first_task"),
)


def _retained(total: Total) -> str:
    return "–" if total.retained_share is None else f"{percent(total.retained_share)} of {total.probes:,}"


def _table(rows: Sequence[Row]) -> Element:
    names = ["policy", *(name for name, _, _ in _COLUMNS), *(name for name, _ in _FAULTS)]
    head = el("tr", *(el("th", name, scope="col") for name in names))
    words = f"Sums over {counted(rows[0].total.runs, 'run')}, the cheapest policy first."
    body = el("tbody", *(_row(row, rows) for row in rows))
    return el("div", el("table", el("caption", words), el("thead", head), body), class_="wide")


def _row(row: Row, rows: Sequence[Row]) -> Element:
    line = el("tr", el("th", row.total.policy, scope="row"))
    for _, words, measure in _COLUMNS:
        is_best = measure is not None and len(rows) > 1 and measure(row) == min(map(measure, rows))
        fill(line, el("td", words(row), class_="best" if is_best else None))
    for _, field in _FAULTS:
        count = getattr(row.total, field)
        fill(line, el("td", f"{count:,}", class_="bad" if count else None))
    return line


# --- What it assumes --------------------------------------------------------------------------------------------------


def _assumptions_section(assumptions: Mapping[str, str]) -> Element:
    entries = [part for name, words in assumptions.items() for part in (el("dt", name), el("dd", words))]
    return el("section", el("h2", "What this assumes"), el("dl", *entries), id="assumptions")
