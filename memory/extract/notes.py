"""The course of events: what was asked, what was done with which outcome, what was said, what is planned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..messages import ToolCall, ToolResult
from ..patterns import Pattern

MAX_QUOTE = 280
"""Characters of one quotation; longer ones are cut at a sentence or a word."""
MAX_LABEL = 120

_MAX_JSON = 2_000_000
_MAX_ERROR_INDENT = 100

_PATH_KEYS = ("path", "file_path", "filePath", "filepath", "file", "filename", "absolute_path", "target_file")
_COMMAND_KEYS = ("command", "cmd", "script", "code")
_QUERY_KEYS = ("url", "query", "pattern", "regex", "expression", "q", "prompt", "thought")
_CHANGING = Pattern(r"(?i)edit|write|create|replace|patch|insert|update|delete|remove|move|rename|save|append")
_LOOKING = Pattern(
    r"(?i)(?:browse|calc|check|count|describe|fetch|find|get|glob|grep|inspect|list|look|open|poll|query|read|recall"
    r"|retriev|scan|search|show|think|view|wait|web)"
)
_READERS = "awk bat cat cd echo find grep head jq less ls nl pwd rg sed tail tree wc which"
_READING = frozenset(_READERS.split())
_ITEM_TEXT = ("content", "step", "task", "title", "text", "description", "activeForm")
_FINISHED = frozenset({"completed", "complete", "done", "finished", "cancelled", "canceled", "closed"})

_ERROR = Pattern(
    r"\b(?:\w*Error|\w*Exception|error(?:\[\w+\])?|fatal|panic|FAIL|FAILED|Failed|Failure|ERROR|FATAL):"
    r"|command not found|No such file|[Pp]ermission denied|npm ERR!|Traceback \(most recent"
)
_EXIT = Pattern(r"(?i)\bexit(?:ed)?(?: with)?(?: code| status)?[: =]+(-?\d+)")
_LEADING_CD = Pattern(r"^cd [^\s;&|]+ *(?:&&|;) *")
_INTENTION = Pattern(
    r"(?i)^(?:(?:now|next|first|then|ok|okay|good|great)[,.!]? )?"
    r"(?:let me|let's|i'll|i will|i need|i should|i want|i'm going)\b"
)
_SENTENCE = Pattern(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_RULE = Pattern(
    r"(?i)\b(?:must|never|always|don't|do not|only|ensure|make sure|important|critical|require[ds]?|should|cannot"
    r"|without|muss|müssen|nie|niemals|immer|nicht|wichtig|debe|nunca|siempre|doit|jamais|toujours|deve|sempre)\b"
    r"|必须|不要|不能|禁止|务必|必ず|しないで|絶対|должен|нельзя|никогда|всегда|반드시"
)
_FINDING = Pattern(
    r"(?i)\b(?:decid\w+|chose\w*|choose|instead|because|root cause|the (?:issue|problem|bug|reason|fix)|found|turns out"
    r"|confirm\w*|conclu\w+|therefore|will use|need to|must|should|fixed|works|fails|now i (?:understand|see|know))\b"
)


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of a message, verbatim, with the message's reference."""

    ref: str
    text: str
    weight: int = 0
    """How many signs of a rule or a finding it shows."""
    rules: str = ""
    """Of a user's words, the sentences alone that say what must or must never be."""


@dataclass(frozen=True, slots=True)
class Action:
    """A tool call and what came of it; the same call made again replaces the earlier."""

    tool: str
    label: str
    """The path, the command, the query: what the call was about, one line."""
    shape: str
    """`file`, `command`, `query` or `other`."""
    changes: bool
    """It did something, as far as its name tells; it did not only look."""
    refs: tuple[str, ...]
    """Messages that made the call: the first and the newest ones."""
    outcome: str = ""
    """The line of the result that tells how it ended, verbatim."""
    outcome_ref: str = ""
    failed: bool = False


def arguments_of(call: ToolCall) -> Mapping[str, Any]:
    """Return the arguments as a mapping; text that is no JSON object stands under the empty name."""
    try:
        parsed = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return {"": call.arguments}
    return parsed if isinstance(parsed, dict) else {"": call.arguments}


def strings_in(value: object, *, with_keys: bool = False, depth: int = 0) -> Iterator[str]:
    """Yield the strings and numbers in decoded JSON, in order; nesting beyond 40 is payload."""
    if isinstance(value, str):
        yield value
    elif depth > 40:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if with_keys and any(map(str.isdigit, key)):
                yield key
            yield from strings_in(item, with_keys=with_keys, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item, with_keys=with_keys, depth=depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)


def values_of(text: str) -> str:
    """Return the values of a JSON text, a line each, and of its keys those with digits; any other text as it is.

    Field names repeat in every record and say nothing; a key with digits is an id (`{"card_9901": {...}}`).
    """
    if text[:1] not in ("{", "[") or len(text) > _MAX_JSON:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return "\n".join(strings_in(value, with_keys=True))


def begin(call: ToolCall, arguments: Mapping[str, Any], *, ref: str) -> Action:
    """Note a call; its outcome comes with the result."""
    label, shape = _about(call, arguments)
    if shape == "file":
        changes = bool(_CHANGING.compiled.search(f"{call.name} {str(arguments.get('command', ''))[:40]}"))
    elif shape == "command":
        changes = not is_reading(label)
    else:
        changes = shape == "other" and not _LOOKING.compiled.match(call.name)
    return Action(call.name, label, shape, changes, (ref,))


def _about(call: ToolCall, arguments: Mapping[str, Any]) -> tuple[str, str]:
    for keys, shape in ((_PATH_KEYS, "file"), (_COMMAND_KEYS, "command"), (_QUERY_KEYS, "query")):
        for key in keys:
            value = arguments.get(key)
            if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
                value = " ".join(value)
            if isinstance(value, str) and value.strip():
                line = first_line(value, 4 * MAX_LABEL)
                if shape == "command":
                    return _LEADING_CD.compiled.sub("", line)[:MAX_LABEL], shape
                return line[: 2 * MAX_LABEL], shape
    values = " ".join(value for value in strings_in(arguments) if len(value) <= 40 and "\n" not in value)
    return first_line(f"{call.name} {values}", 60), "other"


def is_reading(command: str) -> bool:
    """Say whether a command only shows things; then what looks like an error in its output is text it shows."""
    first = command.split(maxsplit=1)[:1]
    return not first or first[0].rpartition("/")[2] in _READING


def outcome_of(action: Action, result: ToolResult) -> tuple[str, bool]:
    """Return the line that tells how it ended, and whether it failed."""
    text = result.text
    if action.shape != "command" and not result.is_error:
        return (text.strip(), False) if 0 < len(text) <= 90 and "\n" not in text.strip() else ("", False)
    code = _EXIT.compiled.search(text, max(0, len(text) - 400)) or _EXIT.compiled.search(text[:400])
    is_looking = is_reading(action.label)
    # `grep` exits with 1 when it finds nothing: no failure.
    failed = result.is_error or (code is not None and code.group(1) != "0" and not is_looking)
    if failed or not is_looking:
        error = error_line(text)
        if error:
            return error, True
    if is_looking and not failed:
        return "", False
    return _last_line(text), failed


def error_line(text: str) -> str:
    """Return the first line that reports an error, or nothing. Looks at a bounded number of candidates."""
    for found in islice(_ERROR.compiled.finditer(text), 200):
        start = text.rfind("\n", max(0, found.start() - _MAX_ERROR_INDENT - 1), found.start()) + 1
        if start == 0 and found.start() > _MAX_ERROR_INDENT:
            continue  # far into a long line: quoted, not reported
        line = text[start : start + MAX_QUOTE].partition("\n")[0].strip()
        if not line.startswith(("except", "raise", "catch", "#", "//", "Traceback")):
            return line
    return ""


def _last_line(text: str) -> str:
    tail = text[-2_000:].rstrip().rsplit("\n", 1)[-1].strip()
    return tail[:100] if not tail.startswith(("{", "[", "<", "}")) else ""


def first_line(text: str, limit: int) -> str:
    """Return the first line that says something, cut at `limit` characters."""
    for line in text[: 4 * limit].strip().splitlines():
        if line.strip():
            return line.strip()[:limit]
    return ""


def asked(text: str, ref: str) -> Quote:
    """Quote a user message: whole when short, else its beginning and what it says must or must never be."""
    sentences = [s.strip() for s in _SENTENCE.compiled.split(text[:20_000]) if s and s.strip()]
    picked: list[str] = []
    room = 2 * MAX_QUOTE
    rules = [s for s in sentences if _RULE.compiled.search(s) and len(s) <= MAX_QUOTE]
    for number, sentence in enumerate(sentences):
        if (number == 0 or len(text) <= room or _RULE.compiled.search(sentence)) and len(sentence) <= room:
            picked.append(sentence)
            room -= len(sentence)
    if not picked and sentences:
        picked.append(sentences[0][:MAX_QUOTE])
    whole = " … ".join(picked) if len(text) > 2 * MAX_QUOTE else " ".join(picked)
    return Quote(ref, whole, len(rules), " … ".join(rules[:4]))


def said(text: str, ref: str) -> Iterator[Quote]:
    """Quote the sentences of an assistant's text that tell what it found or decided, and how it ends."""
    sentences = [s.strip() for s in _SENTENCE.compiled.split(text[:20_000]) if s and len(s.strip()) > 20]
    ranked = sorted(enumerate(sentences), key=lambda item: (-len(_FINDING.compiled.findall(item[1])), item[0]))
    for _, sentence in sorted(ranked[:3]):
        weight = len(_FINDING.compiled.findall(sentence)) - 2 * bool(_INTENTION.compiled.match(sentence))
        if weight > 0 and len(sentence) <= MAX_QUOTE:
            yield Quote(ref, sentence, weight)


def planned(arguments: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the unfinished items if the arguments hold a list of tasks with a status, else None."""
    for value in arguments.values():
        if isinstance(value, list) and value and all(isinstance(i, dict) and "status" in i for i in value):
            return tuple(
                f"{item['status']}: {first_line(_item_text(item), MAX_QUOTE)}"
                for item in value[:40]
                if str(item["status"]).lower() not in _FINISHED
            )
    return None


def _item_text(item: Mapping[str, Any]) -> str:
    return next((item[key] for key in _ITEM_TEXT if isinstance(item.get(key), str)), "")
