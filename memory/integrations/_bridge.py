"""Between a framework's own message objects and the OpenAI chat messages that the memory keeps for them.

A framework's message is looked at once, when it is first seen, and written as one or more chat messages; the memory
counts, compresses and archives those. On the way back each is exchanged for the framework's own object: the very one
that came in, unless a compression shortened it. The chat message carries its source, so the archive has it too.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from ..errors import ConfigError, ContextOverflowError
from ..manager import MemoryManager
from ..messages import Wire

M = TypeVar("M")
Answer = TypeVar("Answer")


class ChatMessage(dict[str, Any]):
    """An OpenAI chat message that stands for a framework's message, or for one part of it.

    What `recall`, `original` and the archive return. As a dict it is equal to any other that says the same.
    """

    __slots__ = ("index", "is_last", "source")

    def __init__(self, wire: Wire, *, source: object, index: int, is_last: bool) -> None:
        super().__init__(wire)
        self.source = source
        """The framework's own object."""
        self.index = index
        """Which of the source's chat messages this is, from 0."""
        self.is_last = is_last


class Codec(Protocol[M]):
    """How one framework's messages are written as chat messages, and what can be built in its own kind."""

    def write(self, message: M) -> Sequence[Wire]:
        """Return the chat messages that say what this one says, in order; at least one.

        Content is made of the parts in `_parts.py`; signed thinking goes into `thinking_blocks`. The same message
        is written the same way each time, so nothing random may come into it.

        Raises:
            MessageError: The message is of a kind that the codec does not know.
        """
        ...

    def rewrite(self, message: M, kept: Mapping[int, Wire]) -> M:
        """Return a copy that says only what is left: `kept` holds what `write` returned, by its index there.

        What is still a `ChatMessage` there stands as it was. Anything else may say less than before: a tool's message
        with a shorter content, an assistant's without its `thinking_blocks`; all but that is to stay.
        """
        ...

    def write_user(self, text: str) -> M:
        """Build a message of the user that says this: a summary."""
        ...


_Sent: TypeAlias = tuple[dict[str, Any], ChatMessage | None]
"""A message of the memory's context and the one that was added in its place; None for a summary."""


@dataclass(frozen=True, slots=True)
class _Pair(Generic[M]):
    """A framework's message beside its chat messages. Holding both keeps their `id`s from being used again."""

    message: M
    chats: tuple[dict[str, Any], ...]


class Bridge(Generic[M]):
    """One memory under one conversation of a framework.

    Raises:
        ConfigError: The memory holds messages of another format, or is meant for one.
    """

    def __init__(self, memory: MemoryManager, codec: Codec[M]) -> None:
        if memory.dialect not in (None, "openai_chat"):
            raise ConfigError(
                f"this memory is for messages in the format {memory.dialect!r}; an adapter keeps its framework's "
                "messages as 'openai_chat', whatever the model: make the MemoryManager without a dialect"
            )
        self.memory = memory
        self._codec = codec
        self._seen: dict[int, _Pair[M]] = {}
        """What came in, by `id`."""
        self._built: dict[tuple[int, ...], _Pair[M]] = {}
        """What went out, by the `id`s of the chat messages that it stands for."""
        self._whole: list[M] = []
        """The conversation as it was last followed."""
        self._given: list[list[M]] = []
        """The contexts that were given out for it."""

    async def follow(self, messages: Sequence[M]) -> list[M]:
        """Take the framework's list as it is now and return what to send, compressed if that was due.

        The list is the whole conversation, or begins with a list that was returned for its last state: some
        frameworks put what they send in the place of what they had.

        Raises:
            MessageError: A message is of an unknown kind.
            ContextOverflowError: What may never be taken out exceeds `max_context_tokens`.
            BudgetExceededError: Sending it would bring the cost above `max_cost_dollars`.
        """
        await self.memory.follow(self._chats(messages))
        return self.context()

    def follow_sync(self, messages: Sequence[M]) -> list[M]:
        """Take the framework's list like `follow`, without an event loop."""
        self.memory.follow_sync(self._chats(messages))
        return self.context()

    async def add(self, answers: Sequence[M]) -> None:
        """Take what the model answered, so that the books are complete before the list comes back with it."""
        given = [[*given, *answers] for given in self._given]
        # Too long now, it is refused before the next request. Here that would cost the answer, which is paid for.
        with suppress(ContextOverflowError):
            await self.memory.follow(self._chats([*self._whole, *answers]))
        self._given = given

    def add_sync(self, answers: Sequence[M]) -> None:
        """Take what the model answered like `add`, without an event loop."""
        given = [[*given, *answers] for given in self._given]
        with suppress(ContextOverflowError):
            self.memory.follow_sync(self._chats([*self._whole, *answers]))
        self._given = given

    async def ask(self, messages: Sequence[M], call: Callable[[list[M]], Awaitable[Answer]]) -> Answer:
        """Follow the list and call the model with the context; once more if it was refused and can be made smaller.

        Raises:
            InvalidMessagesError: The provider refused the context as malformed, and it is known why.
        """
        return await self.send(await self.follow(messages), call)

    async def send(self, context: list[M], call: Callable[[list[M]], Awaitable[Answer]]) -> Answer:
        """Call the model with a context that `follow` returned, as `ask` does."""
        try:
            return await call(context)
        except Exception as error:
            if not await self.memory.recover(error):
                raise
        return await call(self.context())

    def ask_sync(self, messages: Sequence[M], call: Callable[[list[M]], Answer]) -> Answer:
        """Follow the list and call the model like `ask`, without an event loop."""
        context = self.follow_sync(messages)
        try:
            return call(context)
        except Exception as error:
            if not self.memory.recover_sync(error):
                raise
        return call(self.context())

    def context(self) -> list[M]:
        """Return the messages to send, in the framework's own kind; those that no compression changed are its own."""
        sent = zip(self.memory.get_context_for_llm(), self.memory.origins(), strict=True)
        pairs = [self._pair(run) for run in _runs([(chat, _ours(origin)) for chat, origin in sent])]
        self._built = {tuple(map(id, pair.chats)): pair for pair in pairs}
        context = [pair.message for pair in pairs]
        self._given.append(context)
        return list(context)

    def _chats(self, messages: Sequence[M]) -> list[dict[str, Any]]:
        whole = self._completed(messages)
        pairs = [self._seen.get(id(message)) or self._written(message) for message in whole]
        self._seen = {id(pair.message): pair for pair in pairs}
        self._whole, self._given = whole, []
        return [chat for pair in pairs for chat in pair.chats]

    def _completed(self, messages: Sequence[M]) -> list[M]:
        """Return the whole conversation for a list that may begin with a context that was given out."""
        for given in self._given:
            if given and len(given) <= len(messages) and all(map(_is, given, messages)):
                return [*self._whole, *messages[len(given) :]]
        return list(messages)

    def _written(self, message: M) -> _Pair[M]:
        wires = self._codec.write(message)
        last = len(wires) - 1
        chats = (ChatMessage(wire, source=message, index=i, is_last=i == last) for i, wire in enumerate(wires))
        return _Pair(message, tuple(chats))

    def _pair(self, run: Sequence[_Sent]) -> _Pair[M]:
        chats = tuple(chat for chat, _ in run)
        return self._built.get(tuple(map(id, chats))) or _Pair(self._message(run), chats)

    def _message(self, run: Sequence[_Sent]) -> M:
        """Return the framework's message for chat messages of one source: its own if nothing of it changed."""
        first_chat, first = run[0]
        if first is None:
            return self._codec.write_user(str(first_chat["content"]))
        source: M = first.source  # type: ignore[assignment]  # made by `_written` from a message of this kind
        kept = {origin.index: chat for chat, origin in run if origin is not None}
        is_whole = first.index == 0 and len(kept) == len(run) and run[-1][1] is not None and run[-1][1].is_last
        if is_whole and len(kept) == max(kept) + 1 and all(chat is origin for chat, origin in run):
            return source
        return self._codec.rewrite(source, kept)


class Conversations(Generic[M]):
    """The conversations of one agent: one memory each.

    A single memory serves a single conversation; a function that makes memories serves any number of them, also from
    several threads at once.
    """

    def __init__(self, memory: MemoryManager | Callable[[], MemoryManager], codec: Codec[M]) -> None:
        self._memory = memory
        self._codec = codec
        self._bridges: dict[str | None, Bridge[M]] = {}
        self._lock = threading.Lock()

    def bridge(self, name: str | None) -> Bridge[M]:
        """Return the bridge of a conversation; a new one the first time.

        Raises:
            ConfigError: A single memory is asked to serve a second conversation, or the conversation of many that is
                meant has no name.
        """
        with self._lock:
            if name not in self._bridges:
                self._bridges[name] = Bridge(self._new_memory(name), self._codec)
            return self._bridges[name]

    def memory(self, name: str | None) -> MemoryManager:
        """Return the memory of a conversation.

        Raises:
            ConfigError: There has been no request of that name.
        """
        with self._lock:
            bridge = self._bridges.get(name)
        if bridge is not None:
            return bridge.memory
        if isinstance(self._memory, MemoryManager) and (name is None or not self._bridges):
            return self._memory
        raise ConfigError(f"there is no conversation {name!r} yet; known are {sorted(map(str, self._bridges))}")

    def forget(self, name: str | None) -> None:
        """Let go of a conversation and its memory; the next request of that name begins anew from the list it has."""
        with self._lock:
            self._bridges.pop(name, None)

    def _new_memory(self, name: str | None) -> MemoryManager:
        if isinstance(self._memory, MemoryManager):
            if self._bridges:
                raise ConfigError(
                    f"this memory belongs to the conversation {next(iter(self._bridges))!r} and now {name!r} asks for "
                    "it; give a function that makes one for each instead, for example `lambda: MemoryManager(config)`"
                )
            return self._memory
        if name is None:
            raise ConfigError(
                "which conversation is this? Give each one a name (LangGraph: `thread_id` in the config), or give a "
                "single MemoryManager instead of a function"
            )
        return self._memory()


def _is(one: object, other: object) -> bool:
    return one is other


def _ours(origin: object | None) -> ChatMessage | None:
    assert origin is None or isinstance(origin, ChatMessage)
    return origin


def _runs(sent: Sequence[_Sent]) -> Iterator[list[_Sent]]:
    """Yield neighbours that come from one source together."""
    run: list[_Sent] = []
    for chat, origin in sent:
        if run and not _continues(run[-1][1], origin):
            yield run
            run = []
        run.append((chat, origin))
    if run:
        yield run


def _continues(before: ChatMessage | None, origin: ChatMessage | None) -> bool:
    """Whether this is a further part of the same message. Where one object stands twice in a list, indices restart."""
    if before is None or origin is None:
        return False
    return before.source is origin.source and before.index < origin.index
