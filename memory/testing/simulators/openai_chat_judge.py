"""What OpenAI's chat completions refuse. Written without a look at the rules of `memory.dialects`, to check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import Refusal


def judge(body: Mapping[str, Any]) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    if not isinstance(body.get("messages"), list):
        return Refusal(message="Missing required parameter: 'messages'.", code="missing_required_parameter")
    return None
