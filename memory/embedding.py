"""Work that may ask an embedder, and the two drivers that run it: the same steps with and without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

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


async def adrive_embedding(run: Embedding[Result], embedder: Embedder | None, *, in_threads: bool) -> Result:
    """Run a generator like `drive_embedding`, without blocking the event loop while texts are embedded.

    Args:
        run: What is to be done.
        embedder: Gives the vectors.
        in_threads: What happens in between waits too, for a store that is elsewhere: do it in threads.
    """
    import asyncio  # `import memory` leaves both to those who need them

    from .embedders.protocol import aembed

    vectors: list[Vector] | None = None
    while True:
        step = await asyncio.to_thread(_next, run, vectors) if in_threads else _next(run, vectors)
        if isinstance(step, _Done):
            return step.result
        assert embedder is not None, "it asked for vectors without an embedder"
        vectors = await aembed(embedder, step)


@dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    result: Result


def _next(run: Embedding[Result], vectors: list[Vector] | None) -> Sequence[str] | _Done[Result]:
    """Take the next step. A `StopIteration` cannot leave a thread, so the end is a value."""
    try:
        return next(run) if vectors is None else run.send(vectors)
    except StopIteration as stop:
        return _Done(cast(Result, stop.value))
