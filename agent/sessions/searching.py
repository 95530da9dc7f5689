"""The command that finds what was said in the sessions that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, get_args

import typer

from memory.archive import Hit
from memory.errors import ConfigError
from memory.messages import Role
from memory.sessions.values import SessionInfo

from ..lines import harmless
from ..printing import print_json, print_line
from ..session_report.reading import excerpt_of
from .amounts import whole_of
from .options import AsJson, Db, output
from .places import opened
from .views import local, moment


def search_command(
    words: Annotated[list[str], typer.Argument(metavar="WORDS...", help="What was said; any text.")],
    session: Annotated[
        str | None, typer.Option("--session", metavar="SESSION", help="Only in this one, and in what it shares.")
    ] = None,
    role: Annotated[str | None, typer.Option("--role", help="Only system, user, assistant or tool.")] = None,
    tool: Annotated[str | None, typer.Option("--tool", metavar="NAME", help="Only of this tool.")] = None,
    limit: Annotated[str, typer.Option("--limit", metavar="COUNT", help="Show so many.")] = "10",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find what was said, in all sessions or in one: the message's reference and what stands around the words."""
    from memory.sessions.recall import search_sessions  # it brings in the index, which other commands do not need

    count, named = whole_of(limit, "limit"), _role(role)
    with opened(db) as store:
        found = _worth_it(search_sessions(store, " ".join(words), session=session, limit=count, role=named, tool=tool))
        titles = _titles(store.sessions()) if found else {}
    if as_json:
        print_json(output(), {"hits": [_hit_as_dict(hit, titles) for hit in found]})
        return
    for hit in found:
        _print_hit(hit, titles)
    if not found:
        print_line(output(), "nothing found")


def _role(name: str | None) -> Role | None:
    found: Role | None = next((one for one in get_args(Role) if one == name), None)
    if found is None and name is not None:
        raise ConfigError(f"--role must be one of {', '.join(get_args(Role))}, got {name[:80]!r}", field="role")
    return found


def _worth_it(hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits without those far below the best: neighbours of a hit may hold none of the words."""
    best = max((hit.score for hit in hits), default=0.0)
    return [hit for hit in hits if hit.score >= best * _LEAST_SHARE]


_LEAST_SHARE: Final = 1 / 3


def _titles(sessions: Sequence[SessionInfo]) -> dict[str, str]:
    return {one.id: one.heading.title for one in sessions}


def _print_hit(hit: Hit, titles: dict[str, str]) -> None:
    title = excerpt_of(titles.get(hit.session_id or "", ""))
    when = "" if hit.at is None else local(hit.at)
    print_line(output(), harmless(" ".join(part for part in (hit.ref, hit.role, when, title) if part)))
    print_line(output(), f"  {harmless(excerpt_of(hit.excerpt))}")


def _hit_as_dict(hit: Hit, titles: dict[str, str]) -> dict[str, Any]:
    return {
        "ref": hit.ref,
        "session_id": hit.session_id,
        "title": titles.get(hit.session_id or ""),
        "role": hit.role,
        "at": None if hit.at is None else moment(hit.at),
        "score": hit.score,
        "excerpt": hit.excerpt,
    }
