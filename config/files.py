"""The `.aloop/config` file: where it is looked for, and its `KEY=value` lines."""

from __future__ import annotations

import re
from pathlib import Path

from memory.errors import ConfigError

RELATIVE_PATH = Path(".aloop") / "config"

_PREFIXES = ("MEMORY_", "ALOOP_")

_LINE = re.compile(r"(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>['"])(?P<text>.*?)(?P=quote)\s*(?:#.*)?""", re.DOTALL)


def config_files(project_dir: Path, home_dir: Path) -> list[Path]:
    """Return the files that exist, strongest first: the project's, the user's.

    The project's is the nearest `.aloop/config` at or above `project_dir`. The search ends at the root of the git
    repository or below the home directory. Outside of both only the directory itself is looked at: a file that a
    stranger left in `/tmp` must not configure what runs in `/tmp/work`.
    """
    project = [directory / RELATIVE_PATH for directory in _project_dirs(project_dir.resolve(), home_dir.resolve())]
    nearest = next(([path] for path in project if path.exists()), [])
    user = users_file(home_dir)
    return [*nearest, user] if user.exists() else nearest


def users_file(home_dir: Path) -> Path:
    """Return where the user's own file is, whether it is there or not."""
    return home_dir / RELATIVE_PATH


def read(path: Path) -> dict[str, tuple[int, str]]:
    """Return key -> (line number, value) of a file.

    Blank lines and `#` comments are skipped, `export` before a key and quotes around a value are taken off, a
    comment may follow a value. Keys of ours are upper-cased.

    Raises:
        ConfigError: The file cannot be read as text, a line has no `KEY=`, or a key stands twice. A line's content is
            never quoted: it may hold somebody's secret.
    """
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise ConfigError(f"{path}:{number}: not a KEY=value line; put # before a comment")
        key = match["key"].upper() if match["key"].upper().startswith(_PREFIXES) else match["key"]
        if key in found:
            raise ConfigError(f"{path}:{number}: {key} stands on line {found[key][0]} already; keep one of the two")
        found[key] = (number, _value(match["value"], f"{path}:{number}: {key}"))
    return found


def _project_dirs(start: Path, home: Path) -> list[Path]:
    chain: list[Path] = []
    for directory in (start, *start.parents):
        if directory == home:
            return chain
        chain.append(directory)
        if (directory / ".git").exists():
            return chain
    return [start]


def _text(path: Path) -> str:
    try:
        # utf-8-sig: editors on Windows begin a file with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8; it must hold KEY=value lines") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _value(text: str, where: str) -> str:
    if text[:1] in {"'", '"'}:
        quoted = _QUOTED.fullmatch(text)
        if quoted is None:
            raise ConfigError(f"{where}: the value begins with {text[0]} and does not end with it")
        return quoted["text"]
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
