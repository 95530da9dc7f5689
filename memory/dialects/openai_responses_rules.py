"""What OpenAI's Responses accept, as far as a list of input items alone shows it.

Not judged, because the list does not show it: whether `store` is off and what the server still holds (OR-6, OR-10),
whether an item's id was made after reasoning that is gone (OR-4), how `truncation` is set (OR-12).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..messages import Issue, Wire
from ._wire import Findings, Rule, shown
from .openai_responses_items import ASYNC_KINDS, CALLS, RESULTS, result_id

_TYPES = "https://github.com/openai/openai-python/blob/main/src/openai/types/responses/"
_ITEMS = f"{_TYPES}response_input_item_param.py"

RULES = (
    Rule(
        code="OR-0",
        severity="error",
        title="An item is an object with a type or a role, and its required fields have the documented types.",
        source=_ITEMS,
    ),
    Rule(
        code="C-2",
        severity="error",
        title="A call id stands once among the calls that are open, and a call gets one output.",
        source="https://github.com/OpenHands/software-agent-sdk (observation_uniqueness.py)",
    ),
    Rule(
        code="OR-1",
        severity="error",
        title="An output has its call before it in the input.",
        source="https://github.com/earendil-works/pi/issues/6832",
    ),
    Rule(
        code="OR-2",
        severity="error",
        title="A call has its output in the input.",
        source="https://github.com/router-for-me/CLIProxyAPI/issues/2368",
    ),
    Rule(
        code="OR-3",
        severity="error",
        title="A reasoning item is followed by the item that it produced.",
        source="https://github.com/openai/openai-node/issues/1567",
    ),
    Rule(
        code="OR-5",
        severity="error",
        title="A reasoning item has a summary, which may be the empty list.",
        source="https://github.com/newo-ether/Agora/issues/141",
    ),
    Rule(
        code="OR-7",
        severity="warning",
        title="Items before a compaction item are still read and billed.",
        source="https://github.com/pydantic/pydantic-ai/issues/7224",
    ),
    Rule(
        code="OR-8",
        severity="error",
        title="An MCP approval request and its response stand together.",
        source="https://github.com/openai/openai-agents-python (run_internal/items.py)",
    ),
    Rule(
        code="OR-9",
        severity="error",
        title="The input holds at least one item.",
        source="https://github.com/pydantic/pydantic-ai (models/openai/_responses_model.py)",
    ),
    Rule(
        code="OR-13",
        severity="warning",
        title="A user's parts are input_*, an assistant's output_text or refusal.",
        source=f"{_TYPES}response_output_message_param.py",
    ),
)

_ROLES = frozenset({"user", "assistant", "system", "developer"})
_INPUT_PARTS = frozenset({"input_text", "input_image", "input_file", "input_audio"})
_OUTPUT_PARTS = frozenset({"output_text", "refusal"})


def check(messages: Sequence[Wire]) -> list[Issue]:
    """List the rules that these items break, in their order."""
    return _Check(messages).run()


class _Check:
    """Walks the items once; calls stay open until their output comes, wherever that is."""

    def __init__(self, items: Sequence[Wire]) -> None:
        self._items = items
        self._found = Findings(RULES, "input")
        self._open: dict[str, int] = {}
        self._answered: set[str] = set()
        self._reasoning: int | None = None
        # What a reference stands for is known to the server alone: it may well be the missing call.
        self._has_references = any(item.get("type") == "item_reference" for item in items)

    def run(self) -> list[Issue]:
        if not self._items:
            self._found.add_empty("OR-9")
        for index, item in enumerate(self._items):
            self._item(index, item)
        self._end_reasoning()
        for id_, index in self._open.items():
            self._report_open(id_, index)
        return self._found.in_order()

    def _item(self, index: int, item: Wire) -> None:
        kind = item.get("type", "message" if "role" in item else None)
        if not isinstance(kind, str):
            self._found.add("OR-0", index, "the item has neither a type nor a role")
            return
        if kind in RESULTS or (kind == "message" and item.get("role") != "assistant"):
            self._end_reasoning()
        if kind == "reasoning":
            self._reasoning = index
            if not isinstance(item.get("summary"), list | tuple):
                self._found.add("OR-5", index, "summary is missing; it may be []", at=".summary")
        else:
            self._reasoning = None
        if kind == "message":
            self._message(index, item)
        elif kind in CALLS:
            self._call(index, kind, item)
        elif kind in RESULTS:
            self._result(index, kind, item)
        elif kind == "compaction" and index:
            text = f"the {index} items before this compaction item are still billed; drop them"
            self._found.add("OR-7", index, text)

    def _end_reasoning(self) -> None:
        if self._reasoning is not None:
            self._found.add("OR-3", self._reasoning, "nothing that this reasoning produced follows it")
            self._reasoning = None

    def _message(self, index: int, item: Wire) -> None:
        role, content = item.get("role"), item.get("content")
        if not isinstance(role, str) or role not in _ROLES:
            self._found.add("OR-0", index, f"the role is {shown(role)}", at=".role")
        elif isinstance(content, list | tuple):
            self._parts(index, role, content)
        elif not isinstance(content, str):
            self._found.add("OR-0", index, f"content is {type(content).__name__}", at=".content")

    def _parts(self, index: int, role: str, parts: Sequence[object]) -> None:
        misplaced = _INPUT_PARTS if role == "assistant" else _OUTPUT_PARTS
        for number, part in enumerate(parts):
            kind = part.get("type") if isinstance(part, Mapping) else None
            if not isinstance(kind, str):
                self._found.add("OR-0", index, "the part is no object with a type", at=f".content[{number}]")
            elif kind in misplaced:
                text = f"a part of type {shown(kind)} in a message of the {role}"
                self._found.add("OR-13", index, text, at=f".content[{number}]")

    def _call(self, index: int, kind: str, item: Wire) -> None:
        shape = CALLS[kind]
        id_ = item.get(shape.id)
        if id_ is None and kind == "tool_search_call":
            return  # ran on the server, which knows its own output
        if not isinstance(id_, str):
            self._found.add("OR-0", index, f"{shape.id} is {type(id_).__name__}, not text", at=f".{shape.id}")
            return
        if id_ in self._open:
            self._found.add("C-2", index, f"an earlier call with the id {shown(id_)} is still open")
        self._open[id_] = index
        for field in filter(None, (shape.name, "arguments" if kind == "function_call" else None)):
            if not isinstance(item.get(field), str):
                self._found.add("OR-0", index, f"{field} is {type(item.get(field)).__name__}, not text", at=f".{field}")

    def _result(self, index: int, kind: str, item: Wire) -> None:
        id_ = result_id(kind, item)
        if id_ is None and kind in ("function_call_output", "tool_search_output"):
            return  # what a tool reports unasked; the SDK's types let the id out
        if not isinstance(id_, str):
            self._found.add("OR-0", index, "the output names no call")
        elif self._open.pop(id_, None) is not None:
            self._answered.add(id_)
        elif id_ in self._answered:
            self._found.add("C-2", index, f"a second output for call {shown(id_)}")
        elif not self._has_references:
            code = "OR-8" if kind == "mcp_approval_response" else "OR-1"
            self._found.add(code, index, f"no call {shown(id_)} before this {kind}")

    def _report_open(self, id_: str, index: int) -> None:
        item = self._items[index]
        kind = item.get("type")
        if kind in ASYNC_KINDS or item.get("async") or self._has_references:
            return
        code = "OR-8" if kind == "mcp_approval_request" else "OR-2"
        self._found.add(code, index, f"{kind} {shown(id_)} has no output")
