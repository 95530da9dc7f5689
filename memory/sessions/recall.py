"""Searching a store: its index, and its vectors, are brought up to date first, so that what was just said is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from ..archive import Hit
from ..dialects import dialect_named
from ..embedding import Embedding, drive_embedding
from ..errors import UnknownSessionError
from ..messages import Dialect, Reading, Role
from ..native import to_wire
from ..quoting import excerpt
from ..recall import Document, Found, Query, document_of, searchable_text
from ..recall.tools import ToolNames
from ..recall.vectors import VectorIndex
from ..window import reference
from .encoding import decode
from .store import SessionStore
from .values import SessionInfo, StoredMessage

if TYPE_CHECKING:
    from ..embedders.protocol import Embedder


def search_sessions(
    store: SessionStore,
    words: str,
    *,
    session: str | None = None,
    limit: int = 10,
    role: Role | None = None,
    tool: str | None = None,
    embedder: Embedder | None = None,
) -> list[Hit]:
    """Return the messages of a store that match best, best first; their `ref` names the session too.

    Args:
        store: Where to look. What is new there is indexed first.
        words: What to look for; any text is legal.
        session: Only here: an id, the beginning of one, a title, or `"latest"`; what a branch shares is included.
        limit: How many.
        role: Only messages of this role.
        tool: Only calls of this tool, and their results.
        embedder: Also finds what was meant in other words; embeds what it has not embedded yet.

    Raises:
        UnknownSessionError: There is no such session.
        StorageError: The store cannot be read, or its index not written.
        EmbeddingError: The embedder gave no vectors.
    """
    session_id = None if session is None else store.find(session).id
    request = Request(text=words, session_id=session_id, limit=limit, role=role, tool=tool)
    matches = drive_embedding(SessionSearch(store, embedder).search(request), embedder)
    return [hit_of(match, words) for match in matches]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is looked for in a store."""

    text: str
    session_id: str | None = None
    """Only in this session and in what it shares with others; None looks everywhere."""
    limit: int
    role: Role | None = None
    tool: str | None = None
    until_seq: int | None = None
    """Only messages before this number."""
    accepts: Callable[[str, int], bool] = field(default=lambda session_id, seq: True, repr=False)
    """Whether a message is wanted, by the session it belongs to and its number there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A message that was found."""

    session_id: str
    """The session that it belongs to; of what a branch shares, the one that had it first."""
    seq: int
    score: float
    message: object = field(repr=False)
    reading: Reading = field(repr=False)
    tokens: int
    at: float


def hit_of(match: Match, words: str) -> Hit:
    """Return a match as callers see it, with a reference that names its session."""
    text = searchable_text(match.reading)
    return Hit(
        ref=f"{match.session_id}:{reference(match.seq)}",
        message=match.message,
        score=match.score,
        excerpt=excerpt(text, words),
        session_id=match.session_id,
        role=match.reading.role,
        at=match.at,
        tokens=match.tokens,
        text=text,
    )


@runtime_checkable
class ComparesVectors(Protocol):
    """A store that compares vectors where they are, so that they need not travel."""

    def similar(
        self, embedder: str, vector: bytes, *, namespaces: Sequence[str] | None = None, limit: int = 100
    ) -> dict[tuple[str, int], float]:
        """Return the cosine of the nearest messages by (session, number), the nearest first."""
        ...


class SessionSearch:
    """Searches one store. Holds the vectors that it has read, so that the next search reads only new ones."""

    def __init__(self, store: SessionStore, embedder: Embedder | None = None) -> None:
        self._store = store
        self._embedder = embedder
        self._vectors = VectorIndex()
        self._vector_row = 0

    def search(self, request: Request) -> Embedding[list[Match]]:
        """Return what matches best, best first. Messages that the memory wrote itself are never among it."""
        line = None if request.session_id is None else dict(self._store.line(request.session_id))
        self._index(request.session_id)
        names = None if line is None else tuple(line)
        query = Query(
            text=request.text,
            namespaces=names,
            role=request.role,
            tool=request.tool,
            until_seq=request.until_seq,
            similarities=(yield from self._similarities(request, names)),
        )
        return self._matches(query, request, line)

    def message(self, session_id: str, seq: int) -> Match | None:
        """Return one message of any session; None if it is not there."""
        return next(iter(self._read([Found(namespace=session_id, seq=seq, score=0.0)])), None)

    # --- Bringing it up to date ---------------------------------------------------------------------------------------

    def _index(self, session_id: str | None) -> None:
        while batch := self._store.unindexed(session_id, limit=_AT_ONCE):
            self._store.index(list(self._documents(batch)))

    def _documents(self, batch: Sequence[tuple[SessionInfo, StoredMessage]]) -> Iterator[Document]:
        for _, rows in groupby(batch, key=lambda row: row[0].id):
            group = list(rows)
            info, first = group[0]
            before = self._store.messages(info.id, first_seq=max(1, first.seq - _CALLED_BEFORE), last_seq=first.seq - 1)
            tools = ToolNames()
            for stored in before:
                tools.of(self._reading(info, stored))
            for _, stored in group:
                yield self._document(info, stored, tools)

    def _document(self, info: SessionInfo, stored: StoredMessage, tools: ToolNames) -> Document:
        if stored.is_written:  # what it repeats is indexed where it came from
            return Document(namespace=info.id, seq=stored.seq, role=stored.role, at=stored.at, text="")
        wire = to_wire(decode(stored.body, stored.form, self._store.blob))
        reading = _dialect(info).read(wire)
        name = wire.get("name")
        speaker = name if isinstance(name, str) and not reading.results else ""
        document = document_of(reading, namespace=info.id, seq=stored.seq, at=stored.at, speaker=speaker)
        return replace(document, tools=tools.of(reading))

    def _similarities(
        self, request: Request, names: Sequence[str] | None
    ) -> Embedding[Mapping[tuple[str, int], float]]:
        if self._embedder is None or not request.text.strip():
            return {}
        yield from self._embed(self._embedder.name, request.session_id)
        (vector,) = yield [request.text]
        if isinstance(self._store, ComparesVectors):
            return self._store.similar(self._embedder.name, vector, namespaces=names, limit=_SIMILAR)
        self._load(self._embedder.name)
        return self._vectors.search(vector, namespaces=names, limit=_SIMILAR)

    def _embed(self, name: str, session_id: str | None) -> Embedding[None]:
        while batch := self._store.unembedded(name, session_id, limit=_EMBEDDED_AT_ONCE):
            found = self._read([Found(namespace=id, seq=seq, score=0.0) for id, seq in batch], written=True)
            texts = {(one.session_id, one.seq): searchable_text(one.reading) for one in found}
            vectors = yield [texts.get(place, "") for place in batch]
            self._store.add_vectors(name, [(id, seq, vector) for (id, seq), vector in zip(batch, vectors, strict=True)])

    def _load(self, name: str) -> None:
        rows = self._store.vectors(name, after_row=self._vector_row)
        self._vectors.add((id, seq, vector) for _, id, seq, vector in rows)
        self._vector_row = max((row for row, *_ in rows), default=self._vector_row)

    # --- Finding ------------------------------------------------------------------------------------------------------

    def _matches(self, query: Query, request: Request, line: Mapping[str, int] | None) -> list[Match]:
        """Return so many that are wanted: what is not is found too, so more is asked for until there is enough."""
        asked = max(1, request.limit) * 2
        while True:
            found = self._store.search(replace(query, limit=asked))
            wanted = [
                one
                for one in found
                if (line is None or one.seq <= line[one.namespace]) and request.accepts(one.namespace, one.seq)
            ]
            matches = self._read(wanted[: request.limit + _WRITTEN])
            if len(matches) >= request.limit or len(found) < asked:
                return matches[: max(0, request.limit)]
            asked *= 4

    def _read(self, found: Sequence[Found], *, written: bool = False) -> list[Match]:
        infos = {name: self._info(name) for name in dict.fromkeys(one.namespace for one in found)}
        rows = {
            (name, stored.seq): stored
            for name, info in infos.items()
            if info is not None
            for stored in self._store.messages_of(info.id, [one.seq for one in found if one.namespace == name])
        }
        return [
            self._match(one, infos[one.namespace], rows[one.namespace, one.seq])
            for one in found
            if (one.namespace, one.seq) in rows and (written or not rows[one.namespace, one.seq].is_written)
        ]

    def _match(self, found: Found, info: SessionInfo | None, stored: StoredMessage) -> Match:
        assert info is not None
        message = decode(stored.body, stored.form, self._store.blob)
        return Match(
            session_id=found.namespace,
            seq=found.seq,
            score=found.score,
            message=message,
            reading=Reading(role=stored.role) if stored.is_written else _dialect(info).read(to_wire(message)),
            tokens=stored.tokens,
            at=stored.at,
        )

    def _info(self, session_id: str) -> SessionInfo | None:
        """Return a session through which the messages of this one are read; of a deleted one, a branch."""
        try:
            return self._store.find(session_id)
        except UnknownSessionError:
            heirs = (info for info in self._store.sessions() if info.parent_id is not None)
            return next((info for info in heirs if session_id in dict(self._store.line(info.id))), None)

    def _reading(self, info: SessionInfo, stored: StoredMessage) -> Reading:
        return _dialect(info).read(to_wire(decode(stored.body, stored.form, self._store.blob)))


_AT_ONCE: Final = 500
"""So many messages are read and indexed in one transaction: whoever writes meanwhile waits for it."""
_EMBEDDED_AT_ONCE: Final = 128
_SIMILAR: Final = 100
_CALLED_BEFORE: Final = 16
"""A result stands near its call: so far back its tool's name is looked for."""
_WRITTEN: Final = 8


def _dialect(info: SessionInfo) -> Dialect:
    return dialect_named(info.heading.dialect or "openai_chat")
