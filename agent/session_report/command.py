"""The command `aloop report`: what a session came to, as tables or as a page."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from memory.sessions.values import StoredCall

from ..printing import print_json, print_line
from ..sessions.files import write_lines
from ..sessions.options import AsJson, Db, Session, output
from ..sessions.places import opened
from ..sessions.views import moment
from .account import Account
from .page import page
from .reading import read_account
from .tables import print_account


def report_command(
    session: Session,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page instead; - is standard output.")
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Say what a session came to: context and dollars over the run, each compression, the most expensive messages."""
    with opened(db) as store:
        account = read_account(store, store.find(session).id)
    if as_json:
        print_json(output(), account_as_dict(account))
    if html is not None:
        _write(html, page(account))
    elif not as_json:
        print_account(output(), account)


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
        return
    write_lines(path, [text], option="html")
    print_line(Console(stderr=True, highlight=False), f"written: {path}")


def account_as_dict(account: Account) -> dict[str, Any]:
    """Return an account as JSON values."""
    return {
        "id": account.info.id,
        "title": account.info.heading.title,
        "message_count": account.info.heading.last_seq,
        "cost_usd": account.cost_usd,
        "cost_without_memory_usd": account.cost_without_memory_usd,
        "summary_cost_usd": account.summary_cost_usd,
        "input_tokens": account.input_tokens,
        "output_tokens": account.output_tokens,
        "cached_share": account.cached_share,
        "has_estimates": account.has_estimates,
        "requests": [
            {"number": one.number, "usd_so_far": one.usd_so_far, **_call_as_dict(one.call)} for one in account.requests
        ],
        "summary_calls": [_call_as_dict(call) for call in account.summary_calls],
        "compressions": [{**asdict(one), "at": moment(one.at)} for one in account.compressions],
        "expenses": [
            {**asdict(one.cost), "role": one.role, "tools": one.tools, "excerpt": one.excerpt}
            for one in account.expenses
        ],
    }


def _call_as_dict(call: StoredCall) -> dict[str, Any]:
    values = {**asdict(call), "at": moment(call.at)}
    return {name: value for name, value in values.items() if name not in ("number", "seq")}
