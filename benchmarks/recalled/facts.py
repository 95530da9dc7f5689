"""Facts that an agent used again (the corpus' probes): does recall find where they came from?

The question is the sentence in which the agent used the fact again: the line of a call's argument, or the sentence of
its text. With the fact blanked out, often nothing is left of it (a call that reads a file has the path and no more);
then the call's other arguments count as the sentence too, then what the agent said with it, then what it thought.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.transcripts import Transcript, read_transcripts
from memory.dialects import dialect_named
from memory.messages import Reading
from memory.native import to_wire
from memory.recall import Document, Fts5Index, Query, document_of, query_terms

FIRST: Final = 5
_WORDS: Final = 3
"""So many words must be left of a sentence; else it is widened."""
_SECONDS_PER_MESSAGE: Final = 30.0
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What came of one probe."""

    fact: str
    kind: str
    is_in_blank_half: bool
    """It belongs to the half whose sentences are asked without the fact; told by the fact's checksum."""
    found: dict[bool, tuple[bool, bool]]
    """By whether the fact was blanked out: (its first message is among the first five, some message with it is)."""


def seek(corpus: Path) -> list[Sought]:
    """Ask for every probe, in what had been said before it was used again."""
    rows = [json.loads(line) for line in (corpus / "probes.jsonl").read_text(encoding="utf-8").splitlines()]
    files = {row["file"]: {one.id: one for one in read_transcripts(corpus / row["file"])} for row in rows}
    return [sought for row in rows for sought in _seek_in(files[row["file"]][row["id"]], row["probes"])]


def _seek_in(transcript: Transcript, probes: Sequence[Mapping[str, Any]]) -> Iterator[Sought]:
    dialect = dialect_named(transcript.dialect)
    readings = [dialect.read(to_wire(message)) for message in transcript.messages]
    documents = [
        document_of(reading, namespace=transcript.id, seq=seq, at=seq * _SECONDS_PER_MESSAGE)
        for seq, reading in enumerate(readings)
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        index = Fts5Index(connection)
        for probe in sorted(probes, key=lambda probe: int(probe["reuse_index"])):
            index.add(documents[index.newest_seq(transcript.id) + 1 : probe["reuse_index"]])
            yield _sought(index, probe, documents, readings[probe["reuse_index"]])


def _sought(index: Fts5Index, probe: Mapping[str, Any], documents: Sequence[Document], reading: Reading) -> Sought:
    fact = probe["fact"]
    having = {one.seq for one in documents[: probe["reuse_index"]] if fact in one.text}
    found = {}
    for is_blanked in (False, True):
        text = sentence(reading, fact, is_blanked=is_blanked)
        seqs = {one.seq for one in index.search(Query(text=text, limit=FIRST))}
        found[is_blanked] = (probe["first_index"] in seqs, bool(having & seqs))
    return Sought(fact=fact, kind=probe["kind"], is_in_blank_half=zlib.crc32(fact.encode()) % 2 == 1, found=found)


def sentence(reading: Reading, fact: str, *, is_blanked: bool) -> str:
    """Return what to ask: the sentence with the fact in it, or as much around it as leaves three words."""
    scopes = _scopes(reading, fact)
    if is_blanked:
        scopes = [scope.replace(fact, " ") for scope in scopes]
    return next((scope for scope in scopes if _word_count(scope) >= _WORDS), scopes[-1]) if is_blanked else scopes[0]


def _scopes(reading: Reading, fact: str) -> list[str]:
    values = [_strings(call.arguments) for call in reading.calls]
    using = next((strings for strings in values if any(fact in one for one in strings)), [])
    lines = [line for string in using for line in string.split("\n") if fact in line]
    lines += [part for part in _SENTENCE_END.split(reading.text) if fact in part]
    arguments = "\n".join(using)
    said = "\n".join([reading.text, arguments])
    return [*lines[:1], *([arguments] if using else []), said, "\n".join([said, reading.reasoning])]


def _strings(arguments: str) -> list[str]:
    try:
        waiting = [json.loads(arguments)]
    except ValueError:
        return [arguments]
    strings = []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif one is not None:
            strings.append(str(one))
    return strings


def _word_count(text: str) -> int:
    return sum(not term.isdigit() for term in query_terms(text))
