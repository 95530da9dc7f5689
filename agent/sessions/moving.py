"""The commands that turn sessions into files and files into sessions: export and import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory.errors import ConfigError
from memory.sessions.transfer import FORMATS, ExportFormat, export_session

from ..jsonl import content_of
from ..printing import counted, print_json, print_line
from .files import write_lines
from .incoming import id_in, import_file
from .options import AsJson, Db, Session, output
from .places import opened
from .views import info_as_dict


def export_command(
    session: Session,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="jsonl: all of it; else the provider's own format.")
    ] = "jsonl",
    path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; else standard output.")
    ] = None,
    db: Db = None,
) -> None:
    """Write a session to a file.

    As jsonl it is all of it, for `aloop sessions import`. As openai, openai-responses, anthropic or gemini it is the
    messages as they came, where the session is in that format.
    """
    with opened(db) as store:
        lines = export_session(store, store.find(session).id, _format(format))
        if path is None:
            for line in lines:
                sys.stdout.write(line)
        else:
            write_lines(path, lines)
    if path is not None:
        print_line(output(), f"written: {path}")


def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export, or a recorded conversation; - is stdin.")],
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Make a session of an export, or of each conversation in a file that `aloop replay` reads. All or nothing."""
    content = _standard_input() if file == "-" else content_of(file)
    with opened(db, is_writing=True) as store:
        made = import_file(store, content, "standard input" if file == "-" else file)
    if as_json:
        print_json(output(), {"sessions": [info_as_dict(one) for one in made]})
        return
    named = id_in(content)
    for one in made:
        is_copy = named not in (None, one.id)
        copied = f", as a copy: the id {named} is taken" if is_copy else ""
        print_line(output(), f"imported: {one.id}, {counted(one.heading.last_seq, 'message')}{copied}")


def _format(name: str) -> ExportFormat:
    found = next((one for one in FORMATS if one == name), None)
    if found is None:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, got {name[:80]!r}", field="format")
    return found


def _standard_input() -> bytes:
    return b"" if sys.stdin is None else sys.stdin.buffer.read()
