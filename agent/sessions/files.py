"""Files that are there whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from memory.errors import ConfigError


def write_lines(path: Path, lines: Iterable[str], *, option: str = "output") -> None:
    """Write text to a file in UTF-8, in the place of what was there; a failure leaves that as it was.

    What is no plain file, such as a pipe or a device, is written to as it stands.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            _write(path, lines)
            return
        beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
        try:
            _write(beside, lines)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or no name in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--{option}: {str(path)!r} cannot be written: {reason}", field=option) from error


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(lines)
