"""Rows and turns for tests of session stores: small, plain, and different from one another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..sessions.encoding import encode
from ..sessions.lease import new_owner
from ..sessions.store import SessionStore
from ..sessions.values import (
    Heading,
    NewSession,
    Owner,
    StoredCall,
    StoredCompression,
    StoredLayout,
    StoredMessage,
    Turn,
)
from ..tracker import Purpose

Failure = TypeVar("Failure", bound=BaseException)

START = 1_790_000_000.0
"""When the sessions of the tests began, in seconds since 1970."""


def raised(kind: type[Failure], action: Callable[[], object]) -> Failure:
    """Return the error that `action` raises; fail if it raises none of this kind."""
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, and nothing was raised")


def message(seq: int, content: object, *, at: float = START, **more: Any) -> tuple[StoredMessage, Mapping[str, bytes]]:
    """Return a row for a message of a user, and its blobs."""
    encoded = encode({"role": "user", "content": content})
    values: dict[str, Any] = {"role": "user", "tokens": 7, "at": at + seq, "blobs": tuple(encoded.blobs)} | more
    return StoredMessage(seq=seq, body=encoded.body, form=encoded.form, **values), encoded.blobs


def call(
    number: int, *, seq: int = 1, at: float = START, model: str | None = "some-model", purpose: Purpose = "agent"
) -> StoredCall:
    """Return a model call that differs from those of other numbers."""
    return StoredCall(
        number=number,
        seq=seq,
        at=at,
        model=model,
        purpose=purpose,
        input_tokens=100 + number,
        output_tokens=10,
        cache_read_tokens=50,
        cache_write_tokens=4,
        cache_write_1h_tokens=3,
        reasoning_tokens=2,
        cost_usd=0.25,
        is_estimate=False,
        price_is_default=False,
    )


def compression(number: int, *, first: int = 1, last: int = 2, summary: str = "a summary") -> StoredCompression:
    """Return a compression of the messages from `first` to `last`."""
    return StoredCompression(
        number=number,
        seq=last,
        at=START + last,
        first_ref=f"r{first}",
        last_ref=f"r{last}",
        summary=summary,
        event='{"trigger":"soft"}',
        plan="[]",
        digest="0" * 64,
    )


def layout(number: int, *, after_seq: int = 1, body: str = "{}", blobs: tuple[str, ...] = ()) -> StoredLayout:
    """Return a layout."""
    return StoredLayout(number=number, after_seq=after_seq, reason="compression", body=body, blobs=blobs)


def owner_elsewhere() -> Owner:
    """Return an owner on a machine that cannot be asked."""
    return replace(new_owner(), host="some-other-machine", process_started="")


@dataclass
class Writer:
    """Writes turns to one session as its owner, as a memory does."""

    store: SessionStore
    id: str
    owner: Owner = field(default_factory=new_owner)
    title: str = "a title"
    at: float = START
    parent: tuple[str, int] | None = None
    """The session that this one is a branch of, and the newest message that it shares."""
    seq: int = 0
    is_new: bool = True

    def __post_init__(self) -> None:
        self.seq = self.parent[1] if self.parent else self.seq

    def turn(self, *contents: object, **more: Any) -> Turn:
        """Return the next turn, unwritten; one message of a user for each of `contents`."""
        rows = [message(number, content, at=self.at) for number, content in enumerate(contents, start=self.seq + 1)]
        self.seq += len(rows)
        blobs = {digest: content for _, found in rows for digest, content in found.items()}
        values: dict[str, Any] = {
            "messages": tuple(row for row, _ in rows),
            "blobs": blobs | more.pop("blobs", {}),
            "heading": self.heading(),
            "state": f'{{"seq":{self.seq}}}',
            "at": self.at + self.seq,
            "is_durable": False,
            "begins": self._begins() if self.is_new else None,
        }
        return Turn(session_id=self.id, owner=self.owner, **(values | more))

    def write(self, *contents: object, **more: Any) -> Turn:
        """Write the next turn and return it."""
        turn = self.turn(*contents, **more)
        self.store.save(turn)
        self.is_new = False
        return turn

    def branch(self, id: str, *, seq: int) -> Writer:
        """Return the writer of a branch that shares the messages up to `seq`."""
        return Writer(self.store, id, at=self.at, parent=(self.id, seq))

    def release(self) -> Writer:
        """Give the session up; return the writer."""
        self.store.release(self.id, self.owner)
        return self

    def heading(self) -> Heading:
        """Return what a list shows of the session."""
        return Heading(
            title=self.title,
            dialect="anthropic",
            model="some-model",
            last_seq=self.seq,
            context_tokens=70,
            total_tokens=100,
            cost_usd=0.5,
            compression_count=0,
        )

    def _begins(self) -> NewSession:
        parent_id, parent_seq = self.parent or (None, 0)
        return NewSession(created_at=self.at, config='{"strategy":"auto"}', parent_id=parent_id, parent_seq=parent_seq)


def everything(store: SessionStore, id: str) -> Sequence[object]:
    """Return all that a store says of a session, but until when its lease holds."""
    saved = store.load(id)
    return (
        replace(saved, info=replace(saved.info, lease_until=0.0)),
        store.messages(id),
        store.calls(id),
        store.compressions(id),
        store.layouts(id),
    )


def days_ago(days: float) -> float:
    """Return a time of so many days ago, in seconds since 1970."""
    return time.time() - days * 86_400
