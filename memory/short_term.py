"""ShortTermMemory: the newest messages, as a sliding window by count."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .errors import ConfigError


class ShortTermMemory:
    """The last `max_size` messages, oldest first; the oldest is dropped when one more comes.

    It holds the callers' own objects. Inside `MemoryManager` nothing is lost by this: a message that leaves here
    waits in the older part of the window until a compression takes it.
    """

    def __init__(self, max_size: int = 20) -> None:
        if type(max_size) is not int or max_size < 1:  # True is an int too
            raise ConfigError(f"short_term_size must be a whole number of messages, at least 1; got {max_size!r}")
        self._messages: deque[object] = deque(maxlen=max_size)
        self.max_size = max_size

    def add_message(self, message: object) -> None:
        """Append a message; O(1)."""
        self._messages.append(message)

    def get_all(self) -> list[object]:
        """Return the messages, oldest first, in a new list."""
        return list(self._messages)

    def clear(self) -> list[object]:
        """Empty the window and return what it held, oldest first."""
        held = self.get_all()
        self._messages.clear()
        return held

    @property
    def is_full(self) -> bool:
        """Whether the next message drops the oldest."""
        return len(self._messages) == self.max_size

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[object]:
        return iter(self.get_all())
