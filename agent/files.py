"""Tools that look at the files under one folder. They cannot leave it, and they change nothing."""

from __future__ import annotations

import asyncio
import os
import shlex
import stat
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from .tools import Tool, ToolError

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv", "site-packages", "dist", "build"})
_LISTED_FILES = 200
_VISITED_FILES = 20_000
_VISITED_FOLDERS = 4_000
_HITS = 40
_LINE_CHARACTERS = 400
_READ_BYTES = 1_000_000
_OUTPUT_CHARACTERS = 20_000
_PEEK_BYTES = 4_096

_SEARCHED_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A program that `run_command` may run, and what it may be given."""

    options: tuple[str, ...]
    takes_files: bool


# `python FILE` would run the file, so python takes none.
_COMMANDS = {
    "wc": _Command(options=("-l", "-w", "-c"), takes_files=True),
    "python": _Command(options=("--version", "-V"), takes_files=False),
}


class FolderTools:
    """Lists, reads and searches the files under `root`, and runs a few commands there that only look."""

    def __init__(self, root: Path) -> None:
        """Take a folder.

        Raises:
            NotADirectoryError: There is no folder of that name.
        """
        if not root.is_dir():
            raise NotADirectoryError(f"there is no folder {str(root)!r}")
        self.root = root.resolve()

    def tools(self) -> list[Tool]:
        """Return the four tools."""
        functions = (self.list_files, self.read_file, self.search_files, self.run_command)
        return [Tool.from_function(function, timeout_seconds=10.0) for function in functions]

    def list_files(self, path: str = ".") -> str:
        """List the files below a folder with their sizes in bytes, nearest first, leaving out hidden folders.

        Args:
            path: Folder, relative to the root.
        """
        files = islice(self._files(self._inside(path)), _VISITED_FILES)
        lines = [self._listed(file) for file in islice(files, _LISTED_FILES)]
        rest = sum(1 for _ in files)
        more = [f"[{rest:,} more files; list a folder]"] if rest else []
        return "\n".join(lines + more) or f"no files in {path}"

    def read_file(self, path: str, first_line: int = 1, line_count: int = 120) -> str:
        """Read lines of a text file, each with its number in front.

        Args:
            path: File, relative to the root.
            first_line: Where to begin; the first line of a file is 1.
            line_count: How many lines to read at most.
        """
        if first_line < 1 or line_count < 1:
            raise ToolError("first_line and line_count begin at 1")
        lines = _text_lines(self._file(path))
        chosen = list(islice(enumerate(lines, start=1), first_line - 1, first_line - 1 + line_count))
        if not chosen:
            return f"{path} has no line {first_line}"
        more = f"\n[more lines follow from {first_line + line_count} on]" if next(lines, None) is not None else ""
        return "\n".join(f"{number}: {line}" for number, line in chosen) + more

    def search_files(self, text: str, path: str = ".") -> str:
        """Find the lines that contain a text, exactly as written, in all files below a folder.

        Args:
            text: What to look for; not a pattern.
            path: Folder or file, relative to the root.
        """
        if not text.strip():
            raise ToolError("give a text to look for")
        hits = list(islice(self._hits(text, self._inside(path)), _HITS + 1))
        more = [f"[more than {_HITS} lines match; search a folder or a longer text]"] if len(hits) > _HITS else []
        return "\n".join(hits[:_HITS] + more) or f"no line contains {text!r}"

    async def run_command(self, command: str) -> str:
        """Run a command that only looks: `wc -l FILE` or `python --version`. There is no shell.

        Args:
            command: The program and its arguments.
        """
        process = await asyncio.create_subprocess_exec(
            *self._allowed(command),
            cwd=self.root,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:  # cancelled, or out of time
                process.kill()
                await process.wait()
        text = output.decode(errors="replace")[:_OUTPUT_CHARACTERS].strip()
        return f"exit code {process.returncode}\n{text}"

    def _allowed(self, command: str) -> list[str]:
        program, *arguments = _words(command)
        allowed = _COMMANDS.get(program)
        if allowed is None or not arguments:  # both read standard input, or start a session, without arguments
            raise ToolError(f"{command!r} may not be run; allowed: wc -l FILE, python --version")
        checked = [self._argument(allowed, argument) for argument in arguments]
        return [sys.executable if program == "python" else program, *checked]

    def _argument(self, allowed: _Command, argument: str) -> str:
        if argument in allowed.options:
            return argument
        if argument.startswith("-") or not allowed.takes_files:
            raise ToolError(f"the argument {argument!r} may not be used here")
        # With a leading ./ a file whose name begins with a dash is no option.
        return f"./{self._show(self._file(argument))}"

    def _inside(self, path: str) -> Path:
        """Return the real path of something below the root, whatever links and dots it was reached by."""
        try:
            resolved = (self.root / path).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
            raise ToolError(f"{path!r} is no usable path: {error}") from error
        if not resolved.is_relative_to(self.root):
            raise ToolError(f"{path!r} is outside the folder; paths are relative to it")
        if not os.path.lexists(resolved):
            raise ToolError(f"there is no {path!r}; list_files shows what there is")
        return resolved

    def _file(self, path: str) -> Path:
        file = self._inside(path)
        if not file.is_file():  # a pipe or a device would block, or never end
            raise ToolError(f"{path!r} is not a file")
        return file

    def _files(self, start: Path) -> Iterator[Path]:
        """Yield the files below a folder, nearest first, following no links, so that a huge tree starts at once."""
        if start.is_file():
            yield start
            return
        folders = deque([start])
        for _ in range(_VISITED_FOLDERS):
            if not folders:
                return
            for entry in _entries(folders.popleft()):
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and entry.name not in _SKIPPED_FOLDERS:
                        folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)

    def _hits(self, text: str, start: Path) -> Iterator[str]:
        budget_bytes = _SEARCHED_BYTES
        for file in islice(self._files(start), _VISITED_FILES):
            if budget_bytes < 0:
                yield f"[searched {_SEARCHED_BYTES:,} bytes; search a folder]"
                return
            try:
                budget_bytes -= min(file.stat().st_size, _READ_BYTES)
                for number, line in enumerate(_text_lines(file), start=1):
                    if text in line:
                        yield f"{self._show(file)}:{number}: {line.strip()}"
            except (ToolError, OSError):
                continue  # binary, or not ours to read

    def _listed(self, file: Path) -> str:
        return f"{_size(file):>10} {self._show(file)}{' (binary)' if _is_binary(file) else ''}"

    def _show(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    """Return what a folder holds, in the same order on every machine; nothing when it may not be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return ()


def _size(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "?"
    return f"{status.st_size:,}" if stat.S_ISREG(status.st_mode) else "?"


def _is_binary(file: Path) -> bool:
    try:
        if not file.stat().st_size:
            return False
        with file.open("rb") as stream:
            return b"\0" in stream.read(_PEEK_BYTES)
    except OSError:
        return False


def _text_lines(file: Path) -> Iterator[str]:
    """Yield the lines of a text file without their ends; long lines and what follows the first megabyte are cut.

    A file of no size has no lines: what /proc and /sys call files have none, and reading some of those never ends.

    Raises:
        ToolError: The file is binary, or may not be read.
    """
    try:
        if not file.stat().st_size:
            return
        if _is_binary(file):
            raise ToolError(f"{file.name} is binary, {_size(file)} bytes")
        with file.open("rb") as stream:
            content = stream.read(_READ_BYTES)
            is_cut = bool(stream.read(1))
    except OSError as error:
        raise ToolError(f"{file.name} cannot be read: {error.strerror or error}") from error
    for line in content.decode("utf-8-sig", errors="replace").splitlines():
        yield (
            line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]} [+{len(line) - _LINE_CHARACTERS:,}]"
        )
    if is_cut:
        yield f"[the file goes on after {_READ_BYTES:,} bytes]"


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ToolError(f"the command cannot be read: {error}") from error
    if not words:
        raise ToolError("give a command")
    return words
