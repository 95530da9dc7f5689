"""The archive of a memory that has a session: what left the context in this process at hand, the rest in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..archive import Hit, Record, as_number
from ..errors import ConfigError, UnknownReferenceError
from ..window import Entry, reference
from .shelf import Shelf


class SessionArchive:
    """Every message is in the store from the moment it was added; here it is known which of them left the context.

    Messages of this process are returned as the very objects that were added; those of an earlier one as their JSON.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._records: dict[int, Record] = {}
        self._seqs: set[int] = set()

    @property
    def seqs(self) -> tuple[int, ...]:
        """The numbers of the archived messages, ascending."""
        return tuple(sorted(self._seqs))

    def restore(self, seqs: Iterable[int]) -> None:
        """Know that these messages are archived; they are in the store."""
        self._seqs.update(seqs)

    def put(self, record: Record) -> None:
        known = self._records.setdefault(record.seq, record)
        if known.message is not record.message:
            raise ConfigError(
                f"the archive knows another message as {record.ref}; give each MemoryManager an archive of its own"
            )
        self._seqs.add(record.seq)

    def get(self, ref: str) -> Record:
        seq = as_number(ref)
        if seq is None:
            raise UnknownReferenceError(f"the archive has no message {ref!r}; references look like 'r17'")
        return self._records.get(seq) or _record(self._shelf.entry(seq))

    def search(self, query: str, *, limit: int = 5) -> list[Hit]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Record]:
        self._shelf.fetch(seq for seq in self.seqs if seq not in self._records)
        return iter([self.get(reference(seq)) for seq in self.seqs])

    def __len__(self) -> int:
        return len(self._seqs)


def _record(entry: Entry) -> Record:
    return Record(seq=entry.seq, message=entry.message, reading=entry.reading, tokens=entry.tokens)
