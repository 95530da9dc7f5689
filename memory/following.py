"""Following a list that the caller keeps: what of it is new, and where it departs from what was there before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import is_

from .errors import MessageError
from .marks import is_same
from .messages import Wire
from .native import to_wire, unwrap


@dataclass(slots=True)
class Run:
    """Neighbours in the caller's list that became messages of neighbouring numbers, but for what the memory wrote."""

    first_seq: int
    last_seq: int
    log_tokens: int
    """The size of the log before the first of them."""


@dataclass(frozen=True, slots=True)
class Item:
    """A message that an item of the caller's list became, or one of several."""

    message: object
    seq: int
    log_tokens: int
    """The size of the log before it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the log has of an item of the caller's list, as JSON: where the caller's object is not at hand."""

    wires: tuple[Wire, ...]
    """One for each message that it became; until it is compared for the first time, those of a response are apart."""

    def says(self, wires: Sequence[Wire]) -> bool:
        """Whether an item of these messages says the same."""
        return len(wires) == len(self.wires) and all(map(is_same, self.wires, wires))

    def ends(self, wires: Sequence[Wire]) -> bool:
        """Whether an item of these messages says the same in the end."""
        return self.says(wires[max(0, len(wires) - len(self.wires)) :])


class Followed:
    """The caller's list as it was seen last. It compares; it adds and removes nothing in the memory."""

    def __init__(self) -> None:
        self._messages: list[object] = []
        self._first_seqs: list[int] = []
        """Beside each item of the list, the number of the first message that it became; a response may be several."""
        self._last_seqs: list[int] = []
        """Beside each item, the number of the last message that it became."""
        self._log_tokens: list[int] = []
        """Beside each item, the size of the log before it."""
        self._runs: list[Run] = []
        self._earlier: Callable[[], Sequence[Item]] | None = None

    def __len__(self) -> int:
        self._read()
        return len(self._messages)

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
        self._messages, self._runs = list(other._messages), [replace(run) for run in other._runs]
        self._first_seqs, self._last_seqs = list(other._first_seqs), list(other._last_seqs)
        self._log_tokens = list(other._log_tokens)
        length = sum(first_seq <= last_seq for first_seq in self._first_seqs)
        size = self._log_tokens[length] if length < len(self._log_tokens) else log_tokens
        self._shorten(length)
        if self._last_seqs and self._last_seqs[-1] > last_seq:
            self._halve(last_seq)
        return size

    def common(self, messages: Sequence[object]) -> int:
        """Return how many leading messages are the ones that were there before. O(n), by identity where it holds."""
        self._read()
        if all(map(is_, self._messages, messages)):  # the usual case, many times faster than the loop
            return min(len(self._messages), len(messages))
        return next((i for i, message in enumerate(messages) if not self._is_known(i, message)), len(messages))

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

    def items(self) -> list[object]:
        """Return the list in a new one; what was read from a store as JSON, a response as the messages it became."""
        self._read()
        return [one for item in self._messages for one in (item.wires if isinstance(item, Kept) else (item,))]

    def numbered(self) -> dict[int, object]:
        """Return the caller's objects by the number of the first message that each became. O(n)."""
        self._read()
        return dict(zip(self._first_seqs, self._messages, strict=True))

    def behind(self, messages: Sequence[object], *, default: int) -> int:
        """Return the index in this list behind the message that was the last one before; `default` if it is gone.

        Of several equal ones it is the one nearest to where it stood. O(n).
        """
        self._read()
        place = len(self._messages) - 1
        last = self._messages[-1]
        if isinstance(last, Kept):
            found = (index for index, message in enumerate(messages) if last.ends(_wires(message)))
        else:
            found = (index for index, message in enumerate(messages) if is_same(last, message))
        nearest = min(found, key=lambda index: abs(index - place), default=None)
        return default if nearest is None else nearest + 1

    def add(self, message: object, *, first_seq: int, log_tokens: int, count: int = 1) -> None:
        """Take note of the next message, which became `count` messages of the log."""
        last_seq = first_seq + count - 1
        self._messages.append(message)
        self._first_seqs.append(first_seq)
        self._last_seqs.append(last_seq)
        self._log_tokens.append(log_tokens)
        if self._runs and self._runs[-1].last_seq == first_seq - 1:
            self._runs[-1].last_seq = last_seq
        else:
            self._runs.append(Run(first_seq, last_seq, log_tokens))

    def note_written(self, seq: int) -> None:
        """The memory wrote this message, behind the caller's newest: no gap in the list."""
        if self._runs and self._runs[-1].last_seq == seq - 1:
            self._runs[-1].last_seq = seq

    def clear(self) -> None:
        """Forget the list."""
        self._messages.clear()
        self._first_seqs.clear()
        self._last_seqs.clear()
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
        del self._messages[length:], self._first_seqs[length:], self._last_seqs[length:], self._log_tokens[length:]
        self._end_at(self._last_seqs[-1] if self._last_seqs else 0)

    def _halve(self, last_seq: int) -> None:
        """Have of the last item, a response, only the messages up to this number; then it is not the caller's whole."""
        known = self._messages[-1]
        wires = known.wires if isinstance(known, Kept) else _wires(known)
        self._messages[-1] = Kept(tuple(wires[: last_seq - self._first_seqs[-1] + 1]))
        self._last_seqs[-1] = last_seq
        self._end_at(last_seq)

    def _end_at(self, last_seq: int) -> None:
        self._runs = [run for run in self._runs if run.first_seq <= last_seq]
        if self._runs:
            self._runs[-1].last_seq = min(self._runs[-1].last_seq, last_seq)

    def _is_known(self, index: int, message: object) -> bool:
        """Whether the item at this place says the same as a caller's message."""
        if index >= len(self._messages):
            return False
        known = self._messages[index]
        return self._is_kept(index, known, _wires(message)) if isinstance(known, Kept) else is_same(known, message)

    def _is_kept(self, index: int, known: Kept, wires: Sequence[Wire]) -> bool:
        """Likewise where the item came from a store; those that are one of the caller's together become one."""
        if known.says(wires):
            return True
        place = slice(index, index + len(wires))
        whole = Kept(tuple(wire for one in self._messages[place] if isinstance(one, Kept) for wire in one.wires))
        if not whole.says(wires):
            return False
        first_seq, log_tokens = self._first_seqs[index], self._log_tokens[index]
        last_seq = self._last_seqs[index + len(wires) - 1] if wires else first_seq - 1
        self._messages[place], self._log_tokens[place] = [whole], [log_tokens]
        self._first_seqs[place], self._last_seqs[place] = [first_seq], [last_seq]
        return True

    def _read(self) -> None:
        """Have the items at hand that are older than this process."""
        if self._earlier is None:
            return
        items, self._earlier = self._earlier(), None
        self._messages[:0] = [Kept((to_wire(item.message),)) for item in items]
        self._first_seqs[:0] = [item.seq for item in items]
        self._last_seqs[:0] = [item.seq for item in items]
        self._log_tokens[:0] = [item.log_tokens for item in items]


def _wires(message: object) -> list[Wire]:
    """Return the messages of a caller's object as JSON; none of what is no message, which its reader refuses."""
    try:
        return [to_wire(native) for native in unwrap(message)]
    except MessageError:
        return [{}]
