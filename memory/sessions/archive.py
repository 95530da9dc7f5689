"""The archive of a memory that has a session: what left the context in this process at hand, the rest in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from ..archive import Hit, Record, as_number
from ..embedding import Embedding, drive_embedding
from ..errors import ConfigError, UnknownReferenceError, UnknownSessionError
from ..messages import Role
from ..window import Entry, reference
from .recall import Match, Request, SessionSearch, hit_of
from .shelf import Shelf
from .store import SessionStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for, and where."""

    text: str
    limit: int
    role: Role | None = None
    tool: str | None = None
    without: Collection[int] = ()
    """Messages of this conversation that are not wanted, by their numbers."""
    is_everywhere: bool = False
    """In the other sessions of the store too."""


class SessionArchive:
    """Every message is in the store from the moment it was added; here it is known which of them left the context.

    Messages of this process are returned as the very objects that were added; those of an earlier one as their JSON.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._records: dict[int, Record] = {}
        self._seqs: set[int] = set()
        self._unlaid: set[int] = set()

    @property
    def store(self) -> SessionStore:
        """Where the messages are."""
        return self._shelf.store

    @property
    def seqs(self) -> tuple[int, ...]:
        """The numbers of the archived messages, ascending."""
        return tuple(sorted(self._seqs))

    @property
    def unlaid(self) -> list[int]:
        """The numbers of those that no written layout tells of yet, ascending."""
        return sorted(self._unlaid)

    def restore(self, laid: Iterable[int], unlaid: Iterable[int]) -> None:
        """Know that these messages are archived; they are in the store."""
        self._unlaid = set(unlaid)
        self._seqs = {*laid, *self._unlaid}

    def note_laid(self, seqs: Iterable[int]) -> None:
        """A layout that tells of these was written."""
        self._unlaid.difference_update(seqs)

    def put(self, record: Record) -> None:
        known = self._records.setdefault(record.seq, record)
        if known.message is not record.message:
            raise ConfigError(
                f"the archive knows another message as {record.ref}; give each MemoryManager an archive of its own"
            )
        if record.seq not in self._seqs:
            self._seqs.add(record.seq)
            self._unlaid.add(record.seq)

    def get(self, ref: str) -> Record:
        seq = as_number(ref)
        if seq is None:
            raise UnknownReferenceError(f"the archive has no message {ref!r}; references look like 'r17'")
        return self._records.get(seq) or _record(self._kept(seq))

    def _kept(self, seq: int) -> Entry:
        if seq in self._seqs:
            return self._shelf.entry(seq)
        found = self._shelf.find(seq)
        if found is None:
            raise UnknownReferenceError(f"the archive has no message {reference(seq)!r}; references look like 'r17'")
        return found

    def search(self, query: str, *, limit: int = 5) -> list[Hit]:
        wanted = Wanted(text=query, limit=limit)
        return drive_embedding(self.found(wanted, SessionSearch(self._shelf.store)), None)

    def found(self, wanted: Wanted, search: SessionSearch) -> Embedding[list[Hit]]:
        """Return what of the archive, or of all sessions, matches best; best first."""
        line = self._line()
        if not (line or wanted.is_everywhere):
            return []
        archived = self._seqs.difference(wanted.without)

        def accepts(session_id: str, seq: int) -> bool:
            return seq in archived if seq <= line.get(session_id, 0) else wanted.is_everywhere

        request = Request(
            text=wanted.text,
            session_id=None if wanted.is_everywhere else self._shelf.session_id,
            limit=wanted.limit,
            role=wanted.role,
            tool=wanted.tool,
            until_seq=None if wanted.is_everywhere else max(archived, default=0) + 1,
            accepts=accepts,
        )
        matches = yield from search.search(request)
        return [self._hit(match, wanted.text, is_own=match.seq <= line.get(match.session_id, 0)) for match in matches]

    def _hit(self, match: Match, words: str, *, is_own: bool) -> Hit:
        hit = hit_of(match, words)
        if not is_own:
            return hit
        known = self._records.get(match.seq)
        return replace(
            hit,
            ref=reference(match.seq),
            message=match.message if known is None else known.message,
            session_id=self._shelf.session_id,
        )

    def _line(self) -> dict[str, int]:
        """Return which messages of which sessions are this conversation; none before its first turn was written."""
        try:
            return dict(self._shelf.store.line(self._shelf.session_id))
        except UnknownSessionError:
            return {}

    def __iter__(self) -> Iterator[Record]:
        self._shelf.fetch(seq for seq in self.seqs if seq not in self._records)
        return iter([self.get(reference(seq)) for seq in self.seqs])

    def __len__(self) -> int:
        return len(self._seqs)


def _record(entry: Entry) -> Record:
    return Record(seq=entry.seq, message=entry.message, reading=entry.reading, tokens=entry.tokens)
