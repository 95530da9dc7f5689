"""The archive: every message that left the context, byte for byte, findable by reference or by words."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import ConfigError, UnknownReferenceError
from .messages import Reading
from .patterns import Pattern
from .window import reference

_WORD = Pattern(r"\w+")
_HUMP = Pattern(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_EXCERPT_CHARACTERS = 240

# Okapi BM25 with the usual constants; Robertson & Zaragoza, "The Probabilistic Relevance Framework", 2009.
_K1, _B = 1.2, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One archived message: the caller's own object and what was read from it."""

    seq: int
    message: object
    reading: Reading
    tokens: int

    @property
    def ref(self) -> str:
        return reference(self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An archived message that matches a query."""

    ref: str
    message: Any
    """The caller's own object."""
    score: float
    """Higher is better; comparable within one query only."""
    excerpt: str
    """Up to 240 characters around the first match."""


class Archive(Protocol):
    """Where messages go before they leave the context. Records are never changed and never deleted."""

    def put(self, record: Record) -> None:
        """Store a record; storing the same message again changes nothing. One archive serves one conversation.

        Raises:
            ConfigError: Another message is known by that number.
        """
        ...

    def get(self, ref: str) -> Record:
        """Return the record under a reference.

        Raises:
            UnknownReferenceError: There is none.
        """
        ...

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return the best matches, best first. Any text is a legal query; an empty one matches nothing."""
        ...

    def __iter__(self) -> Iterator[Record]:
        """Yield all records by ascending sequence number."""
        ...

    def __len__(self) -> int: ...


class InMemoryArchive:
    """An archive that lives as long as the process. Search is BM25 over words and parts of identifiers.

    A message that contains the whole query as it stands ranks above all that do not. Indexing is done by the
    first search after a `put`, so that a run that never searches never pays for it.
    """

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._texts: dict[int, str] = {}
        self._lengths: dict[int, int] = {}
        self._postings: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._unindexed: list[int] = []

    def put(self, record: Record) -> None:
        known = self._records.setdefault(record.seq, record)
        if known is record:
            self._unindexed.append(record.seq)
        elif known.message is not record.message:
            raise ConfigError(
                f"the archive knows another message as {record.ref}; give each MemoryManager an archive of its own"
            )

    def get(self, ref: str) -> Record:
        seq = as_number(ref)
        record = self._records.get(seq) if seq is not None else None
        if record is None:
            raise UnknownReferenceError(f"the archive has no message {ref!r}; references look like 'r17'")
        return record

    def search(self, query: str, *, limit: int = 5) -> list[Hit]:
        self._index()
        wanted = query.strip().casefold()
        if not wanted or limit < 1:
            return []
        scores = self._bm25(Counter(_terms(query)))
        ceiling = max(scores.values(), default=0.0) + 1.0
        for seq, text in self._texts.items():
            if wanted in text:
                scores[seq] += ceiling
        best = sorted(scores, key=lambda seq: (-scores[seq], -seq))[:limit]
        return [self._hit(seq, scores[seq], query) for seq in best]

    def __iter__(self) -> Iterator[Record]:
        return iter([self._records[seq] for seq in sorted(self._records)])

    def __len__(self) -> int:
        return len(self._records)

    def _index(self) -> None:
        for seq in self._unindexed:
            text = searchable_text(self._records[seq].reading)
            counts = Counter(_terms(text))
            self._texts[seq] = text.casefold()
            self._lengths[seq] = counts.total()
            for term, count in counts.items():
                self._postings[term][seq] = count
        self._unindexed.clear()

    def _bm25(self, terms: Counter[str]) -> defaultdict[int, float]:
        scores: defaultdict[int, float] = defaultdict(float)
        matched: Counter[int] = Counter()
        total = len(self._lengths)
        mean_length = sum(self._lengths.values()) / total if total else 1.0
        for term in terms:
            postings = self._postings.get(term, {})
            rarity = math.log(1 + (total - len(postings) + 0.5) / (len(postings) + 0.5))
            for seq, count in postings.items():
                weight = _K1 * (1 - _B + _B * self._lengths[seq] / (mean_length or 1.0))
                scores[seq] += rarity * count * (_K1 + 1) / (count + weight)
                matched[seq] += 1
        # A short message with one of the words must not outrank a long one with all of them.
        for seq in scores:
            scores[seq] *= matched[seq] / len(terms)
        return scores

    def _hit(self, seq: int, score: float, query: str) -> Hit:
        record = self._records[seq]
        text = searchable_text(record.reading)
        return Hit(ref=record.ref, message=record.message, score=score, excerpt=excerpt(text, query))


def as_number(ref: str) -> int | None:
    """Return the sequence number that a reference names; None if it names none."""
    number = str(ref).strip().removeprefix("r")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 16 else None


def searchable_text(reading: Reading) -> str:
    """Return everything of a message that a person could look for, one part per line."""
    parts = [reading.text, reading.reasoning]
    for call in reading.calls:
        parts += [call.name, call.arguments]
    parts += [result.text for result in reading.results]
    return "\n".join(part for part in parts if part)


def _terms(text: str) -> Iterator[str]:
    """Yield words in lower case and, for identifiers, their parts: `getUserName` -> getusername, get, user, name."""
    for word in _WORD.compiled.findall(text):
        folded = word.casefold()
        yield folded
        if not (word.isalpha() and word[1:].islower()) and len(word) < 100:
            parts = [part.casefold() for part in _HUMP.compiled.findall(word)]
            if len(parts) > 1:
                yield from parts


def excerpt(text: str, query: str) -> str:
    """Return up to 240 characters of a text around the first match."""
    folded = text.casefold()
    positions = [folded.find(query.strip().casefold()), *(folded.find(term) for term in _terms(query))]
    found = next((position for position in positions if position >= 0), 0)
    if len(folded) != len(text):  # casefolding lengthens some letters (ß to ss), so the position is further on
        found = bisect_left(range(len(text)), found, key=lambda index: len(text[:index].casefold()))
    start = max(0, found - _EXCERPT_CHARACTERS // 3)
    return text[start : start + _EXCERPT_CHARACTERS].strip()
