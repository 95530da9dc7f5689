"""How fast messages are indexed and found, in generated agents' talk: words by Zipf's law, paths and ids between."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from memory.messages import Role
from memory.recall import Document, Fts5Index, Query

_SYLLABLES: Final = ("ba", "ko", "ri", "ta", "mu", "ne", "so", "li", "da", "fe", "gu", "pa", "xi", "zo", "we", "er")
_VOCABULARY: Final = 60_000
_TEXTS: Final = 10_000
"""So many different texts; each message gets an id of its own besides."""
_BATCH: Final = 1_000
_QUERIES: Final = 400
_LONGEST_QUERY: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Figures of one file."""

    name: str
    messages: int
    mean_characters: float
    megabytes: float
    messages_per_second: float
    """Indexed, in batches of a thousand, one transaction each."""
    milliseconds: dict[str, tuple[float, float]]
    """By what was searched: median and 99th percentile."""


class Writer:
    """Writes messages and queries; the same ones for the same seed."""

    def __init__(self, *, longest_words: int, seed: int = 7) -> None:
        self._random = random.Random(seed)
        pick = self._random
        self.words = ["".join(pick.choices(_SYLLABLES, k=pick.randint(1, 5))) for _ in range(_VOCABULARY)]
        self._shares = list(accumulate(1 / (rank + 3) for rank in range(_VOCABULARY)))
        self.texts = [self._text(longest_words) for _ in range(_TEXTS)]

    def documents(self, namespace: str, count: int) -> Iterator[list[Document]]:
        """Yield the messages of a namespace in batches."""
        roles: tuple[Role, ...] = ("user", "assistant", "tool")
        for start in range(0, count, _BATCH):
            yield [
                Document(
                    namespace=namespace,
                    seq=seq,
                    role=roles[seq % 3],
                    at=seq * 10.0,
                    text=f"{self._random.choice(self.texts)} run_{self._random.getrandbits(32):08x}",
                )
                for seq in range(start, min(count, start + _BATCH))
            ]

    def queries(self) -> Iterator[str]:
        """Yield queries of 1 to 30 words: drawn as the messages' words are, every fifth one of the commonest only."""
        for number in range(_QUERIES):
            length = self._random.randint(1, _LONGEST_QUERY)
            drawn = self.words[:length] if number % 5 == 0 else self._drawn(length)
            yield " ".join([*drawn[1:], self._path()] if number % 5 == 1 else drawn)

    def _text(self, longest: int) -> str:
        """Half of the messages are short, one in ten is a long result."""
        size = self._random.choices((longest // 25, longest // 5, longest), (5, 4, 1))[0]
        drawn = self._drawn(self._random.randint(max(1, size // 5), max(1, size)))
        for _ in range(len(drawn) // 40 + 1):
            drawn[self._random.randrange(len(drawn))] = self._path()
        return " ".join(drawn)

    def _drawn(self, count: int) -> list[str]:
        return self._random.choices(self.words, cum_weights=self._shares, k=count)

    def _path(self) -> str:
        return "/".join(self._drawn(3)) + "_" + self._random.choice(self.words) + ".py"


def time_one_namespace(folder: Path, *, messages: int) -> Timing:
    """Index and search one long conversation of messages of all sizes."""
    writer = Writer(longest_words=1_500)
    return _time(folder / "one.db", writer, [("long", messages)], {"all of it": ("long",)})


def time_many_namespaces(folder: Path, *, rows: int, messages: int) -> Timing:
    """Index and search many short conversations of short messages."""
    writer = Writer(longest_words=100)
    plan = [(f"talk {number}", messages) for number in range(rows // messages)]
    middle = plan[len(plan) // 2][0]
    return _time(folder / "many.db", writer, plan, {f"one of {messages} messages": (middle,), "everything": None})


def _time(
    path: Path, writer: Writer, plan: Sequence[tuple[str, int]], scopes: dict[str, tuple[str, ...] | None]
) -> Timing:
    spent = characters = 0.0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        index = Fts5Index(connection)
        for batch in _in_batches(writer, plan):
            began = time.perf_counter()
            index.add(batch)
            spent += time.perf_counter() - began
            characters += sum(len(one.text) for one in batch)
        messages = sum(count for _, count in plan)
        return Timing(
            name=path.stem,
            messages=messages,
            mean_characters=characters / messages,
            megabytes=path.stat().st_size / 1e6,
            messages_per_second=messages / spent,
            milliseconds={name: _search(index, writer, namespaces) for name, namespaces in scopes.items()},
        )


def _in_batches(writer: Writer, plan: Sequence[tuple[str, int]]) -> Iterator[list[Document]]:
    """Yield some thousand messages at a time, of several namespaces where they are small."""
    waiting: list[Document] = []
    for namespace, count in plan:
        for some in writer.documents(namespace, count):
            waiting += some
            if len(waiting) >= _BATCH:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


def _search(index: Fts5Index, writer: Writer, namespaces: tuple[str, ...] | None) -> tuple[float, float]:
    times = []
    for text in writer.queries():
        began = time.perf_counter()
        index.search(Query(text=text, namespaces=namespaces))
        times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]
