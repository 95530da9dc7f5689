"""What Anthropic's messages accept, as far as a list of messages alone shows it.

Not judged, because the list does not show it: whether a thinking block is the one that the API returned (AN-8) and
after which prefix (AN-10), the request's `thinking` and `tools` (the rest of AN-9, AN-15, the second half of AN-16),
whether the model takes a prefilled answer (the second half of AN-7).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import Issue, Wire
from ._wire import Findings, Rule, shown

_TYPES = "https://github.com/anthropics/anthropic-sdk-python/blob/main/src/anthropic/types/"

RULES = (
    Rule(
        code="AN-0",
        severity="error",
        title="A message is an object with a role and content, and every field has the type that Anthropic documents.",
        source=f"{_TYPES}message_param.py",
    ),
    Rule(
        code="C-1",
        severity="error",
        title="The list holds at least one message.",
        source="https://github.com/danny-avila/LibreChat/issues/10408",
    ),
    Rule(
        code="C-2",
        severity="error",
        title="A tool_use id stands once (reused in a later turn: a warning), and a call gets one result.",
        source="https://github.com/BerriAI/litellm/issues/23510",
    ),
    Rule(
        code="C-6",
        severity="warning",
        title="Messages and blocks have no fields but the documented ones.",
        source="https://github.com/anthropics/claude-code/issues/4378",
    ),
    Rule(
        code="AN-1",
        severity="error",
        title="Each tool_use is answered in the next user message, each tool_result has its tool_use before it.",
        source="https://github.com/anthropics/claude-code/issues/1577, "
        "https://github.com/anthropics/claude-code/issues/13964",
    ),
    Rule(
        code="AN-2",
        severity="error",
        title="The message after tool_use blocks begins with their results; text comes behind.",
        source="https://github.com/apify/tester-mcp-client/issues/12",
    ),
    Rule(
        code="AN-3",
        severity="warning",
        title="A turn's calls, and their results, stand in one message; the server merges what is split.",
        source=f"{_TYPES}message_create_params.py",
    ),
    Rule(
        code="AN-4",
        severity="error",
        title="The first message is the user's, and there are at most 100,000.",
        source="https://github.com/anthropics/anthropic-sdk-typescript/issues/622 (Bedrock), "
        f"{_TYPES}message_create_params.py",
    ),
    Rule(
        code="AN-5",
        severity="error",
        title="Tool ids are made of letters, digits, underscores and hyphens.",
        source="https://github.com/langchain-ai/langchain (langchain_anthropic, _TOOL_CALL_ID_PATTERN)",
    ),
    Rule(
        code="AN-6",
        severity="error",
        title="No text block is empty, and no message but a final assistant's is without content or blank.",
        source="https://github.com/LibreChat-AI/agents/pull/124",
    ),
    Rule(
        code="AN-7",
        severity="warning",
        title="A final assistant text, sent as the start of the answer, does not end in whitespace.",
        source="https://github.com/langchain-ai/langchain (langchain_anthropic, chat_models.py)",
    ),
    Rule(
        code="AN-8",
        severity="warning",
        title="A thinking block carries the signature, a redacted one the data, by which the server knows it.",
        source=f"{_TYPES}thinking_block_param.py, {_TYPES}redacted_thinking_block_param.py",
    ),
    Rule(
        code="AN-9",
        severity="warning",
        title="With thinking switched on, an assistant message that has any begins with it and does not end in it.",
        source="https://github.com/anthropics/claude-code/issues/20691, "
        "https://github.com/tailcallhq/forgecode/issues/3071",
    ),
    Rule(
        code="AN-16",
        severity="warning",
        title="Thinking stands in the assistant's messages; Bedrock rejects it in the user's.",
        source="https://github.com/strands-agents/sdk-python (as_user_summary)",
    ),
    Rule(
        code="AN-11",
        severity="error",
        title="At most 4 blocks have cache_control, none of them thinking; no ttl of 1h follows one of 5m.",
        source="https://github.com/oguzbilgic/kern-ai/issues/317, "
        "https://github.com/headroomlabs-ai/headroom/issues/2939",
    ),
    Rule(
        code="AN-12",
        severity="error",
        title="A system message stands only after a user turn or a server tool's result, and is not empty.",
        source=f"{_TYPES}beta/beta_system_message_param.py, "
        "https://github.com/langchain-ai/langchain (langchain_anthropic, _previous_turn_allows_system)",
    ),
    Rule(
        code="AN-13",
        severity="warning",
        title="One compaction block has content, and nothing stands before it.",
        source=f"{_TYPES}compaction_block_misplaced_error_details.py, "
        f"{_TYPES}compaction_block_ambiguous_error_details.py",
    ),
    Rule(
        code="AN-14",
        severity="error",
        title="A server tool's result has its server_tool_use before it, and none is left behind without its result.",
        source="https://github.com/anthropics/claude-code/issues/64383, "
        "https://github.com/AnswerDotAI/lisette/issues/108",
    ),
)

THINKING = ("thinking", "redacted_thinking")  # no set: a block may have any junk for its type
_MESSAGES = 100_000
_BREAKPOINTS = 4
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_FIELDS = frozenset({"role", "content"})
_SYSTEM_FIELDS = _FIELDS | {"clear_at", "output_config"}
_BLOCK_FIELDS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "citations", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller", "toolset_name"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"}),
}


def check(messages: Sequence[Wire]) -> list[Issue]:
    """List the rules that these messages break, in their order."""
    return _Check(messages).run()


class _Check:
    """Walks the messages once, turn by turn: consecutive messages of one role are one turn, as for the server."""

    def __init__(self, messages: Sequence[Wire]) -> None:
        self._messages = messages
        self._found = Findings(RULES, "messages")
        self._previous: object = None
        # The calls of the latest assistant turn, and what of the user turn behind it was read so far.
        self._open: dict[str, tuple[int, int]] = {}
        self._answered: set[str] = set()
        self._answers_from: int | None = None
        self._has_spoken = False
        self._all_ids: set[str] = set()
        self._server_calls: dict[str, tuple[int, int]] = {}
        self._server_ids: set[str] = set()
        self._ends_in_server_result = False
        self._breakpoints = 0
        self._has_short_ttl = False
        self._compactions = 0

    def run(self) -> list[Issue]:
        if not self._messages:
            self._found.add_empty("C-1")
        if len(self._messages) > _MESSAGES:
            text = f"{len(self._messages):,} messages; allowed are {_MESSAGES:,}"
            self._found.add("AN-4", len(self._messages) - 1, text)
        for index, message in enumerate(self._messages):
            self._message(index, message)
        self._close_calls()
        if self._messages and self._previous == "assistant":
            self._final_text(len(self._messages) - 1)
        return self._found.in_order()

    def _message(self, index: int, message: Wire) -> None:
        role = message.get("role")
        match role:
            case "user":
                pass
            case "assistant":
                self._assistant_turn(index)
            case "system":
                self._system(index)
            case _:
                self._found.add("AN-0", index, f"the role is {shown(role)}", at=".role")
        allowed = _SYSTEM_FIELDS if role == "system" else _FIELDS
        if not message.keys() <= allowed:
            self._extra(index, "", message, allowed)
        self._content(index, message)
        self._previous = role

    def _assistant_turn(self, index: int) -> None:
        if index == 0:
            self._found.add("AN-4", index, "the first message is the assistant's")
        if self._previous != "assistant":
            self._close_calls()
        elif self._open:
            text = "the message before has tool_use blocks; the server merges both into one turn"
            self._found.add("AN-3", index, text)

    def _system(self, index: int) -> None:
        follows_user = self._previous == "user"
        follows_server = self._previous == "assistant" and self._ends_in_server_result
        if not (follows_user or follows_server):
            where = "first" if index == 0 else f"after {shown(self._previous)}"
            self._found.add("AN-12", index, f"a system message stands {where}; use the `system` parameter")

    def _close_calls(self) -> None:
        for id_, (index, number) in self._open.items():
            text = f"tool_use {shown(id_)} has no tool_result in the next user message"
            self._found.add("AN-1", index, text, at=f".content[{number}]")
        self._open.clear()
        self._answered.clear()
        self._answers_from = None
        self._has_spoken = False

    def _extra(self, index: int, at: str, value: Mapping[str, Any], allowed: frozenset[str]) -> None:
        extra = sorted(str(key) for key in value.keys() - allowed)
        self._found.add("C-6", index, f"unknown fields {shown(extra)}: Anthropic rejects them", at=at)

    def _content(self, index: int, message: Wire) -> None:
        content = message.get("content")
        is_final_answer = index == len(self._messages) - 1 and message.get("role") == "assistant"
        if isinstance(content, str):
            self._speak(message)
            if not is_final_answer and _is_blank(content):
                self._found.add("AN-6", index, "the message says nothing", at=".content")
        elif not isinstance(content, list | tuple):
            self._found.add("AN-0", index, f"content is {type(content).__name__}", at=".content")
        elif not content:
            if not is_final_answer:
                self._found.add("AN-6", index, "the message has no content", at=".content")
        else:
            self._blocks(index, message, content)

    def _blocks(self, index: int, message: Wire, blocks: Sequence[Any]) -> None:
        are_blank = True
        for number, block in enumerate(blocks):
            kind = block.get("type") if isinstance(block, Mapping) else None
            if not isinstance(kind, str):
                self._found.add("AN-0", index, "the block is no object with a type", at=f".content[{number}]")
                are_blank = False
                continue
            self._block(index, number, kind, block, message)
            are_blank = are_blank and kind == "text" and _is_blank(block.get("text"))
        self._thinking_order(index, blocks, message)
        if are_blank and all(block["text"] for block in blocks):
            self._found.add("AN-6", index, "the message holds nothing but whitespace", at=".content")

    def _block(self, index: int, number: int, kind: str, block: Mapping[str, Any], message: Wire) -> None:
        at = f".content[{number}]"
        allowed = _BLOCK_FIELDS.get(kind)
        if allowed is not None and not block.keys() <= allowed:
            self._extra(index, at, block, allowed)
        if block.get("cache_control"):
            self._breakpoint(index, at, block["cache_control"], kind)
        is_server_result = kind.endswith("_tool_result")
        self._ends_in_server_result = is_server_result
        if kind == "tool_result":
            self._result(index, at, block)
            return
        if kind == "tool_use":
            self._call(index, number, block)
        elif is_server_result:
            self._server_result(index, at, block)
        elif kind in ("server_tool_use", "mcp_tool_use"):
            self._server_call(index, number, block)
        elif kind == "text":
            self._text(index, at, block)
        elif kind in THINKING:
            self._thinking(index, at, block, message)
        elif kind == "compaction":
            self._compaction(index, number, block, message)
        self._speak(message)

    def _speak(self, message: Wire) -> None:
        """Note that the turn has content of its own: results may not come behind it, server calls not stay open."""
        if message.get("role") == "assistant":
            return
        self._has_spoken = True
        if not self._answered and not self._open:
            for id_, (index, number) in self._server_calls.items():
                text = f"server tool use {shown(id_)} has no result"
                self._found.add("AN-14", index, text, at=f".content[{number}]")
            self._server_calls.clear()

    def _call(self, index: int, number: int, block: Mapping[str, Any]) -> None:
        at = f".content[{number}]"
        id_ = block.get("id")
        if not isinstance(block.get("input"), Mapping) or not isinstance(block.get("name"), str):
            self._found.add("AN-0", index, "a tool_use needs a name and an input that is an object", at=at)
        if not isinstance(id_, str):
            self._found.add("AN-0", index, f"the id is {type(id_).__name__}, not text", at=at)
            return
        if id_ in self._open:
            self._found.add("C-2", index, f"another call of this turn has the id {shown(id_)} too", at=at)
        elif id_ in self._all_ids:
            text = f"an earlier turn has a call {shown(id_)} too"
            self._found.add("C-2", index, text, at=at, severity="warning")
        self._all_ids.add(id_)
        self._open[id_] = (index, number)
        self._check_id(index, at, id_)

    def _check_id(self, index: int, at: str, id_: str) -> None:
        if not _ID.fullmatch(id_):
            self._found.add("AN-5", index, f"the id is {shown(id_)}; allowed are letters, digits, _ and -", at=at)

    def _result(self, index: int, at: str, block: Mapping[str, Any]) -> None:
        id_ = block.get("tool_use_id")
        self._result_content(index, at, block.get("content"))
        if not isinstance(id_, str):
            self._found.add("AN-0", index, f"tool_use_id is {type(id_).__name__}, not text", at=at)
        elif self._open.pop(id_, None) is not None:
            self._answered.add(id_)
            self._place_result(index, at, id_)
        elif id_ in self._answered:
            self._found.add("C-2", index, f"a second result for call {shown(id_)}", at=at)
        else:
            self._found.add("AN-1", index, f"no tool_use {shown(id_)} in the message before", at=at)

    def _place_result(self, index: int, at: str, id_: str) -> None:
        if self._has_spoken:
            self._found.add("AN-2", index, f"the result of {shown(id_)} stands behind other content", at=at)
        elif self._answers_from not in (None, index):
            text = f"results of the same turn stand in messages[{self._answers_from}] too"
            self._found.add("AN-3", index, text, at=at)
        if self._answers_from is None:
            self._answers_from = index

    def _result_content(self, index: int, at: str, content: object) -> None:
        if content is None or isinstance(content, str):
            return
        if not isinstance(content, list | tuple):
            self._found.add("AN-0", index, f"the result's content is {type(content).__name__}", at=at)
            return
        for number, block in enumerate(content):
            inner = f"{at}.content[{number}]"
            if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
                # Some agents keep a tool's own objects here and turn them into text when they send.
                self._found.add("AN-0", index, "the block has no type", at=inner, severity="warning")
            elif block["type"] == "text" and not block.get("text"):
                # Only top-level blocks are seen rejected in public.
                self._found.add("AN-6", index, "an empty text block", at=inner, severity="warning")
            elif block.get("cache_control"):
                text = "a cache breakpoint inside a tool_result; set it on the tool_result itself"
                self._found.add("AN-11", index, text, at=inner, severity="warning")

    def _server_call(self, index: int, number: int, block: Mapping[str, Any]) -> None:
        if isinstance(id_ := block.get("id"), str):
            self._server_calls[id_] = (index, number)
            self._server_ids.add(id_)

    def _server_result(self, index: int, at: str, block: Mapping[str, Any]) -> None:
        id_ = block.get("tool_use_id")
        if not isinstance(id_, str) or id_ not in self._server_ids:
            text = f"no server tool use {shown(id_)} before this {block['type']}"
            self._found.add("AN-14", index, text, at=at)
        else:
            self._server_calls.pop(id_, None)

    def _text(self, index: int, at: str, block: Mapping[str, Any]) -> None:
        text = block.get("text")
        if not isinstance(text, str):
            self._found.add("AN-0", index, f"text is {type(text).__name__}", at=at)
        elif not text:
            self._found.add("AN-6", index, "an empty text block", at=at)

    def _thinking_order(self, index: int, blocks: Sequence[Any], message: Wire) -> None:
        is_thinking = [isinstance(block, Mapping) and block.get("type") in THINKING for block in blocks]
        if message.get("role") != "assistant" or not any(is_thinking):
            return
        if not is_thinking[0]:
            self._found.add("AN-9", index, "thinking stands behind other content of its message", at=".content[0]")
        elif is_thinking[-1]:
            self._found.add("AN-9", index, "the message ends in thinking", at=f".content[{len(blocks) - 1}]")

    def _thinking(self, index: int, at: str, block: Mapping[str, Any], message: Wire) -> None:
        field = "signature" if block["type"] == "thinking" else "data"
        if not block.get(field):
            self._found.add("AN-8", index, f"a {block['type']} block without {field}", at=at)
        if message.get("role") == "user":
            self._found.add("AN-16", index, f"a {block['type']} block in a message of the user", at=at)

    def _compaction(self, index: int, number: int, block: Mapping[str, Any], message: Wire) -> None:
        at = f".content[{number}]"
        if message.get("role") == "system":
            self._found.add("AN-13", index, "a compaction block in a system message", at=at, severity="error")
        if block.get("content") is None:
            return  # a compaction that failed; the server passes over it
        self._compactions += 1
        if self._compactions > 1:
            self._found.add("AN-13", index, "a second compaction block with content", at=at)
        if index or number:
            self._found.add("AN-13", index, "what stands before a compaction block is ignored", at=at)

    def _breakpoint(self, index: int, at: str, mark: object, kind: str) -> None:
        self._breakpoints += 1
        if self._breakpoints == _BREAKPOINTS + 1:
            self._found.add("AN-11", index, f"the {self._breakpoints}th cache breakpoint", at=at)
        if kind in THINKING:
            self._found.add("AN-11", index, "a cache breakpoint on thinking", at=at)
        is_long = isinstance(mark, Mapping) and mark.get("ttl") == "1h"
        if is_long and self._has_short_ttl:
            self._found.add("AN-11", index, "a breakpoint of 1h behind one of 5m", at=at)
        self._has_short_ttl = self._has_short_ttl or not is_long

    def _final_text(self, index: int) -> None:
        content = self._messages[index].get("content")
        last = content[-1] if isinstance(content, list | tuple) and content else content
        text = last.get("text") if isinstance(last, Mapping) else last
        if isinstance(text, str) and text[-1:].isspace():
            self._found.add("AN-7", index, "the final text ends in whitespace", at=".content")


def _is_blank(text: object) -> bool:
    return isinstance(text, str) and (not text or text.isspace())
