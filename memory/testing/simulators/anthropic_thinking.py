"""Anthropic's signed thinking: issued with a signature, checked when it comes back (AN-8, AN-10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...messages import Wire
from .formats import Json, Refusal, dumped, opaque
from .metering import digest

_SEAL: Final = "simulated-thinking"
_MODIFIED: Final = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must "
    "remain as they were in the original response."
)


class Thinking:
    """Signs thinking for the conversation it is made in, and knows its own signatures again."""

    def __init__(self, *, is_bound: bool) -> None:
        self._is_bound = is_bound

    def signed(self, blocks: Sequence[Wire], body: Wire) -> list[Json]:
        """Return the blocks of an answer to this request with its thinking signed, recorded signatures replaced."""
        if not any(block["type"] == "thinking" for block in blocks):
            return [dict(block) for block in blocks]
        prefix = _digest_of_prefix(body, len(body["messages"]))
        return [
            {**block, "signature": opaque(_SEAL, prefix, digest(block["thinking"]))}
            if block["type"] == "thinking"
            else dict(block)
            for block in blocks
        ]

    def refusal(self, body: Wire) -> Refusal | None:
        """Return what is wrong with the thinking that a request sends back."""
        return None


def _digest_of_prefix(body: Mapping[str, Any], stop: int) -> str:
    return digest(dumped(body.get("system")), dumped(body.get("tools")), dumped(body["messages"][:stop]))
