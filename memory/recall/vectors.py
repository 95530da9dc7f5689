"""Exact search by meaning: every vector of a namespace is compared, none is approximated."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..errors import EmbeddingError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..embedders.protocol import Vector

    Numbers: TypeAlias = NDArray[np.float32]
    Places: TypeAlias = NDArray[np.int64]

_GROWTH: Final = 1.5
_ROWS_AT_ONCE: Final = 8_192
"""So many rows are joined before they are copied: loading needs 12 MB beside the matrix, not its size again."""


class VectorIndex:
    """Vectors of one embedder in memory, one matrix for each namespace.

    It is given rows and answers with their keys; where they are stored is not its business. A row costs four bytes per
    dimension and eight for its number: 154 MB for 100,000 of 384 dimensions, and two thirds more for a moment when the
    matrix outgrows its room. Such a namespace loads in 0.3 s and answers in 10 ms. Safe to share between threads: a
    search sees what had been added when it began.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes_per_row: int | None = None
        self._matrices: dict[str, _Matrix] = {}

    def add(self, rows: Iterable[tuple[str, int, Vector]]) -> None:
        """Append rows of (namespace, number, vector).

        A number may come again: it is then as near as the nearest of its vectors.

        Raises:
            EmbeddingError: A vector has another size than the first one had. Rows before it may have been added.
            MissingDependencyError: numpy is not installed.
        """
        waiting = iter(rows)
        while some := list(islice(waiting, _ROWS_AT_ONCE)):
            with self._lock:
                self._check(some)
                for namespace, (numbers, vectors) in _by_namespace(some).items():
                    if namespace not in self._matrices:
                        self._matrices[namespace] = _Matrix(len(vectors[0]) // 4)
                    self._matrices[namespace].append(numbers, vectors)

    def search(
        self, vector: Vector, *, namespaces: Iterable[str] | None = None, limit: int = 10
    ) -> dict[tuple[str, int], float]:
        """Return the cosine of the nearest by (namespace, number), the nearest first, of equals the higher number.

        Unknown namespaces hold nothing; None searches all.

        Raises:
            EmbeddingError: The vector has another size than those of the index.
        """
        with self._lock:
            names = list(self._matrices) if namespaces is None else [*dict.fromkeys(namespaces)]
            filled = {name: self._matrices[name].filled() for name in names if name in self._matrices}
        if not filled or limit < 1:
            return {}
        self._check([("the query", 0, vector)])
        return _nearest(filled, vector, limit)

    def remove(self, namespace: str, numbers: Iterable[int] | None = None) -> None:
        """Forget rows and free their memory; None forgets the whole namespace. Unknown ones are no error."""
        with self._lock:
            matrix = self._matrices.pop(namespace, None)
            if matrix is not None and numbers is not None:
                self._matrices[namespace] = matrix.without(list(numbers))

    def count(self, namespace: str) -> int:
        """Return how many vectors a namespace has."""
        with self._lock:
            matrix = self._matrices.get(namespace)
            return 0 if matrix is None else matrix.count

    def _check(self, rows: Iterable[tuple[str, int, Vector]]) -> None:
        for namespace, number, vector in rows:
            if self._bytes_per_row is None and vector and not len(vector) % 4:
                self._bytes_per_row = len(vector)
            if len(vector) != self._bytes_per_row:
                raise EmbeddingError(
                    f"the vector of {namespace!r}, {number}, has {len(vector)} bytes, not {self._bytes_per_row}: "
                    "vectors of different models do not mix"
                )


class _Matrix:
    """Rows in one block that is enlarged by half when it is full; what was handed out is never written again."""

    def __init__(self, dimensions: int) -> None:
        self._np = _numpy()
        self.count = 0
        self._numbers: Places = self._np.empty(0, self._np.int64)
        self._rows: Numbers = self._np.empty((0, dimensions), self._np.float32)

    def append(self, numbers: list[int], vectors: list[Vector]) -> None:
        end = self.count + len(numbers)
        if end > len(self._rows):
            self._enlarge(end)
        self._numbers[self.count : end] = numbers
        self._rows[self.count : end] = self._np.frombuffer(b"".join(vectors), "<f4").reshape(len(numbers), -1)
        self.count = end

    def filled(self) -> tuple[Places, Numbers]:
        return self._numbers[: self.count], self._rows[: self.count]

    def without(self, numbers: list[int]) -> _Matrix:
        kept = ~self._np.isin(self._numbers[: self.count], numbers)
        left = _Matrix(self._rows.shape[1])
        left._numbers, left._rows = self._numbers[: self.count][kept], self._rows[: self.count][kept]
        left.count = len(left._rows)
        return left

    def _enlarge(self, needed: int) -> None:
        room = needed if not self.count else max(needed, int(self.count * _GROWTH))
        numbers, rows = self.filled()
        # Reserved and not yet written, the new rows cost address space and no memory.
        self._numbers = self._np.empty(room, self._np.int64)
        self._rows = self._np.empty((room, rows.shape[1]), self._np.float32)
        self._numbers[: self.count], self._rows[: self.count] = numbers, rows


def _by_namespace(rows: Iterable[tuple[str, int, Vector]]) -> dict[str, tuple[list[int], list[Vector]]]:
    found: dict[str, tuple[list[int], list[Vector]]] = {}
    for namespace, number, vector in rows:
        numbers, vectors = found.setdefault(namespace, ([], []))
        numbers.append(number)
        vectors.append(vector)
    return found


def _nearest(filled: Mapping[str, tuple[Places, Numbers]], vector: Vector, limit: int) -> dict[tuple[str, int], float]:
    np = _numpy()
    query = np.frombuffer(vector, "<f4")
    similar = np.concatenate([rows @ query for _, rows in filled.values()])
    # A damaged row would make every comparison with it false, and nothing would be found any more.
    np.nan_to_num(similar, copy=False, nan=-1, posinf=-1, neginf=-1)
    numbers = np.concatenate([numbers for numbers, _ in filled.values()])
    owners = np.repeat(np.arange(len(filled)), [len(numbers) for numbers, _ in filled.values()])
    names = list(filled)
    wanted = limit
    while True:
        best: dict[tuple[str, int], float] = {}
        for place in _best(similar, numbers, wanted):
            best.setdefault((names[owners[place]], int(numbers[place])), float(similar[place]))
        # The best rows may share a few numbers: look further down until enough are among them.
        if len(best) >= limit or wanted >= len(numbers):
            return dict(islice(best.items(), limit))
        wanted *= 4


def _best(similar: Numbers, numbers: Places, wanted: int) -> Places:
    """Return the places of the `wanted` nearest rows and of all that are as near as the last of these, in order."""
    np = _numpy()
    floor = np.partition(similar, -wanted)[-wanted] if wanted < len(similar) else -np.inf
    places: Places = np.flatnonzero(similar >= floor)
    ordered: Places = places[np.lexsort((-numbers[places], -similar[places]))]
    return ordered


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise MissingDependencyError(
            "searching by vectors needs numpy: pip install numpy (aloop-memory[local-embeddings] brings it)"
        ) from error
    return numpy
