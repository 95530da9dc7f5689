"""One client of an SDK for each event loop, because its connections belong to the loop in which they were opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Client = TypeVar("Client")


class PerLoop(Generic[Client]):
    """Makes clients, and gives each event loop its own.

    A second `asyncio.run` with the same model, or another thread's loop, would else find connections of a loop that
    is closed or not its own.
    """

    def __init__(self, make: Callable[[], Client], close: Callable[[Client], Awaitable[None]]) -> None:
        """Make the first client at once, so that what is missing is said before the first request."""
        self._make = make
        self._close = close
        self._unused: list[Client] = [make()]
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()

    def here(self) -> Client:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._by_loop[loop] = self._taken() or self._make()
        return self._by_loop[loop]

    def _taken(self) -> Client | None:
        try:
            return self._unused.pop()  # atomic: two threads never get the same
        except IndexError:
            return None

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await self._close(client)
