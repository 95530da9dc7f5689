"""Messages on their way in: read once, appended to the window, or followed in a list that the caller keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from .accounts import Accounts
from .breakpoints import Breakpoints
from .compressor import WorkingMemoryCompressor
from .copies import entry_of, without_stale_marks
from .cycle import CompressionCycle
from .dialects import DIALECTS, detect, dialect_named
from .errors import ConfigError
from .following import Followed
from .messages import Dialect, DialectName
from .native import unwrap
from .request_size import RequestSize
from .short_term import ShortTermMemory
from .tokens import TokenCounter
from .window import Entry, Window


class Journal(Protocol):
    """Is told of every message, before and after it is in the window."""

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Messages are about to be appended; raise to refuse them, all together."""
        ...

    def note(self, added: Entry, standing: Entry) -> None:
        """A message was appended; `standing` is what stands in the window for it."""
        ...


class Recent:
    """The short-term memory of a conversation, and the numbers of what it holds."""

    def __init__(self, size: int) -> None:
        self.short_term = ShortTermMemory(size)
        self.seqs: deque[int] = deque(maxlen=size)

    def add(self, entry: Entry) -> None:
        """Take the newest message, as it was added."""
        self.short_term.add_message(entry.as_added.message)
        self.seqs.append(entry.seq)

    def refill(self, entries: Sequence[Entry]) -> None:
        """Hold the newest messages of a window, and nothing else; what the memory wrote is none."""
        self.short_term.clear()
        self.seqs.clear()
        for entry in entries:
            if not entry.is_written:
                self.add(entry)


class Intake:
    """Takes messages of one conversation into its window. When to compress is not its business."""

    def __init__(
        self,
        window: Window,
        compressor: WorkingMemoryCompressor,
        size: RequestSize,
        accounts: Accounts,
        cycle: CompressionCycle,
        *,
        counter: TokenCounter,
        dialect: Dialect | None,
        short_term_size: int,
        has_breakpoints: bool,
    ) -> None:
        self.dialect = dialect
        """The format of the messages; None while they could still be of several."""
        self.followed = Followed()
        self.recent = Recent(short_term_size)
        self.breakpoints = Breakpoints(window, size, is_wanted=has_breakpoints)
        self.journal: Journal | None = None
        self._window = window
        self._compressor = compressor
        self._accounts = accounts
        self._cycle = cycle
        self._counter = counter
        self._exchanged_edits = 0
        cycle.sent = lambda: self.breakpoints.context(self.dialect_name)

    @property
    def dialect_name(self) -> DialectName | None:
        """The name of the format, where it is known."""
        return self.dialect.name if self.dialect is not None else None

    @property
    def dialect_or_default(self) -> Dialect:
        """The format, or the one that what came so far is read in."""
        return self.dialect or DIALECTS["openai_chat"]

    def settle_dialect(self, dialect: Dialect) -> None:
        """Take note of the format.

        Raises:
            ConfigError: The conversation is in another one.
        """
        if self.dialect is None:
            # What came before reads the same in every format.
            self.dialect = self._cycle.dialect = dialect
            self._window.regroup(splits_responses=dialect.splits_responses)
        elif self.dialect is not dialect:
            raise ConfigError(
                f"this conversation is in the format {self.dialect.name}, not {dialect.name}; use one manager each"
            )

    def read(self, message: object) -> list[Entry]:
        """Read a caller's message; the first one that shows the format settles it.

        All is read before the first entry is appended: a response with one unreadable item adds nothing.

        Raises:
            MessageError: It is in no known shape, or cannot be kept where all is kept.
        """
        natives = unwrap(message)
        dialect = self.dialect or detect(natives)
        entries = [
            entry_of(native, self._window.last_seq + number, dialect or self.dialect_or_default, self._counter)
            for number, native in enumerate(natives, start=1)
        ]
        if self.journal is not None:
            self.journal.prepare(entries)
        if dialect is not None:
            self.settle_dialect(dialect)
        return entries

    def add(self, entry: Entry) -> None:
        """Append a message that was handed over by itself, and book the request that it answers."""
        if self._window.begins_response(entry.reading):
            self._open_request(entry)
        self.log(entry)

    def log(self, entry: Entry) -> None:
        """Append a message that was handed over by itself; a list that is followed later may begin with it."""
        self.followed.add(entry.message, first_seq=entry.seq, log_tokens=self._window.log_tokens)
        self._append(entry)

    def append_written(self, entry: Entry) -> None:
        """Append a message of the memory's own: no caller's list contains it, and no short-term memory."""
        self._window.append(entry)
        self.followed.note_written(entry.seq)
        if self.journal is not None:
            self.journal.note(entry, entry)

    def follow(self, messages: Iterable[object], dialect: DialectName | None) -> None:
        """Make the log equal to the caller's list."""
        if dialect is not None:
            self.settle_dialect(dialect_named(dialect))
        wanted = self.breakpoints.originals(messages)
        answered = common = self.followed.common(wanted)
        if common < len(self.followed):
            answered = self.followed.behind(wanted, default=common)
            common = self._withdraw(common)
        self._exchange(wanted[:common])
        for index, message in enumerate(wanted[common:], start=common):
            self._take_over(message, may_answer=index >= answered)

    def begin_at(self, seq: int, entries: Sequence[Entry], origin: Intake) -> None:
        """Have what another conversation had when a message was the newest one: a branch of it."""
        log_tokens = self.followed.begin_as(origin.followed, last_seq=seq, log_tokens=origin._window.log_tokens)
        self._window.begin_at(seq, entries, log_tokens=log_tokens)
        self.recent.refill(entries)

    def clear(self) -> None:
        """Empty the window, but for the system prompt that it begins with; what was in it goes to the archive."""
        for entry in self._window.clear():
            self._compressor.keep(entry)
        self.followed.cut_behind(self._window.entries[-1].seq if self._window.entries else 0)
        self.recent.refill(self._window.entries)
        self._cycle.note_cleared()
        self._accounts.note_withdrawal(self._window)

    def _append(self, entry: Entry) -> None:
        standing = self._compressor.admitted(entry, self.dialect_or_default, self._window.open_calls)
        self._window.append(standing)
        self.recent.add(standing)
        if self.journal is not None:
            self.journal.note(entry, standing)

    def _open_request(self, answer: Entry) -> None:
        """Book the request that this answer came from: the context as it stood before it."""
        is_marked = self._window.has_cache_breakpoint or self.breakpoints.are_placed(self.dialect_name)
        caches = self.dialect_or_default.name != "anthropic" or is_marked
        self._accounts.open_request(self._window, output_tokens=answer.tokens, caches=caches)
        self._cycle.note_request()

    def _exchange(self, messages: Sequence[object]) -> None:
        """Let the caller's newest objects stand in place of equal ones."""
        if self._cycle.orders.is_running:  # what is being written is made of those that stand; next time, then
            return
        swapped = self.followed.swap(messages)
        if self._window.has_cache_breakpoint and self._window.edit_count != self._exchanged_edits:
            swapped = self.followed.numbered()  # an undo may have brought objects back with the marks of their time
        self._window.swap({seq + i: n for seq, message in swapped.items() for i, n in enumerate(unwrap(message))})
        if self._window.has_cache_breakpoint:
            self._window.renew([without_stale_marks(e, self.dialect_or_default) for e in self._window.entries])
        self._exchanged_edits = self._window.edit_count

    def _take_over(self, message: object, *, may_answer: bool) -> None:
        """Add a message of the caller's list; an answer is booked if a request waits for one."""
        entries = self.read(message)
        seq, log_tokens = self._window.last_seq + 1, self._window.log_tokens
        self.followed.add(message, first_seq=seq, log_tokens=log_tokens, count=len(entries))
        for entry in entries:
            if may_answer and self._window.begins_response(entry.reading) and self._accounts.awaits_answer:
                self._open_request(entry)
            self._append(entry)

    def _withdraw(self, length: int) -> int:
        """Take out of the context what departed from the caller's list. Return how much of the list still stands."""
        first_seq, log_tokens = self.followed.cut(length)
        for entry in self._window.withdraw(first_seq):
            self._compressor.keep(entry)
        if not self._window.entries:
            # A summary stood for some of it: everything that is still in the list is added once more.
            length, log_tokens = 0, 0
            self.followed.clear()
        self._window.log_tokens = log_tokens
        self.recent.refill(self._window.entries)
        self._cycle.orders.note_withdrawn()
        self._accounts.note_withdrawal(self._window)
        return length
