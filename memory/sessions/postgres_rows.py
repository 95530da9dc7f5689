"""Rows of the tables as values and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

from .encoding import dumped, loaded, storable
from .values import (
    DailyUsage,
    Heading,
    Owner,
    Saved,
    SessionInfo,
    StoredCall,
    StoredCompression,
    StoredLayout,
    StoredMessage,
)

Value = TypeVar("Value", StoredMessage, StoredCall, StoredCompression, StoredLayout, DailyUsage)

_COLUMNS: Final[Mapping[type[Any], tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind))
    for kind in (StoredMessage, StoredCall, StoredCompression, StoredLayout, DailyUsage, Heading, Owner)
}
_REFUSED: Final = re.compile("[\0\ud800-\udfff]")
_MARK: Final = "\ufdd0"
"""A character that is none, by Unicode's own word, and legal in UTF-8: it says that JSON follows."""


def to_text(text: str) -> str:
    """Return a text as `text` can hold it: as it is, or as JSON where Postgres would refuse it."""
    if _REFUSED.search(text) is None and not text.startswith(_MARK):
        return text
    return _MARK + dumped(text)


def from_text(text: str) -> str:
    """Return the text that `to_text` was given."""
    return str(loaded(text.removeprefix(_MARK))) if text.startswith(_MARK) else text


def row_of(value: Any, **more: object) -> dict[str, object]:
    """Return the columns of a dataclass by name, with more of them."""
    return {name: _to_column(getattr(value, name)) for name in columns_of(type(value))} | more


def value_of(kind: type[Value], row: Mapping[str, Any]) -> Value:
    """Return the value of a row, which may have more columns."""
    return kind(**{name: _from_column(row[name]) for name in columns_of(kind)})


def heading_row(heading: Heading) -> dict[str, object]:
    """Return the columns of a heading. Its names are for people, who can do without the characters that no text has."""
    return row_of(heading, title=storable(heading.title), model=heading.model and storable(heading.model))


def owner_row(owner: Owner) -> dict[str, object]:
    """Return the columns that say who has a session open."""
    return {f"owner_{name}": value for name, value in row_of(owner).items()}


def owner_of(row: Mapping[str, Any]) -> Owner | None:
    """Return who has a session open; None if it was given up."""
    if row["owner_token"] is None:
        return None
    return Owner(**{name: _from_column(row[f"owner_{name}"]) for name in columns_of(Owner)})


def session_of(row: Mapping[str, Any]) -> SessionInfo:
    """Return a session of a row of `sessions`."""
    return SessionInfo(
        id=row["id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        heading=Heading(**{name: _from_column(row[name]) for name in columns_of(Heading)}),
        parent_id=row["parent_id"],
        parent_seq=row["parent_seq"],
        config=from_text(row["config"]),
        owner=owner_of(row),
        lease_until=row["lease_until"],
    )


def saved_of(row: Mapping[str, Any]) -> Saved:
    """Return what a session goes on from, of a row of `sessions` joined with its newest layout (`layout_…`)."""
    layout = {name: row[f"layout_{name}"] for name in columns_of(StoredLayout)}
    return Saved(
        info=session_of(row),
        state=from_text(row["state"]),
        layout=None if layout["number"] is None else value_of(StoredLayout, layout),
    )


def columns_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the columns that hold a value of this kind, in the order of its fields."""
    return _COLUMNS[kind]


def _to_column(value: object) -> object:
    match value:
        case str():
            return to_text(value)
        case tuple():
            return [_to_column(item) for item in value]
        case _:
            return value


def _from_column(value: Any) -> Any:
    match value:
        case str():
            return from_text(value)
        case list():
            return tuple(_from_column(item) for item in value)
        case _:
            return value
