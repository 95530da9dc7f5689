"""Long talks with questions about them (LoCoMo): how much of a question's evidence recall finds, with no model at all.

The data are conversations of two people over months, each message with a speaker and an id, each session with a date,
and questions that name the messages in which the answer stands (Maharana et al., "Evaluating very long-term
conversational memory of LLM agents", 2024). A picture's caption, made by a model, is taken as a part of its message.
"""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from memory.recall import WEIGHTS, Document, Fts5Index, Query, Weights, embedded_text

FIRST: Final = 10
BUDGET_TOKENS: Final = 2_000
_FOUND_AT_MOST: Final = 80
_SIMILAR: Final = 300
_SECONDS_PER_MESSAGE: Final = 30
_TOKENS_BESIDE_TEXT: Final = 5
"""For the name and the form of a message."""
_CHARACTERS_PER_TOKEN: Final = 4
_STEPS: Final = (0.5, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, the messages in which its answer stands, and what is nearest to it by meaning, if that was asked."""

    text: str
    category: int
    evidence: frozenset[int]
    similarities: Mapping[tuple[str, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One conversation: a namespace of its own."""

    id: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What recall found for one question."""

    talk: str
    category: int
    among_first: float
    """Share of the question's evidence among the first ten."""
    within_budget: float
    """Share of its evidence among the best that fit into 2,000 tokens together."""


def read_talks(path: Path) -> list[Talk]:
    """Return the conversations of a file; questions without evidence are left out."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [_talk(json.loads(line)) for line in lines]


def with_meaning(talks: Iterable[Talk]) -> list[Talk]:
    """Return the talks with the similarity of each question and its nearest messages, by the local MiniLM."""
    import numpy as np

    from memory.embedders import LocalEmbedder

    embedder = LocalEmbedder()

    def matrix(texts: Sequence[str]) -> Any:
        return np.stack([np.frombuffer(vector, "<f4") for vector in embedder.embed(texts)])

    found = []
    for talk in talks:
        said = matrix([embedded_text(one) for one in talk.documents])
        asked = matrix([one.text for one in talk.questions])
        questions = [
            replace(one, similarities=_nearest(talk.id, row))
            for one, row in zip(talk.questions, asked @ said.T, strict=True)
        ]
        found.append(replace(talk, questions=tuple(questions)))
    return found


def answer(talks: Sequence[Talk], weights: Weights = WEIGHTS) -> list[Answered]:
    """Ask every question of its talk; all talks lie in one file."""
    with closing(sqlite3.connect(":memory:")) as connection:
        index = Fts5Index(connection, weights=weights)
        for talk in talks:
            index.add(talk.documents)
        return [_answered(index, talk, one) for talk in talks for one in talk.questions]


def leave_out(talks: Sequence[Talk]) -> tuple[list[tuple[str, float, float]], float]:
    """Halve and double each weight; return (name, factor, share among the first) of each, and a cross-validated share.

    For that, each talk is answered with the weight that is best for the others: what fitting would gain, or not.
    """
    tried: dict[tuple[str, float], list[Answered]] = {("as they are", 1.0): answer(talks)}
    for field in fields(WEIGHTS):
        for factor in _STEPS:
            weights = replace(WEIGHTS, **{field.name: getattr(WEIGHTS, field.name) * factor})
            tried[field.name, factor] = answer(talks, weights)
    rows = [(*key, mean(one.among_first for one in found)) for key, found in tried.items()]
    chosen = []
    for talk in talks:
        best = max(tried, key=lambda key: mean(one.among_first for one in tried[key] if one.talk != talk.id))
        chosen += [one.among_first for one in tried[best] if one.talk == talk.id]
    return rows, mean(chosen)


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def _talk(raw: Mapping[str, Any]) -> Talk:
    numbers: dict[str, int] = {}
    documents: list[Document] = []
    for at, turn in _turns(raw):
        numbers[turn["dia_id"]] = seq = len(documents)
        text = "\n".join(part for part in (turn.get("blip_caption"), turn["text"]) if part)
        documents.append(Document(namespace=raw["id"], seq=seq, role="user", speaker=turn["speaker"], at=at, text=text))
    questions = [_question(one, numbers) for one in raw["qa"]]
    return Talk(id=raw["id"], documents=tuple(documents), questions=tuple(one for one in questions if one.evidence))


def _turns(raw: Mapping[str, Any]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yield the messages in order with their times: sessions are dated, messages follow each other in half a minute."""
    last = max(int(key.split("_")[1]) for key in raw if re.fullmatch(r"session_\d+", key))
    for number in range(1, last + 1):
        if f"session_{number}" in raw:
            said = datetime.strptime(raw[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
            for seconds, turn in zip(count(0, _SECONDS_PER_MESSAGE), raw[f"session_{number}"], strict=False):
                yield said.timestamp() + seconds, turn


def _question(raw: Mapping[str, Any], numbers: Mapping[str, int]) -> Question:
    ids = [id for written in raw.get("evidence", []) for id in re.findall(r"D\d+:\d+", written)]
    evidence = frozenset(numbers[id] for id in ids if id in numbers)
    return Question(text=raw["question"], category=raw["category"], evidence=evidence, similarities={})


def _nearest(talk: str, cosines: Any) -> dict[tuple[str, int], float]:
    order = (-cosines).argsort()[:_SIMILAR]
    return {(talk, int(seq)): float(cosines[seq]) for seq in order}


def _answered(index: Fts5Index, talk: Talk, question: Question) -> Answered:
    query = Query(text=question.text, namespaces=(talk.id,), limit=FIRST, similarities=question.similarities)
    first = [one.seq for one in index.search(query)]
    more = [one.seq for one in index.search(replace(query, limit=_FOUND_AT_MOST))]
    return Answered(
        talk=talk.id,
        category=question.category,
        among_first=_share(first, question.evidence),
        within_budget=_share(_fitting(more, talk), question.evidence),
    )


def _fitting(seqs: Iterable[int], talk: Talk) -> Iterator[int]:
    left: float = BUDGET_TOKENS
    for seq in seqs:
        left -= len(talk.documents[seq].text) / _CHARACTERS_PER_TOKEN + _TOKENS_BESIDE_TEXT
        if left < 0:
            return
        yield seq


def _share(found: Iterable[int], evidence: frozenset[int]) -> float:
    return len(evidence.intersection(found)) / len(evidence)
