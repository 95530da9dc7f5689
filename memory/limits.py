"""When a compression is due by size, and how much the context may hold: configured, known of the model, or learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from .config import MemoryConfig

SizeTrigger: TypeAlias = Literal["threshold", "limit"]


class Limits:
    """The two sizes of a context, threshold and hard limit, and the pace of compressions between them.

    Sizes are calibrated tokens of a whole request. What the user gave always wins over what is known of the model; what
    a provider refused wins over both. It decides, and remembers what was tried; it compresses nothing.
    """

    def __init__(self, config: MemoryConfig) -> None:
        self._config = config
        self.learned_tokens: int | None = None
        """The model's own limit, known since it refused a longer context; None while it never did."""
        self.growth_tokens = 0
        """What a step of the loop adds, on average so far; 0 while that is not known."""
        self._window_tokens: int | None = None
        self._attempted_seq = 0
        self._compressed_seq = 0
        self._not_before_tokens = 0
        self._floor_told = False

    @property
    def max_context_tokens(self) -> int:
        """The hard limit: the configured one, else the model's window less its answer; or less, if it refused that."""
        configured = int(self._config.max_context_tokens)
        if not self._config.gives_max_context and self._window_tokens is not None:
            configured = self._window_tokens - self._reserve_tokens(self._window_tokens)
        return configured if self.learned_tokens is None else min(configured, self.learned_tokens)

    @property
    def threshold_tokens(self) -> int:
        """From here on it is worth compressing."""
        if self._config.gives_threshold:
            configured = self._config.compression_threshold
            return configured if self.learned_tokens is None else min(configured, self.learned_tokens * 4 // 5)
        # A compression leaves about a quarter, so that a few large steps must not fill the rest at once.
        wanted = max(int(self._config.compression_threshold), self.growth_tokens * _STEPS)
        return min(wanted, self.max_context_tokens * 4 // 5)

    @property
    def smallest_gain_tokens(self) -> int:
        """What a compression at the threshold must win; less would break the prompt cache for nothing."""
        return int(self.threshold_tokens * _GAIN_SHARE)

    def know_window(self, tokens: int | None) -> None:
        """Take note of how much input the model accepts; None where that is not known."""
        self._window_tokens = tokens

    def learn(self, tokens: int) -> None:
        """Remember that the model accepts no more than this."""
        self.learned_tokens = tokens if self.learned_tokens is None else min(self.learned_tokens, tokens)

    def due(self, *, tokens: int) -> SizeTrigger | None:
        """Say why a context of this size is to be compressed now."""
        if tokens > self.max_context_tokens:
            return "limit"
        return "threshold" if tokens > self.threshold_tokens and tokens >= self._not_before_tokens else None

    def is_attempted(self, last_seq: int) -> bool:
        """Whether nothing has come since the last attempt."""
        return self._attempted_seq == last_seq

    def is_compressed(self, last_seq: int) -> bool:
        """Whether nothing has come since the last compression."""
        return self._compressed_seq == last_seq

    def note_attempt(self, last_seq: int) -> None:
        """Do not try again before something new comes."""
        self._attempted_seq = last_seq

    def note_compressed(self, *, tokens: int, last_seq: int) -> None:
        """Wait until the context has grown from this size."""
        self._compressed_seq = last_seq
        self._not_before_tokens = tokens + int(self.threshold_tokens * _GROWTH_SHARE)
        self._floor_told = False

    def note_failed(self, *, tokens: int) -> None:
        """Wait a little: the attempt won nothing."""
        self._not_before_tokens = tokens + int(self.threshold_tokens * _RETRY_SHARE)

    def note_floor(self, *, tokens: int) -> bool:
        """Wait for growth, because nothing is worth taking out. Return whether that is news."""
        self.note_failed(tokens=tokens)
        is_news, self._floor_told = not self._floor_told, True
        return is_news

    def note_undone(self, *, tokens: int, last_seq: int) -> None:
        """A compression was taken back: leave the context as it is until it grows, unless somebody asks."""
        self.note_failed(tokens=tokens)
        self._attempted_seq, self._compressed_seq = last_seq, 0

    def state(self) -> dict[str, Any]:
        """Return what was learnt and tried, as JSON values."""
        return {
            "learned_tokens": self.learned_tokens,
            "growth_tokens": self.growth_tokens,
            "window_tokens": self._window_tokens,
            "attempted_seq": self._attempted_seq,
            "compressed_seq": self._compressed_seq,
            "not_before_tokens": self._not_before_tokens,
            "floor_told": self._floor_told,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what was known when `state` was taken."""
        self.learned_tokens = state["learned_tokens"]
        self.growth_tokens = state["growth_tokens"]
        self._window_tokens = state["window_tokens"]
        self._attempted_seq = state["attempted_seq"]
        self._compressed_seq = state["compressed_seq"]
        self._not_before_tokens = state["not_before_tokens"]
        self._floor_told = state["floor_told"]

    def _reserve_tokens(self, window_tokens: int) -> int:
        given = self._config.output_reserve_tokens
        if given is None:
            return min(_RESERVE_TOKENS, window_tokens // 4)
        return min(given, window_tokens - _LEAST_CONTEXT_TOKENS)


_RESERVE_TOKENS = 8_192
"""Room for an answer. Providers count it against the window; one that needs more says so in the settings."""

_LEAST_CONTEXT_TOKENS = 1_000
"""What is left of a window though more than all of it was reserved."""

_STEPS = 8
"""How many average steps the threshold holds at least."""

_GROWTH_SHARE = 0.2
"""Of the threshold: how much the context must grow after a compression before the next, so that a high floor does
not mean a compression at every step."""

_RETRY_SHARE = 0.1
"""Of the threshold: how much it must grow after an attempt that won nothing."""

_GAIN_SHARE = 0.1
"""Of the threshold: what a compression must win."""
