"""Where the transcripts of a backtest come from: named files, standard input, or this machine's own session logs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from memory.errors import ConfigError, TranscriptError
from memory.messages import DialectName
from memory.prices import PriceBook

from ..transcripts import Transcript, parse_transcripts, read_transcripts
from .logs import find_logs


@dataclass(slots=True)
class Source:
    """The files, read one after the other as their conversations are asked for."""

    paths: Sequence[str]
    dialect: DialectName | None
    is_lenient: bool
    is_found: bool = False
    """The files were not named but found, so that one which cannot be read, or says nothing yet, is no mistake."""
    unreadable: list[dict[str, str]] = field(default_factory=list)
    """Files that could not be read, each with the reason."""
    skipped: list[str] = field(default_factory=list)
    """What was left out of the others, a sentence each."""
    unpriced: dict[str | None, int] = field(default_factory=dict)
    """How many conversations there were of each model that nobody knows a price for; None: they name no model."""
    reported_input_tokens: int = 0
    """What providers reported of the conversations, where session logs tell."""
    has_logs: bool = False
    """Session logs were among them, which hold no tools and, but for Codex, no system prompt."""
    shares: list[float] = field(default_factory=list)
    """Of each conversation that was handed out: which part it is of its file, and of unreadable ones before that."""
    _prices: PriceBook = field(default_factory=PriceBook, repr=False)

    def __iter__(self) -> Iterator[Transcript]:
        files = 0
        for path in self.paths:
            found, files = self._read(path), files + 1
            if found:
                self.skipped += dict.fromkeys(_located(said, path) for one in found for said in one.skipped)
                self.shares += [files / len(found)] * len(found)
                files = 0
            for one in found:
                self._note(one)
                yield one

    def _note(self, transcript: Transcript) -> None:
        self.has_logs = self.has_logs or transcript.tool is not None
        self.reported_input_tokens += sum(usage.input_tokens for _, usage in transcript.usages)
        if transcript.model is None or self._prices.rates(transcript.model).is_default:
            self.unpriced[transcript.model] = self.unpriced.get(transcript.model, 0) + 1

    def _read(self, path: str) -> list[Transcript]:
        try:
            if path == "-":
                content = sys.stdin.buffer.read()
                return parse_transcripts(content, "standard input", dialect=self.dialect, is_lenient=self.is_lenient)
            return read_transcripts(path, dialect=self.dialect, is_lenient=self.is_lenient)
        except TranscriptError as error:
            if not self.is_found:
                Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)
            self.unreadable.append({"source": path, "error": str(error)})
            return []


def _located(said: str, path: str) -> str:
    """Return what was left out with its file, which broken lines name by themselves."""
    return said if said.startswith(path) else f"{path}: {said}"


def found_logs(console: Console) -> list[str]:
    """Return this machine's own session logs, and say how many there are of which tool, and where."""
    logs = find_logs()
    if not logs:
        raise ConfigError(
            "no session logs of Claude Code, Codex or Gemini CLI are found in this home folder; "
            "name the files: aloop backtest FILE..."
        )
    for tool, count in Counter(log.tool for log in logs).items():
        newest = next(log for log in logs if log.tool == tool)
        console.print(f"{tool}: {count:,} session log{'s' * (count != 1)}, the newest {newest.path}", soft_wrap=True)
    console.print("They are read here; nothing is sent anywhere.", soft_wrap=True)
    return [str(log.path) for log in logs]


def processes_for(paths: Sequence[str]) -> int:
    """Return how many processes to start: one where starting others would take longer than the work."""
    from .parallel import cores  # with all that it imports, which a command's help should not cost

    size = sum(path.stat().st_size for path in map(Path, paths) if path.is_file())
    return cores() if size > _SMALL_BYTES else 1


_SMALL_BYTES = 500_000
