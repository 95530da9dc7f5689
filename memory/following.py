"""Following a list that the caller keeps: what of it is new, and where it departs from what was there before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_

from .marks import is_same


@dataclass(slots=True)
class Run:
    """Neighbours in the caller's list that became messages of neighbouring numbers, one each."""

    first_seq: int
    last_seq: int
    log_tokens: int
    """The size of the log before the first of them."""

    def __len__(self) -> int:
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the caller's list."""

    message: object
    first_seq: int
    """Number of the first message that it became; a response may be several."""
    log_tokens: int
    """The size of the log before it."""


class Followed:
    """The caller's list as it was seen last. It compares; it adds and removes nothing in the memory."""

    def __init__(self) -> None:
        self._messages: list[object] = []
        self._first_seqs: list[int] = []
        """Beside each item of the list, the number of the first message that it became; a response may be several."""
        self._log_tokens: list[int] = []
        """Beside each item, the size of the log before it."""
        self._runs: list[Run] = []
        self._earlier: Callable[[], Sequence[Item]] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def state(self) -> list[list[int]]:
        """Return where the list is in the log, as JSON values. As long as the list has gaps, which it seldom has."""
        return [[run.first_seq, run.last_seq, run.log_tokens] for run in self._runs]

    def go_on_from(self, state: Sequence[Sequence[int]], earlier: Callable[[], Sequence[Item]]) -> None:
        """Be the list that `state` was taken of; its items are read when they are first compared."""
        self.clear()
        self._runs = [Run(*run) for run in state]
        self._earlier = earlier if self._runs else None

    def begin_as(self, other: Followed, *, last_seq: int, log_tokens: int) -> int:
        """Be another list as far as it became messages up to a number. Return the size of the log then.

        Args:
            other: The other list.
            last_seq: The number.
            log_tokens: The size of the other's whole log.
        """
        other._read()
        length = sum(first_seq <= last_seq for first_seq in other._first_seqs)
        for message, first_seq, tokens in zip(
            other._messages[:length], other._first_seqs, other._log_tokens, strict=False
        ):
            self.add(message, first_seq=first_seq, log_tokens=tokens)
        return other._log_tokens[length] if length < len(other._log_tokens) else log_tokens

    def common(self, messages: Sequence[object]) -> int:
        """Return how many leading messages are the ones that were there before. O(n), by identity where it holds."""
        self._read()
        shorter = min(len(self._messages), len(messages))
        if all(map(is_, self._messages, messages)):  # the usual case, many times faster than the loop
            return shorter
        pairs = enumerate(zip(self._messages, messages, strict=False))
        return next((index for index, (known, message) in pairs if not is_same(known, message)), shorter)

    def swap(self, messages: Sequence[object]) -> dict[int, object]:
        """Remember the objects of this list, of leading messages, in place of equal ones.

        Return those that are new, by their number.
        """
        self._read()
        if all(map(is_, self._messages, messages)):
            return {}
        triples = zip(self._first_seqs, self._messages, messages, strict=False)
        swapped = {seq: message for seq, known, message in triples if known is not message}
        self._messages[: len(messages)] = messages
        return swapped

    def behind(self, messages: Sequence[object], *, default: int) -> int:
        """Return the index in this list behind the message that was the last one before; `default` if it is gone.

        Of several equal ones it is the one nearest to where it stood. O(n).
        """
        self._read()
        place = len(self._messages) - 1
        found = (index for index, message in enumerate(messages) if is_same(self._messages[-1], message))
        nearest = min(found, key=lambda index: abs(index - place), default=None)
        return default if nearest is None else nearest + 1

    def add(self, message: object, *, first_seq: int, log_tokens: int) -> None:
        """Take note of the next message."""
        self._messages.append(message)
        self._first_seqs.append(first_seq)
        self._log_tokens.append(log_tokens)
        if self._runs and self._runs[-1].last_seq == first_seq - 1:
            self._runs[-1].last_seq = first_seq
        else:
            self._runs.append(Run(first_seq, first_seq, log_tokens))

    def clear(self) -> None:
        """Forget the list."""
        self._messages.clear()
        self._first_seqs.clear()
        self._log_tokens.clear()
        self._runs.clear()
        self._earlier = None

    def cut_behind(self, seq: int) -> None:
        """Forget every item that became a message behind this number."""
        self._read()
        self._shorten(sum(first_seq <= seq for first_seq in self._first_seqs))

    def cut(self, length: int) -> tuple[int, int]:
        """Forget what stands at `length` and behind.

        Return the number of the first message that departs, and the size of the log before it.
        """
        self._read()
        first = self._first_seqs[length], self._log_tokens[length]
        self._shorten(length)
        return first

    def _shorten(self, length: int) -> None:
        del self._messages[length:], self._first_seqs[length:], self._log_tokens[length:]
        last_seq = self._first_seqs[-1] if self._first_seqs else 0
        self._runs = [run for run in self._runs if run.first_seq <= last_seq]
        if self._runs:
            self._runs[-1].last_seq = min(self._runs[-1].last_seq, last_seq)

    def _read(self) -> None:
        """Have the items at hand that are older than this process."""
        if self._earlier is None:
            return
        items, self._earlier = self._earlier(), None
        self._messages[:0] = [item.message for item in items]
        self._first_seqs[:0] = [item.first_seq for item in items]
        self._log_tokens[:0] = [item.log_tokens for item in items]
