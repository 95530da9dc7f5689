"""Exact vector search: what it finds is what a plain loop over all rows finds."""

from __future__ import annotations

import math
import os
import struct
import sys
import threading
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.embedders import EmbeddingError, Vector, unit_vector
from memory.errors import MissingDependencyError
from memory.recall.vectors import VectorIndex

if find_spec("numpy") is None:
    if os.environ.get("CI"):
        raise RuntimeError("numpy is not installed; the extra local-embeddings brings it")
    pytest.skip("numpy is not installed; the extra local-embeddings brings it", allow_module_level=True)

# Numbers whose products float32 holds exactly: equal means equal.
CORNERS = [unit_vector(v) for v in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0)]]
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 12), st.sampled_from(CORNERS)), max_size=60)


def dot(one: Vector, other: Vector) -> float:
    numbers = [struct.unpack(f"<{len(vector) // 4}f", vector) for vector in (one, other)]
    return math.fsum(map(math.prod, zip(*numbers, strict=True)))


def filled(*rows: tuple[str, int, Vector]) -> VectorIndex:
    index = VectorIndex()
    index.add(rows)
    return index


@given(rows=ROWS, query=st.sampled_from(CORNERS), limit=st.integers(0, 20), split=st.integers(0, 60))
def test_a_search_finds_what_a_loop_over_all_rows_finds(
    rows: list[tuple[str, int, Vector]], query: Vector, limit: int, split: int
) -> None:
    index = filled(*rows[:split])
    index.add(rows[split:])
    nearest: dict[tuple[str, int], float] = {}
    for namespace, number, vector in rows:
        if namespace != "c":
            key = (namespace, number)
            nearest[key] = max(nearest.get(key, -1.0), dot(vector, query))

    found = index.search(query, namespaces=["a", "b", "nobody's"], limit=limit)

    assert list(found.values()) == sorted(nearest.values(), reverse=True)[:limit]
    assert all(nearest[key] == similarity for key, similarity in found.items())


def test_none_searches_all_namespaces() -> None:
    index = filled(("a", 1, CORNERS[0]), ("b", 1, CORNERS[1]))

    assert index.search(CORNERS[1]) == {("b", 1): 1.0, ("a", 1): 0.0}


def test_of_equally_near_rows_the_newer_comes_first() -> None:
    index = filled(*(("a", number, CORNERS[0]) for number in (3, 9, 5)))

    assert list(index.search(CORNERS[0], limit=2)) == [("a", 9), ("a", 5)]


def test_a_number_that_came_again_is_as_near_as_the_nearest_of_its_vectors() -> None:
    many = [("a", 1, CORNERS[0])] * 30
    index = filled(*many, ("a", 1, CORNERS[3]), ("a", 2, CORNERS[1]))

    assert index.search(CORNERS[0], limit=2) == {("a", 1): 1.0, ("a", 2): 0.0}


def test_rows_that_come_one_by_one_are_found_like_those_that_came_at_once() -> None:
    rows = [("a", number, unit_vector([math.cos(number), math.sin(number)])) for number in range(300)]
    index = VectorIndex()
    for row in rows:
        index.add([row])

    assert index.count("a") == 300
    assert index.search(rows[7][2], limit=300) == pytest.approx(filled(*rows).search(rows[7][2], limit=300), abs=1e-6)


def test_removed_rows_are_found_no_more() -> None:
    index = filled(("a", 1, CORNERS[0]), ("a", 1, CORNERS[1]), ("a", 2, CORNERS[0]), ("b", 1, CORNERS[0]))

    index.remove("a", [1, 77])
    index.remove("b")
    index.remove("nobody's")
    index.add([("a", 3, CORNERS[0])])

    assert list(index.search(CORNERS[0])) == [("a", 3), ("a", 2)]


@pytest.mark.parametrize("vector", [b"", b"abc", unit_vector([1.0] * 4)])
def test_vectors_of_another_size_are_refused(vector: bytes) -> None:
    index = filled(("a", 1, CORNERS[0]))

    with pytest.raises(EmbeddingError, match="'b', 2"):
        index.add([("b", 2, vector)])
    with pytest.raises(EmbeddingError, match="the query"):
        index.search(vector)
    assert list(index.search(CORNERS[0])) == [("a", 1)]


def test_a_damaged_row_hides_no_other() -> None:
    index = filled(("a", 1, struct.pack("<3f", math.nan, 0, 0)), ("a", 2, CORNERS[0]), ("a", 3, CORNERS[1]))

    assert list(index.search(CORNERS[0], limit=1)) == [("a", 2)]


def test_an_empty_index_finds_nothing() -> None:
    assert VectorIndex().search(CORNERS[0]) == {}
    assert filled(("a", 1, CORNERS[0])).search(CORNERS[0], namespaces=[]) == {}


def test_a_search_beside_an_addition_sees_whole_rows_only() -> None:
    index = filled(("a", 0, CORNERS[0]))

    def add() -> None:
        for number in range(1, 2_000):
            index.add([("a", number, CORNERS[number % 2])])

    adding = threading.Thread(target=add)
    adding.start()
    while adding.is_alive():
        found = index.search(CORNERS[0], limit=5)
        assert all((number % 2 == 0) == (similarity == 1) for (_, number), similarity in found.items())
    adding.join()

    assert index.count("a") == 2_000


def test_without_numpy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)

    with pytest.raises(MissingDependencyError, match="pip install"):
        filled(("a", 1, CORNERS[0]))


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [math.nan, 1.0], [math.inf]])
def test_numbers_without_a_direction_are_no_vector(values: list[float]) -> None:
    with pytest.raises(EmbeddingError, match="no usable embedding"):
        unit_vector(values)
