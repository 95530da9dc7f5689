"""Work that may ask an embedder, and the two drivers that run it: the same steps with and without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from .embedders.protocol import Embedder, Vector

Result = TypeVar("Result")

Embedding: TypeAlias = "Generator[Sequence[str], list[Vector], Result]"
"""Yields texts and is sent their vectors; its return value is the result."""


def drive_embedding(run: Embedding[Result], embedder: Embedder | None) -> Result:
    """Run a generator to its end, embedding what it yields. Without an embedder it must yield nothing."""
    step: Callable[[], Sequence[str]] = partial(next, run)
    while True:
        try:
            texts = step()
        except StopIteration as stop:
            return cast(Result, stop.value)
        assert embedder is not None, "it asked for vectors without an embedder"
        step = partial(run.send, embedder.embed(texts))


async def adrive_embedding(run: Embedding[Result], embedder: Embedder | None) -> Result:
    """Run a generator like `drive_embedding`, without blocking the event loop while texts are embedded."""
    step: Callable[[], Sequence[str]] = partial(next, run)
    while True:
        try:
            texts = step()
        except StopIteration as stop:
            return cast(Result, stop.value)
        assert embedder is not None, "it asked for vectors without an embedder"
        from .embedders.protocol import aembed  # `import memory` leaves it to those who embed

        step = partial(run.send, await aembed(embedder, texts))
