"""A deterministic scheduler for compressions in the background: the test decides when the model answers, and what.

Two drivers of one manager, with and without an event loop, and the laws of the memory, checked after every action.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import takewhile
from typing import Any, Literal, Protocol, TypeAlias

from memory import Compressed, ContextOverflowError, MemoryConfig, MemoryManager
from memory.dialects import DIALECTS
from memory.events import Event
from memory.messages import DialectName, Reading
from memory.native import to_wire
from memory.pairing import OpenCalls
from memory.testing import WordCounter

Answer: TypeAlias = Literal["good", "junk", "failure"]
ANSWERS: dict[Answer, str | Exception] = {
    "good": "## State of the work\nThe user asked for several things, and the agent did most of them.",
    "junk": "",
    "failure": RuntimeError("503"),
}
SPINS = 30
"""Turns of the event loop after which nothing moves any more but by the model."""


class Driver(Protocol):
    """One way to call a manager."""

    memory: MemoryManager

    def add(self, message: object) -> None: ...
    def follow(self, messages: Sequence[object]) -> None: ...
    def finish(self) -> None: ...
    def drop(self) -> None: ...
    def recover(self, error: BaseException) -> None: ...
    def disturb(self, number: int) -> None: ...
    def answer(self, answer: Answer) -> None: ...
    def close(self) -> None: ...


class AsyncDriver:
    """Calls a manager from an event loop, which turns only when this lets it."""

    def __init__(self, make: Callable[[object], MemoryManager], *, when_blocked: Answer = "good") -> None:
        self.memory = make(self._ask)
        self._when_blocked: Answer = when_blocked
        self._loop = asyncio.new_event_loop()
        self._waiting: list[asyncio.Future[str]] = []
        self._is_disturbed = False

    async def _ask(self, prompt: str) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

    def add(self, message: object) -> None:
        self._run(self.memory.add_message(message))

    def follow(self, messages: Sequence[object]) -> None:
        self._run(self.memory.follow(messages))

    def finish(self) -> None:
        self._run(self.memory.finish_background(), may_wait=True)

    def drop(self) -> None:
        self._run(self.memory.drop_background())

    def recover(self, error: BaseException) -> None:
        self._run(self.memory.recover(error), may_wait=True)

    def answer(self, answer: Answer) -> None:
        waiting, self._waiting = [w for w in self._waiting if not w.done()], []
        for future in waiting:
            reply = ANSWERS[answer]
            future.set_exception(reply) if isinstance(reply, Exception) else future.set_result(reply)
        self._spin()

    def disturb(self, number: int) -> None:
        """Cancel what runs in the loop, as `asyncio.run` does at its end; or close the loop under it."""
        self._is_disturbed = True  # what is lost with its loop is made again, and waited for
        for task in asyncio.all_tasks(self._loop) if number % 2 else ():
            task.cancel()
        if number % 2:
            self._spin()
        self._loop.close()
        self._loop, self._waiting = asyncio.new_event_loop(), []

    def close(self) -> None:
        self._spin()
        left = [task for task in asyncio.all_tasks(self._loop) if not task.done()]
        self._loop.close()
        assert not left, "a task was left over"

    def _run(self, work: Coroutine[Any, Any, object], *, may_wait: bool = False) -> None:
        task = self._loop.create_task(work)
        while not self._moved(task):
            is_full = self.memory.current_tokens > self.memory.get_stats()["max_context_tokens"]
            assert may_wait or is_full or self._is_disturbed, "it waited for the model"
            self.answer(self._when_blocked)
        task.result()

    def _moved(self, task: asyncio.Task[object]) -> bool:
        self._spin(task)
        return task.done()

    def _spin(self, task: asyncio.Task[object] | None = None) -> None:
        for _ in range(SPINS):
            if task is not None and task.done():
                return
            self._loop.run_until_complete(asyncio.sleep(0))


class SyncDriver:
    """Calls a manager without an event loop; the model's threads wait until this lets them go on.

    A call that may reach the hard limit would wait for ever, so for its time the model answers at once.
    """

    def __init__(self, make: Callable[[object], MemoryManager], *, when_blocked: Answer = "good") -> None:
        self.memory = make(self._ask)
        self._when_blocked: Answer = when_blocked
        self._before = set(threading.enumerate())
        self._waiting: list[Future[str]] = []
        self._at_once = False

    def _ask(self, prompt: str) -> str:
        future: Future[str] = Future()
        if self._at_once:
            _set(future, self._when_blocked)
        else:
            self._waiting.append(future)
        return future.result(timeout=10)

    def add(self, message: object) -> None:
        size = WordCounter().count_reading(DIALECTS[self.memory.dialect or "openai_chat"].read(to_wire(message)))
        may_wait = self.memory.current_tokens + size > self.memory.get_stats()["max_context_tokens"]
        self._run(lambda: self.memory.add_message_sync(message), may_wait=may_wait)

    def follow(self, messages: Sequence[object]) -> None:
        self._run(lambda: self.memory.follow_sync(messages), may_wait=True)

    def finish(self) -> None:
        self._run(self.memory.finish_background_sync, may_wait=True)

    def drop(self) -> None:
        self.memory.drop_background_sync()

    def recover(self, error: BaseException) -> None:
        self._run(lambda: self.memory.recover_sync(error), may_wait=True)

    def disturb(self, number: int) -> None:
        """There is no loop that could end."""

    def answer(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _set(future, answer)
        self._let_threads_run()

    def close(self) -> None:
        self.answer("good")

    def _run(self, call: Callable[[], object], *, may_wait: bool) -> None:
        if may_wait:
            self._at_once = True
            self.answer(self._when_blocked)
        try:
            call()
        finally:
            self._let_threads_run()
            self._at_once = False

    def _let_threads_run(self) -> None:
        """Wait until each thread has ended, or waits for the test. A call has two: one of them keeps the time."""
        deadline = time.monotonic() + 10
        while sum(thread not in self._before for thread in threading.enumerate()) != 2 * len(self._waiting):
            assert time.monotonic() < deadline
            time.sleep(0.0002)


def _set(future: Future[str], answer: Answer) -> None:
    reply = ANSWERS[answer]
    future.set_exception(reply) if isinstance(reply, Exception) else future.set_result(reply)


class Lawful:
    """A manager under watch while a schedule is played: each action is followed by a check of the laws."""

    def __init__(
        self,
        config: MemoryConfig,
        dialect: DialectName,
        driver: Callable[..., Driver],
        *,
        when_blocked: Answer = "good",
    ) -> None:
        self.events: list[Event] = []
        self._dialect = DIALECTS[dialect]
        self.driver = driver(
            lambda llm: MemoryManager(
                config, llm, dialect=dialect, counter=WordCounter(), on_event=self.events.append, model="gpt-4o"
            ),
            when_blocked=when_blocked,
        )
        self.memory = self.driver.memory
        self.list: list[Any] = []
        """What a caller would send who has no memory: what was added since the last clear, less what was withdrawn."""
        self.pinned: list[Any] = []
        self._added: list[Any] = []
        self._readings: dict[int, Reading] = {}
        self._previous: list[Any] = []
        self._is_sent = False
        """A request is under way: what was sent is booked when its answer comes, and must still stand then."""

    @property
    def is_open(self) -> bool:
        """Whether a call waits for its result."""
        calls = OpenCalls(splits_responses=self._dialect.splits_responses)
        for message in self.list:
            calls.add(self._read(message))
        return bool(calls)

    def is_task(self, message: Any) -> bool:
        """Whether it is the user's own, and a conversation may begin with it or be cut before it."""
        reading = self._read(message)
        return reading.role == "user" and not reading.results

    def add(self, message: Any) -> None:
        self._note(message)
        self._do(lambda: self.driver.add(message))

    def follow(self, message: Any) -> None:
        self._note(message)
        self._do(lambda: self.driver.follow(list(self.list)))

    def _note(self, message: Any) -> None:
        self._added.append(message)
        self.list.append(message)
        if self._read(message).role == "assistant":
            self._is_sent = False

    def edit(self, length: int, message: Any) -> None:
        """Follow a list that was cut and went on otherwise."""
        del self.list[length:]
        self.pinned = [m for m in self.pinned if any(m is one for one in self.list)]
        self._previous = []
        # Of what a summary stood for, all that is still in the list comes anew.
        before = self.memory.get_stats()["message_count"]
        self.list.append(message)
        try:
            self._do(lambda: self.driver.follow(list(self.list)), checks=False)
        finally:
            new = self.memory.get_stats()["message_count"] - before
            self._added += self.list[len(self.list) - new :]
        self._check([])

    def clear(self) -> None:
        kept = list(takewhile(lambda message: self._read(message).role == "system", self.list))
        self.memory.clear()
        self.list, self.pinned, self._previous = kept, [], []
        assert self.memory.messages == kept
        assert not self.memory.is_compressing
        self._check([])

    def pin(self, number: int) -> None:
        """Pin one of the messages that stand in the context as they were added."""
        standing = [m for m in self.memory.messages if any(m is one for one in self.list)]
        if standing:
            message = standing[number % len(standing)]
            self.memory.pin(message)
            self.pinned.append(message)
        self._check([])

    def send(self) -> None:
        """Take the context as a loop does before it asks its model."""
        if self.is_open:
            return
        with suppress(ContextOverflowError):  # the limit was learned from a refusal, and nothing can be taken out
            context = self.memory.get_context_for_llm()
            assert all(one is other for one, other in zip(context, self.memory.messages, strict=True))
            self._is_sent = True
        self._check([])

    def answer(self, answer: Answer) -> None:
        self.driver.answer(answer)
        self._check([])

    def finish(self) -> None:
        self._do(self.driver.finish)

    def disturb(self, number: int) -> None:
        self.driver.disturb(number)
        self._check([])

    def drop(self) -> None:
        before = self.memory.messages
        self._do(self.driver.drop)
        assert self.memory.messages == before
        assert not self.memory.is_compressing

    def recover(self) -> None:
        if not self.is_open:
            self._is_sent = False
            self._do(lambda: self.driver.recover(RuntimeError("context_length_exceeded")))

    def _do(self, action: Callable[[], None], *, checks: bool = True) -> None:
        before = len(self.events)
        try:
            action()
        except ContextOverflowError:
            assert self.memory.current_tokens > self.memory.get_stats()["max_context_tokens"]
        if checks:
            self._check(self.events[before:])

    def _check(self, events: Sequence[Event]) -> None:
        context = self.memory.messages
        compressions = [event for event in events if isinstance(event, Compressed)]
        self._nothing_is_lost(context)
        self._order_is_kept()
        self._protected_stay(context)
        self._progress(compressions)
        self._stable_prefix(context, compressions)
        if not self.is_open and not self._errors(self.list):
            assert self._errors(context) == []
        self._previous = context

    def _nothing_is_lost(self, context: Sequence[Any]) -> None:
        standing = {id(message) for message in context}
        archived = {record.seq: record.message for record in self.memory.archive}
        assert self.memory.get_stats()["message_count"] == len(self._added)
        for seq, message in enumerate(self._added, start=1):
            assert id(message) in standing or archived.get(seq) is message, f"r{seq} is lost"
            assert self.memory.original(f"r{seq}") is message

    def _order_is_kept(self) -> None:
        seqs = [entry.seq for entry in self.memory._window.entries]
        assert seqs == sorted(set(seqs))

    def _protected_stay(self, context: Sequence[Any]) -> None:
        standing = {id(message) for message in context}
        users = [message for message in self.list if self.is_task(message)]
        systems = [m for m in self.list if self._read(m).role == "system"]
        for message in (*systems, *users[:1], *users[-1:], *self.pinned):
            assert id(message) in standing, "a protected message was taken out"

    def _progress(self, compressions: Sequence[Compressed]) -> None:
        for event in compressions:
            assert event.tokens_after < event.tokens_before
            assert not self.is_open, "compressed while a call was open"
            if event.in_background and self._is_sent:
                limit_tokens = self.memory.get_stats()["max_context_tokens"]
                assert event.tokens_before > limit_tokens, "the request under way was miscounted"
        # At the limit, what was written in the background may not be enough.
        assert sum(not event.in_background for event in compressions) <= 1
        assert sum(event.in_background for event in compressions) <= 1

    def _stable_prefix(self, context: Sequence[Any], compressions: Sequence[Compressed]) -> None:
        if compressions:
            return
        assert len(context) >= len(self._previous)
        assert all(one is other for one, other in zip(self._previous, context, strict=False)), "changed without a word"

    def _read(self, message: Any) -> Reading:
        if id(message) not in self._readings:
            self._readings[id(message)] = self._dialect.read(to_wire(message))
        return self._readings[id(message)]

    def _errors(self, messages: Sequence[Any]) -> list[str]:
        found = self._dialect.validate([to_wire(message) for message in messages])
        return [f"{issue.code} {issue.path}: {issue.message}" for issue in found if issue.severity == "error"]
