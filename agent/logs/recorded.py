"""What every reader of logs builds: a conversation with the times and the usage that the log tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from memory.dialects import dialect_named
from memory.errors import MessageError
from memory.messages import DialectName, Wire
from memory.usage import Usage, read_usage

Tool: TypeAlias = Literal["Claude Code", "Codex", "Gemini CLI"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One conversation of a log."""

    where: str
    """Where it begins: `path` or `path:line`."""
    dialect: DialectName
    messages: tuple[Wire, ...]
    """At least one."""
    system: str | None
    model: str | None
    """The first that answered."""
    times: tuple[float, ...]
    """When each message was complete, in seconds since 1970; empty where the log does not tell."""
    usages: tuple[tuple[int, Usage], ...]
    """The index of the message with which a response begins, and what the provider reported for that request."""
    skipped: tuple[str, ...]
    """What was left out, a sentence each."""


class Draft:
    """A conversation while it is read. The messages may still be changed in place."""

    def __init__(self, dialect: DialectName, where: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.system: str | None = None
        self.model: str | None = None
        self._dialect = dialect_named(dialect)
        self._where = where
        self._times: list[float | None] = []
        self._usages: dict[int, Usage] = {}
        self._left_out: Counter[str] = Counter()

    def add(self, message: dict[str, Any], at: float | None) -> None:
        self.messages.append(message)
        self._times.append(at)

    def touch(self, index: int, at: float | None) -> None:
        """Note that a message was complete only then."""
        self._times[index] = self._times[index] if at is None else at

    def cut(self, length: int) -> None:
        """Forget the messages from that index on."""
        del self.messages[length:], self._times[length:]
        self._usages = {index: usage for index, usage in self._usages.items() if index < length}

    def report(self, index: int, usage: object) -> None:
        """Note what the provider reported for the response that begins there; a later report replaces it."""
        try:
            found = read_usage(usage)
        except MessageError:
            self.leave_out("a usage report that cannot be read")
            return
        if found is not None and found.total_tokens:
            self._usages[index] = found

    def leave_out(self, what: str, count: int = 1) -> None:
        """Count something that is not read; `what` names one of it, with its article."""
        self._left_out[what] += count

    def recorded(self) -> Recorded | None:
        """Return the conversation, or None where nobody said anything."""
        kept = [index for index, message in enumerate(self.messages) if self._is_readable(message)]
        if not kept:
            return None
        place = {before: after for after, before in enumerate(kept)}
        return Recorded(
            where=self._where,
            dialect=self._dialect.name,
            messages=tuple(self.messages[index] for index in kept),
            system=self.system,
            model=self.model,
            times=_without_gaps([self._times[index] for index in kept]),
            usages=tuple((place[index], usage) for index, usage in sorted(self._usages.items()) if index in place),
            skipped=tuple(_sentence(what, count) for what, count in self._left_out.items()),
        )

    def _is_readable(self, message: Wire) -> bool:
        try:
            self._dialect.read(message)
        except MessageError:
            self.leave_out("a message that cannot be read")
            return False
        return True


def _sentence(what: str, count: int) -> str:
    return f"{what} left out" + f", {count} times" * (count > 1)


def _without_gaps(times: Sequence[float | None]) -> tuple[float, ...]:
    """Give a message without a time that of the one before, or of the first that has one."""
    last = next((at for at in times if at is not None), None)
    if last is None:
        return ()
    whole = []
    for at in times:
        last = last if at is None else at
        whole.append(last)
    return tuple(whole)


def time_of(value: Mapping[str, Any]) -> float | None:
    """Return a line's `timestamp` in seconds since 1970; None without a readable one. Without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(str(value.get("timestamp")))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def text_at(value: Mapping[str, Any], key: str) -> str | None:
    """Return a text that is not empty, else None."""
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def mapping_at(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object, or an empty one in place of anything else."""
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def named(kind: object) -> str:
    """Return what stands where a type belongs, short enough for a message."""
    return repr(kind[:40]) if isinstance(kind, str) else "no name"
