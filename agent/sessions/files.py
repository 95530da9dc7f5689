"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from memory.errors import ConfigError


def write_lines(path: Path, lines: Iterable[str], *, option: str = "output") -> None:
    """Write text to a file in UTF-8, in the place of what was there; a failure leaves that as it was.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.writelines(lines)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"--{option}: {str(path)!r} cannot be written: {error}", field=option) from error
