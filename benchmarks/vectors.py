"""What embedding on the processor costs, and what an exact search costs, on this machine. No network.

python benchmarks/vectors.py [--rows 100000] [--models FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from memory.embedders import LocalEmbedder, Vector  # noqa: E402
from memory.recall.vectors import VectorIndex  # noqa: E402

QUESTION = "When did we agree on the colour of the garden door?"
PROSE = "They meet at the harbour every other Friday and talk about the boat that nobody has repaired since the storm. "
WORDS = (10, 30, 100, 250)
EMBEDDED_WORDS = 6_000
SEARCHES = 300
LIMIT = 300
"""So many candidates are passed on to be ranked with what words found."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--models", type=Path, help="where the converted model is kept (default: ~/.aloop/models)")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores\n")
    embedding(LocalEmbedder(models_folder=arguments.models))
    print()
    searching(arguments.rows, LocalEmbedder.dimensions)


def embedding(embedder: LocalEmbedder) -> None:
    print(f"loading, or converting and loading: {seconds(lambda: embedder.embed([QUESTION])):.2f} s")
    for words in WORDS:
        texts = [" ".join((PROSE * 20).split()[:words])] * (EMBEDDED_WORDS // words)
        print(f"{len(texts) / seconds(lambda: embedder.embed(texts)):6.0f} texts a second of {words} words")  # noqa: B023
    print(f"one question: {times(lambda: embedder.embed([QUESTION]))}")


def searching(rows: int, dimensions: int) -> None:
    vectors = random_vectors(rows, dimensions)
    index = VectorIndex()
    loading = seconds(lambda: index.add(("all", number, vector) for number, vector in enumerate(vectors)))
    print(f"{rows:,} rows of {dimensions}: loaded in {loading:.2f} s")
    waiting = iter(vectors[:: max(1, rows // SEARCHES)] * 2)
    print(f"one search: {times(lambda: index.search(next(waiting), limit=LIMIT))}")


def random_vectors(rows: int, dimensions: int) -> list[Vector]:
    import numpy as np

    numbers = np.random.default_rng(0).standard_normal((rows, dimensions), dtype=np.float32)
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    return [row.tobytes() for row in numbers]


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def times(work: Callable[[], object]) -> str:
    hundredths = quantiles((1_000 * seconds(work) for _ in range(SEARCHES)), n=100)
    return f"{hundredths[49]:.1f} ms, p99 {hundredths[98]:.1f} ms"


if __name__ == "__main__":
    main()
