"""Recorded conversations: from a file to messages in their provider's own format.

A file holds one conversation or many, as JSON or JSONL, gzipped or not, or it is the session log of a coding agent;
which of them is seen from its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memory.dialects import DIALECTS, detect, dialect_named
from memory.errors import AgentMemoryError, ConfigError, MessageError, TranscriptError
from memory.messages import DialectName, Fit, Wire
from memory.sessions.transfer_reading import HEAD
from memory.usage import Usage

from .jsonl import Broken, Located, content_of, refused, values_of
from .logs import Recorded, Tool, read_log_values, tool_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One recorded conversation, in its provider's own format."""

    id: str
    """The file's own name for it, else the file's name."""
    source: str
    """`path`, or `path:line` where the file holds several."""
    dialect: DialectName
    messages: tuple[Wire, ...]
    """At least one."""
    system: Any = None
    """A system prompt that travels beside the messages."""
    tools: Sequence[Mapping[str, Any]] | None = None
    model: str | None = None
    """As the recording names it; often it does not."""
    skipped: tuple[str, ...] = ()
    """What a lenient reading left out, a sentence each."""
    tool: Tool | None = None
    """The coding agent in whose session log it stands; None: it is from no such log."""
    times: tuple[float, ...] = ()
    """When each message was recorded, in seconds since 1970; empty where the recording does not tell."""
    usages: tuple[tuple[int, Usage], ...] = ()
    """What the provider reported: the index of the message with which its response begins, and the usage of that
    request. In order; only the responses whose usage was recorded."""


def read_transcripts(
    path: str | Path, *, dialect: DialectName | None = None, is_lenient: bool = False
) -> list[Transcript]:
    """Return the conversations of a file, in its order; at least one.

    Read are: a list of messages; an object with `messages`, `contents` or `input` (a request body, or a line of the
    corpus format), and beside it `system`, `tools`, `model`; a list of such objects; JSONL with a message or such an
    object on each line; and the session logs of Claude Code, Codex and Gemini CLI (see `agent.logs`), which are always
    read leniently: they may still grow. The whole file is held in memory.

    Args:
        path: The file; gzip is recognised by its content.
        dialect: The messages' format; found out when None.
        is_lenient: Leave out the lines of a JSONL file that are no JSON, such as a last one that was half written.
            What was left out is told in `Transcript.skipped`.

    Raises:
        TranscriptError: The file is missing, unreadable, empty, not text, not JSON, in no known format, or a log of
            another format than the one asked for. The message names the file, and the line where there is one.
    """
    return parse_transcripts(content_of(path), str(path), dialect=dialect, is_lenient=is_lenient)


def parse_transcripts(
    content: bytes, name: str, *, dialect: DialectName | None = None, is_lenient: bool = False
) -> list[Transcript]:
    """Return the conversations of a file's content, as `read_transcripts` does; errors call it by that name."""
    broken: list[Broken] = []
    values = values_of(content, name, broken)
    skipped = tuple(f"{one.problem}: left out" for one in broken)
    if (tool := tool_of(values)) is not None:
        return _of_log(values, tool, name, dialect, skipped)
    _refuse_export(values, name)
    if broken and not is_lenient:
        raise refused(broken[0])
    found = list(_conversations(values, name))
    if not found:
        raise TranscriptError(f"{name} holds no messages")
    return [_transcript(value, where, Path(name), dialect, skipped) for where, value in found]


def _refuse_export(values: Sequence[Located], name: str) -> None:
    """Raise TranscriptError with the way out if these are the lines of a session that was exported whole."""
    if values and isinstance(values[0][1], dict) and HEAD in values[0][1]:
        raise TranscriptError(
            f"{name} is a whole session, for `aloop sessions import`; its messages alone are written by "
            "`aloop sessions export SESSION --format openai` (or openai-responses, anthropic, gemini)"
        )


_BODY_KEYS: Final = ("messages", "contents", "input")
_SYSTEM_KEYS: Final = ("system", "system_instruction", "systemInstruction", "instructions")
_CORPUS_FORMATS: Final[Mapping[str, DialectName]] = {
    "openai": "openai_chat",
    "openai-responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
_TELLING_KEYS: Final[Mapping[str, DialectName]] = {
    "contents": "gemini",
    "input": "openai_responses",
    "instructions": "openai_responses",
    "system": "anthropic",
}
"""Key of a request body -> whose it is, for conversations that read the same in several formats."""
_ACCEPTED: Final = (
    "accepted are messages of OpenAI chat, OpenAI Responses, Anthropic and Gemini: a list of them, an object with "
    "'messages', 'contents' or 'input', or one of either on each line; and session logs of Claude Code, Codex and "
    "Gemini CLI"
)


# --- From JSON values to conversations --------------------------------------------------------------------------------


def _of_log(
    values: Sequence[Located], tool: Tool, name: str, dialect: DialectName | None, broken: tuple[str, ...]
) -> list[Transcript]:
    found = read_log_values(values, tool)
    if not found:
        raise TranscriptError(f"{name} is a log of {tool} in which nothing was said yet")
    if dialect is not None and dialect_named(dialect).name != found[0].dialect:
        raise TranscriptError(f"{name} cannot be read as {dialect}: it is a log of {tool}, read as {found[0].dialect}")
    id = _file_name(Path(name))
    if len(found) == 1:
        return [_of_recorded(found[0], id, name, tool, broken)]
    return [_of_recorded(one, f"{id}#{number}", one.where, tool, broken) for number, one in enumerate(found, start=1)]


def _of_recorded(one: Recorded, id: str, source: str, tool: Tool, broken: tuple[str, ...]) -> Transcript:
    return Transcript(
        id=id,
        source=source,
        dialect=one.dialect,
        messages=one.messages,
        system=one.system,
        model=one.model,
        skipped=broken + one.skipped,
        tool=tool,
        times=one.times,
        usages=one.usages,
    )


def _conversations(values: Sequence[Located], name: str) -> Iterator[Located]:
    """Yield each conversation as an object with a body; messages that stand alone make up one together."""
    loose: list[Any] = []
    for where, value in values:
        for item_where, item in _items(where, value):
            if not isinstance(item, Mapping):
                raise TranscriptError(f"{item_where} holds {_described(item)} where a message belongs; {_ACCEPTED}")
            _refuse_body_without_list(item, item_where)
            if _is_conversation(item):
                yield item_where, item
            else:
                loose.append(item)
    if loose:
        yield name, {"messages": loose}


def _refuse_body_without_list(value: Mapping[str, Any], where: str) -> None:
    """Refuse a request body such as `{"messages": "hi"}`, which would pass for a strange message."""
    if _is_conversation(value) or "role" in value or "type" in value:
        return
    for key in _BODY_KEYS:
        if key in value:
            raise TranscriptError(f"{where}: {key} is {_described(value[key])}, not a list of messages; {_ACCEPTED}")


def _items(where: str, value: Any) -> Iterator[Located]:
    if isinstance(value, list):
        yield from ((f"{where}[{index}]", item) for index, item in enumerate(value))
    else:
        yield where, value


def _is_conversation(value: Mapping[str, Any]) -> bool:
    # A custom tool call of the Responses API has an `input` too, which is a string beside a `type`.
    return any(isinstance(value.get(key), list) for key in _BODY_KEYS) or ("input" in value and "type" not in value)


def _transcript(
    value: Mapping[str, Any], where: str, path: Path, dialect: DialectName | None, skipped: tuple[str, ...]
) -> Transcript:
    header = _mapping(value.get("header"))
    key = next(key for key in _BODY_KEYS if key in value)
    messages = _messages(value[key], where)
    tools = value.get("tools")
    return Transcript(
        id=str(header.get("id") or value.get("id") or _file_name(path)),
        source=where,
        dialect=_dialect(messages, value.keys(), header.get("format"), dialect, where),
        messages=messages,
        system=next((value[key] for key in _SYSTEM_KEYS if value.get(key)), None),
        tools=[tool for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else None,
        model=next((m for m in (value.get("model"), header.get("model")) if isinstance(m, str) and m), None),
        skipped=skipped,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _file_name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def _messages(body: Any, where: str) -> tuple[Wire, ...]:
    if isinstance(body, str):  # the Responses API takes a plain text for a list of one
        body = [{"role": "user", "content": body}]
    if not isinstance(body, list) or not body:
        raise TranscriptError(f"{where} holds no messages")
    for index, message in enumerate(body):
        if not isinstance(message, Mapping):
            raise TranscriptError(f"{where}: message {index} is {_described(message)}; {_ACCEPTED}")
    return tuple(body)


def _dialect(
    messages: Sequence[Wire], keys: Set[str], corpus_format: object, wanted: DialectName | None, where: str
) -> DialectName:
    try:
        return _readable(messages, wanted or _dialect_found(messages, keys, corpus_format))
    except ConfigError:
        raise
    except AgentMemoryError as error:
        verdict = f"cannot be read as {wanted}" if wanted else "is in no known format"
        raise TranscriptError(f"{where} {verdict}: {error}") from error


def _dialect_found(messages: Sequence[Wire], keys: Set[str], corpus_format: object) -> DialectName:
    if isinstance(corpus_format, str) and corpus_format in _CORPUS_FORMATS:
        return _CORPUS_FORMATS[corpus_format]
    known = [one for one in messages if any(dialect.recognise(one) is not Fit.NO for dialect in DIALECTS.values())]
    if not known:
        raise MessageError(f"message 0 has the {_strange(messages[0])}; {_ACCEPTED}")
    # What is strange in one message, the format of the others can say best.
    detected = detect(known)
    if detected is not None:
        return detected.name
    return next((name for key, name in _TELLING_KEYS.items() if key in keys), "openai_chat")


def _strange(message: Wire) -> str:
    if isinstance(message.get("role"), str):
        return f"role {message['role'][:80]!r}"
    return f"keys {', '.join(map(str, message)) or '(none)'}"


def _readable(messages: Sequence[Wire], name: DialectName) -> DialectName:
    """Return the name, if every message can be read in that format."""
    dialect = dialect_named(name)
    for index, message in enumerate(messages):
        try:
            dialect.read(message)
        except MessageError as error:
            raise MessageError(f"message {index}: {error}") from error
    return dialect.name


def _described(value: object) -> str:
    match value:
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case _:
            return "null"
