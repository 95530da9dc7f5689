"""The tables of the comparison, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.backtest.policies import EVERYTHING

from .verdicts import LONG_TOKENS, Overhead, Total, Verdict, at_mean_context, totals, verdicts

if TYPE_CHECKING:
    from .compare import Findings, Order
    from .measuring import Result

BEGIN: Final = "<!-- begin: benchmarks/peers/compare.py -->"
END: Final = "<!-- end: benchmarks/peers/compare.py -->"
_CURVE: Final = "ours: threshold"


def written(findings: Findings, order: Order, *, command: str) -> str:
    """Return all tables."""
    parts = [_head(findings, order, command)]
    for kind, results in findings.loop.items():
        what = "extractive summaries" if kind == "extractive" else "summaries of a fixed text, billed as model calls"
        parts.append(f"### A customer-service loop, {what}")
        parts += [_loop_table(_at_model(results, model), model) for model in order.models]
    if findings.recorded:
        parts += _recorded(findings.recorded, order.models)
    if findings.overheads:
        parts += ["### Time and tokenising", _overhead_table(findings.overheads)]
    return "\n\n".join([*parts, *_notes(findings)])


def _recorded(results: Sequence[Result], models: Iterable[str]) -> list[str]:
    long = [one for one in results if one.outcome.history_tokens > LONG_TOKENS]
    each = list(models)
    return [
        f"### {_count(long)} recorded conversations of more than {LONG_TOKENS:,} tokens",
        *(_recorded_table(_at_model(long, model), model) for model in each),
        "### Who is ahead, conversation by conversation",
        *(_verdict_table(_at_model(results, model), model) for model in each),
    ]


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


def _at_model(results: Iterable[Result], model: str) -> list[Result]:
    return [one for one in results if one.outcome.model == model]


def _count(results: Iterable[Result]) -> int:
    return len({one.outcome.transcript_id for one in results})


def _loop_table(results: Sequence[Result], model: str) -> str:
    found = totals(results)
    curve = [one for one in found if one.name.startswith(_CURVE) or one.name == EVERYTHING]
    rows = [[*_cells(one), _equal(one, curve)] for one in _sorted(found)]
    return f"**{model}**\n\n" + _table([*_COLUMNS, "ours at that mean context"], rows)


def _recorded_table(results: Sequence[Result], model: str) -> str:
    rows = [[*_cells(one), f"{one.worst:.2f}"] for one in _sorted(totals(results))]
    return f"**{model}**\n\n" + _table([*_COLUMNS, "worst single one"], rows)


_COLUMNS: Final = (
    "", "dollars", "input dollars", "mean context", "from cache", "facts kept", "rejected", "without first task",
)  # fmt: skip


def _cells(total: Total) -> list[str]:
    return [
        f"**{total.name}**" if total.is_own else total.name.replace(EVERYTHING, "everything, warm cache"),
        f"{total.cost:.2f}",
        f"{total.input_cost:.2f}",
        f"{total.mean_context_tokens:,.0f}",
        f"{total.cached_share:.1%}",
        f"{total.retained_share:.1%}",
        f"{total.rejected:,}",
        f"{total.lost_first_task / total.requests:.0%}",
    ]


def _sorted(found: Iterable[Total]) -> list[Total]:
    return sorted(found, key=lambda one: (one.name != EVERYTHING, one.cost))


def _equal(total: Total, curve: Iterable[Total]) -> str:
    cost = None if total.is_own else at_mean_context(total.mean_context_tokens, curve)
    return "" if cost is None else f"{cost:.2f}"


def _verdict_table(results: Sequence[Result], model: str) -> str:
    return f"**{model}**\n\n" + _table(_VERDICT_COLUMNS, [_verdict_cells(one) for one in verdicts(results)])


_VERDICT_COLUMNS: Final = (
    "", "no peer cheaper and as good", "cheaper than all as good", "no peer of like context cheaper and as good",
    "worst against everything", "most often beaten by",
)  # fmt: skip


def _verdict_cells(verdict: Verdict) -> list[str]:
    count = max(1, verdict.conversations)
    return [
        f"**{verdict.name}**",
        f"{verdict.unbeaten / count:.0%}",
        f"{verdict.cheapest / count:.0%}",
        f"{verdict.unbeaten_at_budget / count:.0%}",
        f"{verdict.worst:.3f}",
        "; ".join(f"{name} ({times})" for name, times in verdict.beaten_by[:2]),
    ]


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
    ]
    return _table(("", "ms a turn", "growth", "bytes tokenised per byte", ""), rows)


def _notes(findings: Findings) -> list[str]:
    notes = [f"Not installed: {', '.join(findings.missing)}."] if findings.missing else []
    if findings.failures:
        failed = sorted({(one.name, one.reason) for one in findings.failures})
        notes.append("Gave up: " + "; ".join(f"{name}: {reason}" for name, reason in failed[:20]))
    return notes


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
