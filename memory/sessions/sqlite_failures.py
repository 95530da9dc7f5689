"""From what SQLite says to the error that says what to do."""

from __future__ import annotations

import errno
import os
import sqlite3

from ..errors import (
    CorruptStorageError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
)


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether somebody else holds a lock, so that trying again helps.

    SQLITE_PROTOCOL too: two processes that open one file at once may race for its index of the log
    (https://www.sqlite.org/rescode.html#protocol, 2026-11).
    """
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def storage_error(error: sqlite3.Error, path: str, *, timeout_seconds: float) -> StorageError:
    """Return the error of ours for one of SQLite's (https://www.sqlite.org/rescode.html, 2026-11)."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if is_busy(error):
        return StorageLockedError(
            f"{path} was locked by another process for {timeout_seconds:g} seconds ({name}); nothing was written. "
            "End what holds it open, or wait longer: `timeout_seconds`"
        )
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return _full(path, name)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return read_only(path, name)
        case sqlite3.SQLITE_CANTOPEN:
            return _cannot_open(path, name)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return CorruptStorageError(
                f"{path} is damaged or no database ({name}). Keep a copy of it, and save what is left with "
                "`sqlite3 FILE .recover`; or name another file"
            )
        case sqlite3.SQLITE_IOERR if _disk_is_full(path):
            return _full(path, name)
    return StorageError(f"{path} could not be read or written ({name}: {error}); nothing was written")


def read_only(path: str, name: str) -> StorageReadOnlyError:
    """Return the error for a place that may be read and not written."""
    return StorageReadOnlyError(
        f"{path} may not be written to ({name}): give this account the right to write the file and its folder, "
        "or name another file"
    )


def folder_error(error: OSError, path: str) -> StorageError:
    """Return the error for a folder or file that could not be made."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _full(path, "ENOSPC")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return read_only(path, errno.errorcode[error.errno])
    return StorageError(f"{path} cannot be made: {error.strerror}; name another file")


def _cannot_open(path: str, name: str) -> StorageError:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return StorageError(f"the folder of {path} is gone ({name}); make it again, or name another file")
    if not _may(folder, os.W_OK) or (os.path.exists(path) and not _may(path, os.R_OK)):
        return read_only(path, name)
    return _full(path, name) if _disk_is_full(path) else StorageError(f"{path} cannot be opened ({name})")


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _full(path: str, name: str) -> StorageFullError:
    return StorageFullError(
        f"no room is left for {path} ({name}); nothing was written. Free some space, or delete old sessions "
        "(`aloop sessions delete`)"
    )


def _disk_is_full(path: str) -> bool:
    """Return whether the disk has no room. Some failures of a full disk are plain input/output errors to SQLite."""
    if not hasattr(os, "statvfs"):
        return False
    try:
        return os.statvfs(os.path.dirname(path) or ".").f_bavail == 0
    except OSError:
        return False


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code: the low byte of the extended one; 0 where the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
