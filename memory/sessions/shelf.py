"""The stored log of one session as entries: read when needed, each message once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import CorruptStorageError
from ..messages import Dialect
from ..native import to_wire
from ..window import Entry, Kind, reference
from .encoding import Encoded, decode, dumped, encode, loaded
from .store import SessionStore
from .values import StoredMessage


class Shelf:
    """Reads messages of a session's log from its store. Nothing is counted again: sizes are stored too."""

    def __init__(self, store: SessionStore, session_id: str, dialect: Dialect) -> None:
        self.dialect = dialect
        """The format of the messages; whoever learns it later sets it."""
        self.store = store
        self.session_id = session_id
        self._entries: dict[int, Entry] = {}
        self._shown: dict[int, Entry] = {}

    def entry(self, seq: int) -> Entry:
        """Return a message that was added, as it was then.

        Raises:
            CorruptStorageError: It is gone.
        """
        found = self.find(seq)
        if found is None:
            raise _gone(seq)
        return found

    def find(self, seq: int) -> Entry | None:
        """Return the message of a number, as it was added; None if there is none."""
        self.fetch([seq])
        return self._entries.get(seq)

    def fetch(self, seqs: Iterable[int]) -> None:
        """Read several messages at once; what is known already is not read again."""
        missing = [seq for seq in seqs if seq not in self._entries]
        if missing:
            self._take(self.store.messages_of(self.session_id, missing))

    def appended(self, after_seq: int, last_seq: int) -> list[Entry]:
        """Return what stood in the window for messages when they were appended: mostly the messages themselves.

        Raises:
            CorruptStorageError: One of them is gone.
        """
        wanted = range(after_seq + 1, last_seq + 1)
        if not all(seq in self._entries for seq in wanted):
            self._take(self.store.messages(self.session_id, first_seq=after_seq + 1, last_seq=last_seq))
        return [self._shown.get(seq) or self.entry(seq) for seq in wanted]

    def blob(self, digest: str) -> bytes:
        """Return a blob of the store."""
        return self.store.blob(digest)

    def _take(self, messages: Iterable[StoredMessage]) -> None:
        for stored in messages:
            if stored.seq in self._entries:
                continue
            entry = self._read(stored)
            self._entries[stored.seq] = entry
            if stored.shown is not None:
                self._shown[stored.seq] = standing_entry(loaded(stored.shown), self)

    def _read(self, stored: StoredMessage) -> Entry:
        message = decode(stored.body, stored.form, self.store.blob)
        kind = Kind.RECALLED if stored.is_written else Kind.ORIGINAL
        reading = self.dialect.read(to_wire(message))
        return Entry(seq=stored.seq, message=message, reading=reading, tokens=stored.tokens, kind=kind)


def _gone(seq: int) -> CorruptStorageError:
    return CorruptStorageError(
        f"the message {reference(seq)} is gone from the store, though its session goes on after it; put a whole copy "
        "of the store back, or branch from a message before it"
    )


def standing_entry(value: dict[str, Any], shelf: Shelf) -> Entry:
    """Return an entry that is no message of the log: a shortened copy."""
    message = decode(value["message"], value["form"], shelf.blob)
    return Entry(
        seq=value["seq"],
        message=message,
        reading=shelf.dialect.read(to_wire(message)),
        tokens=value["tokens"],
        kind=Kind(value["kind"]),
        original=shelf.entry(value["seq"]),
    )


def standing_value(entry: Entry, blobs: dict[str, bytes]) -> dict[str, Any]:
    """Return what `standing_entry` reads, as JSON values; its blobs are put beside those that are there."""
    encoded = encode(entry.message)
    blobs.update(encoded.blobs)
    return {
        "kind": str(entry.kind),
        "seq": entry.seq,
        "tokens": entry.tokens,
        "form": encoded.form,
        "message": encoded.body,
    }


def stored_message(
    added: Entry, standing: Entry, encoded: Encoded, *, at: float
) -> tuple[StoredMessage, dict[str, bytes]]:
    """Return the row of a message that was just appended, and the blobs that go with it.

    Args:
        added: The message.
        standing: What stands in the window for it.
        encoded: The message, encoded.
        at: When it came.
    """
    blobs, shown = dict(encoded.blobs), None
    if standing.as_added is standing:
        added = standing
    else:
        shown = dumped(standing_value(standing, blobs))
    row = StoredMessage(
        seq=added.seq,
        role=added.reading.role,
        tools=tuple(dict.fromkeys(_tools(added))),
        form=encoded.form,
        body=encoded.body,
        blobs=tuple(blobs),
        tokens=added.tokens,
        at=at,
        is_written=added.is_written,
        shown=shown,
    )
    return row, blobs


def _tools(entry: Entry) -> Iterator[str]:
    for call in entry.reading.calls:
        yield call.name
    for result in entry.reading.results:
        if result.name is not None:
            yield result.name
