"""Which archived messages name what: paths, symbols, ids, codes, numbers, and names in quotation marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .archive import Record
from .extract.identifiers import Kind, chunks, identify
from .messages import Reading, ToolCall
from .patterns import Pattern

FEW: Final = 3
"""What more messages name than this is the conversation's vocabulary and points to none of them."""

_QUOTED: Final = Pattern(r"[\"“«„]([^\s\"”»<>{}\[\]]+(?: [^\s\"”»<>{}\[\]]+){1,5})[\"”»]")
"""Two to six words; a single quoted word is mostly a key of JSON."""
_YEAR: Final = Pattern(r"(?:19|20)\d\d$")
_DATE: Final = Pattern(r"\d{4}-\d\d-\d\d")
_SHORTEST: Final = 4
_SHORTEST_CODE: Final = 5
_FEWEST_DIGITS: Final = 4


def names_in(text: str) -> set[str]:
    """Return the strings of a text that may point to another message: each is unlikely to be there by chance.

    Left out are plain words, dates and short numbers. Linear in the text.
    """
    found = {name for chunk in dict.fromkeys(chunks(text)) for name in _telling(chunk)}
    return found | set(_QUOTED.compiled.findall(text))


def _telling(chunk: str) -> Iterator[str]:
    if chunk.isalpha() and chunk[1:].islower():
        return  # a plain word, as most are
    for name, kind in identify(chunk):
        if _is_telling(name, kind):
            yield name
            end = name.rpartition("/")[2]
            if kind is Kind.PATH and "." in end and len(end) >= _SHORTEST_CODE:
                yield end  # a file is as often named without its folder


def _is_telling(name: str, kind: Kind) -> bool:
    match kind:
        case Kind.WORD:
            return False
        case Kind.NUMBER:
            digits = sum(map(str.isdigit, name))
            return digits >= _FEWEST_DIGITS and not _YEAR.compiled.match(name) and not _DATE.compiled.match(name)
        case Kind.CODE:
            return len(name) >= _SHORTEST_CODE
        case _:
            return len(name) >= _SHORTEST


class Names:
    """An index from names to the archived messages that have them, in the order in which they are added.

    What a call's arguments name belongs to its result: that is what was learnt about it.
    """

    def __init__(self) -> None:
        self.seqs: set[int] = set()
        """The messages that were added."""
        self._having: dict[str, tuple[int, ...]] = {}
        self._calls: dict[str, ToolCall] = {}
        self._answered: dict[int, set[tuple[str, str]]] = {}
        self._looked_at: dict[str, set[str]] = {}
        """What texts name that were asked for and are not yet added: each is read once."""

    def add(self, records: Iterable[Record]) -> None:
        """Take messages that were not added before; a call before its result."""
        for record in records:
            self.seqs.add(record.seq)
            for name in self._names(record.seq, record.reading):
                having = self._having.get(name, ())
                if len(having) <= FEW:
                    self._having[name] = (*having, record.seq)

    def of(self, text: str) -> set[str]:
        """Return what a text names; it will be added later, when its message is archived."""
        if text not in self._looked_at:
            self._looked_at[text] = names_in(text)
        return self._looked_at[text]

    def having(self, name: str) -> tuple[int, ...]:
        """Return the messages that have a name, ascending; none where they are more than a few."""
        having = self._having.get(name, ())
        return having if len(having) <= FEW else ()

    def answers(self, seq: int, calls: Iterable[ToolCall]) -> bool:
        """Whether a message answers one of these calls, made then with the same arguments."""
        return not self._answered.get(seq, set()).isdisjoint((call.name, call.arguments) for call in calls)

    def _names(self, seq: int, reading: Reading) -> set[str]:
        found = self._taken(reading.text) if reading.role != "system" else set()
        self._calls.update({call.id or call.name: call for call in reading.calls})
        for result in reading.results:
            found |= self._taken(result.text)
            call = self._calls.get(result.call_id or result.name or "")
            if call is not None:
                found |= self._taken(call.arguments)
                self._answered.setdefault(seq, set()).add((call.name, call.arguments))
        return found

    def _taken(self, text: str) -> set[str]:
        known = self._looked_at.pop(text, None)
        return set(names_in(text) if known is None else known)
