"""A folder that nothing leaves: what is read, written and listed here lies below its root, whatever links say."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from .tool import ToolError

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv", "site-packages", "dist", "build"})
_VISITED_FOLDERS = 4_000
_SETTINGS = ".aloop"
"""The folder of the user's keys, and of what the agent may do: not the model's to read, even less to write."""

# Windows has none of these; there a path is only checked, and a link made between check and use is followed.
_HAS_DIR_FD = os.open in os.supports_dir_fd
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_NO_BLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class Folder:
    """The files below `root`. Paths are relative to it; one that leads out of it, or into `.aloop`, is an error.

    Links are resolved first and the result must lie inside. Then each part of the path is opened by itself and no
    link is followed, so that a link that appears between check and use is an error too (on POSIX). Hard links and
    mounts are taken for what they seem.
    """

    def __init__(self, root: Path) -> None:
        """Take a folder.

        Raises:
            NotADirectoryError: There is no folder of that name.
        """
        if not root.is_dir():
            raise NotADirectoryError(f"there is no folder {str(root)!r}")
        self.root = root.resolve()

    def resolve(self, path: str) -> Path:
        """Return the real path of something that exists, whatever links and dots it was reached by.

        Raises:
            ToolError: It lies outside, or there is no such thing.
        """
        resolved = self._inside(path)
        if not os.path.lexists(resolved):
            raise ToolError(f"there is no {path!r}; list_files shows what there is")
        return resolved

    def open(self, path: str | Path) -> BinaryIO:
        """Open a regular file for reading.

        Raises:
            ToolError: It lies outside, is no regular file, or may not be read.
        """
        file = self.resolve(str(path))
        with _saying(self.show(file), "read"), self._parent(file) as folder:
            # Without O_NONBLOCK the open itself would wait for somebody to write into a pipe.
            opened = _open_at(file, os.O_RDONLY | _NO_FOLLOW | _NO_BLOCK | _BINARY, folder)
        if not stat.S_ISREG(os.fstat(opened).st_mode):  # a device may never end
            os.close(opened)
            raise ToolError(f"{str(path)!r} is not a file")
        return os.fdopen(opened, "rb")

    def write(self, path: str, content: bytes) -> bool:
        """Write a file whole, making the folders above it. Return whether there was one before.

        It is written beside and then renamed, so that nobody ever sees half of it, and what the name meant until
        then is never written through. An existing file keeps its permissions.

        Raises:
            ToolError: It lies outside, is something else than a file, or may not be written.
        """
        file = self._inside(path)
        with _saying(self.show(file), "written"):
            existed = os.path.lexists(file)
            if existed and not file.is_file():
                raise ToolError(f"{path!r} is not a file")
            file.parent.mkdir(parents=True, exist_ok=True)
            with self._parent(file) as folder:
                _replace(file, content, folder, mode=stat.S_IMODE(file.stat().st_mode) if existed else None)
        return existed

    def files(self, start: Path, pattern: str = "*") -> Iterator[Path]:
        """Yield the files below a folder, nearest first, so that a huge tree starts at once.

        Links are not followed; hidden folders and those of build tools are left out.

        Args:
            start: A folder, or a file, which is yielded alone.
            pattern: Of the name (`*.py`) or, with a slash in it, of the path from the root (`src/*.py`).
        """
        pattern = pattern.removeprefix("**/")
        for file in self._tree(start):
            if fnmatch(self.show(file) if "/" in pattern else file.name, pattern):
                yield file

    def show(self, path: Path) -> str:
        """Return a path below the root as models see it."""
        return path.relative_to(self.root).as_posix()

    def _inside(self, path: str) -> Path:
        try:
            resolved = (self.root / path).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
            raise ToolError(f"{path!r} is no usable path: {error}") from error
        if not resolved.is_relative_to(self.root):
            raise ToolError(f"{path!r} is outside the folder; paths are relative to it")
        if any(part.casefold() == _SETTINGS for part in resolved.relative_to(self.root).parts):
            raise ToolError(f"{path!r} belongs to the settings of this agent, in which keys may stand")
        return resolved

    @contextlib.contextmanager
    def _parent(self, file: Path) -> Iterator[int | None]:
        """Give a descriptor of the folder that holds a file, reached from the root without following a link."""
        if not _HAS_DIR_FD:
            yield None
            return
        folder = os.open(self.root, os.O_RDONLY | _DIRECTORY)
        try:
            for part in file.relative_to(self.root).parts[:-1]:
                inner = os.open(part, os.O_RDONLY | _DIRECTORY | _NO_FOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _tree(self, start: Path) -> Iterator[Path]:
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


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    """Return what a folder holds, in the same order on every machine; nothing when it may not be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return ()


def _open_at(file: Path, flags: int, folder: int | None) -> int:
    if folder is None:
        return os.open(file, flags, 0o666)
    return os.open(file.name, flags, 0o666, dir_fd=folder)


def _replace(file: Path, content: bytes, folder: int | None, *, mode: int | None) -> None:
    """Put a file with this content in the place of what has its name in the folder."""
    beside = file.with_name(f".{secrets.token_hex(8)}.tmp")
    made = _open_at(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, folder)
    try:
        with os.fdopen(made, "wb") as stream:
            if mode is not None and _HAS_DIR_FD:
                os.fchmod(stream.fileno(), mode)
            stream.write(content)
        if folder is None:
            os.replace(beside, file)
        else:
            os.replace(beside.name, file.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside if folder is None else beside.name, dir_fd=folder)
        raise


@contextlib.contextmanager
def _saying(name: str, done: str) -> Iterator[None]:
    """Turn what the system refuses into a sentence for the model."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{name} cannot be {done}: {error.strerror or type(error).__name__}") from error
