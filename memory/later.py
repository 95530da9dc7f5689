"""A value that is worked out once: by whoever asks for it first, in whichever thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Later(Generic[Value]):
    """What a function returns, made when it is first wanted. A thread that asks meanwhile waits for the other one."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._made: list[Value] = []
        self._lock = Lock()

    def get(self) -> Value:
        """Return the value; what the function raises is raised each time, and the next one tries again."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
