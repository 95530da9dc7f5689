"""An agent's loop that is made to be killed: it says what it is about to write, and what it was told was written.

Each line that it tells is one JSON object, written at once. `writes` comes before the store is asked to write a turn;
`done` comes when the call of the memory has returned, which is the promise that nothing of it can be lost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import Any, TypeAlias

from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.errors import HistoryError
from memory.native import to_wire
from memory.sessions.store import SessionStore
from memory.sessions.values import Turn
from memory.testing import WordCounter

Message: TypeAlias = dict[str, Any]
Picture: TypeAlias = list[str]
"""The hash of a memory's context and that of its statistics."""

_STRATEGIES = tuple(CompressionStrategy)
_NOT_COMPARED = ("session_id", "unsaved_count")
_LARGE = [f"line {n} of a file that is read again and again\n" * 900 for n in range(3)]
_WORDS = tuple("open the valve and read what the second pump says before the night shift ends".split())  # noqa: SIM905


def hash_of(message: object) -> str:
    """Return what tells a message from every other one, its bytes and the order of its keys included."""
    return _hash(json.dumps(to_wire(message)))


def picture_of(memory: MemoryManager) -> Picture:
    """Return what tells a state of a memory from every other one."""
    context = "\n".join(json.dumps(to_wire(message)) for message in memory.messages)
    stats = {name: value for name, value in memory.get_stats().items() if name not in _NOT_COMPARED}
    return [_hash(context), _hash(json.dumps(stats, sort_keys=True))]


def settings(number: int) -> MemoryConfig:
    """Return settings under which a few turns are compressed, in each of the ways in turn."""
    strategy = _STRATEGIES[number % len(_STRATEGIES)]
    return MemoryConfig(
        max_context_tokens=100_000, compression_threshold=800, compression_strategy=strategy, session_required=True
    )


def run_loop(
    store: SessionStore, tell: Callable[[str], None], *, session: str | None, refs: Sequence[int], seed: int
) -> None:
    """Go on with a session, or begin one, and never end.

    Args:
        store: Where it is.
        tell: Takes a line.
        session: Its id; None: a new one.
        refs: Numbers of the messages in the list that the caller keeps, as far as it was told.
        seed: Another number, another loop.
    """
    asyncio.run(_Loop(store, tell, Random(seed)).run(session, list(refs)))


class _Announcing:
    """A store that says what it is about to write."""

    def __init__(self, store: SessionStore, announce: Callable[[Turn], None]) -> None:
        self._store = store
        self._announce = announce

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def save(self, turn: Turn) -> None:
        self._announce(turn)
        self._store.save(turn)


class _Loop:
    def __init__(self, store: SessionStore, tell: Callable[[str], None], random: Random) -> None:
        self._store: Any = _Announcing(store, self._announce)
        self._tell = tell
        self._random = random
        self._memory: MemoryManager | None = None
        self._list: list[int] = []
        """Numbers of the messages in the list that the caller keeps."""
        self._kept: list[int] | None = None
        """Of a list that is about to be followed: what of the one before stays in it."""

    async def run(self, session: str | None, refs: list[int]) -> None:
        if session is None:
            config = settings(self._random.randrange(100))
            self._memory = MemoryManager(config, store=self._store, model="gpt-4o", counter=WordCounter())
        else:
            self._memory = MemoryManager.resume(session, store=self._store, counter=WordCounter())
            self._list = [ref for ref in refs if ref <= self._memory.get_stats()["message_count"]]
        while True:
            await self._step(self._memory)

    async def _step(self, memory: MemoryManager) -> None:
        if memory.open_calls:
            await self._add(memory, self._result(memory.open_calls[0].id or ""))
            return
        chance = self._random.random()
        if chance < 0.25 or not self._list:
            await self._add(memory, self._task())
        elif chance < 0.75:
            memory.get_context_for_llm()
            usage = {"input": memory.current_tokens, "output": 20} if chance < 0.5 else None
            await self._add(memory, self._answer(), usage)
        elif chance < 0.80:
            await self._call(memory, "compress", memory.compress())
        elif chance < 0.85:
            self._undo(memory)
        elif chance < 0.90:
            await self._withdraw(memory)
        elif chance < 0.93:
            memory.pin(self._random.choice([message for message in memory.origins() if message is not None]))
            self._done("pin", memory)
        elif chance < 0.94:
            self._list = []
            memory.clear()
            self._done("clear", memory)
        else:
            await self._branch(memory)

    async def _add(self, memory: MemoryManager, message: Message, usage: object = None) -> None:
        self._list.append(memory.get_stats()["message_count"] + 1)
        await self._call(memory, "add", memory.add_message(message, usage))

    async def _withdraw(self, memory: MemoryManager) -> None:
        """Follow a list whose newest messages were replaced by another one."""
        kept = self._list[: self._random.randint(max(1, len(self._list) - 6), len(self._list))]
        messages = [memory.original(f"r{ref}") for ref in kept]
        while len(messages) > 1 and messages[-1]["role"] != "user":  # no call may be left without its result
            del messages[-1], kept[-1]
        before = memory.get_stats()["message_count"]
        self._kept = kept
        await memory.follow([*messages, self._task()])
        now = memory.get_stats()["message_count"]
        self._list, self._kept = self._list_with(range(before + 1, now + 1)), None
        self._done("follow", memory, first=before + 1)

    def _list_with(self, new: Sequence[int]) -> list[int]:
        """Return the list once these messages are in it; of what a summary stood for, all that is kept came anew."""
        if self._kept is None:
            return self._list
        return [*self._kept[: len(self._kept) + 1 - len(new)], *new]

    async def _branch(self, memory: MemoryManager) -> None:
        """Begin a second line; one time in two the loop goes on there."""
        ref = self._random.choice(self._list[-8:])
        try:
            other = memory.branch(f"r{ref}")
        except HistoryError:
            return
        self._tell(_line("branch", session=other.session_id, parent=memory.session_id, at=ref))
        self._done("branched", other)
        if self._random.random() < 0.5 or other.open_calls:
            other.close()
            return
        memory.close()
        self._memory, self._list = other, [one for one in self._list if one <= ref]

    def _undo(self, memory: MemoryManager) -> None:
        try:
            memory.undo()
        except HistoryError:
            return
        self._done("undo", memory)

    async def _call(self, memory: MemoryManager, name: str, call: Any) -> None:
        before = memory.get_stats()["message_count"]
        await call
        self._done(name, memory, first=before + 1)

    # --- Telling ------------------------------------------------------------------------------------------------------

    def _announce(self, turn: Turn) -> None:
        memory = self._memory
        is_known = memory is not None and memory.session_id == turn.session_id
        picture = picture_of(memory) if is_known and memory is not None else None
        refs = self._list_with([message.seq for message in turn.messages])
        values = {"picture": picture, "list": refs, "is_durable": turn.is_durable}
        self._tell(_line("writes", session=turn.session_id, **values))

    def _done(self, name: str, memory: MemoryManager, *, first: int | None = None) -> None:
        """Say that a call has returned, and which messages it added."""
        last = memory.get_stats()["message_count"]
        added = range(first, last + 1) if first is not None else ()
        hashes = {seq: hash_of(memory.original(f"r{seq}")) for seq in added}
        session, picture = memory.session_id, picture_of(memory)
        self._tell(_line("done", call=name, session=session, picture=picture, added=hashes, list=self._list))

    # --- What is said -------------------------------------------------------------------------------------------------

    def _task(self) -> Message:
        if self._random.random() < 0.9:
            return {"role": "user", "content": self._text(15)}
        image = base64.b64encode(self._random.randbytes(15_000)).decode()
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
        return {"role": "user", "content": [{"type": "text", "text": self._text(5)}, picture]}

    def _answer(self) -> Message:
        calls = [self._tool_call() for _ in range(self._random.choice([0, 1, 1, 1, 2]))]
        return {"role": "assistant", "content": self._text(20)} | ({"tool_calls": calls} if calls else {})

    def _tool_call(self) -> Message:
        arguments = json.dumps({"path": f"src/{self._random.choice(_WORDS)}.py"})
        id_ = f"call_{self._random.getrandbits(40):010x}"
        return {"id": id_, "type": "function", "function": {"name": "read_file", "arguments": arguments}}

    def _result(self, call_id: str) -> Message:
        text = self._random.choice(_LARGE) if self._random.random() < 0.1 else self._text(60)
        return {"role": "tool", "tool_call_id": call_id, "content": text}

    def _text(self, words: int) -> str:
        said = " ".join(self._random.choices(_WORDS, k=self._random.randint(1, 2 * words)))
        return f"{self._random.getrandbits(64):016x} {said}"


def teller(descriptor: int) -> Callable[[str], None]:
    """Return what writes lines to a pipe or a file, each at once."""

    def tell(line: str) -> None:
        os.write(descriptor, line.encode() + b"\n")

    return tell


def _line(kind: str, **values: object) -> str:
    return json.dumps({"kind": kind, **values})


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]
