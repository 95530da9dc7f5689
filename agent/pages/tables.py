"""Tables of a page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from xml.etree.ElementTree import Element

from .document import scrolling
from .markup import el


def table(caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, texts: Collection[int] = ()) -> Element:
    """Return a table; where it is too wide, it scrolls within itself.

    Args:
        caption: What it shows.
        names: Of the columns.
        rows: A text for each column; the first is the row's name.
        texts: The columns that hold text instead of figures.
    """
    words = ["words" if index in texts else None for index in range(len(names))]
    head = el("tr", *(el("th", name, scope="col", class_=kind) for name, kind in zip(names, words, strict=True)))
    body = [
        el(
            "tr",
            el("th", row[0], scope="row"),
            *(el("td", cell, class_=kind) for cell, kind in zip(row[1:], words[1:], strict=True)),
        )
        for row in rows
    ]
    whole = el("table", el("caption", caption), el("thead", head), el("tbody", *body))
    return scrolling(whole, caption)
