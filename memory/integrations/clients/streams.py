"""Answers that come in pieces: handed through as they are, and booked when they end.

Booked at the end of the stream, when it is closed, or when nobody holds it any more; with what is known by then.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .calls import Call
from .proxy import Proxy, point_at, target_of


def delivered(answer: object, call: Call) -> Any:
    """Return an SDK's answer as the caller gets it: a whole one as it is, a stream such that it is booked."""
    if isinstance(answer, Iterator):
        return EventStream(answer, call)
    if isinstance(answer, AsyncIterator):
        return AsyncEventStream(answer, call)
    call.see(answer)
    call.book()
    return answer


class EventStream(Proxy):
    """An SDK's stream. One that is refused before its first event is asked for once more."""

    __slots__ = ("__call", "__may_repeat")
    __call: Call
    __may_repeat: bool

    def __init__(self, target: object, call: Call, *, may_repeat: bool = True) -> None:
        super().__init__(target)
        self.__call, self.__may_repeat = call, may_repeat
        weakref.finalize(self, call.book).atexit = False

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        while True:
            event = self.__read()
            if self.__call.see(event):
                return event

    def __exit__(self, *error: object) -> Any:
        try:
            return super().__exit__(*error)
        finally:
            self.__call.book()

    def close(self) -> None:
        target_of(self).close()
        self.__call.book()

    def __read(self) -> Any:
        try:
            event = next(target_of(self))
        except StopIteration:
            self.__call.book()
            raise
        except Exception as error:  # noqa: BLE001 - only the memory can say whether it is its business
            self.__repeat(error)
            event = next(target_of(self))
        self.__may_repeat = False
        return event

    def __repeat(self, error: Exception) -> None:
        if not self.__may_repeat:
            self.__call.book()
            raise error
        self.__may_repeat = False
        point_at(self, self.__call.again(error))


class AsyncEventStream(Proxy):
    """An SDK's asynchronous stream, like `EventStream`."""

    __slots__ = ("__call", "__may_repeat")
    __call: Call
    __may_repeat: bool

    def __init__(self, target: object, call: Call, *, may_repeat: bool = True) -> None:
        super().__init__(target)
        self.__call, self.__may_repeat = call, may_repeat
        weakref.finalize(self, call.book).atexit = False

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        while True:
            event = await self.__read()
            if self.__call.see(event):
                return event

    async def __aexit__(self, *error: object) -> Any:
        try:
            return await super().__aexit__(*error)
        finally:
            self.__call.book()

    async def close(self) -> None:
        await target_of(self).close()
        self.__call.book()

    async def aclose(self) -> None:
        await target_of(self).aclose()
        self.__call.book()

    async def __read(self) -> Any:
        try:
            event = await anext(target_of(self))
        except StopAsyncIteration:
            self.__call.book()
            raise
        except Exception as error:  # noqa: BLE001 - only the memory can say whether it is its business
            await self.__repeat(error)
            event = await anext(target_of(self))
        self.__may_repeat = False
        return event

    async def __repeat(self, error: Exception) -> None:
        if not self.__may_repeat:
            self.__call.book()
            raise error
        self.__may_repeat = False
        point_at(self, await self.__call.aagain(error))


class HelperStream(EventStream):
    """What an SDK's `stream(…)` helper gives inside its block: events, and the answer as put together so far."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        return _drained(self, found) if _reads_to_the_end(name) else found


class AsyncHelperStream(AsyncEventStream):
    """The same of an asynchronous client."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        return _adrained(self, found) if _reads_to_the_end(name) else found


def _reads_to_the_end(name: str) -> bool:
    return name == "until_done" or name.startswith("get_final_")


def _drained(stream: HelperStream, method: Callable[..., Any]) -> Callable[..., Any]:
    """Read through the proxy what the method would read past it."""

    def call(*arguments: Any, **named: Any) -> Any:
        for _ in stream:
            pass
        result = method(*arguments, **named)
        return stream if result is target_of(stream) else result

    return call


def _adrained(stream: AsyncHelperStream, method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*arguments: Any, **named: Any) -> Any:
        async for _ in stream:
            pass
        result = await method(*arguments, **named)
        return stream if result is target_of(stream) else result

    return call


class RawResponse(Proxy):
    """A response with its headers; what `parse` makes of it is booked, be it whole or a stream."""

    __slots__ = ("__call",)
    __call: Call

    def __init__(self, target: object, call: Call) -> None:
        super().__init__(target)
        self.__call = call

    def parse(self, *arguments: Any, **named: Any) -> Any:
        parsed = target_of(self).parse(*arguments, **named)
        return self.__aparsed(parsed) if inspect.isawaitable(parsed) else self.__delivered(parsed)

    async def __aparsed(self, parsed: Any) -> Any:
        return self.__delivered(await parsed)

    def __delivered(self, parsed: object) -> Any:
        match parsed:
            case Iterator():
                return EventStream(parsed, self.__call, may_repeat=False)
            case AsyncIterator():
                return AsyncEventStream(parsed, self.__call, may_repeat=False)
            case _:
                return delivered(parsed, self.__call)


class Block:
    """What `stream(…)` and `with_streaming_response` return: the request goes out when the block is entered."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._manager: Any = None
        self._stream: object = None

    def __enter__(self) -> Any:
        self._manager, self._stream = self._call.run()
        return _inside(self._stream, self._call)

    def __exit__(self, *error: object) -> Any:
        try:
            return self._manager.__exit__(*error)
        finally:
            _finish(self._stream, self._call)

    @staticmethod
    def entered(manager: Any) -> tuple[Any, object]:
        """Send the request of an SDK's own block; where it is refused, this raises."""
        return manager, manager.__enter__()


class AsyncBlock:
    """The same of an asynchronous client."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._manager: Any = None
        self._stream: object = None

    async def __aenter__(self) -> Any:
        self._manager, self._stream = await self._call.arun()
        return _inside(self._stream, self._call)

    async def __aexit__(self, *error: object) -> Any:
        try:
            return await self._manager.__aexit__(*error)
        finally:
            _finish(self._stream, self._call)

    @staticmethod
    async def entered(manager: Any) -> tuple[Any, object]:
        """Send the request of an SDK's own block; where it is refused, this raises."""
        return manager, await manager.__aenter__()


def _inside(stream: object, call: Call) -> Proxy:
    match stream:
        case Iterator():
            return HelperStream(stream, call, may_repeat=False)
        case AsyncIterator():
            return AsyncHelperStream(stream, call, may_repeat=False)
        case _:
            return RawResponse(stream, call)


_SNAPSHOTS = ("current_message_snapshot", "current_completion_snapshot")
"""Where Anthropic's and OpenAI's helpers have the answer so far: some of their ways to read it pass by the events."""


def _finish(stream: object, call: Call) -> None:
    for name in _SNAPSHOTS:
        try:
            snapshot = getattr(stream, name, None)
        except AssertionError:  # how both SDKs say that nothing has come yet
            continue
        if snapshot is not None:
            call.see(snapshot)
    call.book()
