"""Gemini CLI: ~/.gemini/tmp/<project>/chats/session-*.json, newer ones .jsonl; subagents in a folder below.

A record is what the screen shows of a message, not the message: `user` and `gemini` hold the text or the parts, and a
`gemini` record holds the calls together with their results. Contents are rebuilt from that. The older file is one
object that is written anew; the newer one grows by lines, each a whole record (the last of an id counts), `$set` for
fields, or `$rewindTo` (https://github.com/google-gemini/gemini-cli/blob/main/packages/core/src/services/
chatRecordingService.ts and chatRecordingTypes.ts, 2026-05).

* `$set.messages` is the history as the tool has changed it. Where records are gone, the tool compressed: a new
  conversation. Where only results were masked, the records stay as they were.
* `tokens.input` contains `cached`; `output` leaves out `thoughts`.
* System prompt, tools and thought signatures are not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from .recorded import Draft, Recorded, Tool, mapping_at, named, text_at, time_of

TOOL: Final[Tool] = "Gemini CLI"

_Record: TypeAlias = Mapping[str, Any]
_SHOWN_ONLY: Final = frozenset({"info", "error", "warning"})


def wrote(values: Sequence[Mapping[str, Any]]) -> bool:
    return any(_is_session(value) for value in values)


def read(lines: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Recorded]:
    session = _Session()
    for where, line in lines:
        session.take(where, line)
    found = (_recorded(*history) for history in session.histories())
    return [recorded for recorded in found if recorded is not None]


def _is_session(value: Mapping[str, Any]) -> bool:
    if not isinstance(value.get("sessionId"), str):
        return False
    messages = value.get("messages")
    is_record = isinstance(messages, list) and any(
        isinstance(one, Mapping) and one.get("type") in ("user", "gemini") and "role" not in one for one in messages
    )
    return is_record or "projectHash" in value


class _Session:
    """The records of a session as they stand after each line."""

    def __init__(self) -> None:
        self._closed: list[tuple[str, list[_Record]]] = []
        self._where = ""
        self._records: dict[str, _Record] = {}

    def histories(self) -> Iterator[tuple[str, list[_Record]]]:
        yield from self._closed
        yield self._where, list(self._records.values())

    def take(self, where: str, line: Mapping[str, Any]) -> None:
        self._where = self._where or where
        if (target := text_at(line, "$rewindTo")) is not None:
            self._rewind(target)
        elif isinstance(messages := (mapping_at(line, "$set") or line).get("messages"), list):
            self._replace(where, [one for one in messages if isinstance(one, Mapping)])
        elif (id := text_at(line, "id")) is not None:
            self._records[id] = line

    def _rewind(self, target: str) -> None:
        """Forget the record and those behind it; all of them where it is unknown, as the tool itself does."""
        ids = list(self._records)
        for id in ids[ids.index(target) if target in self._records else 0 :]:
            del self._records[id]

    def _replace(self, where: str, messages: Sequence[_Record]) -> None:
        after = {text_at(one, "id") or f"{where}#{number}": one for number, one in enumerate(messages)}
        if self._records.keys() <= after.keys():
            self._records = {id: self._records.get(id, one) for id, one in after.items()}
        else:
            self._closed.append((self._where, list(self._records.values())))
            self._where, self._records = where, after


def _recorded(where: str, records: Sequence[_Record]) -> Recorded | None:
    draft = Draft("gemini", where)
    for number, record in enumerate(records):
        match text_at(record, "type"):
            case "user":
                _add(draft, "user", _parts(record.get("content")), time_of(record))
            case "gemini":
                is_answered = number + 1 < len(records) and _has(_parts(records[number + 1].get("content")), "Response")
                _add_answer(draft, record, is_answered)
            case kind if kind not in _SHOWN_ONLY:
                draft.leave_out(f"a record of the unknown type {named(kind)}")
    return draft.recorded()


def _add_answer(draft: Draft, record: _Record, is_answered: bool) -> None:
    """Add what the model said and called, and the results, unless the next record holds them."""
    at, calls = time_of(record), [call for call in _list(record.get("toolCalls")) if isinstance(call, Mapping)]
    draft.model = draft.model or text_at(record, "model")
    parts = _parts(record.get("content"))
    if not _has(parts, "Call"):
        parts += [{"functionCall": {key: call[key] for key in ("id", "name", "args") if key in call}} for call in calls]
    _add(draft, "model", parts, at)
    if parts:
        draft.report(len(draft.messages) - 1, _usage(mapping_at(record, "tokens")))
    if not is_answered:
        results = [part for call in calls for part in _parts(call.get("result"))]
        _add(draft, "user", results, max((time for call in calls if (time := time_of(call))), default=at))


def _add(draft: Draft, role: str, parts: list[Mapping[str, Any]], at: float | None) -> None:
    """Add parts; behind those of the same role they join them: results and a prompt, a text and its calls."""
    if not parts:
        return
    if draft.messages and draft.messages[-1]["role"] == role:
        draft.messages[-1]["parts"] += parts
        draft.touch(len(draft.messages) - 1, at)
    else:
        draft.add({"role": role, "parts": parts}, at)


def _parts(content: object) -> list[Mapping[str, Any]]:
    """Return the parts of a content, which the tool writes as a text, a part, or a list of either."""
    found: list[Mapping[str, Any]] = []
    for one in _list(content):
        if isinstance(one, str) and one:
            found.append({"text": one})
        elif isinstance(one, Mapping) and one:
            found.append(one)
    return found


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _has(parts: Sequence[Mapping[str, Any]], kind: str) -> bool:
    return any(f"function{kind}" in part for part in parts)


def _usage(tokens: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the CLI's names in those of the API."""
    if not tokens:
        return None
    return {
        "prompt_token_count": tokens.get("input"),
        "candidates_token_count": tokens.get("output"),
        "cached_content_token_count": tokens.get("cached"),
        "thoughts_token_count": tokens.get("thoughts"),
        "tool_use_prompt_token_count": tokens.get("tool"),
    }
