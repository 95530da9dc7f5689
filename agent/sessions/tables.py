"""What `aloop sessions` prints: tables that fit 80 columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from memory.sessions.encoding import loaded
from memory.sessions.values import DailyUsage, SessionInfo

from ..lines import harmless
from ..pages.scales import percent, tokens, usd
from ..printing import counted, fit_last, plain_table, print_line, print_pairs, print_table
from ..session_report.reading import excerpt_of
from .views import Standing, View, cached_share, info_as_dict, is_estimate, is_open, local

_SHORTEST_ID: Final = 8


def print_sessions(
    console: Console, sessions: Sequence[SessionInfo], place: str, *, estimated: Set[str] = frozenset()
) -> None:
    """Print sessions as a table, the one that was written to last first.

    Args:
        console: Where to. A narrow one is shown fewer columns.
        sessions: The sessions.
        place: Where they are kept.
        estimated: The ids of those whose cost is known to be an estimate.
    """
    if not sessions:
        print_line(console, f"no sessions yet in {place}")
        return
    names = short_ids(sessions)
    rows = [_row(one, names[one.id], is_estimate=one.id in estimated) for one in sessions]
    kept = _fitting(rows, console.width)
    table = plain_table()
    for column in kept:
        table.add_column(column, justify="right" if column in _FIGURES else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[column]) for column in kept))
    if kept[-1] == "title":
        fit_last(console, table, narrowest=_NARROWEST_TITLE)
    print_table(console, table)
    if estimated:
        print_line(console, "")
        print_line(console, _ESTIMATE)


_FIGURES: Final = ("msgs", "context", "cost")
_NARROWEST_TITLE: Final = 8
_SPARED: Final = ("context", "last written", "title")
"""Columns that a narrow terminal is not shown, the first one first."""
_ESTIMATE: Final = "~: some usage was counted, not reported, or a price is not known"


def _row(one: SessionInfo, name: str, *, is_estimate: bool) -> dict[str, str]:
    heading = one.heading
    return {
        "session": name,
        "last written": local(one.updated_at),
        "msgs": f"{heading.last_seq:,}",
        "context": tokens(heading.context_tokens),
        "cost": "~" * is_estimate + usd(heading.cost_usd),
        "title": harmless(excerpt_of(_title(one))),
    }


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return the names of the columns that can stand whole beside each other, with some words of the title."""
    widths = {name: max(cell_len(text) for text in (name, *(row[name] for row in rows))) + 1 for name in rows[0]}
    widths["title"] = min(widths["title"], _NARROWEST_TITLE)
    for name in _SPARED:
        if sum(widths.values()) <= width:
            break
        del widths[name]
    return list(widths)


def short_ids(sessions: Iterable[SessionInfo]) -> dict[str, str]:
    """Return beginnings of ids, all of one length, that tell these sessions apart."""
    ids = [one.id for one in sessions]
    length = _SHORTEST_ID
    while len({id[:length] for id in ids}) < len(ids):
        length += 1
    return {id: id[:length] for id in ids}


def _title(one: SessionInfo) -> str:
    branch = f"(branch from r{one.parent_seq}) " if one.parent_id else ""
    return f"{'(open) ' * is_open(one)}{branch}{one.heading.title}"


def _words(text: str) -> Text:
    """Return the first words of somebody's text, which may do nothing to the terminal."""
    return Text(harmless(excerpt_of(text)))


# --- show -------------------------------------------------------------------------------------------------------------


def print_view(console: Console, view: View, messages: Sequence[Standing] | None) -> None:
    """Print one session: heading, context, compressions, calls; and its messages where they are wanted."""
    print_pairs(console, _heading(view))
    _print_context(console, view.context)
    _print_compressions(console, view)
    _print_calls(console, view)
    for one in messages or ():
        print_line(console, "")
        print_line(console, " ".join([one.ref, one.role, ", ".join(one.tools)]).strip())
        print_line(console, harmless(one.text))


def _heading(view: View) -> Iterator[tuple[str, str]]:
    info, heading = view.info, view.info.heading
    yield "session", info.id
    yield "title", harmless(excerpt_of(heading.title))
    if info.parent_id:
        yield "branch of", f"{info.parent_id}, from r{info.parent_seq}"
    yield "written", f"{local(info.created_at)} to {local(info.updated_at)}"
    yield "model", f"{heading.model or 'unknown'}, {heading.dialect or 'format not known yet'}"
    yield "messages", f"{heading.last_seq:,}"
    yield "tokens", f"{tokens(heading.context_tokens)} in the context, {tokens(heading.total_tokens)} in all calls"
    yield "cost", usd(heading.cost_usd) + ", partly estimated" * any(map(is_estimate, view.calls))
    if info.owner is not None and is_open(info):
        yield "open", f"in process {info.owner.process_id} on {info.owner.host}"


def _print_context(console: Console, context: Sequence[Standing]) -> None:
    table = plain_table()
    for name in ("context", "is", "role"):
        table.add_column(name, no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("begins")
    for one in context:
        table.add_row(one.ref, one.kind, one.role, f"{one.tokens:,}", _words(one.text))
    fit_last(console, table)
    print_line(console, "")
    print_table(console, table)


def _print_compressions(console: Console, view: View) -> None:
    if view.compressions:
        print_line(console, "")
    for one in view.compressions:
        event = loaded(one.event)
        sizes = f"{event['tokens_before']:,} -> {event['tokens_after']:,} tokens"
        place = f"{one.first_ref} to {one.last_ref}, {event['method']}"
        print_line(console, f"compression {one.number:2}: {sizes}, {place}")


def _print_calls(console: Console, view: View) -> None:
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * 5)
    estimated = {(call.purpose, call.model or "unknown") for call in view.calls if is_estimate(call)}
    for call in view.calls:
        found = sums[call.purpose, call.model or "unknown"]
        figures = (1, call.input_tokens, call.cache_read_tokens, call.output_tokens, call.cost_usd)
        found[:] = [so_far + figure for so_far, figure in zip(found, figures, strict=True)]
    table = plain_table()
    for name in ("calls", "model"):
        table.add_column(name, no_wrap=True)
    for name in ("count", "input", "cached", "output", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for (purpose, model), (count, sent, cached, output, cost) in sums.items():
        share = percent(cached / sent) if sent else "–"
        mark = "~" * ((purpose, model) in estimated)
        row = (f"{count:,.0f}", tokens(sent), share, tokens(output), mark + usd(cost))
        table.add_row(purpose, Text(model), *row)
    if sums:
        print_line(console, "")
        print_table(console, table)


# --- tree and stats ---------------------------------------------------------------------------------------------------


def print_tree(console: Console, sessions: Sequence[SessionInfo], *, root_id: str | None = None) -> None:
    """Print sessions with their branches below them; only those of one root where that is given."""
    names = short_ids(sessions)
    below = _below(sessions)
    for one in below[None]:
        if root_id in (None, one.id):
            print_table(console, _grown(one, below, names))


def branches_as_dicts(sessions: Sequence[SessionInfo], root_id: str | None) -> list[dict[str, Any]]:
    """Return sessions as JSON values, each with its branches."""
    below = _below(sessions)

    def grown(one: SessionInfo) -> dict[str, Any]:
        return {**info_as_dict(one), "branches": [grown(branch) for branch in below[one.id]]}

    return [grown(one) for one in below[None] if root_id in (None, one.id)]


def _below(sessions: Sequence[SessionInfo]) -> defaultdict[str | None, list[SessionInfo]]:
    """Return the branches of each session, in the order of the messages that they begin at; of None, the roots."""
    ids = {one.id for one in sessions}
    below: defaultdict[str | None, list[SessionInfo]] = defaultdict(list)
    for one in sorted(sessions, key=lambda one: (one.parent_seq, one.created_at)):
        below[one.parent_id if one.parent_id in ids else None].append(one)
    return below


def _grown(one: SessionInfo, below: defaultdict[str | None, list[SessionInfo]], names: dict[str, str]) -> Tree:
    tree = Tree(_leaf(one, names[one.id]))
    for branch in below[one.id]:
        tree.add(_grown(branch, below, names))
    return tree


def _leaf(one: SessionInfo, name: str) -> Text:
    origin = f" from r{one.parent_seq}" if one.parent_id else ""
    count = counted(one.heading.last_seq, "message")
    words = f"{name}{origin}  {local(one.updated_at)}  {count}  {harmless(excerpt_of(one.heading.title))}"
    return Text(words, no_wrap=True, overflow="ellipsis")


def print_usage(console: Console, usages: Sequence[DailyUsage]) -> None:
    """Print what the calls came to by day and model, and their sum."""
    if not usages:
        print_line(console, "no calls were made yet")
        return
    table = plain_table()
    table.add_column("day", no_wrap=True)
    for name in ("runs", "calls", "input", "cached", "output", "cost", "summaries"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model")
    for one in usages:
        table.add_row(one.day, *_usage_cells(one), Text(harmless(one.model or "unknown")))
    fit_last(console, table)
    print_table(console, table)
    print_line(console, "")
    cost, summaries = sum(one.cost_usd for one in usages), sum(one.summary_cost_usd for one in usages)
    print_line(console, f"{usd(cost)} in all, {usd(summaries)} of that for summaries")
    if any(one.has_estimates for one in usages):
        print_line(console, _ESTIMATE)


def _usage_cells(one: DailyUsage) -> list[str]:
    return [
        f"{one.sessions:,}",
        f"{one.calls:,}",
        tokens(one.input_tokens),
        percent(cached_share(one)),
        tokens(one.output_tokens),
        f"{'~' * one.has_estimates}{usd(one.cost_usd)}",
        usd(one.summary_cost_usd),
    ]
