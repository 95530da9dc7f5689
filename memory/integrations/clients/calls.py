"""One call of a managed method: the memory's context goes out in place of the caller's list, its cost comes back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, InvalidMessagesError, MessageError
from ...manager import MemoryManager
from .formats import Arguments, Format, Known, countable_system, countable_tools, is_given

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

_PREPARING: ContextVar[tuple[MemoryManager, ...]] = ContextVar("preparing", default=())
"""The memories at work here: a request made meanwhile is the memory's own, for a summary."""


class Link:
    """Between one client and one memory: requests are prepared one at a time, and sent side by side."""

    def __init__(self, memory: MemoryManager) -> None:
        self.memory = memory
        self._lock = Lock()
        self._alock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._beside: object = None
        self._asks_for_caching = False

    @property
    def is_preparing(self) -> bool:
        """Whether this thread or task works for the memory itself, which then asks a model."""
        return any(one is self.memory for one in _PREPARING.get())

    def follow(self, call: Call) -> list[Any]:
        """Bring the memory up to the caller's list. Return what to send."""
        with self._lock, self._prepared():
            self._tell(call)
            self.memory.follow_sync(call.messages, dialect=call.format.dialect)
            return self._context()

    async def afollow(self, call: Call) -> list[Any]:
        async with self._lock_of_loop():
            with self._prepared():
                self._tell(call)
                await self.memory.follow(call.messages, dialect=call.format.dialect)
                return self._context()

    def recover(self, error: Exception) -> list[Any] | None:
        """Return what to send instead of what the provider refused, None if the error is the caller's."""
        with self._lock, self._prepared():
            try:
                return self._context() if self.memory.recover_sync(error) else None
            except InvalidMessagesError as invalid:
                _explain(error, invalid)
                return None

    async def arecover(self, error: Exception) -> list[Any] | None:
        async with self._lock_of_loop():
            with self._prepared():
                try:
                    return self._context() if await self.memory.recover(error) else None
                except InvalidMessagesError as invalid:
                    _explain(error, invalid)
                    return None

    def book(self, known: Known) -> None:
        """Book what a response says it used; one whose counts cannot be true is still the caller's to have."""
        usage, model = known
        try:
            self.memory.record_usage(usage, model=model)
        except MessageError as error:
            logger.warning("error=%s | usage not booked, the estimate stands", error)

    def _context(self) -> list[Any]:
        """Return what to send: without marks of the memory's where the call itself asks for caching.

        Anthropic answers 400 to a mark of another life than its `cache_control` beside the messages.
        """
        context = self.memory.get_context_for_llm()
        return self.memory.messages if self._asks_for_caching else context

    def _tell(self, call: Call) -> None:
        if self.memory.dialect not in (None, call.format.dialect):
            raise ConfigError(
                f"this memory holds a conversation in {self.memory.dialect}, and the call is one of "
                f"{call.format.dialect}; a conversation is in one format, so give each its own memory"
            )
        self._asks_for_caching = is_given(call.arguments.get("cache_control"))
        system, tools = call.format.beside(call.arguments)
        beside = (system, list(tools) if isinstance(tools, list | tuple) else tools)
        if beside != self._beside:  # each conversion would cost as much as a short request
            self._beside = beside
            self.memory.set_fixed(system=countable_system(system), tools=countable_tools(tools))

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        token = _PREPARING.set((*_PREPARING.get(), self.memory))
        try:
            yield
        finally:
            _PREPARING.reset(token)

    def _lock_of_loop(self) -> asyncio.Lock:
        """Return the lock of the running loop: scripts call `asyncio.run` once for each turn."""
        import asyncio  # a third of what `import memory` would cost; whoever awaits this has it loaded

        loop = asyncio.get_running_loop()
        if self._alock is None or self._alock[0] is not loop:
            self._alock = loop, asyncio.Lock()
        return self._alock[1]


class Call:
    """One request for an answer, sent at most twice, and what is known of its cost.

    `send` takes the arguments and returns what the SDK returns; it is awaited by `arun`.
    """

    def __init__(self, link: Link, form: Format, arguments: Arguments, send: Callable[..., Any], *, streams: bool):
        self.format = form
        self.messages = form.messages(arguments)
        self.arguments = form.asking_for_usage(arguments) if streams else arguments
        self._asked_for_usage = self.arguments is not arguments
        self._link = link
        self._send = send
        self._may_repeat = True
        self._known: Known | None = None
        self._is_booked = False

    def run(self) -> Any:
        """Send the request, and once more if the memory can do something about its refusal."""
        context = self._link.follow(self)
        try:
            return self._sent(context)
        except Exception as error:  # noqa: BLE001 - only the memory can say whether it is its business
            context = self.recovered(error)
        return self._sent(context)

    async def arun(self) -> Any:
        """Send the request like `run`."""
        context = await self._link.afollow(self)
        try:
            return await self._asent(context)
        except Exception as error:  # noqa: BLE001 - only the memory can say whether it is its business
            context = await self.arecovered(error)
        return await self._asent(context)

    def again(self, error: Exception) -> Any:
        """Send once more what was refused only when its answer was read; raises the error if that is no use."""
        return self._sent(self.recovered(error))

    async def aagain(self, error: Exception) -> Any:
        return await self._asent(await self.arecovered(error))

    def recovered(self, error: Exception) -> list[Any]:
        """Return the context to send after an error.

        Raises:
            Exception: The error itself, with its diagnosis as a note where the memory has one.
        """
        context = self._link.recover(error) if self._may_repeat else None
        self._may_repeat = False
        if context is None:
            raise error
        return context

    async def arecovered(self, error: Exception) -> list[Any]:
        context = await self._link.arecover(error) if self._may_repeat else None
        self._may_repeat = False
        if context is None:
            raise error
        return context

    def see(self, event: object) -> bool:
        """Take note of an event of the answer, or of the whole of it. Return whether the caller is to see it."""
        self._known = self.format.usage(event, self._known)
        return not (self._asked_for_usage and self.format.is_usage_alone(event))

    def book(self) -> None:
        """Book what the answer used, as far as it is known; once."""
        if self._known is not None and not self._is_booked:
            self._is_booked = True
            self._link.book(self._known)

    def _sent(self, context: list[Any]) -> Any:
        return self._send(**{**self.arguments, self.format.key: context})

    async def _asent(self, context: list[Any]) -> Any:
        sent: Awaitable[Any] = self._send(**{**self.arguments, self.format.key: context})
        return await sent


def _explain(error: Exception, invalid: InvalidMessagesError) -> None:
    """Note on the SDK's error which rules the list breaks, as the memory found out."""
    for issue in invalid.issues:
        error.add_note(f"{issue.code} at {issue.path}: {issue.message}")
