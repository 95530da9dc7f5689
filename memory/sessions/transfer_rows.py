"""Rows of a store as JSON objects and back. What comes back is checked, for files are written by anybody."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import CorruptStorageError

Row = TypeVar("Row")

_TEXTS: Final = frozenset({"body", "shown", "event", "plan", "config", "state"})
"""Fields that hold JSON text: in a file they are the JSON itself, so that other tools can read it."""


def row_as_dict(row: Any, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return a row as JSON values by field; what has its default is left out."""
    found = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if field.name not in without and value != field.default:
            found[field.name] = embedded(value) if field.name in _TEXTS and isinstance(value, str) else value
    return found


def row_of(kind: type[Row], values: object, *, what: str, without: Sequence[str] = ()) -> Row:
    """Return the row that `row_as_dict` turned into these values.

    Args:
        kind: The row's dataclass.
        values: What the file says.
        what: How an error calls it: `message 17`.
        without: Fields that are not in the file, each with a default.

    Raises:
        CorruptStorageError: They make no such row.
    """
    if not isinstance(values, Mapping):
        raise CorruptStorageError(f"{what} is no JSON object")
    types = _types(kind)  # type: ignore[arg-type] # mypy: classes of a type variable have no hash
    unknown = [name for name in values if name not in types or name in without]
    if unknown:
        raise CorruptStorageError(f"{what} has a field {str(unknown[0])[:40]!r}, which nobody knows")
    try:
        return kind(**{name: _value(value, types[name], f"{what}: {name}") for name, value in _raw(values).items()})
    except TypeError as error:  # a field that has no default is missing
        raise CorruptStorageError(f"{what} is not whole: {error}") from error


def embedded(text: str) -> Any:
    """Return what JSON text says where that gives the very same text again; else the text itself."""
    try:
        value = json.loads(text)
        same = json.dumps(value, separators=(",", ":"), allow_nan=False) == text
    except (ValueError, RecursionError):
        return text
    return value if same and isinstance(value, (dict, list)) else text


def text_of(value: object) -> object:
    """Return the text that was embedded."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, (dict, list)) else value


@cache
def _types(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _raw(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: text_of(value) if name in _TEXTS else value for name, value in values.items()}


def _value(value: Any, wanted: Any, what: str) -> Any:
    """Return a value as the field has it: lists become tuples, whole numbers floats where floats belong."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (UnionType, Union):
        return None if value is None and NoneType in inner else _value(value, inner[0], what)
    if origin is Literal:
        return value if value in inner else _refuse(what, value)
    if origin is tuple:
        items = value if isinstance(value, list) else _refuse(what, value)
        return tuple(_value(item, inner[0], what) for item in items)
    if wanted is float and type(value) is int:
        return float(value)
    return value if type(value) is wanted else _refuse(what, value)


def _refuse(what: str, value: object) -> Any:
    raise CorruptStorageError(f"{what} cannot be a {type(value).__name__} like this one")
