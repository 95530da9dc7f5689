"""The script of the demo: it explores a folder in the place of a model.

What to do next is written down here. What it *knows* it reads from the messages that it is sent, as a model does:
what the memory has not kept, it cannot name. Only where a name is defined it keeps on a list of its own, so that it
does not take an import for a definition.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from memory.messages import ToolCall, Wire

from .scripted import Policy, Reply, call

TASK = (
    "Explore this folder. Read the largest files, look up where the names you meet are used, and finish with a list of "
    "the names that belong to each file. Only look: never change a file."
)
LINES_PER_READ = 100
FILES_PER_ROUND = 2
ROUNDS_PER_SEARCH = 3
NAMES_PER_FILE = 3


def explorer(rounds: int = 12) -> Policy:
    """Return a policy that lists, reads, searches and runs a command, then answers.

    Args:
        rounds: How many times it reads, two files at once, before it answers.
    """
    script: Generator[Reply, Context, None] | None = None

    def decide(messages: Sequence[Wire], tools: Sequence[Wire]) -> Reply:
        nonlocal script
        if script is None:
            script = _explore(rounds)
            return next(script)
        return script.send(Context(messages))

    return decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Names and the file they belong to: one line of the answer."""

    path: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"- {self.path}: {', '.join(self.names)}"


class Context:
    """The messages of one request, read as a model would: nothing else is known."""

    def __init__(self, messages: Sequence[Wire]) -> None:
        self._messages = messages
        self._said = "\n".join(_text(message) for message in messages if message["role"] != "tool")
        self._known = set(_NAME.findall(self._said))

    @property
    def newest_results(self) -> list[str]:
        """What the tools of the last reply gave, in the order of the calls."""
        last_reply = max(index for index, message in enumerate(self._messages) if message["role"] == "assistant")
        return [_text(message) for message in self._messages[last_reply + 1 :]]

    def names_of(self, path: str, defined: Sequence[str]) -> list[str]:
        """Return what is still known of a file's definitions; where it has none, the words noted beside its path."""
        if defined:
            return [name for name in dict.fromkeys(defined) if name in self._known]
        about = re.compile(rf"^(?:Note: |- )?{re.escape(path)}(?::\d+)?[ (:](.*)$", re.MULTILINE)
        found = (name for line in about.findall(self._said) for name in _NAME.findall(line))
        return sorted(dict.fromkeys(found), key=_is_plain_word)


def findings_in(answer: str) -> list[Finding]:
    """Read an answer back into its findings."""
    return [Finding(path=path, names=tuple(names.split(", "))) for path, names in _FINDING.findall(answer)]


def lines_about(name: str, text: str, *, count: int = 2) -> str:
    """Return a few lines of what was read, beginning with the one that defines a name, or else says it first."""
    lines = text.splitlines()
    about = [index for index, line in enumerate(lines) if re.search(rf"\b{re.escape(name)}\b", line)]
    defining = (index for index in about if any(found == name for _, found in _definitions(lines[index])))
    first = next(defining, about[0] if about else len(lines))
    return "\n".join(lines[first : first + count])


def _explore(rounds: int) -> Generator[Reply, Context, None]:
    context = yield Reply("First I look at what is here.", [call("list_files")])
    files = _files_to_read(context.newest_results[0])
    if not files:
        yield Reply("There is nothing here that can be read as text.")
    unread = deque((path, 1) for path in files)
    defined: dict[str, list[str]] = {}  # by file, in the order of reading
    searched: set[str] = set()
    thought = f"{len(files)} files may hold text; I begin with the largest."
    for number in range(1, rounds + 1):
        chunks = [unread.popleft() for _ in range(min(FILES_PER_ROUND, len(unread)))]
        if not chunks:
            break
        context = yield Reply(thought, [_read(path, line) for path, line in chunks])
        for (path, _), text in zip(chunks, context.newest_results, strict=True):
            defined.setdefault(path, []).extend(name for _, name in _definitions(text))
        thought = _take_notes(chunks, context.newest_results) or "Nothing to note there."
        unread.extend(_what_follows(chunks, context.newest_results))
        name = _something_old(context, defined, searched) if number % ROUNDS_PER_SEARCH == 0 else None
        if name:
            searched.add(name)
            context = yield Reply(f"{thought}\nEarlier I met `{name}`. Who uses it?", [call("search_files", text=name)])
            thought = f"`{name}` stands in {len(context.newest_results[0].splitlines())} lines."
    count_lines = call("run_command", command=f"wc -l {shlex.quote(files[0])}")
    context = yield Reply(thought, [count_lines, call("run_command", command="python --version")])
    yield Reply(_report(context, defined))


def _files_to_read(listing: str) -> list[str]:
    """Return the files of a listing that may hold text, largest first."""
    sized = [(int(size.replace(",", "")), path) for size, path in _LISTED.findall(listing)]
    readable = [(-size, path) for size, path in sized if size and not path.endswith(" (binary)")]
    return [path for _, path in sorted(readable)]


def _read(path: str, first_line: int) -> ToolCall:
    return call("read_file", path=path, first_line=first_line, line_count=LINES_PER_READ)


def _take_notes(chunks: Sequence[tuple[str, int]], results: Sequence[str]) -> str:
    notes = [_note(path, text) for (path, _), text in zip(chunks, results, strict=True)]
    return "\n".join(note for note in notes if note)


def _note(path: str, text: str) -> str | None:
    """Return a note on the first definition in what was read, or on a long word: not all folders hold programs."""
    line, name = next(iter(_definitions(text)), None) or max(
        _words(text), key=lambda word: len(word[1]), default=("", "")
    )
    return f"Note: {path}:{line} has `{name}`." if name else None


def _definitions(text: str) -> list[tuple[str, str]]:
    """Return what is defined in what was read, each with its line."""
    return [(line, keyword_name or constant) for line, keyword_name, constant in _DEFINITION.findall(text)]


def _words(text: str) -> list[tuple[str, str]]:
    """Return the first words of what was read, each with its line."""
    found = ((line, name) for line, content in _NUMBERED.findall(text) for name in _NAME.findall(content))
    return list(islice(found, 200))


def _what_follows(chunks: Sequence[tuple[str, int]], results: Sequence[str]) -> list[tuple[str, int]]:
    pairs = zip(chunks, results, strict=True)
    return [(path, line + LINES_PER_READ) for (path, line), text in pairs if "[more lines follow" in text]


def _something_old(context: Context, defined: Mapping[str, Sequence[str]], searched: Set[str]) -> str | None:
    """Return a name of the file read first that the context still holds and that was not looked up yet."""
    names = (name for path, own in defined.items() for name in context.names_of(path, own))
    return next((name for name in names if name not in searched), None)


def _report(context: Context, defined: Mapping[str, Sequence[str]]) -> str:
    files_of = Counter(name for own in defined.values() for name in set(own))
    named = {
        path: tuple(islice((name for name in context.names_of(path, own) if files_of[name] < 2), NAMES_PER_FILE))
        for path, own in defined.items()
    }
    lines = [str(Finding(path=path, names=names)) for path, names in named.items() if names]
    if not lines:
        return "I read what there is, and know no name worth telling."
    return "\n".join(["The names I know, by the file they belong to, in the order in which I read them:", *lines])


def _is_plain_word(name: str) -> bool:
    return name[1:].isalpha() and name[1:].islower()


def _text(message: Wire) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


_LISTED = re.compile(r"^ *([\d,]+) (.+)$", re.MULTILINE)
_NUMBERED = re.compile(r"^(\d+): (.*)$", re.MULTILINE)
_FINDING = re.compile(r"^- (.+?): (.+)$", re.MULTILINE)
_NAME = re.compile(r"(?<![\w.])[A-Za-z][A-Za-z0-9_]{4,39}(?![\w.]*[/\\]|\w*\.\w)")
_DEFINITION = re.compile(
    r"^(\d+): (?:\s*(?:(?:export|default|public|private|static|pub|abstract|async) )*"
    r"(?:class|def|func|function|fn|struct|interface|trait|enum|type|module|const) +([A-Za-z][A-Za-z0-9_]{4,})"
    r"|([A-Z][A-Z0-9_]{4,})(?:: [^=]+)? = )",
    re.MULTILINE,
)
