"""What Gemini's generateContent refuses. Written without a look at the rules of `memory.dialects`, to check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import Refusal


def judge(body: Mapping[str, Any], *, checks_signatures: bool) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    if not body.get("contents"):
        return Refusal(message="* GenerateContentRequest.contents: contents is not specified", kind="INVALID_ARGUMENT")
    return None
