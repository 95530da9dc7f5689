"""The account of a session as tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from ..lines import harmless
from ..pages.scales import tokens, usd
from ..printing import fit_last, plain_table, print_line, print_pairs, print_table
from .account import Account, Compression, Request
from .expenses import Expense
from .wording import (
    COMPRESSION_COLUMNS,
    HOW_EXPENSES,
    HOW_SAVED,
    REQUEST_COLUMNS,
    changes_of,
    compression_line,
    compression_words,
    expense_name,
    title_of,
    totals,
)

_MOST_REQUESTS: Final = 20
_MOST_CHANGES: Final = 12
_MOST_IN_FULL: Final = 3


def print_account(console: Console, account: Account) -> None:
    """Print what a session came to."""
    print_line(console, harmless(title_of(account)))
    print_line(console, "")
    print_pairs(console, [("session", account.info.id), *totals(account)])
    _print_requests(console, account.requests)
    _print_compressions(console, account.compressions)
    _print_expenses(console, account.expenses)
    for sentence in (HOW_EXPENSES, *([HOW_SAVED] if account.compressions else [])):
        print_line(console, "")
        print_line(console, sentence)


def _print_requests(console: Console, requests: Sequence[Request]) -> None:
    """Print the requests; of many, some from the first to the last."""
    if not requests:
        return
    table = plain_table()
    for name, _ in REQUEST_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for one in _spread(requests):
        table.add_row(*(cell(one) for _, cell in REQUEST_COLUMNS))
    print_line(console, "")
    print_table(console, table)
    if len(requests) > _MOST_REQUESTS:
        print_line(console, f"{_MOST_REQUESTS} of {len(requests):,} requests, first to last; --json has all")


def _spread(requests: Sequence[Request]) -> list[Request]:
    last = len(requests) - 1
    steps = min(last, _MOST_REQUESTS - 1)
    places = {round(index * last / steps) for index in range(steps + 1)} if steps else {0}
    return [requests[place] for place in sorted(places)]


def _print_compressions(console: Console, compressions: Sequence[Compression]) -> None:
    """Print all in a table, and those that took out most in full."""
    if not compressions:
        return
    table = plain_table()
    *figures, last = (name for name, _ in COMPRESSION_COLUMNS)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(last)
    for one in compressions:
        table.add_row(*(cell(one) for _, cell in COMPRESSION_COLUMNS))
    fit_last(console, table)
    print_line(console, "")
    print_table(console, table)
    greatest = sorted(compressions, key=lambda one: -one.taken_tokens)[:_MOST_IN_FULL]
    for one in sorted(greatest, key=lambda one: one.number):
        _print_compression(console, one)


def _print_compression(console: Console, one: Compression) -> None:
    print_line(console, "")
    print_line(console, f"compression {compression_line(one)}")
    print_pairs(console, [(f"  {name}", words) for name, words in compression_words(one)])
    changes = changes_of(one)
    table = plain_table()
    for name in ("  messages", "action"):
        table.add_column(name, no_wrap=True)
    for name in ("units", "tokens", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for change, count in changes[:_MOST_CHANGES]:
        figures = (f"{count:,}", tokens(change.tokens_before), tokens(change.tokens_after))
        table.add_row(f"  {change.refs}", change.action, *figures, Text(harmless(change.reason)))
    fit_last(console, table)
    print_table(console, table)
    if len(changes) > _MOST_CHANGES:
        print_line(console, f"  and {len(changes) - _MOST_CHANGES:,} more")
    for line in harmless(one.summary).splitlines():
        for piece in textwrap.wrap(line, max(20, console.width - 4), drop_whitespace=True) or [""]:
            print_line(console, f"  | {piece}".rstrip())


def _print_expenses(console: Console, expenses: Sequence[Expense]) -> None:
    if not expenses:
        return
    table = plain_table()
    table.add_column("most expensive", no_wrap=True)
    for name in ("tokens", "requests", "sent", "dollars"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("begins")
    for one in expenses:
        cost = one.cost
        figures = (f"{cost.tokens:,}", f"{cost.requests:,}", tokens(cost.sent_tokens), usd(cost.usd))
        table.add_row(Text(harmless(expense_name(one))), *figures, Text(harmless(one.excerpt)))
    print_line(console, "")
    fit_last(console, table)
    print_table(console, table)
