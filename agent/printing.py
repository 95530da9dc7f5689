"""How results are printed: tables without frames, pairs, lines, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


def plain_table() -> Table:
    """Return a table without a frame."""
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def print_table(console: Console, table: RenderableType) -> None:
    """Print a table or a tree, without the spaces that fill its last column."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def fit_last(console: Console, table: Table, *, narrowest: int = 12) -> None:
    """Cut the last column of a table so that the others stay whole; so much of it is shown anyway."""
    widths = [max(cell_len(str(text)) for text in (column.header, *column.cells)) for column in table.columns[:-1]]
    last = table.columns[-1]
    last.no_wrap, last.overflow = True, "ellipsis"
    last.max_width = max(narrowest, console.width - sum(widths) - len(widths))


def print_pairs(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a line each."""
    for name, value in rows:
        print_line(console, f"{name + ':':21}{value}")


def print_line(console: Console, text: str) -> None:
    """Print a text as it is."""
    # Text: brackets in a file's name are no markup. Soft wrap: a line stays a line in a file or a pipe.
    console.print(Text(text), soft_wrap=True)


def print_json(console: Console, value: Any) -> None:
    """Print a value as JSON."""
    console.out(json_text(value), highlight=False)


def counted(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def json_text(value: Any) -> str:
    """Return JSON that is read with ease: indented, in ASCII, dollars and shares to ten decimals.

    ASCII: lone surrogates and unusual terminals make no difference. NaN is no JSON; nothing here produces it.
    """
    return json.dumps(_rounded(value), indent=2, allow_nan=False)


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 10)  # sums of floats end in dust: 0.009383999999999998
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case _:
            return value
