"""Plays: what a peer would have sent at each request of a recorded conversation, as its worker told it.

A play depends on the conversation, the peer's settings and the summariser, on no model and no price, so that one play
is priced for all of them, and is kept on disk for the next run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

from memory.tokens import EncodingName, read_ranks

Message: TypeAlias = Mapping[str, Any]
Summarise: TypeAlias = Callable[[Sequence[Message]], str]

_ENCODINGS: Final[tuple[EncodingName, ...]] = ("o200k_base", "cl100k_base")
_RANKS_URL: Final = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""The name under which tiktoken looks for a file in its cache (tiktoken_ext/openai_public.py, tiktoken 0.14)."""
_QUIET: Final = {
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENAI_API_KEY": "none",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "OPENHANDS_SUPPRESS_BANNER": "1",
    "LOG_LEVEL": "CRITICAL",
    "PYTHONUNBUFFERED": "1",
    "PYTHONHASHSEED": "0",
    # Nothing listens there: what tries to reach the network fails at once.
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One conversation to be played in one way."""

    way: str
    """As the worker calls it."""
    options: Mapping[str, Any]
    messages: Sequence[Message]
    requests: Sequence[int]
    """How many messages come before each request."""
    remembers: bool = True
    """False: an equal text is tokenised each time, so that the times are the peer's own."""
    limit_seconds: float = 600.0
    """Of the peer's own time: where it takes longer, the play ends there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was sent at one request."""

    runs: Sequence[Sequence[int]]
    """`[3, 6]`: the recorded messages 3 to 5; `[-2]`: `literals[1]`."""
    seconds: float
    """Spent in the peer's code since the request before."""
    bytes: int
    """Handed to the tokenizer since then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarised:
    """A summary that the peer asked for."""

    request: int
    """How many requests had been made before."""
    prompt: str
    text: str


@dataclass(slots=True, kw_only=True)
class Play:
    """A whole conversation, as one peer would have led it."""

    requests: dict[int, Request] = field(default_factory=dict)
    """By the number of messages that came before."""
    literals: list[dict[str, Any]] = field(default_factory=list)
    """Messages that the peer wrote: summaries, placeholders, shortened copies."""
    summaries: list[Summarised] = field(default_factory=list)
    failed: str | None = None
    """Why the peer gave up; the requests up to there stand."""

    def context(self, index: int, messages: Sequence[Message]) -> list[Message]:
        """Return the request made after `index` messages: recorded messages as the very objects."""
        sent: list[Message] = []
        for run in self.requests[index].runs:
            sent += messages[run[0] : run[1]] if len(run) == 2 else [self.literals[-1 - run[0]]]
        return sent


PROTOCOL: Final = 1
"""Raised where `workers/desk.py` tells something else than before, so that what is kept is played anew."""


class WorkerError(RuntimeError):
    """A worker ended, or answered what nobody understands."""


class Worker:
    """A peer's process. Use it as a context manager."""

    def __init__(self, command: Sequence[str], *, cache: Path) -> None:
        """Start it.

        Args:
            command: The interpreter of the peer's environment, and the worker's file.
            cache: A folder for the tokenizer's ranks, which a worker cannot download.
        """
        ranks = str(_ranks_folder(cache))
        paths = {"TIKTOKEN_CACHE_DIR": ranks, "CUSTOM_TIKTOKEN_CACHE_DIR": ranks, "HOME": str(cache)}
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        self._log = (cache / "workers.log").open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env={**kept, **_QUIET, **paths},
            cwd=cache,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def play(self, job: Job, summarise: Summarise) -> Play:
        """Play one conversation.

        Args:
            job: What to play.
            summarise: Writes the summaries that the peer asks for.

        Raises:
            WorkerError: The process ended, or wrote something else. A peer that failed is told in `Play.failed`.
        """
        self._write({**asdict(job), "messages": list(job.messages), "requests": list(job.requests)})
        play = Play()
        while True:
            match self._read():
                case {"summarise": parts, "prompt": prompt}:
                    text = summarise([job.messages[part] if isinstance(part, int) else part for part in parts])
                    play.summaries.append(Summarised(request=len(play.requests), prompt=prompt, text=text))
                    self._write({"summary": text})
                case {"request": index, "runs": runs, "new": new, "seconds": seconds, "bytes": size}:
                    play.literals += new
                    play.requests[index] = Request(runs=runs, seconds=seconds, bytes=size)
                case {"done": _}:
                    return play
                case {"failed": reason}:
                    play.failed = reason
                    return play
                case other:
                    raise WorkerError(f"a worker answered with the keys {', '.join(other)}")

    def _write(self, value: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError("a worker ended; workers.log in the peers' folder says why") from None

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError("a worker ended; workers.log in the peers' folder says why")
        value: dict[str, Any] = json.loads(line)
        return value


class Kept:
    """Plays on disk, found again by everything that they depend on."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def find(self, key: str) -> Play | None:
        path = self._folder / f"{key}.json"
        if not path.is_file():
            return None
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Play(
            requests={int(index): Request(**one) for index, one in stored["requests"].items()},
            literals=stored["literals"],
            summaries=[Summarised(**one) for one in stored["summaries"]],
            failed=stored["failed"],
        )

    def put(self, key: str, play: Play) -> None:
        path = self._folder / f"{key}.json"
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(asdict(play)), encoding="utf-8")
        unfinished.replace(path)


def key_of(job: Job, *others: str, files: Iterable[Path]) -> str:
    """Return a short name for everything that a play depends on: the job, the sources, whatever else is given."""
    values = {**asdict(job), "limit_seconds": None}
    digest = hashlib.blake2b(json.dumps([PROTOCOL, values, *others]).encode(), digest_size=16)
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _ranks_folder(cache: Path) -> Path:
    """Return a folder in which tiktoken finds its files, written there from the ranks that the library ships."""
    folder = cache / "ranks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ENCODINGS:
        path = folder / hashlib.sha1(_RANKS_URL.format(name).encode(), usedforsecurity=False).hexdigest()
        if not path.is_file():
            unfinished = path.with_suffix(f".{os.getpid()}")
            lines = (b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(read_ranks(name)))
            unfinished.write_bytes(b"".join(lines))
            unfinished.replace(path)
    return folder
