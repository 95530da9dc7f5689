"""Between a framework's own message objects and the OpenAI chat messages that the memory keeps for them.

A framework's message is looked at once, when it is first seen, and written as one or more chat messages; the memory
counts, compresses and archives those. On the way back each is exchanged for the framework's own object: the very one
that came in, unless a compression shortened it. The chat message carries its source, so the archive has it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from ..manager import MemoryManager
from ..messages import Wire

M = TypeVar("M")


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
        """Return the chat messages that say what this one says, in order; none if it says nothing to the model.

        A part that chat has no words for is passed as a part of its own type: then it is counted. Signed thinking
        goes into `thinking_blocks`, as LiteLLM writes it.

        Raises:
            MessageError: The message is of a kind that the codec does not know.
        """
        ...

    def rewrite(self, message: M, kept: Mapping[int, Wire]) -> M:
        """Return a copy that says only what is left: `kept` holds what `write` returned, by its index there.

        A message in `kept` may say less than before: a tool's with a shorter content, an assistant's without its
        `thinking_blocks`. Everything else stays as it was. Called for messages that a compression touched only.
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
    """One memory under one conversation of a framework."""

    def __init__(self, memory: MemoryManager, codec: Codec[M]) -> None:
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
