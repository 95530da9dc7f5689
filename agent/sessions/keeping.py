"""The commands that change what is kept: rename, delete, forget, limit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from memory.errors import ConfigError
from memory.sessions.values import SessionInfo

from ..lines import harmless
from ..printing import counted, print_json, print_line
from ..session_report.reading import excerpt_of
from .amounts import bytes_of, seconds_of
from .options import AsJson, Db, Session, Yes, output
from .places import opened, place_shown


def rename_command(
    session: Session,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="The new one.")],
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Give a session a title, by which it can be named from then on."""
    if not title.strip():
        raise ConfigError("the title is empty", field="title")
    with opened(db) as store:
        info = store.find(session)
        store.rename(info.id, title)
    if as_json:
        print_json(output(), {"renamed": info.id, "title": title})
    else:
        print_line(output(), f"renamed: {info.id}, {harmless(excerpt_of(title))}")


def delete_command(session: Session, is_sure: Yes = False, db: Db = None, as_json: AsJson = False) -> None:
    """Delete a session for good. Its branches keep what they share with it. One that is open stays."""
    with opened(db) as store:
        info = store.find(session)
        _ask(is_sure, f"Delete {_described(info)}?")
        store.delete(info.id)
    if as_json:
        print_json(output(), {"deleted": [info.id]})
    else:
        print_line(output(), f"deleted: {info.id}")


def forget_command(
    session: Session,
    refs: Annotated[list[str], typer.Argument(metavar="REF...", help="Messages: r17, or r3-r9.")],
    is_sure: Yes = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Take the words of messages away for good, also where a summary quotes them. The rest of the session stays."""
    ranges = {ref: _range(ref) for ref in refs}
    with opened(db) as store:
        info = store.find(session)
        numbers = _numbers(ranges, info)
        _ask(is_sure, f"Forget {counted(len(numbers), 'message')} of {_described(info)}?")
        count = store.forget(info.id, numbers)
    if as_json:
        print_json(output(), {"forgotten": count})
        return
    print_line(output(), f"forgotten: {counted(count, 'message')}")


def limit_command(
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", metavar="SIZE", help="Keep the newest that fit, such as 500MB.")
    ] = None,
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="AGE", help="Keep what is no older, such as 30d.")
    ] = None,
    is_sure: Yes = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Delete the sessions that were not written to for longest, until the limits hold. Those that are open stay."""
    if max_bytes is None and max_age is None:
        raise ConfigError("give --max-bytes, --max-age or both", field="max-bytes")
    size = None if max_bytes is None else bytes_of(max_bytes, "max-bytes")
    age = None if max_age is None else seconds_of(max_age, "max-age")
    with opened(db) as store:
        _ask(is_sure, f"Delete the oldest sessions of {place_shown(db)}?")
        deleted = store.limit(max_bytes=size, max_age_seconds=age)
    if as_json:
        print_json(output(), {"deleted": deleted})
        return
    for one in deleted:
        print_line(output(), f"deleted: {one}")
    if not deleted:
        print_line(output(), "nothing to delete")


def _range(ref: str) -> tuple[int, int]:
    """Return the first and the last number of messages that are named like `r17` or `r3-r9`.

    Raises:
        ConfigError: They are named otherwise.
    """
    first, _, last = ref.replace("r", "").partition("-")
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (first, last or first)):
        raise ConfigError(f"a message is named like r17, several like r3-r9, got {ref[:80]!r}", field="ref")
    return int(first), int(last or first)


def _numbers(ranges: Mapping[str, tuple[int, int]], info: SessionInfo) -> set[int]:
    """Return the numbers of the messages that references name.

    Raises:
        ConfigError: One of them names none: it is mistyped, and what was meant would stay.
    """
    found: set[int] = set()
    for ref, (first, last) in ranges.items():
        named = range(max(first, 1), min(last, info.heading.last_seq) + 1)
        if not named:
            held = f"which has r1 to r{info.heading.last_seq}" if info.heading.last_seq else "which has no messages"
            raise ConfigError(f"{ref!r} names no message of {info.id}, {held}; nothing was forgotten", field="ref")
        found.update(named)
    return found


def _ask(is_sure: bool, question: str) -> None:
    """Let the user confirm what cannot be undone.

    Raises:
        ConfigError: Nobody is there to be asked.
    """
    if is_sure:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise ConfigError("this cannot be undone; say --yes to have it done without being asked", field="yes")
    typer.confirm(question, abort=True, err=True)


def _described(info: SessionInfo) -> str:
    count = counted(info.heading.last_seq, "message")
    return f"{info.id} ({count}, {harmless(excerpt_of(info.heading.title)) or 'without a title'})"
