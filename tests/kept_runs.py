"""Runs that were kept, for the pages of the docs: always the same ids, times and figures."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memory import MemoryConfig, MemoryManager
from memory.sessions import SqliteSessionStore

from .played_clients import read_page

IDS = ("7c1e9a3b5d2f4860", "a90b44f1c3de8725", "e3f0617a92bb4c5d")
DAYS = (1_795_082_400.0, 1_795_086_000.0, 1_795_168_800.0)
"""2026-11-19 at 10:00 and 11:00, 2026-11-20 at 10:00, all UTC."""


def keep_runs(path: Path) -> None:
    """Keep a run with compressions, a branch of it, and a short run, in a file; clocks show UTC from then on."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    store = SqliteSessionStore(path)
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    memory = MemoryManager(config, _Summariser(), model="gpt-4o", store=store)
    for message in _reading("Read the manual. Which valve opens at 9 bar?", pages=24):
        _add(memory, message)
    branch = memory.branch(at="r11", title="The same, but for 63 bar")
    for message in _reading("And which one opens at 63 bar?", pages=2):
        _add(branch, message)
    other = MemoryManager(config, _Summariser(), model="gpt-4o-mini", store=store)
    for message in _reading("Who checks valve V-3?", pages=3):
        _add(other, message)
    ids = [one.session_id for one in (memory, branch, other)]
    for one in (memory, branch, other):
        one.close()
    store.close()
    for old, new, start in zip(ids, IDS, DAYS, strict=True):
        _rename(path, str(old), new, start)


class _Summariser:
    """Stands for a model that writes summaries."""

    model = "gpt-4o-mini"

    def __call__(self, prompt: str) -> str:
        return _SUMMARY


_SUMMARY = (
    "## Asked\nWhich valve opens at 9 bar.\n\n## Found\nThe pages read so far list valves by number, each with the "
    "pressure at which it opens. V-21 opens at 9 bar.\n\n## Next\nRead the other pages."
)


def _reading(task: str, *, pages: int) -> Iterator[dict[str, Any]]:
    yield {"role": "user", "content": task}
    for number in range(1, pages + 1):
        function = {"name": "read_page", "arguments": json.dumps({"number": number})}
        call = {"id": f"c{number}", "type": "function", "function": function}
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
        yield {"role": "tool", "tool_call_id": f"c{number}", "content": read_page(number)}
    yield {"role": "assistant", "content": "V-21 opens at 9 bar."}


def _add(memory: MemoryManager, message: dict[str, Any]) -> None:
    usage = None
    if message["role"] == "assistant":
        sent = memory.current_tokens
        usage = {"input": sent, "output": 40, "cached": sent * 3 // 4 // 128 * 128}
    memory.add_message_sync(message, usage)


def _rename(path: Path, old: str, new: str, start: float) -> None:
    """Give a session another id and let it have been written a second for each message."""
    connection = sqlite3.connect(path)
    (session,) = connection.execute("SELECT session FROM sessions WHERE id = ?", (old,)).fetchone()
    connection.execute(
        "UPDATE sessions SET id = ?, created_at = ?, updated_at = ? + last_seq WHERE session = ?",
        (new, start, start, session),
    )
    connection.execute("UPDATE sessions SET parent_id = ? WHERE parent_id = ?", (new, old))
    for table in ("messages", "calls", "compressions"):
        connection.execute(f"UPDATE {table} SET at = ? + seq WHERE session = ?", (start, session))
    connection.commit()
    connection.close()
