"""The page of a session: one HTML file that loads nothing and has no script."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final
from xml.etree.ElementTree import Element

from ..pages.document import counted, document, figure
from ..pages.markup import el, fill
from ..pages.plots import Curve, along_the_run, thinned
from ..pages.scales import percent, tokens, usd
from ..pages.tables import table
from .account import Account, Change, Compression
from .wording import (
    COMPRESSION_COLUMNS,
    HOW_EXPENSES,
    HOW_SAVED,
    REQUEST_COLUMNS,
    changes_of,
    compression_line,
    compression_words,
    expense_name,
    span,
    title_of,
    totals,
)

_MOST_REQUESTS: Final = 300
"""Rows of the tables of requests and compressions; of more, the newest."""
_MOST_COMPRESSIONS: Final = 60
"""Told in full; of more, those that took out most."""
_MOST_UNFOLDED: Final = 3
_MOST_SUMMARY_CHARACTERS: Final = 12_000
_MOST_CHANGES: Final = 60


def page(account: Account, *, made_at: datetime | None = None) -> str:
    """Return the whole page as HTML, in UTF-8 when it is written. It holds summaries and first words of messages."""
    body = el("body", *_head(account, made_at or datetime.now(UTC)), _totals(account))
    if account.requests:
        fill(body, _context(account), _dollars(account))
    fill(body, _compressions(account), _expenses(account), _requests(account), _how())
    return document(f"Session {title_of(account)}", body)


def _head(account: Account, made: datetime) -> list[Element]:
    info = account.info
    known = [info.heading.model, info.heading.dialect, span(info.created_at, info.updated_at)]
    branch = f"branch of {info.parent_id} from r{info.parent_seq}" if info.parent_id else None
    words = " · ".join(part for part in (info.id, *known, branch) if part)
    return [
        el("h1", title_of(account), class_="title"),
        el("p", words, class_="faint"),
        el("p", f"As of {made.strftime('%Y-%m-%d %H:%M')} UTC.", class_="note"),
    ]


def _totals(account: Account) -> Element:
    entries = [part for name, words in totals(account) for part in (el("dt", name), el("dd", words))]
    return el("dl", *entries, id="totals", class_="verdict")


# --- Over the run -----------------------------------------------------------------------------------------------------


def _context(account: Account) -> Element:
    sizes = [(float(one.number), float(one.call.input_tokens)) for one in account.requests]
    cached = [(float(one.number), float(one.call.cache_read_tokens)) for one in account.requests]
    curves = [Curve(name="sent", series=0, points=thinned(sizes), is_filled=True)]
    if any(size for _, size in cached):
        curves.append(Curve(name="from cache", series=2, points=thinned(cached), is_filled=True))
    words = (
        f"Input tokens of {counted(len(sizes), 'request')}, at most {tokens(account.greatest_context)}; "
        f"{percent(account.cached_share)} of what they sent came from the provider's cache."
    )
    plot = along_the_run(
        curves, "context", "Tokens of each request", words, is_usd=False, step="request", events=_events(account)
    )
    return figure("Tokens of each request", f"{_upright(account)}{words}", plot)


def _dollars(account: Account) -> Element:
    so_far = tuple((float(one.number), one.usd_so_far) for one in account.requests)
    curves = [Curve(name="all calls", series=1, points=thinned(so_far), is_filled=True)]
    if account.summary_calls:
        curves.append(Curve(name="summaries", series=3, points=thinned(_summary_dollars(account))))
    words = f"{usd(account.cost_usd)} in the end, {usd(account.summary_cost_usd)} of that for summaries."
    plot = along_the_run(
        curves, "dollars", "Dollars so far", words, is_usd=True, step="request", events=_events(account)
    )
    return figure("Dollars so far", words, plot)


def _summary_dollars(account: Account) -> list[tuple[float, float]]:
    numbers = [call.number for call in account.summary_calls]
    sums = [0.0, *accumulate(call.cost_usd for call in account.summary_calls)]
    return [(float(one.number), sums[bisect_left(numbers, one.call.number)]) for one in account.requests]


def _events(account: Account) -> list[tuple[float, str]]:
    return [(one.after_request + 0.5, f"compression {compression_line(one)}") for one in account.compressions]


def _upright(account: Account) -> str:
    return "An upright line is a compression. " if account.compressions else ""


# --- Compressions -----------------------------------------------------------------------------------------------------


def _compressions(account: Account) -> Element:
    section = el("section", el("h2", "Compressions"), id="compressions")
    greatest = sorted(account.compressions, key=lambda one: -one.taken_tokens)[:_MOST_COMPRESSIONS]
    if not greatest:
        return fill(section, el("p", "Nothing was taken out of the context."))
    fill(section, _overview(account.compressions))
    if len(greatest) < len(account.compressions):
        fill(section, el("p", f"The {len(greatest)} of {len(account.compressions):,} that took out most:"))
    unfolded = greatest[:_MOST_UNFOLDED]
    for one in sorted(greatest, key=lambda one: one.number):
        fill(section, _compression(one, is_unfolded=one in unfolded))
    return section


def _overview(compressions: Sequence[Compression]) -> Element:
    rows = [[cell(one) for _, cell in COMPRESSION_COLUMNS] for one in compressions[-_MOST_REQUESTS:]]
    left_out = len(compressions) - len(rows)
    caption = f"The newest {len(rows):,} of {len(compressions):,}." if left_out else "All compressions."
    return table(caption, [name for name, _ in COMPRESSION_COLUMNS], rows, texts={6})


def _compression(one: Compression, *, is_unfolded: bool) -> Element:
    entries = [part for name, words in compression_words(one) for part in (el("dt", name), el("dd", words))]
    return el(
        "details",
        el("summary", compression_line(one)),
        el("dl", *entries),
        _changes(one),
        *_summary(one),
        class_="run told",
        open="" if is_unfolded else None,
    )


def _changes(one: Compression) -> Element | None:
    changes = changes_of(one)
    rows = [_change_cells(change, count) for change, count in changes[:_MOST_CHANGES]]
    more = f" And {len(changes) - len(rows):,} more." if len(changes) > len(rows) else ""
    caption = f"What it took out.{more}"
    return (
        table(caption, ["messages", "action", "units", "tokens", "after", "why"], rows, texts={1, 5}) if rows else None
    )


def _change_cells(change: Change, count: int) -> list[str]:
    before, after = tokens(change.tokens_before), tokens(change.tokens_after)
    return [change.refs, change.action, f"{count:,}", before, after, change.reason]


def _summary(one: Compression) -> list[Element]:
    if not one.summary:
        return []
    text = one.summary[:_MOST_SUMMARY_CHARACTERS]
    cut = len(one.summary) - len(text)
    note = [el("p", f"And {cut:,} characters more.", class_="note")] if cut else []
    return [el("p", "Its summary:", class_="note"), el("pre", text, class_="words", tabindex="0"), *note]


# --- Tables -----------------------------------------------------------------------------------------------------------


def _expenses(account: Account) -> Element:
    rows = [
        [
            expense_name(one),
            f"{one.cost.tokens:,}",
            f"{one.cost.requests:,}",
            tokens(one.cost.sent_tokens),
            usd(one.cost.usd),
            one.excerpt,
        ]
        for one in account.expenses
    ]
    names = ["message", "tokens", "requests", "tokens sent", "dollars", "begins"]
    found = table("The dearest first.", names, rows, texts={5}) if rows else el("p", "No request was made yet.")
    return el("section", el("h2", "The most expensive messages"), found, id="expenses")


def _requests(account: Account) -> Element:
    newest = account.requests[-_MOST_REQUESTS:]
    rows = [[words(one) for _, words in REQUEST_COLUMNS] for one in newest]
    left_out = len(account.requests) - len(newest)
    caption = f"The newest {len(newest):,} of {len(account.requests):,}." if left_out else "All requests."
    return el(
        "section",
        el("h2", "Requests"),
        el(
            "details",
            el("summary", counted(len(account.requests), "request")),
            table(caption, [name for name, _ in REQUEST_COLUMNS], rows),
            class_="told",
        ),
        id="requests",
    )


def _how() -> Element:
    entries: Sequence[tuple[str, str]] = (("Expensive messages", HOW_EXPENSES), ("Saved", HOW_SAVED))
    parts = [part for name, words in entries for part in (el("dt", name), el("dd", words))]
    return el("section", el("h2", "How this is reckoned"), el("dl", *parts), id="how")
