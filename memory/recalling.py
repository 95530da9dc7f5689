"""Recall as callers see it: from words to messages, over one conversation or all of a store, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from .archive import Archive, Hit, InMemoryArchive, as_number, searchable_text
from .config import MemoryConfig
from .embedding import Embedding
from .errors import ConfigError, UnknownReferenceError
from .messages import Role
from .quoting import passage
from .recall.vectors import VectorIndex
from .sessions.archive import SessionArchive, Wanted
from .sessions.recall import SessionSearch
from .tokens import TokenCounter
from .tracker import TokenTracker
from .usage import Usage
from .window import Kind, Window

if TYPE_CHECKING:
    from .embedders.endpoint import EmbeddingCall
    from .embedders.protocol import Embedder

Scope: TypeAlias = Literal["session", "all"]
"""Where to look: in this conversation, or in all sessions of its store."""


class Recall:
    """Finds what one memory has archived. It searches and cuts to size; it changes neither window nor archive."""

    def __init__(
        self,
        config: MemoryConfig,
        archive: Archive,
        window: Window,
        counter: TokenCounter,
        tracker: TokenTracker,
        *,
        embedder: Embedder | None,
    ) -> None:
        """Take where to look.

        Raises:
            ConfigError: The configuration names an embedder that cannot be made without a client.
        """
        self.own_embedder = embedder or configured_embedder(config)
        """As it was given or made, for another memory with other books."""
        self.embedder = _billed(self.own_embedder, tracker)
        """None: by words alone."""
        self._archive = archive
        self._window = window
        self._counter = counter
        self._search = SessionSearch(archive.store, self.embedder) if isinstance(archive, SessionArchive) else None
        self._vectors = VectorIndex()
        self._embedded: set[int] = set()

    def found(
        self,
        query: str,
        limit: int | None,
        *,
        budget_tokens: int | None,
        scope: Scope,
        role: Role | None,
        tool: str | None,
    ) -> Embedding[list[Hit]]:
        """Return the best messages, best first; `MemoryManager.recall` says what the arguments mean.

        Raises:
            ConfigError: There is no such scope or role, or no store for that scope.
        """
        self._refuse(scope, role, budget_tokens)
        wanted = Wanted(
            text=query,
            limit=_number(limit, budget_tokens),
            role=role,
            tool=tool,
            without=frozenset(entry.seq for entry in self._window.entries if entry.kind is Kind.ORIGINAL),
            is_everywhere=scope == "all",
        )
        hits = (yield from self._hits(wanted)) if wanted.limit > 0 and query.strip() else []
        if budget_tokens is None:
            return hits
        return list(within(hits, query, budget_tokens, self._counter.count_text))

    @property
    def is_remote(self) -> bool:
        """Whether a search may wait for a network."""
        return isinstance(self._archive, SessionArchive) and self._archive.store.is_remote

    def original(self, ref: str) -> Any:
        """Return an archived message by its reference, also one of another session.

        Raises:
            UnknownReferenceError: There is none.
        """
        session, colon, own = ref.rpartition(":")
        if not colon or self._search is None:
            return self._archive.get(ref).message
        seq = as_number(own)
        match = self._search.message(session, seq) if seq is not None else None
        if match is None:
            raise UnknownReferenceError(f"the store has no message {ref!r}; references look like '<session>:r17'")
        return match.message

    def _refuse(self, scope: str, role: str | None, budget_tokens: int | None) -> None:
        if scope not in get_args(Scope):
            raise ConfigError(f"scope must be one of {', '.join(get_args(Scope))}, got {scope!r}", field="scope")
        if scope == "all" and self._search is None:
            raise ConfigError(
                "scope='all' needs a store: give the memory one (store=…), or set session_db (MEMORY_SESSION_DB)",
                field="scope",
            )
        if role is not None and role not in get_args(Role):
            raise ConfigError(f"role must be one of {', '.join(get_args(Role))}, or None, got {role!r}", field="role")
        if budget_tokens is not None and budget_tokens < 1:
            raise ConfigError(f"budget_tokens must be 1 or more, or None, got {budget_tokens!r}", field="budget_tokens")

    def _hits(self, wanted: Wanted) -> Embedding[list[Hit]]:
        if isinstance(self._archive, SessionArchive):
            assert self._search is not None
            return (yield from self._archive.found(wanted, self._search))
        if isinstance(self._archive, InMemoryArchive):
            similarities = yield from self._similarities(wanted.text)
            return self._archive.search(
                wanted.text,
                limit=wanted.limit,
                role=wanted.role,
                tool=wanted.tool,
                without=wanted.without,
                similarities=similarities,
            )
        found = self._filtered(wanted)
        return [hit for hit in found if as_number(hit.ref) not in wanted.without][: wanted.limit]

    def _filtered(self, wanted: Wanted) -> Iterator[Hit]:
        """Yield what an archive of the caller's own finds, which knows neither roles nor tools."""
        asked = (wanted.limit + len(wanted.without)) * (1 if wanted.role is wanted.tool is None else _FILTERED)
        for hit in self._archive.search(wanted.text, limit=asked):
            record = self._archive.get(hit.ref)
            names = {call.name for call in record.reading.calls} | {r.name for r in record.reading.results}
            if wanted.role in (None, record.reading.role) and (wanted.tool is None or wanted.tool in names):
                text = hit.text or searchable_text(record.reading)
                yield replace(hit, role=record.reading.role, tokens=record.tokens, text=text)

    def _similarities(self, text: str) -> Embedding[dict[int, float]]:
        if self.embedder is None:
            return {}
        new = [record for record in self._archive if record.seq not in self._embedded]
        for start in range(0, len(new), _EMBEDDED_AT_ONCE):
            some = new[start : start + _EMBEDDED_AT_ONCE]
            vectors = yield [searchable_text(record.reading) for record in some]
            self._vectors.add((_ONLY, record.seq, vector) for record, vector in zip(some, vectors, strict=True))
            self._embedded.update(record.seq for record in some)
        (vector,) = yield [text]
        return {seq: cosine for (_, seq), cosine in self._vectors.search(vector, limit=_SIMILAR).items()}


def within(hits: Iterable[Hit], query: str, budget_tokens: int, count: Callable[[str], int]) -> Iterator[Hit]:
    """Yield as many of the hits as fit a budget, best first; of a message that does not, the passage that does."""
    left = budget_tokens
    for hit in hits:
        if hit.tokens > left:
            text = passage(hit.text, query, tokens=left, count=count) if left >= _LEAST_TOKENS else ""
            if not text.strip():
                continue
            hit = replace(hit, text=text, excerpt=text, tokens=count(text), is_excerpt=True)
        left -= hit.tokens
        yield hit


def configured_embedder(config: MemoryConfig) -> Embedder | None:
    """Return the embedder that the settings name; None where they name none.

    Raises:
        ConfigError: They name one that needs a client, with a key, which is not theirs to have.
    """
    if config.embedder is None:
        return None
    if config.embedder == "local":
        from .embedders.local import LocalEmbedder  # `import memory` leaves it to those who embed

        return LocalEmbedder()
    raise ConfigError(
        f"the embedder {config.embedder!r} needs a client: give the memory embedder=OpenAIEmbedder(client, model=…); "
        "agents of this library do so by themselves",
        field="embedder",
    )


def _billed(embedder: Embedder | None, tracker: TokenTracker) -> Embedder | None:
    """Return the embedder, its calls booked where they cost something."""
    if embedder is None:
        return None
    from .embedders.protocol import PaidEmbedder  # as above

    def book(call: EmbeddingCall) -> None:
        usage = Usage(input_tokens=call.input_tokens or 0, output_tokens=0)
        unknown = call.input_tokens is None
        tracker.record(usage, model=call.model, purpose="recall", is_estimate=unknown, cost_usd=call.cost_usd)

    return embedder.telling(book) if isinstance(embedder, PaidEmbedder) else embedder


def _number(limit: int | None, budget_tokens: int | None) -> int:
    if limit is not None:
        return limit
    return _LIMIT if budget_tokens is None else min(_MOST, max(1, budget_tokens // _SHORTEST_TOKENS))


_LIMIT: Final = 5
_MOST: Final = 100
"""With a budget and no limit: so many messages at most, however short they are."""
_SHORTEST_TOKENS: Final = 4
"""No message is shorter."""
_LEAST_TOKENS: Final = 16
"""Less of a budget is left unused: a passage of a few words says nothing."""
_FILTERED: Final = 10
_SIMILAR: Final = 100
_EMBEDDED_AT_ONCE: Final = 128
_ONLY: Final = ""
