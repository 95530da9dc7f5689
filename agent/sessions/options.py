"""Options and arguments that several commands have, and where they print."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer
from rich.console import Console

Session: TypeAlias = Annotated[
    str, typer.Argument(metavar="SESSION", help="Its id, the beginning of that, its title, or latest.")
]
Db: TypeAlias = Annotated[
    str | None,
    typer.Option("--db", metavar="PLACE", help="A file, or postgresql://…; else MEMORY_SESSION_DB."),
]
Limit: TypeAlias = Annotated[str | None, typer.Option("--limit", metavar="COUNT", help="Show so many.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def output() -> Console:
    """Return where results are printed."""
    return Console(highlight=False)
