"""The figures of a run, and the block that is printed at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .ledger import Ledger
from .tracker import TokenTracker


def spending(tracker: TokenTracker, ledger: Ledger) -> dict[str, Any]:
    """Return what was spent and saved. Tokens are whole numbers, costs US dollars.

    `total_savings` are input tokens that were not sent, over all requests; `net_savings` deducts the summary calls'
    own tokens. `cost_without_memory` is what a caller would have paid who sends every message every time, the
    prompt cache working for them too; `net_cost` is that less `total_cost`, so it may be negative.
    """
    net_savings = ledger.saved_tokens - tracker.compression_tokens
    without_memory = tracker.total_input_tokens + tracker.total_output_tokens + net_savings
    return {
        "total_input_tokens": tracker.total_input_tokens,
        "total_output_tokens": tracker.total_output_tokens,
        "cached_tokens": tracker.cached_tokens,
        "total_cost": tracker.total_cost,
        "compression_tokens": tracker.compression_tokens,
        "compression_cost": tracker.compression_cost,
        "recall_cost": tracker.recall_cost,
        "total_savings": ledger.saved_tokens,
        "net_savings": net_savings,
        "savings_percentage": 100 * net_savings / without_memory if without_memory > 0 else 0.0,
        "cost_without_memory": ledger.cost_without_memory_usd,
        "net_cost": ledger.cost_without_memory_usd - tracker.total_cost,
        "cost_is_estimate": tracker.cost_is_estimate,
        "unpriced_tokens": tracker.unpriced_tokens,
        "request_count": tracker.request_count,
        "model": ledger.model,
    }


def format_stats(stats: Mapping[str, Any]) -> str:
    """Return the end-of-run statistics as text, without a trailing newline."""
    total = stats["total_input_tokens"] + stats["total_output_tokens"]
    estimate = " (estimate)" if stats["cost_is_estimate"] else ""
    lines = [
        "--- Memory Statistics ---",
        f"Total tokens: {total:,}",
        f"Compressions: {stats['compression_count']}",
        f"Net savings: {stats['net_savings']:,} tokens ({stats['savings_percentage']:.1f}%)",
        f"Total cost: ${stats['total_cost']:.4f}{estimate}",
        f"Without memory: ${stats['cost_without_memory']:.4f}, prompt cache counted",
    ]
    if stats["unpriced_tokens"]:
        lines.append(f"Unpriced: {stats['unpriced_tokens']:,} tokens of an unknown model, at the default price")
    return "\n".join(lines)
