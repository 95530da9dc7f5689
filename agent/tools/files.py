"""Tools for the files under one folder, which they cannot leave: list, read, search, and if allowed write and edit."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from .folder import Folder
from .schemas import ToolFunction
from .tool import Tool, ToolError

_LISTED_FILES = 200
_VISITED_FILES = 20_000
_HITS = 40
_READ_LINES = 2_000
_READ_CHARACTERS = 100_000
_LINE_CHARACTERS = 2_000
_NUMBER_CHARACTERS = 10
_HIT_CHARACTERS = 400
_SCANNED_CHARACTERS = 50_000_000
_EDITED_BYTES = 10_000_000
_PEEK_BYTES = 4_096


class FolderTools:
    """Lists, reads and searches the files under `root`; writes and edits them if that is allowed."""

    def __init__(self, root: Path, *, allow_writes: bool = False) -> None:
        """Take a folder.

        Args:
            root: The tools cannot leave it.
            allow_writes: Whether `tools()` has those that change files.

        Raises:
            NotADirectoryError: There is no folder of that name.
        """
        self._folder = Folder(root)
        self.root = self._folder.root
        self.allows_writes = allow_writes

    def tools(self) -> list[Tool]:
        """Return the tools: three that look, and where writes are allowed two that change."""
        functions: list[ToolFunction] = [self.list_files, self.read_file, self.search_files]
        if self.allows_writes:
            functions += [self.write_file, self.edit_file]
        return [Tool.from_function(function, timeout_seconds=10.0) for function in functions]

    def list_files(self, path: str = ".", pattern: str = "*") -> str:
        """List the files below a folder with their sizes in bytes, nearest first.

        Hidden folders and those of build tools are left out.

        Args:
            path: Folder, relative to the root.
            pattern: Only files whose name matches, for example `*.py`; with a slash, whose path does.
        """
        files = islice(self._folder.files(self._folder.resolve(path), pattern), _VISITED_FILES)
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
        with self._text(path) as stream:
            lines = _Lines(stream)
            chosen = lines.read(first_line, min(line_count, _READ_LINES))
            more = f"\n[more lines follow from {first_line + len(chosen)} on]" if lines.has_more else ""
        if not chosen:
            return f"{path} has no line {first_line}"
        return "\n".join(f"{number}: {line}" for number, line in enumerate(chosen, start=first_line)) + more

    def search_files(self, text: str, path: str = ".", pattern: str = "*", ignore_case: bool = False) -> str:
        """Find the lines that contain a text, exactly as written, in all files below a folder.

        Args:
            text: What to look for; not a pattern.
            path: Folder or file, relative to the root.
            pattern: Only in files whose name matches, for example `*.py`.
            ignore_case: Whether capital and small letters count as the same.
        """
        if not text.strip():
            raise ToolError("give a text to look for")
        hits = list(islice(self._hits(text, self._folder.resolve(path), pattern, ignore_case), _HITS + 1))
        more = [f"[more than {_HITS} lines match; search a folder or a longer text]"] if len(hits) > _HITS else []
        return "\n".join(hits[:_HITS] + more) or f"no line contains {text!r}"

    def write_file(self, path: str, text: str) -> str:
        """Write a text file whole: a new one, or in the place of the one that is there.

        Args:
            path: File, relative to the root; folders above it are made.
            text: All that the file is to hold.
        """
        existed = self._folder.write(path, _encoded(text))
        return f"{'replaced' if existed else 'made'} {path}: {len(text.splitlines()):,} lines"

    def edit_file(self, path: str, old: str, new: str, replace_all: bool = False) -> str:
        """Replace a text in a file by another, both exactly as written, with their line ends and indentation.

        Args:
            path: File, relative to the root.
            old: What stands there now, without line numbers; it must occur once, so give enough of it.
            new: What is to stand there instead.
            replace_all: Replace every occurrence.
        """
        content = self._editable(path)
        if "\r\n" in content and "\r\n" not in old:  # read_file shows no line ends, so a model cannot know them
            old, new = (text.replace("\n", "\r\n") for text in (old, new.replace("\r\n", "\n")))
        count = content.count(old) if old else 0
        if count == 0:
            raise ToolError(f"{path} does not contain that text; read_file shows what it does, behind the line numbers")
        if count > 1 and not replace_all:
            raise ToolError(f"{path} contains that text {count} times; give more of what is around it, or replace_all")
        self._folder.write(path, _encoded(content.replace(old, new)))
        return f"edited {path} in {count} place{'s' if count > 1 else ''}"

    def _text(self, path: str | Path) -> BinaryIO:
        """Open a text file.

        Raises:
            ToolError: It is binary, or `Folder.open` refuses it.
        """
        stream = self._folder.open(path)
        size = os.fstat(stream.fileno()).st_size
        if not size:
            # What /proc and /sys call files have no size, and reading some of those never ends.
            stream.close()
            return io.BytesIO()
        if b"\0" in stream.read(_PEEK_BYTES):
            stream.close()
            raise ToolError(f"{Path(path).name} is binary, {size:,} bytes")
        stream.seek(0)
        return stream

    def _editable(self, path: str) -> str:
        with self._text(path) as stream:
            content = stream.read(_EDITED_BYTES + 1)
        if len(content) > _EDITED_BYTES:
            raise ToolError(f"{path} has more than {_EDITED_BYTES:,} bytes and cannot be edited here")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ToolError(f"{path} is not UTF-8 and would be damaged by an edit") from error

    def _hits(self, text: str, start: Path, pattern: str, ignore_case: bool) -> Iterator[str]:
        wanted = text.casefold() if ignore_case else text
        budget = _SCANNED_CHARACTERS
        for file in islice(self._folder.files(start, pattern), _VISITED_FILES):
            try:
                with self._text(self._folder.show(file)) as stream:
                    for number, line in enumerate(_all_lines(stream, budget), start=1):
                        budget -= len(line) + 1
                        if wanted in (line.casefold() if ignore_case else line):
                            yield f"{self._folder.show(file)}:{number}: {_around(line.strip(), text)}"
            except (ToolError, OSError):
                continue  # binary, or not ours to read
            if budget <= 0:
                yield f"[searched {_SCANNED_CHARACTERS:,} characters; search a folder]"
                return

    def _listed(self, file: Path) -> str:
        return f"{_size(file):>10} {self._folder.show(file)}{' (binary)' if self._is_binary(file) else ''}"

    def _is_binary(self, file: Path) -> bool:
        try:
            with self._folder.open(self._folder.show(file)) as stream:
                return bool(os.fstat(stream.fileno()).st_size) and b"\0" in stream.read(_PEEK_BYTES)
        except (ToolError, OSError):
            return False


class _Lines:
    """Reads some lines of a file, however long the file and its lines are, and says whether more follow."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = _all_lines(stream, _SCANNED_CHARACTERS)
        self.has_more = False

    def read(self, first_line: int, line_count: int) -> list[str]:
        """Return lines from `first_line` on: at most so many, and no more than fit a result."""
        chosen: list[str] = []
        size = 0
        for line in islice(self._lines, first_line - 1, None):
            if len(chosen) == line_count or size > _READ_CHARACTERS:
                self.has_more = True
                break
            chosen.append(_cut(line))
            size += len(chosen[-1]) + _NUMBER_CHARACTERS
        return chosen


def _all_lines(stream: BinaryIO, limit_characters: int) -> Iterator[str]:
    """Yield the lines of a text without their ends, from no more than its first characters."""
    rest = limit_characters
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace") as text:
        while rest > 0 and (line := text.readline(rest)):
            rest -= len(line)
            yield line.removesuffix("\n")
        if rest <= 0 and text.read(1):
            yield f"[the file goes on after {limit_characters:,} characters]"


def _cut(line: str) -> str:
    rest = len(line) - _LINE_CHARACTERS
    return line if rest <= 0 else f"{line[:_LINE_CHARACTERS]} [+{rest:,}]"


def _around(line: str, text: str) -> str:
    """Return a line, of a long one the part in which the text stands."""
    if len(line) <= _HIT_CHARACTERS:
        return line
    start = max(0, line.casefold().find(text.casefold()) - _HIT_CHARACTERS // 4)
    stop = start + _HIT_CHARACTERS
    front, back = (f"[{start:,}+] " if start else ""), (f" [+{len(line) - stop:,}]" if stop < len(line) else "")
    return f"{front}{line[start:stop]}{back}"


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError("the text has half of a surrogate pair in it, which no file can hold") from error


def _size(file: Path) -> str:
    try:
        status = file.stat(follow_symlinks=False)
    except OSError:
        return "?"
    return f"{status.st_size:,}" if stat.S_ISREG(status.st_mode) else "?"
