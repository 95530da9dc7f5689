"""The archive: every message that left the context, byte for byte, findable by reference or by words."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .errors import ConfigError, UnknownReferenceError
from .messages import Reading, Role
from .quoting import excerpt
from .recall import Document, Fts5Index, Query, searchable_text
from .recall.tools import ToolNames
from .window import reference

__all__ = ["Archive", "Hit", "InMemoryArchive", "Record", "as_number", "searchable_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One archived message: the caller's own object and what was read from it."""

    seq: int
    message: object
    reading: Reading
    tokens: int

    @property
    def ref(self) -> str:
        return reference(self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A message that matches a query."""

    ref: str
    """`r17`; in another session `<session>:r17`. `MemoryManager.original` takes both."""
    message: Any
    """The caller's own object; of an earlier process, its JSON."""
    score: float
    """Higher is better; comparable within one query only."""
    excerpt: str
    """Up to 240 characters around the first match."""
    session_id: str | None = None
    """The session that it stands in; None for a memory that is not kept in one."""
    role: Role | None = None
    at: float | None = None
    """When it came, in seconds since 1970; None where only memory has it."""
    tokens: int = 0
    """Size of the message, as it was counted when it was added; of an excerpt, that of `text`."""
    text: str = field(default="", repr=False)
    """What it says, call arguments and results included; of an excerpt, the passage that fits the budget."""
    is_excerpt: bool = False
    """The whole message exceeds what was left of the budget: `text` is the part of it that matches best."""


class Archive(Protocol):
    """Where messages go before they leave the context. Records are never changed and never deleted."""

    def put(self, record: Record) -> None:
        """Store a record; storing the same message again changes nothing. One archive serves one conversation.

        Raises:
            ConfigError: Another message is known by that number.
        """
        ...

    def get(self, ref: str) -> Record:
        """Return the record under a reference.

        Raises:
            UnknownReferenceError: There is none.
        """
        ...

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return the best matches, best first. Any text is a legal query; an empty one matches nothing."""
        ...

    def __iter__(self) -> Iterator[Record]:
        """Yield all records by ascending sequence number."""
        ...

    def __len__(self) -> int: ...


class InMemoryArchive:
    """An archive that lives as long as the process. Search ranks as a session store does.

    Indexing is done by the first search after a `put`, so that a run that never searches never pays for it.
    """

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._unindexed: list[int] = []
        self._index: Fts5Index | None = None

    def put(self, record: Record) -> None:
        known = self._records.setdefault(record.seq, record)
        if known is record:
            self._unindexed.append(record.seq)
        elif known.message is not record.message:
            raise ConfigError(
                f"the archive knows another message as {record.ref}; give each MemoryManager an archive of its own"
            )

    def get(self, ref: str) -> Record:
        seq = as_number(ref)
        record = self._records.get(seq) if seq is not None else None
        if record is None:
            raise UnknownReferenceError(f"the archive has no message {ref!r}; references look like 'r17'")
        return record

    def search(
        self,
        query: str,
        *,
        limit: int = 5,
        role: Role | None = None,
        tool: str | None = None,
        without: Collection[int] = frozenset(),
        similarities: Mapping[int, float] | None = None,
    ) -> list[Hit]:
        """Return the best matches, best first.

        Args:
            query: Any text; an empty one matches nothing.
            limit: How many.
            role: Only messages of this role.
            tool: Only calls of this tool, and their results.
            without: Messages that are not wanted, by their numbers.
            similarities: Cosine of query and message by the message's number, where vectors are there.

        Raises:
            MissingDependencyError: This Python's SQLite has no full-text search.
        """
        unwanted = self._records.keys() & set(without)
        wanted = Query(
            text=query,
            limit=limit + len(unwanted),
            role=role,
            tool=tool,
            similarities={(_ONLY, seq): cosine for seq, cosine in (similarities or {}).items()},
        )
        found = [one for one in self._indexed().search(wanted) if one.seq not in unwanted]
        return [self._hit(one.seq, one.score, query) for one in found[: max(0, limit)]]

    def __iter__(self) -> Iterator[Record]:
        return iter([self._records[seq] for seq in sorted(self._records)])

    def __len__(self) -> int:
        return len(self._records)

    def _indexed(self) -> Fts5Index:
        if self._index is None:
            # Another thread may search next: one at a time, as with the memory that this belongs to.
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            weakref.finalize(self, connection.close)
            self._index = Fts5Index(connection)
        if self._unindexed:
            self._index.add(self._documents(sorted(self._unindexed)))
            self._unindexed.clear()
        return self._index

    def _documents(self, seqs: list[int]) -> Iterator[Document]:
        tools, wanted = ToolNames(), set(seqs)
        for record in self:
            names = tools.of(record.reading)
            if record.seq in wanted:
                text = searchable_text(record.reading)
                role, at = record.reading.role, float(record.seq)
                yield Document(namespace=_ONLY, seq=record.seq, role=role, tools=names, at=at, text=text)

    def _hit(self, seq: int, score: float, query: str) -> Hit:
        record = self._records[seq]
        text = searchable_text(record.reading)
        return Hit(
            ref=record.ref,
            message=record.message,
            score=score,
            excerpt=excerpt(text, query),
            role=record.reading.role,
            tokens=record.tokens,
            text=text,
        )


_ONLY = ""
"""The one namespace of an index in memory."""


def as_number(ref: str) -> int | None:
    """Return the sequence number that a reference names; None if it names none."""
    number = str(ref).strip().removeprefix("r")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 16 else None
