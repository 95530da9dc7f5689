"""What a memory asks of the place where sessions are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..recall.documents import Document, Found, Query
    from .values import (
        DailyUsage,
        Owner,
        Saved,
        SessionInfo,
        StoredCall,
        StoredCompression,
        StoredLayout,
        StoredMessage,
        Turn,
    )


class SessionStore(Protocol):
    """Keeps sessions: rows in, rows out. Safe to use from several threads; any number of processes may use one place.

    Every method raises `StorageError` (full, read-only, locked, corrupt, not reachable) where the place fails; then
    nothing of what it was asked to write was written.
    """

    @property
    def is_remote(self) -> bool:
        """Whether a call may wait for a network: asynchronous callers then use a thread."""
        ...

    # --- One owner writes ---------------------------------------------------------------------------------------------

    def save(self, turn: Turn) -> None:
        """Write a turn, whole or not at all, and renew the owner's lease. The same turn again changes nothing.

        A session begins with its first turn, and belongs to its owner then.

        Raises:
            SessionInUseError: The session belongs to another owner by now.
            CorruptStorageError: Another message has the number of one of these.
            UnknownSessionError: It was deleted.
        """
        ...

    def acquire(self, session_id: str, owner: Owner, *, takes_over: bool = False) -> Saved:
        """Make `owner` the one who may write to a session, and return what it goes on from; in one transaction.

        Args:
            session_id: A whole id.
            owner: Who asks.
            takes_over: Also from an owner who seems to be alive: its next `save` then fails.

        Raises:
            SessionInUseError: Another owner has it.
            UnknownSessionError: There is none of that id.
        """
        ...

    def release(self, session_id: str, owner: Owner) -> None:
        """Give a session up, so that others need not wait; nothing happens where it belongs to someone else."""
        ...

    # --- Anyone reads -------------------------------------------------------------------------------------------------

    def sessions(self, *, limit: int | None = None) -> list[SessionInfo]:
        """Return the sessions, the one that was written to last first."""
        ...

    def find(self, session: str) -> SessionInfo:
        """Return the session of an id, of a prefix that only one id has, of an exact title, or the `"latest"`.

        Raises:
            UnknownSessionError: There is none, or several begin like that.
        """
        ...

    def load(self, session_id: str) -> Saved:
        """Return a session as its newest turn left it, without becoming its owner.

        Raises:
            UnknownSessionError: There is none of that id.
        """
        ...

    def line(self, session_id: str) -> list[tuple[str, int]]:
        """Return where a session's messages are: (session, newest number that counts), the oldest ancestor first.

        The session itself comes last, with its newest message.
        """
        ...

    def messages(self, session_id: str, *, first_seq: int = 1, last_seq: int | None = None) -> list[StoredMessage]:
        """Return messages of a session by ascending number, those that it shares with its parent included.

        Of a deleted session those that its branches share are still read, under its id; `line` and `messages_of` too.
        """
        ...

    def messages_of(self, session_id: str, seqs: Iterable[int]) -> list[StoredMessage]:
        """Return the messages of these numbers, ascending; those that do not exist are left out."""
        ...

    def blob(self, digest: str) -> bytes:
        """Return a blob.

        Raises:
            CorruptStorageError: It is not there, though a message refers to it.
        """
        ...

    def calls(self, session_id: str) -> list[StoredCall]:
        """Return the session's own calls in their order; those of its parent are the parent's."""
        ...

    def compressions(self, session_id: str) -> list[StoredCompression]:
        """Return the session's own compressions in their order."""
        ...

    def layouts(self, session_id: str) -> list[StoredLayout]:
        """Return the session's own layouts in their order."""
        ...

    def daily_usage(self, *, since: float = 0.0) -> list[DailyUsage]:
        """Return the sums by day and model, the oldest day first."""
        ...

    # --- Keeping house ------------------------------------------------------------------------------------------------

    def rename(self, session_id: str, title: str) -> None:
        """Give a session a title, which later turns leave alone.

        Raises:
            UnknownSessionError: There is none of that id.
        """
        ...

    def delete(self, session_id: str) -> None:
        """Delete a session and all that nobody else needs of it. Its branches keep what they share with it.

        Raises:
            SessionInUseError: Somebody has it open.
            UnknownSessionError: There is none of that id.
        """
        ...

    def forget(self, session_id: str, seqs: Iterable[int]) -> int:
        """Take the words of these messages away for good: text, blobs, index, vectors. Return how many there were.

        What stands in their place says so (`encoding.FORGOTTEN`). Layouts and compressions that quote them lose their
        words too. A session that somebody has open must be closed first.

        Raises:
            SessionInUseError: Somebody has it open.
        """
        ...

    def limit(self, *, max_bytes: int | None = None, max_age_seconds: float | None = None) -> list[str]:
        """Delete the sessions that were not written to for longest until the limits hold. Return their ids.

        Sessions that are open stay, whatever the limits.
        """
        ...

    # --- Recall -------------------------------------------------------------------------------------------------------

    def unindexed(
        self, session_id: str | None = None, *, limit: int = 1_000
    ) -> list[tuple[SessionInfo, StoredMessage]]:
        """Return messages that `index` was not given yet, of one session (and what it shares) or of all."""
        ...

    def index(self, documents: Sequence[Document]) -> None:
        """Make documents findable. The namespace of each is the id of the session that its message belongs to."""
        ...

    def search(self, query: Query) -> list[Found]:
        """Return what matches best among the documents that were indexed, best first."""
        ...

    def unembedded(self, embedder: str, session_id: str | None = None, *, limit: int = 1_000) -> list[tuple[str, int]]:
        """Return (session, number) of messages that have no vector of this embedder yet."""
        ...

    def add_vectors(self, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        """Keep vectors: session, number of the message, little-endian float32."""
        ...

    def vectors(
        self, embedder: str, session_id: str | None = None, *, after_row: int = 0
    ) -> list[tuple[int, str, int, bytes]]:
        """Return vectors as (row, session, number, vector), by ascending row; only those behind `after_row`."""
        ...

    def close(self) -> None:
        """Let go of the place. Sessions that this object's owners still have open are not released by it."""
        ...
