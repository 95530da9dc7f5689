"""The Responses items that ask for an answer, and the items that give it.

Types and fields: openai 3.52 `types/responses/response_input_item_param.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..messages import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class CallType:
    """A kind of item that waits for an answer: where its name, arguments and id stand, and what answers it."""

    result_type: str
    arguments: str
    name: str | None = None
    """The field of the name; None: the item's type is the name."""
    id: str = "call_id"


CALLS: Mapping[str, CallType] = {
    "function_call": CallType(result_type="function_call_output", name="name", arguments="arguments"),
    "custom_tool_call": CallType(result_type="custom_tool_call_output", name="name", arguments="input"),
    "computer_call": CallType(result_type="computer_call_output", arguments="action"),
    "shell_call": CallType(result_type="shell_call_output", arguments="action"),
    "local_shell_call": CallType(result_type="local_shell_call_output", arguments="action"),
    "apply_patch_call": CallType(result_type="apply_patch_call_output", arguments="operation"),
    "tool_search_call": CallType(result_type="tool_search_output", arguments="arguments"),
    "program": CallType(result_type="program_output", arguments="code"),
    "mcp_approval_request": CallType(result_type="mcp_approval_response", name="name", arguments="arguments", id="id"),
}
RESULT_IDS: Mapping[str, Sequence[str]] = {
    # The SDK's type of a local shell's output has `id` alone, for the id of the call; other clients send `call_id`.
    "local_shell_call_output": ("call_id", "id"),
    "mcp_approval_response": ("approval_request_id",),
}
RESULTS = frozenset(call.result_type for call in CALLS.values())
ASYNC_KINDS = frozenset({"program"})
"""Calls that the server goes on running while the client answers the calls that they make."""


def result_id(kind: str, item: Wire) -> object:
    """Return what a result item gives as the id of its call, None if it gives none."""
    fields = RESULT_IDS.get(kind, ("call_id",))
    return next((item[field] for field in fields if item.get(field) is not None), None)
