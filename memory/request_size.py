"""How large a request is: its messages and what travels beside them, corrected by what responses reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tokens import Calibration, TokenCounter


class RequestSize:
    """Turns counted tokens of messages into the size of a whole request, and back.

    Two kinds of numbers: *counted* ones are the counter's, of single messages and their sums; *whole* ones are of a
    request, system prompt and tools included, as the provider would report it.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self.beside_tokens = 0
        """Counted: the system prompt and the tools that travel beside the messages."""
        self.has_cache_breakpoint = False
        """Whether one of these carries a prompt-cache mark of the caller's."""
        self._counter = counter
        self._beside: tuple[object | None, Sequence[Mapping[str, Any]] | None] = (None, None)
        self._calibration = Calibration()

    @property
    def beside(self) -> tuple[object | None, Sequence[Mapping[str, Any]] | None]:
        """The system prompt and the tools that travel beside the messages."""
        return self._beside

    def set_beside(self, system: object | None, tools: Sequence[Mapping[str, Any]] | None) -> bool:
        """Say what travels beside the messages from now on. Return whether that is something else than before."""
        if (system, tools) == self._beside:
            return False
        # Copies: a caller may go on working on its own lists.
        self._beside = (_copied(system), _copied(tools))
        tools_tokens = self._counter.count_tools(tools) if tools else 0
        self.beside_tokens = self._counter.count_text(_system_text(system)) + tools_tokens
        self.has_cache_breakpoint = _has_mark(system) or _has_mark(tools)
        return True

    def state(self) -> dict[str, Any]:
        """Return what was learnt of sizes, as JSON values; what travels beside the messages is not among them."""
        return {"calibration": self._calibration.state(), "beside_tokens": self.beside_tokens}

    def restore(
        self, state: Mapping[str, Any], system: object | None, tools: Sequence[Mapping[str, Any]] | None
    ) -> None:
        """Know what was known when `state` was taken, with what travelled beside the messages then. Counts nothing."""
        self._calibration.restore(state["calibration"])
        self._beside, self.beside_tokens = (system, tools), state["beside_tokens"]
        self.has_cache_breakpoint = _has_mark(system) or _has_mark(tools)

    @property
    def scale(self) -> float:
        """What the provider reports for each counted token."""
        return self._calibration.scale

    def whole(self, message_tokens: int) -> int:
        """Return the size of a request with these counted tokens of messages."""
        return self._calibration.apply(message_tokens + self.beside_tokens)

    def messages_within(self, whole_tokens: int) -> int:
        """Return how many counted tokens of messages fit a whole size."""
        counted = (whole_tokens - self._calibration.offset_tokens) / self._calibration.scale
        return max(0, int(counted) - self.beside_tokens)

    def share(self, counted_tokens: int) -> int:
        """Return what a part of a request with these counted tokens adds to its whole size."""
        return round(self._calibration.scale * counted_tokens)

    def learn(self, *, message_tokens: int, reported_tokens: int) -> None:
        """Learn from a request whose size the provider reported."""
        self._calibration.observe(estimated_tokens=message_tokens + self.beside_tokens, reported_tokens=reported_tokens)


def _copied(value: Any) -> Any:
    """Return a copy of everything that can be changed in place and that JSON knows."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _has_mark(value: object) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, Mapping) and bool(item.get("cache_control")) for item in items)


def _system_text(system: object) -> str:
    """Return a system prompt's text: a string, or a list of parts with `text` as Anthropic and Gemini take it."""
    if isinstance(system, Mapping):
        return str(system.get("text") or "") or _system_text(system.get("parts"))
    if isinstance(system, Sequence) and not isinstance(system, str):
        return "\n".join(_system_text(part) for part in system)
    return "" if system is None else str(system)
