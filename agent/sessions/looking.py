"""The commands that show sessions: list, show, tree, stats."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..printing import print_json
from . import tables
from .amounts import seconds_of, whole_of
from .options import AsJson, Db, Limit, Session, output
from .places import opened, place_shown
from .views import estimated, info_as_dict, messages_of, usage_as_dict, view_as_dict, view_of


def list_command(db: Db = None, limit: Limit = None, as_json: AsJson = False) -> None:
    """List the sessions, the one that was written to last first."""
    count = None if limit is None else whole_of(limit, "limit")
    with opened(db) as store:
        found = store.sessions(limit=count)
        marked = frozenset() if as_json else estimated(store, found)
    if as_json:
        print_json(output(), {"sessions": [info_as_dict(one) for one in found]})
    else:
        tables.print_sessions(output(), found, place_shown(db), estimated=marked)


def show_command(
    session: Session,
    with_messages: Annotated[bool, typer.Option("--messages", help="Print its messages too.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show one session: what stands in its context now, its compressions, its calls."""
    with opened(db) as store:
        info = store.find(session)
        view = view_of(store, info.id)
        messages = messages_of(store, info) if with_messages else None
    if as_json:
        print_json(output(), view_as_dict(view, messages))
    else:
        tables.print_view(output(), view, messages)


def tree_command(
    session: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="Only what belongs to this one.")] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show which session is a branch of which, and from which message on."""
    with opened(db) as store:
        found = store.sessions()
        root = None if session is None else store.line(store.find(session).id)[0][0]
    if as_json:
        print_json(output(), {"sessions": tables.branches_as_dicts(found, root)})
    elif not found:
        tables.print_sessions(output(), found, place_shown(db))
    else:
        tables.print_tree(output(), found, root_id=root)


def stats_command(
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE", help="Only the newest, such as 30d or 12h.")
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show what the calls of all sessions came to, by day (UTC) and model: tokens, cached share, dollars."""
    start = 0.0 if since is None else time.time() - seconds_of(since, "since")
    with opened(db) as store:
        found = store.daily_usage(since=start)
    if as_json:
        print_json(output(), {"days": [usage_as_dict(one) for one in found]})
    else:
        tables.print_usage(output(), found)
