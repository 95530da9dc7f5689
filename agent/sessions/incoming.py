"""Files that become sessions: exports of our own, and recorded conversations."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Sequence
from contextlib import suppress

from config import load
from memory import MemoryManager
from memory.errors import ContextOverflowError, TranscriptError, UnknownSessionError
from memory.sessions.store import SessionStore
from memory.sessions.transfer import import_session, is_export
from memory.sessions.values import SessionInfo

from ..transcripts import Transcript, parse_transcripts


def import_file(store: SessionStore, content: bytes, name: str) -> list[SessionInfo]:
    """Make sessions of a file's content: of an export one, of recorded conversations one each. All or none.

    Raises:
        CorruptStorageError: It is an export that is damaged or cut off.
        StorageError: The store failed.
        TranscriptError: It is nothing that can be read; the message calls it by `name`.
    """
    lines = io.TextIOWrapper(io.BytesIO(_unpacked(content, name)), encoding="utf-8", errors="surrogateescape")
    if is_export(next(lines, "")):
        lines.seek(0)
        return [import_session(store, lines)]
    return _import_all(store, parse_transcripts(content, name))


def id_in(content: bytes) -> str | None:
    """Return the id that an export names; None: it is something else."""
    first, _, _ = _unpacked(content, "the file").partition(b"\n")
    return str(json.loads(first)["id"]) if is_export(first.decode(errors="replace")) else None


def _import_all(store: SessionStore, transcripts: Sequence[Transcript]) -> list[SessionInfo]:
    made: list[SessionInfo] = []
    try:
        for one in transcripts:
            made.append(_imported(store, one))  # noqa: PERF401 - those before one that fails must be known
    except BaseException:
        for info in made:
            store.delete(info.id)
        raise
    return made


def _imported(store: SessionStore, transcript: Transcript) -> SessionInfo:
    memory = MemoryManager(
        load().memory,
        dialect=transcript.dialect,
        model=transcript.model,
        system=transcript.system,
        tools=transcript.tools,
        store=store,
    )
    session_id = memory.session_id
    assert session_id is not None
    try:
        with suppress(ContextOverflowError):  # it is all there, and a run that goes on from it says what to do
            memory.load_history_sync(transcript.messages)
        if memory.session_problem is not None:  # a memory whose store fails goes on without
            raise memory.session_problem
        memory.close()
        return store.load(session_id).info
    except BaseException:
        memory.close()
        with suppress(UnknownSessionError):
            store.delete(session_id)
        raise


def _unpacked(content: bytes, name: str) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TranscriptError(f"{name} is a damaged or half-written gzip file: {error}") from error
