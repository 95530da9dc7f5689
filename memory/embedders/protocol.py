"""What an embedder is, and the form that all vectors have."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from ..errors import AgentMemoryError

Vector: TypeAlias = bytes
"""Little-endian float32 numbers of unit length: what a database stores and `numpy.frombuffer(v, "<f4")` reads."""

_PASSAGE_CHARS = 1_000
_PASSAGES = 4


class EmbeddingError(AgentMemoryError):
    """Texts could not be turned into vectors, or vectors do not fit together."""


class Embedder(Protocol):
    """Turns texts into vectors; the closer two texts in meaning, the greater the product of theirs."""

    @property
    def name(self) -> str:
        """Identifies the model and its version. Vectors under different names are never compared."""
        ...

    @property
    def dimensions(self) -> int | None:
        """How many numbers a vector has; None while nothing has been embedded that would tell."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector for each text, in their order. Any string is accepted; a long one may be cut.

        Raises:
            EmbeddingError: There are no vectors to be had now.
        """
        ...


@runtime_checkable
class AsyncEmbedder(Embedder, Protocol):
    """An embedder that waits for a network without holding a thread."""

    async def aembed(self, texts: Sequence[str]) -> list[Vector]:
        """Return what `embed` returns."""
        ...


async def aembed(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    """Embed without blocking the event loop: by the embedder's own `aembed`, else in a thread."""
    if isinstance(embedder, AsyncEmbedder):
        return await embedder.aembed(texts)
    import asyncio  # `import memory` leaves it to those who await

    return await asyncio.to_thread(embedder.embed, texts)


def unit_vector(values: Sequence[float]) -> Vector:
    """Return numbers as a vector, scaled to length one.

    Raises:
        EmbeddingError: There are none, they are all zero, or one is not finite.
    """
    length = math.hypot(*values)
    if not 0 < length < math.inf:
        raise EmbeddingError(
            f"a vector of {len(values)} numbers has the length {length}; the model gave no usable embedding"
        )
    return struct.pack(f"<{len(values)}f", *(value / length for value in values))


def passages(text: str) -> list[str]:
    """Return what of a text to embed: itself if short, else its first three thousand characters and its last thousand.

    Models read a few hundred tokens of a text and ignore the rest, so each passage gets a vector and the text is as
    near as the nearest of them. Four at most: a message costs no more than that however long it is, what it is about
    stands at its start and what came of it at its end, and the lexical index holds every word between.
    """
    if len(text) <= _PASSAGE_CHARS * _PASSAGES:
        return [text[start : start + _PASSAGE_CHARS] for start in range(0, len(text), _PASSAGE_CHARS)] or [text]
    head = [
        text[start : start + _PASSAGE_CHARS] for start in range(0, _PASSAGE_CHARS * (_PASSAGES - 1), _PASSAGE_CHARS)
    ]
    return [*head, text[-_PASSAGE_CHARS:]]


def sendable(text: str, *, max_bytes: int) -> str:
    """Return a text that UTF-8 can carry, cut to a size: half a surrogate pair becomes a question mark."""
    return text[:max_bytes].encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")
