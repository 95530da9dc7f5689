"""What Anthropic's Messages API refuses in the tools of a request and in its cache breakpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .formats import Refusal

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_BREAKPOINTS: Final = 4


def tools_problems(tools: Any) -> Iterator[Refusal]:
    """Yield what is wrong with the tools; those that the server runs have a `type` of their own and no schema."""
    if tools is None:
        return
    if not isinstance(tools, list):
        yield Refusal(message="tools: Input should be a valid list")
        return
    for index, tool in enumerate(tools):
        yield from _tool_problems(f"tools.{index}", tool)
    names = [tool["name"] for tool in tools if "name" in tool]
    if len(names) != len(set(names)):
        yield Refusal(message="tools: Tool names must be unique.")


def _tool_problems(at: str, tool: Any) -> Iterator[Refusal]:
    if not isinstance(tool, Mapping):
        yield Refusal(message=f"{at}: Input should be a valid dictionary")
        return
    if tool.get("type", "custom") != "custom":
        return
    if not isinstance(tool.get("name"), str):
        yield Refusal(message=f"{at}.custom.name: Field required")
    elif not _NAME.fullmatch(tool["name"]):
        yield Refusal(message=f"{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, Mapping):
        yield Refusal(message=f"{at}.custom.input_schema: Field required")
    elif schema.get("type") != "object":
        yield Refusal(message=f"{at}.custom.input_schema.type: Input should be 'object'")


def cache_problems(body: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield what is wrong with the request's `cache_control` marks, in the order in which the server reads them."""
    found = list(_marked(body))
    count = len(found) + (body.get("cache_control") is not None)
    if count > _BREAKPOINTS:
        # https://github.com/tghamm/Anthropic.SDK/issues/50
        message = f"A maximum of {_BREAKPOINTS} blocks with cache_control may be provided. Found {count}."
        yield Refusal(message=message, rule="AN-11")
    is_short = False
    for at, block in found:
        yield from _mark_problems(at, block)
        ttl = block["cache_control"].get("ttl", "5m")
        if ttl == "1h" and is_short:
            # https://github.com/headroomlabs-ai/headroom/issues/2939
            message = (
                f"{at}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control "
                "block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
            yield Refusal(message=message, rule="AN-11")
        is_short = is_short or ttl == "5m"


def _mark_problems(at: str, block: Mapping[str, Any]) -> Iterator[Refusal]:
    kind = block.get("type")
    if kind in ("thinking", "redacted_thinking"):
        yield Refusal(message=f"{at}.{kind}.cache_control: Extra inputs are not permitted", rule="AN-11")
    if kind == "text" and not block.get("text"):
        # https://github.com/anthropics/claude-code/issues/55302
        yield Refusal(message=f"{at}.text: cache_control cannot be set for empty text blocks", rule="AN-11")


def _marked(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("tools", "system"):
        for index, one in enumerate(_list(body.get(name))):
            yield from _if_marked(f"{name}.{index}", one)
    for index, message in enumerate(_list(body.get("messages"))):
        content = message.get("content") if isinstance(message, Mapping) else None
        for number, block in enumerate(_list(content)):
            at = f"messages.{index}.content.{number}"
            yield from _if_marked(at, block)
            for inner_number, inner in enumerate(_list(block.get("content") if isinstance(block, Mapping) else None)):
                yield from _if_marked(f"{at}.tool_result.content.{inner_number}", inner)


def _if_marked(at: str, block: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(block, Mapping) and isinstance(block.get("cache_control"), Mapping):
        yield at, block


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
