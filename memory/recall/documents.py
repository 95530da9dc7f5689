"""What is indexed and what is asked: messages as documents, queries, what was found, and the protocol of an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..messages import Reading, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One message as an index takes it. `(namespace, seq)` is its identity and never means another message."""

    namespace: str
    """Whose message it is: a session's id. Found together, kept apart from all others."""
    seq: int
    """Place in the namespace, 0 to 2**32 - 1. Neighbours in talk have neighbouring numbers."""
    role: Role
    speaker: str = ""
    """Who speaks, where several people share a role."""
    tools: tuple[str, ...] = ()
    """Names of the tools that the message calls or answers for."""
    at: float
    """When it was said, in seconds since 1970."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for. Any text is legal; an empty one without `similarities` finds nothing."""

    text: str
    namespaces: tuple[str, ...] | None = None
    """Where to look; None looks everywhere."""
    limit: int = 10
    role: Role | None = None
    tool: str | None = None
    since_seq: int | None = None
    """Only messages from this number on."""
    until_seq: int | None = None
    """Only messages before this number."""
    at: float | None = None
    """When the question is asked, for `yesterday`; None takes the newest message's time."""
    similarities: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Cosine similarity of query and message by `(namespace, seq)`, -1 to 1, where vectors are there. Need not be
    complete: the most similar some hundreds do. Each of these messages is a candidate, whatever its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A message that fits a query."""

    namespace: str
    seq: int
    score: float
    """Higher is better; comparable within one query only."""


class Index(Protocol):
    """Finds messages. It may lag behind a store: who searches adds first what `newest_seq` says is missing."""

    def add(self, documents: Iterable[Document]) -> None:
        """Index documents; those that are known already are left as they are. Ascending `seq` is fastest."""
        ...

    def newest_seq(self, namespace: str) -> int:
        """Return the highest number indexed so far, -1 if there is none."""
        ...

    def search(self, query: Query) -> list[Found]:
        """Return the best matches, best first; equally good ones newest first."""
        ...

    def remove(self, namespace: str, seqs: Sequence[int] | None = None) -> None:
        """Forget documents, their words included; None forgets the whole namespace. Unknown ones are no error."""
        ...


def document_of(reading: Reading, *, namespace: str, seq: int, at: float, speaker: str = "") -> Document:
    """Return the document of a message.

    A result's tool is known only where the wire names it (Gemini); others are found through the call beside them.
    """
    names = [call.name for call in reading.calls] + [result.name for result in reading.results if result.name]
    return Document(
        namespace=namespace,
        seq=seq,
        role=reading.role,
        speaker=speaker,
        tools=tuple(dict.fromkeys(names)),
        at=at,
        text=searchable_text(reading),
    )


def embedded_text(document: Document) -> str:
    """Return what to embed of a document: with its speaker's name, if any, for whose words they are is half of it."""
    return f"{document.speaker}: {document.text}" if document.speaker else document.text


def searchable_text(reading: Reading) -> str:
    """Return everything of a message that a person could look for, one part per line."""
    parts = [reading.text, reading.reasoning]
    for call in reading.calls:
        parts += [call.name, call.arguments]
    parts += [result.text for result in reading.results]
    return "\n".join(part for part in parts if part)
