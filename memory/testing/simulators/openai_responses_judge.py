"""What OpenAI's Responses API refuses. Written without a look at the rules of `memory.dialects`, to check them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...messages import Wire
from .formats import Refusal


class Issued:
    """The items that the simulator has given out, and the reasoning that each of them needs."""

    def note(self, items: Sequence[Wire]) -> None:
        """Remember the items of one response."""


def judge(body: Mapping[str, Any], *, before: Sequence[Wire], issued: Issued) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    if body.get("input") is None and not before:
        return Refusal(message="Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
    return None
