"""The words and figures of a report, the same on a page and in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, TypeAlias

from ..pages.document import counted
from ..pages.scales import percent, tokens, usd
from .account import Account, Change, Compression, Request
from .expenses import BESIDE, Expense

Column: TypeAlias = tuple[str, Callable[[Request], str]]


def when(at: float) -> str:
    """Return a moment in UTC, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def span(start: float, end: float) -> str:
    """Return from when to when, in UTC; the day once where it is one."""
    first, last = when(start), when(end)
    return f"{first} to {last.removeprefix(first[:11])} UTC"


def title_of(account: Account) -> str:
    """Return the session's title, or its id where it has none."""
    return account.info.heading.title or account.info.id


def totals(account: Account) -> list[tuple[str, str]]:
    """Return the sums of a session by their names."""
    estimate = ", partly estimated" if account.has_estimates else ""
    taken = sum(one.taken_tokens for one in account.compressions)
    summaries = f"{usd(account.summary_cost_usd)} in {counted(len(account.summary_calls), 'call')}"
    without = account.cost_without_memory_usd
    cached = f"{percent(account.cached_share)} of the requests' from cache" if account.requests else "no requests"
    return [
        ("cost", usd(account.cost_usd) + estimate),
        *([] if without is None else [("without memory", f"{usd(without)}, prompt cache counted")]),
        ("summaries", summaries),
        ("input", f"{tokens(account.input_tokens)} tokens; {cached}"),
        ("output", f"{tokens(account.output_tokens)} tokens"),
        ("requests", f"{len(account.requests):,}, the largest with {tokens(account.greatest_context)} tokens"),
        ("compressions", f"{len(account.compressions):,}, {tokens(taken)} tokens taken out"),
        ("messages", f"{account.info.heading.last_seq:,}"),
    ]


def compression_line(one: Compression) -> str:
    """Return one compression in a line."""
    return (
        f"{one.number}: {tokens(one.tokens_before)} to {tokens(one.tokens_after)} tokens, "
        f"{one.first_ref} to {one.last_ref}{', taken back' if one.is_undone else ''}"
    )


def compression_words(one: Compression) -> list[tuple[str, str]]:
    """Return what there is to say of one compression, by its names."""
    written = {"model": "by a model", "extractive": "by extraction, without a model"}.get(one.method)
    summary = f"{tokens(one.summary_tokens)} tokens, written {written}" if written else "none was needed"
    saved = (
        f"{usd(one.saved_usd)} over the {counted(one.requests_after, 'request')} that followed"
        if one.requests_after
        else f"nothing: no request followed{' before it was taken back' if one.is_undone else ''}"
    )
    return [
        ("when", f"{when(one.at)} UTC, after request {one.after_request:,}"),
        ("why", f"{_TRIGGERS.get(one.trigger, one.trigger)} ({one.strategy})"),
        ("context", f"{tokens(one.tokens_before)} tokens before, {tokens(one.tokens_after)} after"),
        ("summary", summary),
        ("cost", usd(one.cost_usd)),
        ("saved", saved),
    ]


_TRIGGERS: Final = {
    "threshold": "above the threshold",
    "economic": "because it pays",
    "limit": "above what the model accepts",
    "refusal": "the provider refused the context as too long",
    "manual": "asked for",
}


def changes_of(one: Compression) -> list[tuple[Change, int]]:
    """Return what a compression changed, neighbours that share action and reason as one, each with their number."""
    groups = [list(group) for _, group in groupby(one.changes, key=lambda change: (change.action, change.reason))]
    return [(_joined(group), len(group)) for group in groups]


def _joined(group: Sequence[Change]) -> Change:
    first, last = group[0].refs.split("-")[0], group[-1].refs.split("-")[-1]
    return Change(
        refs=first if first == last else f"{first}-{last}",
        action=group[0].action,
        reason=group[0].reason,
        tokens_before=sum(change.tokens_before for change in group),
        tokens_after=sum(change.tokens_after for change in group),
    )


def expense_name(one: Expense) -> str:
    """Return which message it is: `r17 tool read_file`."""
    if one.cost.key == BESIDE:
        return one.role
    return " ".join([one.cost.key, one.role, ", ".join(one.tools)]).strip()


REQUEST_COLUMNS: Final[tuple[Column, ...]] = (
    ("request", lambda one: f"{one.number:,}"),
    ("when, UTC", lambda one: when(one.call.at)),
    ("input tokens", lambda one: tokens(one.call.input_tokens)),
    ("from cache", lambda one: percent(one.call.cache_read_tokens / (one.call.input_tokens or 1))),
    ("output", lambda one: tokens(one.call.output_tokens)),
    ("dollars", lambda one: usd(one.call.cost_usd)),
    ("so far", lambda one: usd(one.usd_so_far)),
)

COMPRESSION_COLUMNS: Final[tuple[tuple[str, Callable[[Compression], str]], ...]] = (
    ("compression", lambda one: f"{one.number:,}"),
    ("after request", lambda one: f"{one.after_request:,}"),
    ("before", lambda one: tokens(one.tokens_before)),
    ("after", lambda one: tokens(one.tokens_after)),
    ("cost", lambda one: usd(one.cost_usd)),
    ("saved", lambda one: usd(one.saved_usd)),
    ("messages", lambda one: f"{one.first_ref}-{one.last_ref}{', taken back' if one.is_undone else ''}"),
)

HOW_EXPENSES: Final = (
    "Each request's input dollars are divided among what was sent in it, by size; what the provider read from its "
    "cache is the beginning of a request and charged at the cached price. So a message's dollars are its tokens times "
    "the requests in which it was sent, at the price that each of them had, without what the answers cost."
)
HOW_SAVED: Final = (
    "The tokens that a compression took out, times the requests that followed: at the price of cached tokens where a "
    "request read any from the cache, at that of fresh input else. What it costs that the provider's cache begins "
    "anew behind a change is not deducted here; in the cost without memory it is."
)
