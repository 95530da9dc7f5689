"""The tables of the comparison, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from agent.backtest.policies import EVERYTHING

from .settings import TRIGGERS, own_settings
from .verdicts import LONG_TOKENS, Overhead, Total, at_mean_context, totals, verdicts

if TYPE_CHECKING:
    from .compare import Order
    from .findings import Findings
    from .measuring import Result

BEGIN: Final = "<!-- begin: benchmarks/peers/compare.py -->"
END: Final = "<!-- end: benchmarks/peers/compare.py -->"
_CURVE: Final = "ours: threshold"

ByModel: TypeAlias = Mapping[str, Total]
"""One setting's totals, by model."""


def written(findings: Findings, order: Order, *, command: str) -> str:
    """Return all tables."""
    parts = [_head(findings, order, command)]
    if "extractive" in findings.loop:
        parts += ["### One customer-service loop", _loop_table(findings.loop["extractive"], order.models)]
    if "stub" in findings.loop:
        parts += ["### The same, with summaries billed as model calls"]
        parts += [_dollar_table(findings.loop["stub"], order.models)]
    if findings.recorded:
        parts += _recorded(findings.recorded, order.models)
    if findings.overheads:
        parts += ["### Time and tokenising", _overhead_table(findings.overheads)]
    parts += ["### How each was set up", _how_table(order)]
    return "\n\n".join([*parts, *_notes(findings)])


def put_between_marks(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _head(findings: Findings, order: Order, command: str) -> str:
    peers = ", ".join(f"{peer.distribution} {peer.version}" for peer in order.peers)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, {findings.seconds / 60:.0f} minutes. aloop-memory "
        f"{version('aloop-memory')}; {peers}; prices of genai-prices {version('genai-prices')}."
    )


def _loop_table(results: Sequence[Result], models: Sequence[str]) -> str:
    found = _by_name(results, models)
    curve = [one[models[0]] for one in found if _name(one).startswith(_CURVE) or _name(one) == EVERYTHING]
    rows = [
        [_title(one), *_input_costs(one, models), _equal(one[models[0]], curve), *_quality(one[models[0]])]
        for one in _sorted(found, models[0])
    ]
    return _table(("", *_costs_of(models), "ours at that mean", *_QUALITY), rows)


def _dollar_table(results: Sequence[Result], models: Sequence[str]) -> str:
    found = [one for one in _by_name(results, models) if one[models[0]].family in ("summary", "everything")]
    named = {own.name for own in own_settings()}
    shown = [one for one in found if not one[models[0]].is_own or _name(one) in named]
    rows = [[_title(one), *_input_costs(one, models)] for one in _sorted(shown, models[0])]
    return _table(("", *_costs_of(models)), rows)


def _recorded(results: Sequence[Result], models: Sequence[str]) -> list[str]:
    long = [one for one in results if one.outcome.history_tokens > LONG_TOKENS]
    models = _measured(long, models)
    rows = [
        [_title(one), str(one[models[0]].conversations), *_costs(one, models), *_quality(one[models[0]])]
        for one in _sorted(_by_name(long, models), models[0])
    ]
    count = len({one.outcome.transcript_id for one in long})
    return [
        f"### {count} recorded conversations of more than {LONG_TOKENS:,} tokens",
        _table(("", "of them", *models, *_QUALITY), rows),
        "### Who is ahead, conversation by conversation",
        _verdict_table(results, models),
    ]


def _verdict_table(results: Sequence[Result], models: Iterable[str]) -> str:
    rows = [
        [
            f"**{one.name}**",
            model,
            f"{one.unbeaten / one.conversations:.0%}",
            f"{one.unbeaten_telling} of {one.telling}",
            f"{one.cheapest / one.conversations:.0%}",
            f"{one.unbeaten_at_budget / one.conversations:.0%}",
            f"{one.worst:.3f}",
            "; ".join(f"{name} ({times})" for name, times in one.beaten_by[:2]),
        ]
        for model in models
        for one in verdicts(_at_model(results, model))
    ]
    return _table(_VERDICT_COLUMNS, rows)


_VERDICT_COLUMNS: Final = (
    "",
    "",
    "unbeaten",
    "of those with 10 facts",
    "cheapest",
    "unbeaten at like context",
    "worst",
    "most often beaten by",
)


def _overhead_table(overheads: Iterable[Overhead]) -> str:
    rows = [
        [
            f"**{one.name}**" if one.is_own else one.name,
            f"{one.milliseconds:.2f}",
            f"{one.growth:.1f}",
            f"{one.bytes_per_byte:,.1f}",
            one.failed or "",
        ]
        for one in sorted(overheads, key=lambda one: one.milliseconds)
        if not one.name.endswith("k, defaults")  # the same code at another size
    ]
    return _table(("", "ms a turn", "growth", "bytes tokenised per byte", ""), rows)


def _how_table(order: Order) -> str:
    own = [[f"**{one.name}**", one.how] for one in order.own if not one.name.endswith(f"{TRIGGERS[-1] // 1_000}k")]
    peers = [[one.name, one.how] for one in order.settings if one.trigger == TRIGGERS[0]]
    return _table(("", "set up"), own + peers)


# --- Cells ------------------------------------------------------------------------------------------------------------

_QUALITY: Final = ("mean context", "from cache", "facts kept", "rejected", "without first task")


def _quality(total: Total) -> list[str]:
    return [
        f"{total.mean_context_tokens:,.0f}",
        f"{total.cached_share:.0%}",
        f"{total.retained_share:.1%}",
        f"{total.rejected:,}",
        f"{total.lost_first_task / total.requests:.0%}",
    ]


def _costs_of(models: Iterable[str]) -> list[str]:
    return [f"input, {model}" for model in models]


def _input_costs(found: ByModel, models: Iterable[str]) -> list[str]:
    return [f"{found[model].input_cost:.2f}" if model in found else "" for model in models]


def _costs(found: ByModel, models: Iterable[str]) -> list[str]:
    return [f"{found[model].cost:.2f}" if model in found else "" for model in models]


def _title(found: ByModel) -> str:
    total = next(iter(found.values()))
    if total.name == EVERYTHING:
        return "everything, from a warm cache"
    return f"**{total.name}**" if total.is_own else total.name


def _equal(total: Total, curve: Iterable[Total]) -> str:
    cost = None if total.is_own else at_mean_context(total.mean_context_tokens, curve)
    return "" if cost is None else f"{cost:.2f}"


def _by_name(results: Sequence[Result], models: Iterable[str]) -> list[dict[str, Total]]:
    found: dict[str, dict[str, Total]] = {}
    for model in _measured(results, models):
        for total in totals(_at_model(results, model)):
            found.setdefault(total.name, {})[model] = total
    return list(found.values())


def _measured(results: Iterable[Result], models: Iterable[str]) -> list[str]:
    found = {one.outcome.model for one in results}
    return [model for model in models if model in found]


def _name(found: ByModel) -> str:
    return next(iter(found.values())).name


def _sorted(found: Iterable[ByModel], model: str) -> list[ByModel]:
    return sorted(found, key=lambda one: (_name(one) != EVERYTHING, one[model].input_cost))


def _at_model(results: Iterable[Result], model: str) -> list[Result]:
    return [one for one in results if one.outcome.model == model]


def _notes(findings: Findings) -> list[str]:
    notes = [f"Not installed: {', '.join(findings.missing)}."] if findings.missing else []
    counts: dict[str, int] = {}
    for one in dict.fromkeys(findings.failures):
        reason = f"{one.name}: {one.reason.partition(':')[0]}"
        counts[reason] = counts.get(reason, 0) + 1
    if counts:
        notes.append("Gave up: " + "; ".join(f"{reason} ({count} times)" for reason, count in counts.items()) + ".")
    return notes


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
