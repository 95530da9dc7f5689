"""What OpenAI's Responses API refuses. Written without a look at the rules of `memory.dialects`, to check them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final

from ...messages import Wire
from .formats import Refusal
from .openai_errors import long_string, missing, tools_problems, wrong_type, wrong_value

_ROLES: Final = ("assistant", "system", "developer", "user")
_OUTPUTS: Final[Mapping[str, str]] = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}
_CALL_OF: Final = {output: call for call, output in _OUTPUTS.items()}
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "function_call": ("call_id", "name", "arguments"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "function_call_output": ("output",),
    "computer_call_output": ("call_id", "output"),
    "reasoning": ("id", "summary"),
    "item_reference": ("id",),
}
_TEXTS: Final = frozenset({"call_id", "name", "arguments", "input", "id"})
_CALL_ID_LENGTH: Final = 64
_PARTS: Final[Mapping[bool, tuple[str, ...]]] = {
    True: ("output_text", "refusal"),
    False: ("input_text", "input_image", "input_file", "input_audio"),
}
"""By whether the assistant speaks. openai: types/responses/response_input_item_param.py"""
_PREFIXES: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_NEVER_TWICE: Final = frozenset({"message", "function_call"})
_MADE_BY_USERS: Final = frozenset({"item_reference", "mcp_approval_response", *_CALL_OF})


class Issued:
    """The items that the simulator has given out: which are stored, and which reasoning each of them needs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stored: set[str] = set()
        self._payloads: dict[str, str] = {}
        self._reasoning_of: dict[str, str] = {}

    def note(self, items: Sequence[Wire], *, is_stored: bool) -> None:
        """Remember the items of one response."""
        with self._lock:
            before: Wire = {}
            for item in items:
                if before.get("type") == "reasoning" and item["type"] != "reasoning":
                    self._reasoning_of[item["id"]] = before["id"]
                if item["type"] == "reasoning":
                    self._payloads[item["id"]] = item["encrypted_content"]
                if is_stored:
                    self._stored.add(item["id"])
                before = item

    def is_stored(self, id_: str) -> bool:
        """Whether a later request may refer to the item by its id."""
        return id_ in self._stored

    def reasoning_of(self, id_: object) -> str | None:
        """Return the id of the reasoning that an item came with."""
        return self._reasoning_of.get(id_) if isinstance(id_, str) else None

    def is_forged(self, item: Wire) -> bool:
        """Whether the payload of a reasoning item is another than the one that was given out."""
        known = self._payloads.get(item["id"])
        payload = item.get("encrypted_content")
        return known is not None and bool(payload) and payload != known


def judge(body: Mapping[str, Any], *, before: Sequence[Wire], issued: Issued) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer.

    `before` is what is stored under the request's `previous_response_id`.
    """
    return next(_problems(body, before, issued), None)


def _problems(body: Mapping[str, Any], before: Sequence[Wire], issued: Issued) -> Iterator[Refusal]:
    given = body.get("input")
    if not given and not before and not body.get("conversation") and not body.get("prompt"):
        # https://github.com/pydantic/pydantic-ai/pull/3470 shows that it is refused
        message = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."
        yield Refusal(message=message, code="missing_required_parameter", param="input", rule="OR-9")
    if isinstance(given, list):
        for index, item in enumerate(given):
            yield from _item_problems(f"input[{index}]", item)
        yield from _reference_problems(given, body, issued)
        yield from _duplicate_problems(given)
        yield from _pair_problems([*before, *given])
        yield from _reasoning_problems([*before, *given], issued)
    elif given is not None and not isinstance(given, str):
        yield wrong_type("input", "one of a string or array of objects", given, "OR-0")
    yield from tools_problems(body, nested=False)


def _item_problems(path: str, item: Any) -> Iterator[Refusal]:
    if not isinstance(item, Mapping):
        yield wrong_type(path, "an object", item, "OR-0")
        return
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind is None:
        yield missing(f"{path}.type", "OR-0")
    elif not isinstance(kind, str):
        yield wrong_type(f"{path}.type", "a string", kind, "OR-0")
    elif kind == "message":
        yield from _message_problems(path, item)
    else:
        yield from _field_problems(path, kind, item)
    yield from _id_problems(path, kind, item)


def _message_problems(path: str, item: Wire) -> Iterator[Refusal]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        yield wrong_value(f"{path}.role", role, _ROLES, "OR-0")
    elif isinstance(content, list):
        for number, part in enumerate(content):
            yield from _part_problems(f"{path}.content[{number}]", role == "assistant", part)
    elif not isinstance(content, str):
        yield wrong_type(f"{path}.content", "one of an array of objects or string", content, "OR-0")


def _part_problems(path: str, is_assistant: bool, part: Any) -> Iterator[Refusal]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind is None:
        yield missing(f"{path}.type", "OR-0")
    elif kind not in _PARTS[is_assistant]:
        yield wrong_value(path, kind, _PARTS[is_assistant], "OR-13")


def _field_problems(path: str, kind: str, item: Wire) -> Iterator[Refusal]:
    for name in _REQUIRED.get(kind, ()):
        value = item.get(name)
        if value is None:
            # https://github.com/AAswordman/Operit/issues/797 (summary)
            yield missing(f"{path}.{name}", "OR-5" if kind == "reasoning" else "OR-0")
        elif name in _TEXTS and not isinstance(value, str):
            yield wrong_type(f"{path}.{name}", "a string", value, "OR-0")
    call_id = item.get("call_id")
    if kind == "function_call_output" and call_id is None and item.get("name") is None:
        yield missing(f"{path}.call_id", "OR-0")
    if isinstance(call_id, str) and len(call_id) > _CALL_ID_LENGTH:
        yield long_string(f"{path}.call_id", _CALL_ID_LENGTH, len(call_id))


def _id_problems(path: str, kind: object, item: Wire) -> Iterator[Refusal]:
    prefix, id_ = _PREFIXES.get(str(kind)), item.get("id")
    if prefix and isinstance(id_, str) and not id_.startswith(prefix):
        # https://github.com/continuedev/continue/issues/11494, https://github.com/openai/codex/issues/33176
        message = f"Invalid '{path}.id': '{id_}'. Expected an ID that begins with '{prefix}'."
        yield Refusal(message=message, code="invalid_value", param=f"{path}.id")


def _reference_problems(items: Sequence[Wire], body: Wire, issued: Issued) -> Iterator[Refusal]:
    """What is given by id alone must be stored (OR-6)."""
    for item in items:
        is_bare = item.get("type") == "item_reference" or (
            item.get("type") == "reasoning" and not item.get("encrypted_content") and body.get("store") is False
        )
        if is_bare and not issued.is_stored(item["id"]):
            # https://github.com/vercel/ai/issues/7543; 404: https://github.com/can1357/oh-my-pi/issues/41
            message = (
                f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false. Try "
                "again with `store` set to true, or remove this item from your input."
            )
            yield Refusal(status=404, message=message, param="input", rule="OR-6")
        if item.get("type") == "reasoning" and issued.is_forged(item):
            message = f"The encrypted content for item {item['id']} could not be verified."
            yield Refusal(message=message, code="invalid_encrypted_content", param="input", rule="OR-6")


def _duplicate_problems(items: Sequence[Wire]) -> Iterator[Refusal]:
    seen: set[str] = set()
    for id_ in (item["id"] for item in items if item.get("type") in _NEVER_TWICE and isinstance(item.get("id"), str)):
        if id_ in seen:
            # https://github.com/vercel/ai/issues/13307
            message = f"Duplicate item found with id {id_}. Remove duplicate items from your input and try again."
            yield Refusal(message=message, param="input")
        seen.add(id_)


def _pair_problems(items: Sequence[Wire]) -> Iterator[Refusal]:
    """Each call has its output behind it, each output its call before it; anything may stand between."""
    awaited: Counter[tuple[str, str]] = Counter()
    by_reference = any(item.get("type") == "item_reference" for item in items)
    for item in items:
        kind, call_id = str(item.get("type")), item.get("call_id")
        if kind in _OUTPUTS and isinstance(call_id, str) and not item.get("async"):
            awaited[kind, call_id] += 1
        elif kind in _CALL_OF and isinstance(call_id, str):
            if awaited[_CALL_OF[kind], call_id]:
                awaited[_CALL_OF[kind], call_id] -= 1
            elif not by_reference:
                yield _no_call(kind, call_id)
    for kind, call_id in awaited.elements():
        # https://github.com/symgraph/GhidrAssist/issues/78
        message = f"No tool output found for {_spoken(kind)} {call_id}."
        yield Refusal(message=message, param="input", rule="OR-2")


def _no_call(kind: str, call_id: str) -> Refusal:
    # https://github.com/continuedev/continue/issues/10092
    message = f"No tool call found for {_spoken(_CALL_OF[kind])} output with call_id {call_id}."
    return Refusal(message=message, param="input", rule="OR-1")


def _spoken(kind: str) -> str:
    return kind.replace("_", " ")


def _reasoning_problems(items: Sequence[Wire], issued: Issued) -> Iterator[Refusal]:
    """Reasoning stands before what it produced, and that does not stand without it."""
    seen: set[object] = set()
    for index, item in enumerate(items):
        if item.get("type") == "reasoning":
            seen.add(item["id"])
            if not _is_followed(items[index + 1 :]):
                # https://github.com/continuedev/continue/issues/8933
                message = f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
                yield Refusal(message=message, param="input", rule="OR-3")
        elif item.get("type") == "item_reference":
            seen.add(item["id"])
        needed = issued.reasoning_of(item.get("id"))
        if needed is not None and needed not in seen:
            # https://github.com/continuedev/continue/issues/10018
            message = (
                f"Item '{item['id']}' of type '{item.get('type', 'message')}' was provided without its required "
                f"'reasoning' item: '{needed}'."
            )
            yield Refusal(message=message, param="input", rule="OR-4")


def _is_followed(rest: Sequence[Wire]) -> bool:
    following = next((item for item in rest if item.get("type") != "reasoning"), None)
    if following is None or following.get("type") in _MADE_BY_USERS - {"item_reference"}:
        return False
    return bool(following.get("role", "assistant") == "assistant")
