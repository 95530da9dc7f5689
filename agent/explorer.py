"""The script of the demo: it explores a folder in the place of a model.

What to do next is written down here. What it *knows* it reads from the messages that it is sent, as a model does:
what the memory has not kept, it cannot name.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from memory.messages import ToolCall, Wire

from .scripted import Policy, Reply, call

TASK = (
    "Explore this folder. Read the largest files, look up where the names you meet are used, and finish with a list of "
    "the names and where they stand. Only look: never change a file."
)
LINES_PER_READ = 120
FILES_PER_ROUND = 2
ROUNDS_PER_SEARCH = 3


def explorer(rounds: int = 12) -> Policy:
    """Return a policy that lists, reads, searches and runs a command, then answers.

    Args:
        rounds: How many times it reads, two files at once, before it answers.
    """
    script: Generator[Reply, Context, None] | None = None

    def decide(messages: Sequence[Wire], tools: Sequence[Wire]) -> Reply:
        nonlocal script
        context = Context(messages)
        if script is None:
            script = _explore(rounds)
            return next(script)
        return script.send(context)

    return decide


@dataclass(frozen=True, slots=True)
class Finding:
    """A name and where it stands: what a note says."""

    path: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} names `{self.name}`"


class Context:
    """The messages of one request, read as a model would: nothing else is known."""

    def __init__(self, messages: Sequence[Wire]) -> None:
        self._messages = messages
        self._text = "\n".join(_text(message) for message in messages)

    @property
    def newest_results(self) -> list[str]:
        """What the tools of the last reply gave, in the order of the calls."""
        results: list[str] = []
        for message in reversed(self._messages):
            if message["role"] != "tool":
                break
            results.insert(0, _text(message))
        return results

    @property
    def findings(self) -> list[Finding]:
        """Every finding that stands in the context, be it in a note, or in a summary; in this order, each once."""
        found = (Finding(path, int(line), name) for path, line, name in _NOTE.findall(self._text))
        return list(dict.fromkeys(found))


def _explore(rounds: int) -> Generator[Reply, Context, None]:
    context = yield Reply("First I look at what is here.", [call("list_files")])
    files = _files_to_read(context.newest_results[0])
    if not files:
        yield Reply("There is nothing here that can be read as text.")
    unread = deque((path, 1) for path in files)
    searched: set[str] = set()
    notes = f"{len(files)} files may hold text; I begin with the largest."
    for number in range(1, rounds + 1):
        chunks = [unread.popleft() for _ in range(min(FILES_PER_ROUND, len(unread)))]
        if not chunks:
            break
        context = yield Reply(notes, [_read(path, line) for path, line in chunks])
        notes = _take_notes(chunks, context.newest_results) or "Nothing to note there."
        unread.extend(_what_follows(chunks, context.newest_results))
        name = _something_old(context, searched) if number % ROUNDS_PER_SEARCH == 0 else None
        if name:
            searched.add(name)
            context = yield Reply(f"{notes}\nEarlier I met `{name}`; who uses it?", [call("search_files", text=name)])
            notes = f"`{name}` stands in {len(context.newest_results[0].splitlines())} lines."
    context = yield Reply(notes, [call("run_command", command=f"wc -l {shlex.quote(files[0])}"), _python_version()])
    yield Reply(_report(context))


def _files_to_read(listing: str) -> list[str]:
    """Return the files of a listing that may hold text, largest first."""
    sized = [(int(size.replace(",", "")), path) for size, path in _LISTED.findall(listing)]
    readable = [(size, path) for size, path in sized if size and not _BINARY.search(path)]
    return [path for _, path in sorted(readable, key=lambda entry: (-entry[0], entry[1]))]


def _take_notes(chunks: Sequence[tuple[str, int]], results: Sequence[str]) -> str:
    found = (_finding(path, text) for (path, _), text in zip(chunks, results, strict=False))
    return "\n".join(f"Note: {finding}." for finding in found if finding)


def _finding(path: str, text: str) -> Finding | None:
    """Return the first definition in what was read, or else its longest word: not every folder holds programs."""
    for line, name in _DEFINITION.findall(text):
        return Finding(path, int(line), name)
    words = list(islice(((len(word), line, word) for line, word in _words(text)), 200))
    if not words:
        return None
    _, line, name = max(words, key=lambda word: word[0])
    return Finding(path, line, name)


def _words(text: str) -> Iterator[tuple[int, str]]:
    for number, line in _NUMBERED.findall(text):
        for word in _WORD.findall(line):
            yield int(number), word


def _what_follows(chunks: Sequence[tuple[str, int]], results: Sequence[str]) -> list[tuple[str, int]]:
    pairs = zip(chunks, results, strict=False)
    return [(path, line + LINES_PER_READ) for (path, line), text in pairs if "[more lines follow" in text]


def _something_old(context: Context, searched: set[str]) -> str | None:
    """Return the name met first that the context still holds and that was not looked up yet."""
    return next((finding.name for finding in context.findings if finding.name not in searched), None)


def _report(context: Context) -> str:
    findings = context.findings
    if not findings:
        return "I read what there is, and met no name worth noting."
    return "\n".join(["What I met, as far as I still know it:", *(f"- {finding}" for finding in findings)])


def _read(path: str, first_line: int) -> ToolCall:
    return call("read_file", path=path, first_line=first_line, line_count=LINES_PER_READ)


def _python_version() -> ToolCall:
    return call("run_command", command="python --version")


def _text(message: Wire) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


_LISTED = re.compile(r"^ *([\d,]+) (.+)$", re.MULTILINE)
_NUMBERED = re.compile(r"^(\d+): (.*)$", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{5,39}")
_NOTE = re.compile(r"(\S+):(\d+) names `([A-Za-z_][A-Za-z0-9_]*)`")
_DEFINITION = re.compile(
    r"^(\d+): \s*(?:(?:export|default|public|private|static|pub|abstract|async) )*"
    r"(?:class|def|func|function|fn|struct|interface|trait|enum|type|module) +([A-Za-z][A-Za-z0-9_]{3,})",
    re.MULTILINE,
)
_BINARY = re.compile(
    r"\.(?:7z|bin|bmp|bz2|class|db|dll|dylib|exe|gif|gz|ico|jar|jpe?g|mp[34]|o|parquet|pdf|png|pyc|so|sqlite3?|tar|ttf"
    r"|wasm|webp|whl|woff2?|xz|zip|zst)$",
    re.IGNORECASE,
)
