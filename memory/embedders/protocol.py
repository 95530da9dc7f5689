"""What an embedder is, and the form that all vectors have."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, runtime_checkable

from ..errors import EmbeddingError

if TYPE_CHECKING:
    from .endpoint import EmbeddingCall

Vector: TypeAlias = bytes
"""Little-endian float32 numbers of unit length: what a database stores and `numpy.frombuffer(v, "<f4")` reads."""


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
        """Return a vector for each text, in their order. Any string is accepted; of a long one the beginning is read.

        One vector for a text however long: its words are all in the full-text index, and four vectors for each message
        found the source of a fact hardly more often than one (64 against 60 of 82 recall probes, 2026-11).

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


@runtime_checkable
class PaidEmbedder(Embedder, Protocol):
    """An embedder whose requests cost something, and that can say how much."""

    def telling(self, on_usage: Callable[[EmbeddingCall], object]) -> Self:
        """Return the same embedder, which tells of each request to this function too."""
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


def sendable(text: str, *, max_bytes: int) -> str:
    """Return a text that UTF-8 can carry, cut to a size: half a surrogate pair becomes a question mark."""
    return text[:max_bytes].encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")
