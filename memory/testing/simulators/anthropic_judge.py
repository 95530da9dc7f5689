"""What Anthropic's Messages API refuses. Written without a look at the rules of `memory.dialects`, to check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import Refusal


def judge(body: Mapping[str, Any], *, needs_max_tokens: bool = True) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    if needs_max_tokens and "max_tokens" not in body:
        return Refusal(message="max_tokens: Field required")
    if "messages" not in body:
        return Refusal(message="messages: Field required")
    return None
