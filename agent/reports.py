"""What the command line prints: tables that fit 80 columns, and the same as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from config import Setting
from memory import MemoryConfig, format_stats
from memory.events import Compressed
from memory.messages import Issue
from memory.strategies import Decision

from .lines import intention
from .printing import counted, plain_table, print_line, print_pairs, print_table
from .replay import Kept, Preview, Replay
from .transcripts import Transcript

Findings: TypeAlias = Sequence[tuple[Transcript, Sequence[Issue]]]


# --- replay -----------------------------------------------------------------------------------------------------------


def print_replays(console: Console, replays: Sequence[Replay], config: MemoryConfig) -> None:
    """Print one replay in full, several as a row each with their sum, and below what needs attention."""
    print_line(console, _intention(config))
    if len(replays) == 1:
        _print_one(console, replays[0])
    else:
        _print_many(console, replays)
    for one in replays:
        for remark in _remarks(one):
            print_line(console, f"{one.transcript.source}: {remark}")


def replays_as_dict(replays: Sequence[Replay], config: MemoryConfig) -> dict[str, Any]:
    """Return the replays and their sums as JSON values."""
    return {
        "is_enabled": config.enable_compression,
        "transcripts": [one.as_dict() for one in replays],
        "totals": _totals(replays),
    }


def _intention(config: MemoryConfig) -> str:
    if not config.enable_compression:
        return _SWITCHED_OFF
    return intention(config)


_SWITCHED_OFF = "compression is switched off (MEMORY_ENABLED)"


def _print_one(console: Console, one: Replay) -> None:
    kept = one.kept
    rows = [
        ("transcript", one.transcript.source),
        ("format", one.transcript.dialect),
        ("model", one.model or "unknown: default price"),
        ("messages", f"{one.message_count:,}"),
        ("tokens", f"{one.tokens_before:,} in all, {one.tokens_after:,} in the context at the end"),
        ("in the context", f"{kept.verbatim:,} verbatim, {kept.masked:,} masked, {kept.summarised:,} in a summary"),
        ("in the archive only", f"{kept.dropped:,}"),
    ]
    print_line(console, "")
    print_pairs(console, rows)
    if one.compressions:
        print_line(console, "")
        for number, event in enumerate(one.compressions, start=1):
            print_line(console, f"compression {number:2}: {_compression(event)}")
    print_line(console, "")
    print_line(console, format_stats(one.stats))


def _compression(event: Compressed) -> str:
    return (
        f"{event.tokens_before:,} -> {event.tokens_after:,} tokens, {event.first_ref} to {event.last_ref}, "
        f"{event.method}"
    )


def _print_many(console: Console, replays: Sequence[Replay]) -> None:
    table = plain_table()
    table.add_column("transcript", no_wrap=True, overflow="ellipsis", max_width=max(16, console.width - _NUMBERS_WIDTH))
    for name in ("msgs", "tokens", "context", "compr", "saved", "cost", "kept", "mask", "sum", "drop"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in replays:
        table.add_row(Text(one.transcript.id), *_cells(one.message_count, one))
    totals = _totals(replays)
    table.add_section()
    table.add_row(f"{len(replays)} transcripts", *_sum_cells(totals))
    print_line(console, "")
    print_table(console, table)
    print_line(console, "")
    for line in _LEGEND:
        print_line(console, line)


_LEGEND = (
    "context: tokens of the context at the end; saved: of all tokens ever sent",
    "cost: USD, estimated; ? where the model is unknown, at the default price",
    "kept: messages verbatim in the context; mask: with placeholders for results",
    "sum: a summary stands for them; drop: only the archive has them",
)

# What the columns of numbers need; rich would rather cut numbers than names.
_NUMBERS_WIDTH = 66


def _cells(message_count: int, one: Replay) -> list[str]:
    return [
        f"{message_count:,}",
        f"{one.tokens_before:,}",
        f"{one.tokens_after:,}",
        f"{len(one.compressions)}",
        f"{one.stats['savings_percentage']:.0f} %",
        _cost(one.stats["total_cost"], is_known=not one.stats["unpriced_tokens"]),
        *_kept_cells(asdict(one.kept)),
    ]


def _sum_cells(totals: dict[str, Any]) -> list[str]:
    return [
        f"{totals['message_count']:,}",
        f"{totals['tokens_before']:,}",
        f"{totals['tokens_after']:,}",
        f"{totals['compression_count']}",
        f"{totals['savings_percentage']:.0f} %",
        _cost(totals["total_cost"], is_known=not totals["unpriced_tokens"]),
        *_kept_cells(totals["kept"]),
    ]


def _kept_cells(kept: dict[str, int]) -> list[str]:
    return [f"{kept[name]:,}" for name in ("verbatim", "masked", "summarised", "dropped")]


def _cost(usd: float, *, is_known: bool) -> str:
    return f"{usd:.3f}" if is_known else f"{usd:.3f}?"


def _totals(replays: Sequence[Replay]) -> dict[str, Any]:
    def total(name: str) -> Any:
        return sum(one.stats[name] for one in replays)

    sent = total("total_input_tokens") + total("total_output_tokens")
    without = sent + total("net_savings")
    return {
        "transcript_count": len(replays),
        "message_count": sum(one.message_count for one in replays),
        "tokens_before": sum(one.tokens_before for one in replays),
        "tokens_after": sum(one.tokens_after for one in replays),
        "compression_count": total("compression_count"),
        "net_savings": total("net_savings"),
        "savings_percentage": 100 * total("net_savings") / without if without > 0 else 0.0,
        "total_cost": total("total_cost"),
        "net_cost": total("net_cost"),
        "unpriced_tokens": total("unpriced_tokens"),
        "kept": {name: sum(getattr(one.kept, name) for one in replays) for name in Kept.__dataclass_fields__},
    }


def _mended(one: Replay | Preview) -> Iterable[str]:
    yield from (f"skipped: {text}" for text in one.transcript.skipped)
    yield from (f"repaired: {text}" for text in one.repairs)


def _remarks(one: Replay) -> Iterable[str]:
    yield from _mended(one)
    if one.stopped:
        yield f"stopped {one.stopped}"
    yield from (f"BECAME INVALID: {_issue(issue)}" for issue in one.new_issues)
    if one.lost:
        yield f"LOST: {', '.join(one.lost)}"


# --- preview ----------------------------------------------------------------------------------------------------------


def print_previews(console: Console, previews: Sequence[Preview]) -> None:
    """Print each plan: neighbours that share their fate and its reason as one row."""
    for number, one in enumerate(previews):
        if number:
            print_line(console, "")
        print_line(console, f"{one.transcript.source}: {one.plan.strategy}")
        if not one.is_enabled:
            print_line(console, f"{_SWITCHED_OFF}; asking for one would do this")
        for remark in _mended(one):
            print_line(console, remark)
        if one.plan.changes:
            print_line(console, "")
            print_table(console, _plan_table(one))
            print_line(console, _dollars(one))
        else:
            print_line(console, f"nothing would change: {one.plan.tokens_before:,} tokens stay as they are")
        if one.is_over_limit:
            print_line(console, _over_limit(one))


def preview_as_dict(preview: Preview) -> dict[str, Any]:
    """Return a plan as JSON values, one entry per unit, without any message text."""
    plan = preview.plan
    return {
        "id": preview.transcript.id,
        "source": preview.transcript.source,
        "skipped": list(preview.transcript.skipped),
        "repairs": list(preview.repairs),
        "strategy": plan.strategy,
        "is_enabled": preview.is_enabled,
        "is_over_limit": preview.is_over_limit,
        "max_context_tokens": preview.max_context_tokens,
        "tokens_beside": preview.tokens_beside,
        "tokens_before": plan.tokens_before,
        "tokens_after": plan.tokens_after,
        "usd_before": plan.usd_before,
        "usd_after": plan.usd_after,
        "is_price_known": preview.is_price_known,
        "summary_target_tokens": plan.summary_target_tokens,
        "units": [
            {
                "refs": one.unit.refs,
                "action": str(one.action),
                "reason": one.reason,
                "tokens_before": one.tokens_before,
                "tokens_after": one.tokens_after,
                "usd_before": one.tokens_before * plan.usd_per_token,
                "usd_after": one.tokens_after * plan.usd_per_token,
            }
            for one in plan.decisions
        ],
    }


def _plan_table(preview: Preview) -> Table:
    plan = preview.plan
    table = plain_table()
    for name in ("messages", "action"):
        table.add_column(name, no_wrap=True)
    for name in ("units", "tokens", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for (_, reason), group in groupby(plan.decisions, key=lambda one: (one.action, one.reason)):
        table.add_row(*_plan_cells(list(group)), reason)
    if plan.summary_target_tokens:
        table.add_row("(summary)", "written", "", "", f"{plan.summary_target_tokens:,}", "at most; usually shorter")
    table.add_section()
    count, before, after = len(plan.decisions), plan.tokens_before, plan.tokens_after
    table.add_row("all", "", f"{count}", f"{before:,}", f"{after:,}", "")
    return table


def _plan_cells(group: Sequence[Decision]) -> list[str]:
    first, last = group[0].unit.entries[0].ref, group[-1].unit.entries[-1].ref
    return [
        first if first == last else f"{first}-{last}",
        str(group[0].action),
        f"{len(group)}",
        f"{sum(one.tokens_before for one in group):,}",
        f"{sum(one.tokens_after for one in group):,}",
    ]


def _dollars(preview: Preview) -> str:
    price = "uncached" if preview.is_price_known else "uncached, at the default price: the model is unknown"
    return f"${preview.plan.usd_before:.4f} -> ${preview.plan.usd_after:.4f} a request, {price}"


def _over_limit(preview: Preview) -> str:
    beside = f" and {preview.tokens_beside:,} beside them" if preview.tokens_beside else ""
    return (
        f"over the limit: {preview.plan.tokens_after:,} tokens in messages{beside} stay,\n"
        f"and max_context_tokens is {preview.max_context_tokens:,}; nothing more can be taken out"
    )


# --- validate ---------------------------------------------------------------------------------------------------------


def print_issues(console: Console, findings: Findings) -> None:
    """Print every issue with its source, then a sum."""
    for transcript, issues in findings:
        verdict = f"{len(issues)} found" if issues else "valid"
        count = counted(len(transcript.messages), "message")
        print_line(console, f"{transcript.source}: {transcript.dialect}, {count}, {verdict}")
        for text in transcript.skipped:
            print_line(console, f"  skipped: {text}")
        for issue in issues:
            print_line(console, f"  {_issue(issue)}")
            print_line(console, f"    {issue.source}")
    every = [issue for _, issues in findings for issue in issues]
    errors = sum(issue.severity == "error" for issue in every)
    counts = ((len(findings), "transcript"), (errors, "error"), (len(every) - errors, "warning"))
    print_line(console, ", ".join(counted(count, what) for count, what in counts))


def issues_as_dict(transcript: Transcript, issues: Sequence[Issue]) -> dict[str, Any]:
    """Return the findings on one transcript as JSON values."""
    return {
        "id": transcript.id,
        "source": transcript.source,
        "dialect": transcript.dialect,
        "message_count": len(transcript.messages),
        "skipped": list(transcript.skipped),
        "issues": [asdict(issue) for issue in issues],
    }


def _issue(issue: Issue) -> str:
    return f"{issue.severity} {issue.code} at {issue.path}: {issue.message}"


# --- config -----------------------------------------------------------------------------------------------------------


def print_settings(console: Console, settings: Iterable[Setting]) -> None:
    """Print every setting with its value and where that came from."""
    table = plain_table()
    table.add_column("setting", no_wrap=True)
    table.add_column("value")
    table.add_column("from", overflow="fold")
    for one in settings:
        table.add_row(one.key, Text(_setting_text(one.value)), Text(one.source))
    print_table(console, table)


def settings_as_dict(settings: Iterable[Setting], files: Iterable[Path]) -> dict[str, Any]:
    """Return the settings, and the files that were read for them, as JSON values."""
    return {"settings": [asdict(one) for one in settings], "files": [str(path) for path in files]}


def _setting_text(value: Any) -> str:
    """Return a value as it would be written in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{tool}={policy}" for tool, policy in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return "none" if value is None else str(value)
