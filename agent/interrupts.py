"""Ctrl-C while an agent runs: the first one ends the step in good order, the second one everything at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Cancels a task when the user or the system asks for an end."""

    def __init__(self, task: asyncio.Task[object], on_first: Callable[[], None], on_second: Callable[[], None]) -> None:
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._on_first = on_first
        self._on_second = on_second
        self.signal: int | None = None
        """The one that came first; None: nobody asked."""

    @property
    def exit_code(self) -> int:
        """How a shell is told: 128 and the signal's number."""
        return 128 + (self.signal or 0)

    def handle(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal. Called between any two instructions of the main thread."""
        if self.signal is not None:
            self._on_second()
            os._exit(128 + number)
        self.signal = number
        self._loop.call_soon_threadsafe(self._begin)  # which also wakes the loop, whatever it waits for

    def _begin(self) -> None:
        self._on_first()
        self._task.cancel()


@contextmanager
def interrupts(on_first: Callable[[], None], on_second: Callable[[], None]) -> Iterator[Interrupts]:
    """Let SIGINT and SIGTERM cancel the running task while the block runs.

    Args:
        on_first: Called in the event loop, before the task is cancelled.
        on_second: Called in the signal handler, right before the process ends.
    """
    task = asyncio.current_task()
    assert task is not None
    taken = Interrupts(task, on_first, on_second)
    if threading.current_thread() is not threading.main_thread():  # signals are not for other threads to take
        yield taken
        return
    before = {number: signal.signal(number, taken.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield taken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
