"""Codex: ~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<id>.jsonl, a "rollout".

Each line is `{timestamp, type, payload}`: `response_item` is what the model was sent or answered, in the
format of OpenAI's Responses; `event_msg` is for the screen. Older files have the items bare behind a header line, the
oldest are one object with `session` and `items` (https://github.com/openai/codex/blob/main/codex-rs/protocol/src/
protocol.rs, `RolloutItem` and `CompactedItem`; models.rs, `ResponseItem`; 2026-10).

* `token_count` follows a response, before or after the results of its calls, and is repeated when rate limits change;
  `last_token_usage` is that response's, its input with the cached tokens, its output with the reasoning.
* `compacted` replaces the history: by `replacement_history`, in older files by a summary alone.
* `thread_rolled_back` takes the user's last turns back.
* Tools are not recorded; the instructions are, in `session_meta`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .recorded import Draft, Recorded, Tool, mapping_at, named, text_at, time_of

TOOL: Final[Tool] = "Codex"

_ENVELOPES: Final = frozenset({"session_meta", "response_item", "turn_context", "event_msg", "compacted"})
_MODEL_MADE: Final = frozenset(
    {"reasoning", "function_call", "custom_tool_call", "local_shell_call", "web_search_call"}
)
_BOOKKEEPING: Final = frozenset(
    {"inter_agent_communication_metadata", "realtime_item", "security_risk_score", "token_usage_record", "world_state"}
)
"""Lines of newer versions that hold nothing that a model was sent (codex-rs/history/src/rollout_payload.rs)."""
_OURS: Final = frozenset({"ghost_snapshot", "other"})
"""Items that Codex keeps for itself among those of the API."""


def wrote(values: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        (text_at(value, "type") in _ENVELOPES and isinstance(value.get("payload"), Mapping)) or _is_old(value)
        for value in values
    ) or (bool(values) and _is_old_header(values[0]))


def read(lines: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Recorded]:
    rollout = _Rollout()
    for where, kind, line in _lines(lines):
        rollout.take(where, kind, line)
    return [recorded for draft in rollout.drafts if (recorded := draft.recorded()) is not None]


def _is_old(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("session"), Mapping) and isinstance(value.get("items"), list)


def _is_old_header(value: Mapping[str, Any]) -> bool:
    return "type" not in value and {"id", "timestamp", "instructions"} <= value.keys()


def _lines(lines: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, object, Mapping[str, Any]]]:
    """Yield where each line stands, its type and itself, in today's form."""
    for where, line in lines:
        if _is_old(line):
            yield where, "session_meta", {"payload": line["session"]}
            items = (item for item in line["items"] if isinstance(item, Mapping))
            yield from ((where, "response_item", {"payload": item}) for item in items)
        elif isinstance(line.get("payload"), Mapping):
            yield where, line.get("type"), line
        elif _is_old_header(line):
            yield where, "session_meta", {**line, "payload": line}
        elif "record_type" not in line:
            yield where, "response_item", {**line, "payload": line}


class _Rollout:
    """The conversations of a rollout while it is read; the last one goes on."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self._is_first_meta = True
        self._model: str | None = None
        self._system: str | None = None
        self._response: int | None = None
        """Where the response begins whose usage is not told yet."""
        self._total: object = None
        self._turns: list[int] = []
        """Where each of the user's turns begins."""
        self._turn: int | None = None

    def take(self, where: str, kind: object, line: Mapping[str, Any]) -> None:
        payload = line["payload"]
        match kind:
            case "session_meta":
                self._take_meta(payload)
            case "turn_context":
                self._model = text_at(payload, "model") or self._model
            case "response_item":
                self._take_item(self._draft(where), payload, time_of(line))
            case "compacted":
                self._compact(where, payload, time_of(line))
            case "event_msg":
                self._take_event(self._draft(where), payload)
            case _ if not (isinstance(kind, str) and kind in _BOOKKEEPING):
                self._draft(where).leave_out(f"a line of the unknown type {named(kind)}")

    def _draft(self, where: str) -> Draft:
        if not self.drafts:
            self._begin(where)
        return self.drafts[-1]

    def _begin(self, where: str) -> Draft:
        draft = Draft("openai_responses", where)
        draft.system = self._system
        self.drafts.append(draft)
        self._response, self._turn, self._turns = None, None, []
        return draft

    def _take_meta(self, payload: Mapping[str, Any]) -> None:
        """Take the instructions. A fork repeats its parent's lines with their own header: the first one counts."""
        if self._system is None:
            self._system = text_at(payload, "instructions") or text_at(mapping_at(payload, "base_instructions"), "text")
        self._model = self._model or text_at(payload, "model")

    def _take_item(self, draft: Draft, item: Mapping[str, Any], at: float | None) -> None:
        if text_at(item, "type") in _OURS:
            return
        if _is_model_made(item):
            draft.model = draft.model or self._model
            self._response = len(draft.messages) if self._response is None else self._response
        draft.add(dict(item), at)

    def _compact(self, where: str, payload: Mapping[str, Any], at: float | None) -> None:
        draft = self._begin(where)
        history = payload.get("replacement_history")
        if isinstance(history, list):
            for item in history:
                if isinstance(item, Mapping):
                    draft.add(dict(item), at)
        elif (summary := text_at(payload, "message")) is not None:
            text = {"type": "input_text", "text": summary}
            draft.add({"type": "message", "role": "user", "content": [text]}, at)

    def _take_event(self, draft: Draft, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "token_count":
                self._report(draft, mapping_at(event, "info"))
            case "task_started" | "turn_started":
                self._turn = len(draft.messages)
            case "user_message" if self._turn is not None:
                self._turns.append(self._turn)
                self._turn = None
            case "thread_rolled_back":
                self._roll_back(draft, event.get("num_turns"))

    def _report(self, draft: Draft, info: Mapping[str, Any]) -> None:
        total, last = info.get("total_token_usage"), mapping_at(info, "last_token_usage")
        if not last or total == self._total:
            return
        self._total = total
        if self._response is not None:
            draft.report(self._response, _usage(last))
            self._response = None

    def _roll_back(self, draft: Draft, count: object) -> None:
        if not isinstance(count, int) or not 0 < count <= len(self._turns):
            return
        start = self._turns[-count]
        draft.leave_out("an item of a turn that was taken back", len(draft.messages) - start)
        draft.cut(start)
        del self._turns[-count:]
        self._response = None


def _is_model_made(item: Mapping[str, Any]) -> bool:
    return text_at(item, "type") in _MODEL_MADE or item.get("role") == "assistant"


def _usage(last: Mapping[str, Any]) -> dict[str, Any]:
    """Return Codex's own names in those of the API, which puts the parts apart."""
    return {
        "input_tokens": last.get("input_tokens"),
        "output_tokens": last.get("output_tokens"),
        "input_tokens_details": {
            "cached_tokens": last.get("cached_input_tokens"),
            "cache_write_tokens": last.get("cache_write_input_tokens"),
        },
        "output_tokens_details": {"reasoning_tokens": last.get("reasoning_output_tokens")},
    }
