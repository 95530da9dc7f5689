"""Facts that an agent needed again: exact strings it saw, that nobody mentioned for a while, and that it then wrote.

Found in the transcript itself, by shape and place alone; the memory's own extractor has no part in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from memory.messages import Reading

from .outcome import Probe
from .ruler import strings_of

GAP_MESSAGES: Final = 10
"""A fact is used again at least so many messages after anybody mentioned it last."""


def find_probes(
    readings: Sequence[Reading], *, system: object = None, tools: Sequence[Mapping[str, Any]] | None = None
) -> list[Probe]:
    """Return the probes of a conversation, in the order in which the agent uses them; at most one for each fact.

    A fact is a path, a URL, an identifier, a record's id or a number of at least four digits that first appears in a
    tool result or a user message, is not mentioned by anybody for `GAP_MESSAGES` messages, not even inside another
    word, and then stands in the agent's own text or in the arguments of its calls. What system prompts or tool schemas
    say is no fact.
    """
    search = _Search(readings, known=_text_of({"system": system, "tools": tools}))
    found = [probe for index in range(len(readings)) for probe in _longest(search.used_again(index))]
    return sorted(found, key=lambda probe: (probe.reuse_index, probe.first_index, probe.fact))


class _Search:
    """Goes through a conversation once, message by message, and knows where each fact was mentioned last."""

    def __init__(self, readings: Sequence[Reading], *, known: str) -> None:
        self._readings = readings
        self._texts = ["\0".join(strings_of(reading)) for reading in readings]
        self._known = known + "\0".join(text for text, one in zip(self._texts, readings, strict=True) if _rules(one))
        self._last: dict[str, int] = {}
        self._done: set[str] = set()

    def used_again(self, index: int) -> list[Probe]:
        """Take the next message; return the facts that it uses again."""
        reading = self._readings[index]
        found = []
        if reading.role == "assistant":
            for fact in facts_in(_written(reading)):
                if fact in self._last and fact not in self._done and self._last[fact] <= index - GAP_MESSAGES:
                    first = self._first_seen(fact, index)
                    if first is not None:
                        self._done.add(fact)
                        found.append(Probe(fact=fact, first_index=first, reuse_index=index))
        self._last.update(dict.fromkeys(facts_in("\n".join(strings_of(reading))), index))
        return found

    def _first_seen(self, fact: str, reuse: int) -> int | None:
        """Return the message that brought a fact up; None if that was the agent, or if somebody mentioned it since."""
        if any(fact in text for text in self._texts[max(0, reuse - GAP_MESSAGES + 1) : reuse]) or fact in self._known:
            return None
        first = next(index for index, text in enumerate(self._texts) if fact in text)
        is_given = first < reuse and any(fact in text for text in _given(self._readings[first]))
        return first if is_given else None


def _longest(probes: Sequence[Probe]) -> Iterator[Probe]:
    """Leave out what is a part of another: a path is one fact, not one more for each of its folders."""
    for probe in probes:
        if not any(probe.fact in other.fact for other in probes if other is not probe):
            yield probe


def _rules(reading: Reading) -> bool:
    return reading.role == "system"


def _given(reading: Reading) -> list[str]:
    """Return what the agent was told or shown."""
    return [*([reading.text] if reading.role == "user" else []), *(result.text for result in reading.results)]


def _written(reading: Reading) -> str:
    """Return what the agent wrote for others to read or do; its thinking is its own."""
    return "\n".join([reading.text, *(_text_of(_decoded(call.arguments)) for call in reading.calls)])


def _decoded(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _text_of(value: Any) -> str:
    """Return all strings and numbers of a JSON value, a line each; keys too."""
    lines: list[str] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
        elif one is not None:
            lines.append(str(one))
    return "\n".join(lines)


# --- What a fact looks like -------------------------------------------------------------------------------------------

_CHUNK: Final = re.compile(r"https?://[^\s\"'<>`\\|)\]}]+|[\w$€£@~+./-]{4,}")
_SPLIT: Final = re.compile(r"[/@]")
_NUMBER: Final = re.compile(r"[$€£]?\d[\d.,]*\d")
_DATE_OR_VERSION: Final = re.compile(r"(?:19|20)\d\d(?:[-./]\d\d?){0,2}(?:T.*)?|\d{1,3}(?:\.\d{1,3}){2,3}")
_SNAKE: Final = re.compile(r"[A-Za-z0-9]_+[A-Za-z0-9]")
_CAMEL: Final = re.compile(r"[a-z0-9][A-Z]")
_CODE: Final = re.compile(r"(?=.*\d)[A-Z0-9]{6,}")
_DOTTED: Final = re.compile(r"[A-Za-z_]\w+(?:\.[A-Za-z_]\w+){2,}")
_FILE: Final = re.compile(r"[\w-]+(?:\.[\w-]+)*\.[a-z][a-z0-9]{0,4}")
_LONGEST_CHARACTERS: Final = 300
_COMMON: Final = frozenset(
    {
        *("__init__.py", "app.py", "conftest.py", "main.py", "pyproject.toml", "requirements.txt", "setup.cfg"),
        *("setup.py", "index.html", "index.js", "index.ts", "package-lock.json", "package.json", "tsconfig.json"),
        *("build.gradle", "cargo.toml", "docker-compose.yml", "go.mod", "main.go", "readme.md", "license.txt"),
        *("github", "gitlab", "javascript", "typescript", "youtube", "base64", "sha256", "x86_64"),
    }
)
"""Written from general knowledge: they would test no memory."""


def facts_in(text: str) -> set[str]:
    """Return the strings of a text that are worth remembering exactly, and such parts of them."""
    return {fact for chunk in set(_CHUNK.findall(text)) for fact in _facts_of(chunk)}


def _facts_of(chunk: str) -> Iterator[str]:
    whole = chunk.rstrip(".,;:!?-+/~").lstrip("-+")
    if whole.startswith(("http://", "https://")):
        yield whole
        return
    whole = whole.lstrip(".") if not whole.startswith(("./", "../")) else whole
    parts = [part.strip("._-+") for part in _SPLIT.split(whole)]
    if len(parts) > 1 and _is_path(whole, parts):
        yield whole
    yield from (part for part in parts if _is_distinctive(part))
    if "." in whole:
        yield from (part for part in whole.replace("/", ".").split(".") if _is_distinctive(part))


def _is_path(whole: str, parts: Sequence[str]) -> bool:
    named = [part for part in parts if len(part) > 1 and not part.isdigit()]
    return (
        6 <= len(whole) <= _LONGEST_CHARACTERS
        and len(named) > 1
        and (whole.startswith("/") or len(named) > 2 or any(re.search(r"[\d._-]", part) for part in named))
    )


def _is_distinctive(word: str) -> bool:
    if not 4 <= len(word) <= _LONGEST_CHARACTERS or word.lower() in _COMMON:
        return False
    digits = sum(map(str.isdigit, word))
    if _DATE_OR_VERSION.fullmatch(word):
        return False
    if _NUMBER.fullmatch(word):
        return digits >= 4
    if _CODE.fullmatch(word) or (digits >= 2 and len(word) >= 6 and any(map(str.isalpha, word))):
        return True
    return len(word) >= 8 and any(shape(word) for shape in _NAMES)


_NAMES: Final = (_SNAKE.search, _CAMEL.search, _FILE.fullmatch, _DOTTED.fullmatch)
