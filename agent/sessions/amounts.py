"""Sizes and ages as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from memory.errors import ConfigError

_BYTES: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([a-zA-Z]*)")


def bytes_of(text: str, option: str) -> int:
    """Return a size such as `500MB`.

    Raises:
        ConfigError: It is none.
    """
    return int(_amount(text, _BYTES, option, "a size such as 500MB"))


def seconds_of(text: str, option: str) -> float:
    """Return an age such as `30d`.

    Raises:
        ConfigError: It is none.
    """
    return _amount(text, _SECONDS, option, "an age such as 30d, 12h or 2w")


def whole_of(text: str, option: str) -> int:
    """Return a whole number above 0.

    Raises:
        ConfigError: It is none.
    """
    if not (text.isascii() and text.isdecimal() and int(text[:18])):
        raise ConfigError(f"--{option} must be a whole number above 0, got {text[:80]!r}", field=option)
    return int(text[:18])


def _amount(text: str, units: Mapping[str, int], option: str, what: str) -> float:
    found = _AMOUNT.fullmatch(text.strip())
    factor = units.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise ConfigError(f"--{option} must be {what}, got {text[:80]!r}", field=option)
    return float(found[1]) * factor
