"""What Anthropic's Messages API refuses. Written without a look at the rules of `memory.dialects`, to check them.

What signed thinking must satisfy stands in `anthropic_thinking`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .anthropic_tools import cache_problems, tools_problems
from .formats import Refusal

_MESSAGES: Final = 100_000
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_ROLES: Final = ("user", "assistant", "system")
_FIELDS: Final = frozenset({"role", "content"})
_SYSTEM_FIELDS: Final = frozenset({"role", "content", "clear_at", "output_config"})
_BY_ASSISTANT: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use", "thinking", "redacted_thinking"})
_WITHOUT_PREFILL: Final = re.compile(r"claude-(?:opus|sonnet)-4-[6-9]|claude-[a-z]+-5")
"""https://github.com/smallmain/vscode-unify-chat-provider/issues/249 (Opus 4.8),
https://github.com/Tarquinen/opencode-dynamic-context-pruning/issues/520 (Sonnet 4.6)"""

Blocks = list[Mapping[str, Any]]


def judge(
    body: Mapping[str, Any], *, needs_max_tokens: bool = True, betas: frozenset[str] = frozenset()
) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    return next(_problems(body, needs_max_tokens, betas), None)


def _problems(body: Mapping[str, Any], needs_max_tokens: bool, betas: frozenset[str]) -> Iterator[Refusal]:
    if needs_max_tokens:
        yield from _max_tokens_problems(body)
    yield from _system_problems(body.get("system"))
    messages = body.get("messages")
    if messages is None:
        yield _no("messages: Field required")
    elif not isinstance(messages, list):
        yield _no("messages: Input should be a valid list")
    elif not messages:
        # https://github.com/langchain-ai/langchain/issues/31657
        yield _no("messages: at least one message is required", "C-1")
    else:
        yield from _list_problems(messages, str(body.get("model")), betas)
    yield from tools_problems(body.get("tools"))
    yield from cache_problems(body)


def _no(message: str, rule: str = "") -> Refusal:
    return Refusal(message=message, rule=rule)


def _max_tokens_problems(body: Mapping[str, Any]) -> Iterator[Refusal]:
    value = body.get("max_tokens")
    if value is None:
        yield _no("max_tokens: Field required")
    elif not isinstance(value, int) or isinstance(value, bool):
        yield _no("max_tokens: Input should be a valid integer")
    elif value < 1:
        yield _no("max_tokens: Input should be greater than or equal to 1")
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    if isinstance(budget, int) and isinstance(value, int) and value <= budget:
        # https://github.com/ProfSynapse/nexus/issues/17
        yield _no("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _system_problems(system: Any) -> Iterator[Refusal]:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        yield _no("system: Input should be a valid list")
        return
    for block in system:
        if not isinstance(block, Mapping) or block.get("type") != "text":
            yield _no("system: Input should be a text block")
        elif not block.get("text"):
            yield _no("system: text content blocks must be non-empty", "AN-6")


def _list_problems(messages: Sequence[Any], model: str, betas: frozenset[str]) -> Iterator[Refusal]:
    if len(messages) > _MESSAGES:
        yield _no(f"messages: at most {_MESSAGES} messages are allowed", "AN-4")
    for index, message in enumerate(messages):
        yield from _message_problems(index, message, is_last=index == len(messages) - 1)
    yield from _role_problems(messages)
    yield from _pair_problems(messages)
    yield from _server_tool_problems(messages)
    yield from _ending_problems(messages, model)
    if any(beta.startswith("compact-2026-09") for beta in betas):
        yield from _compaction_problems(messages)


# --- One message ------------------------------------------------------------------------------------------------------


def _message_problems(index: int, message: Any, *, is_last: bool) -> Iterator[Refusal]:
    at = f"messages.{index}"
    if not isinstance(message, Mapping):
        yield _no(f"{at}: Input should be a valid dictionary", "AN-0")
        return
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        yield _no(f"{at}.role: Input should be 'user' or 'assistant'", "AN-0")
    for extra in message.keys() - (_SYSTEM_FIELDS if role == "system" else _FIELDS):
        # https://github.com/anthropics/claude-code/issues/4378
        yield _no(f"{at}.{extra}: Extra inputs are not permitted", "C-6")
    if "content" not in message:
        yield _no(f"{at}.content: Field required", "AN-0")
    elif not isinstance(content, str | list):
        yield _no(f"{at}.content: Input should be a valid string or a valid list", "AN-0")
    elif _is_blank(content) and not (is_last and role == "assistant") and not _sets_effort(message):
        # https://github.com/anthropics/claude-code/issues/6774
        text = "all messages must have non-empty content except for the optional final assistant message"
        yield _no(f"{at}: {text}", "AN-6")
    for number, block in enumerate(content if isinstance(content, list) else ()):
        yield from _block_problems(f"{at}.content.{number}", block, role)


def _is_blank(content: str | list[Any]) -> bool:
    if isinstance(content, str):
        return not content.strip()
    return all(
        isinstance(block, Mapping) and block.get("type") == "text" and str(block.get("text", "")).isspace()
        for block in content
    )


def _sets_effort(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "system" and "output_config" in message


def _block_problems(at: str, block: Any, role: object) -> Iterator[Refusal]:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        yield _no(f"{at}: Input should be a valid dictionary or object with a type", "AN-0")
        return
    yield from _place_problems(at, kind, role)
    match kind:
        case "text":
            yield from _text_problems(block)
        case "tool_use":
            yield from _tool_use_problems(at, block)
        case "tool_result":
            yield from _tool_result_problems(at, block)
        case "thinking" if not isinstance(block.get("signature"), str):
            yield _no(f"{at}.thinking.signature: Field required", "AN-8")
        case "redacted_thinking" if not isinstance(block.get("data"), str):
            yield _no(f"{at}.redacted_thinking.data: Field required", "AN-8")


def _place_problems(at: str, kind: str, role: object) -> Iterator[Refusal]:
    message = ".".join(at.split(".")[:2])
    if kind in _BY_ASSISTANT and role == "user":
        yield _no(f"{message}: `{kind}` blocks can only be in `assistant` messages", "AN-16")
    if kind == "tool_result" and role == "assistant":
        yield _no(f"{message}: `tool_result` blocks can only be in `user` messages", "AN-1")


def _text_problems(block: Mapping[str, Any]) -> Iterator[Refusal]:
    text = block.get("text")
    if not isinstance(text, str):
        yield _no("messages: text content blocks must have text", "AN-0")
    elif not text:
        # https://github.com/anthropics/claude-code/issues/59812
        yield _no("messages: text content blocks must be non-empty", "AN-6")


def _tool_use_problems(at: str, block: Mapping[str, Any]) -> Iterator[Refusal]:
    if not isinstance(block.get("id"), str):
        yield _no(f"{at}.tool_use.id: Field required", "AN-0")
    elif not _ID.fullmatch(block["id"]):
        # https://github.com/langchain-ai/langchain (langchain_anthropic, _TOOL_CALL_ID_PATTERN)
        yield _no(f"{at}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'", "AN-5")
    if not isinstance(block.get("name"), str):
        yield _no(f"{at}.tool_use.name: Field required", "AN-0")
    if not isinstance(block.get("input"), Mapping):
        yield _no(f"{at}.tool_use.input: Input should be a valid dictionary", "AN-0")


def _tool_result_problems(at: str, block: Mapping[str, Any]) -> Iterator[Refusal]:
    if not isinstance(block.get("tool_use_id"), str):
        yield _no(f"{at}.tool_result.tool_use_id: Field required", "AN-0")
    content = block.get("content")
    for inner in content if isinstance(content, list) else ():
        if isinstance(inner, Mapping) and inner.get("type") == "text":
            yield from _text_problems(inner)


# --- The list ---------------------------------------------------------------------------------------------------------


def blocks_of(message: Mapping[str, Any]) -> Blocks:
    """Return a message's blocks; a plain text is one."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def turns_of(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """Return the turns as the server sees them: messages in a row of one role are one, each block with its path."""
    turns: list[tuple[str, list[tuple[str, Mapping[str, Any]]]]] = []
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "system":
            continue
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].extend(
            (f"messages.{index}.content.{number}", block) for number, block in enumerate(blocks_of(message))
        )
    return turns


def _role_problems(messages: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    if messages[0]["role"] == "assistant":
        # https://github.com/lobehub/lobehub/issues/1601
        yield _no('messages: first message must use the "user" role', "AN-4")
    for index, message in enumerate(messages):
        if message["role"] == "system" and not _may_follow(messages[:index]):
            # https://github.com/anthropics/claude-agent-sdk-typescript/issues/350
            text = (
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not '
                '"system" as an input message role.'
            )
            yield _no(text, "AN-12")


def _may_follow(before: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a system message may stand behind these: after the user, or after the result of a server's tool."""
    if not before:
        return False
    last = blocks_of(before[-1])[-1:]
    return before[-1]["role"] != "assistant" or any(is_server_result(block) for block in last)


def is_server_result(block: Mapping[str, Any]) -> bool:
    """Whether a block is the result of a tool that the server ran."""
    return str(block.get("type")).endswith("_tool_result")


def _pair_problems(messages: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """Calls are answered at the very beginning of the next turn, each once; nothing else is answered."""
    awaited: list[tuple[str, str]] = []
    for role, blocks in turns_of(messages):
        if role == "user":
            yield from _answer_problems(blocks, awaited)
            awaited = []
            continue
        for at, block in blocks:
            if block.get("type") == "tool_use":
                if any(block["id"] == id_ for _, id_ in awaited):
                    # https://github.com/trycua/cua/issues/524; an id of an earlier turn may come again
                    yield _no(f"{at}: `tool_use` ids must be unique", "C-2")
                awaited.append((at, block["id"]))
    yield from _unanswered(awaited)


def _answer_problems(
    blocks: Sequence[tuple[str, Mapping[str, Any]]], awaited: Sequence[tuple[str, str]]
) -> Iterator[Refusal]:
    ids = [id_ for _, id_ in awaited]
    answered: set[str] = set()
    is_behind_other = False
    for at, block in blocks:
        if block.get("type") != "tool_result":
            is_behind_other = True
            continue
        id_ = block["tool_use_id"]
        if id_ not in ids:
            yield _unexpected(at, id_)
        elif id_ in answered:
            # https://github.com/sipeed/picoclaw/pull/1793
            text = f"each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id_}"
            yield _no(f"{at}: {text}", "C-2")
        elif is_behind_other:
            # https://github.com/apify/tester-mcp-client/issues/12
            text = "Messages following `tool_use` blocks must begin with a matching number of `tool_result` blocks."
            yield _no(f"{at}: {text}", "AN-2")
        answered.add(id_)
    yield from _unanswered([one for one in awaited if one[1] not in answered])


def _unexpected(at: str, id_: str) -> Refusal:
    # https://github.com/anthropics/claude-code/issues/13460
    text = (
        f"unexpected `tool_use_id` found in `tool_result` blocks: {id_}. Each `tool_result` block must have a "
        "corresponding `tool_use` block in the previous message."
    )
    return _no(f"{at}: {text}", "AN-1")


def _unanswered(awaited: Sequence[tuple[str, str]]) -> Iterator[Refusal]:
    if awaited:
        # https://github.com/anthropics/claude-code/issues/8210
        at = ".".join(awaited[0][0].split(".")[:2])
        text = (
            f"`tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(id_ for _, id_ in awaited)}. Each `tool_use` block must have a corresponding `tool_result` "
            "block in the next message."
        )
        yield _no(f"{at}: {text}", "AN-1")


def _server_tool_problems(messages: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """The server's tools: each result behind its call; only a last turn, which paused, may lack results."""
    open_calls: dict[str, tuple[str, str]] = {}
    turns = turns_of(messages)
    for number, (role, blocks) in enumerate(turns):
        for at, block in blocks if role == "assistant" else ():
            kind = str(block.get("type"))
            if kind == "server_tool_use":
                open_calls[str(block.get("id"))] = (at, str(block.get("name")))
            elif is_server_result(block) and open_calls.pop(str(block.get("tool_use_id")), None) is None:
                yield _lonely_result(at, kind, str(block.get("tool_use_id")))
        if role == "assistant" and number < len(turns) - 1 and not _waits_for_the_client(blocks):
            yield from _lonely_calls(open_calls)
            open_calls = {}


def _waits_for_the_client(blocks: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether a turn broke off for tools of the client; the server goes on with its own behind their results."""
    return any(block.get("type") == "tool_use" for _, block in blocks)


def _lonely_result(at: str, kind: str, id_: str) -> Refusal:
    # https://github.com/anthropics/claude-code/issues/64383
    text = (
        f"unexpected `tool_use_id` found in `{kind}` blocks: {id_}. Each `{kind}` block must have a corresponding "
        "`server_tool_use` block before it."
    )
    return _no(f"{at}: {text}", "AN-14")


def _lonely_calls(calls: Mapping[str, tuple[str, str]]) -> Iterator[Refusal]:
    for id_, (at, name) in calls.items():
        # https://github.com/AnswerDotAI/lisette/issues/108
        message = ".".join(at.split(".")[:2])
        text = f"`{name}` tool use with id `{id_}` was found without a corresponding `{name}_tool_result` block"
        yield _no(f"{message}: {text}", "AN-14")


def _ending_problems(messages: Sequence[Mapping[str, Any]], model: str) -> Iterator[Refusal]:
    last = messages[-1]
    if last["role"] != "assistant":
        return
    blocks = blocks_of(last)
    pauses = any(is_server_result(block) or block.get("type") == "server_tool_use" for block in blocks)
    if _WITHOUT_PREFILL.match(model) and not pauses:
        text = "This model does not support assistant message prefill. The conversation must end with a user message."
        yield _no(text, "AN-7")
    text = str(blocks[-1].get("text") or "") if blocks and blocks[-1].get("type") == "text" else ""
    if text and text[-1].isspace():
        # https://github.com/langchain-ai/langchain (langchain_anthropic, chat_models.py)
        yield _no("messages: final assistant content cannot end with trailing whitespace", "AN-7")


def _compaction_problems(messages: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """On-demand compaction; anthropic: types/compaction_block_ambiguous_error_details.py and its neighbours."""
    found = [
        (index, number)
        for index, message in enumerate(messages)
        for number, block in enumerate(blocks_of(message))
        if block.get("type") == "compaction" and block.get("content")
    ]
    if len(found) > 1:
        yield _no("messages: more than one `compaction` block with content", "AN-13")
    if found and found[0] != (0, 0):
        text = "the `compaction` block is not the first block of the conversation"
        yield _no(f"messages.{found[0][0]}.content.{found[0][1]}: {text}", "AN-13")
