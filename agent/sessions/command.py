"""The commands `aloop sessions …`: look at the runs that were kept, and keep house among them."""

from __future__ import annotations

import typer

from memory.errors import ConfigError

from . import keeping, looking, moving, searching
from .options import AsJson, Db, Limit

sessions_app = typer.Typer(
    help="The runs that were kept: find, look at, resume, export and delete them.", rich_markup_mode=None
)


@sessions_app.callback(invoke_without_command=True)
def _sessions(context: typer.Context, db: Db = None, limit: Limit = None, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        looking.list_command(db, limit, as_json)
        return
    given = {"--db …": db is not None, "--limit …": limit is not None, "--json": as_json}
    options = " ".join(option for option, is_given in given.items() if is_given)
    if options:
        name = context.invoked_subcommand
        raise ConfigError(f"options stand behind the command: aloop sessions {name} {options}", field="sessions")


sessions_app.command(name="list", short_help="List the sessions, the newest first.")(looking.list_command)
sessions_app.command(name="show", short_help="Show one session.")(looking.show_command)
sessions_app.command(name="tree", short_help="Show which session branched from which.")(looking.tree_command)
sessions_app.command(name="stats", short_help="Show what the calls cost, by day and model.")(looking.stats_command)
sessions_app.command(name="search", short_help="Find what was said.")(searching.search_command)
sessions_app.command(name="export", short_help="Write a session to a file.")(moving.export_command)
sessions_app.command(name="import", short_help="Make a session of a file.")(moving.import_command)
sessions_app.command(name="rename", short_help="Give a session a title.")(keeping.rename_command)
sessions_app.command(name="delete", short_help="Delete a session.")(keeping.delete_command)
sessions_app.command(name="forget", short_help="Take the words of messages away.")(keeping.forget_command)
sessions_app.command(name="limit", short_help="Delete old sessions.")(keeping.limit_command)
