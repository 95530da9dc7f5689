"""all-MiniLM-L6-v2 on the processor, through onnxruntime."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, EmbeddingError, MissingDependencyError
from .conversion import INSTALL, MODEL_FILE, TOKENIZER_FILE, converted
from .protocol import Vector, sendable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_TOKENS: Final = 256
"""What the model was made for (its sentence_bert_config.json); the rest of a text is not read."""
_DIMENSIONS: Final = 384
_MAX_BYTES: Final = 16_384
"""Tokenising a text of megabytes for its first 256 tokens would be a waste; English needs 1,200 bytes for them."""
_BATCH_TOKENS: Final = 1_024
"""Larger batches are slower: their activations no longer fit the processor's cache."""
_FOLDER: Final = "all-MiniLM-L6-v2-onnx-1"
"""The number is that of the conversion: a change of the graph must not meet an old file."""


class LocalEmbedder:
    """Embeds with all-MiniLM-L6-v2 on this machine: English, 384 dimensions, no network, no key, no dollars.

    The first use in a process loads the model (0.2 s, 200 MB), the very first one converts it before (a second, 90 MB
    on disk). Safe to share between threads, and used on in processes that `multiprocessing` forks.

    Args:
        models_folder: Where the converted model is kept; `~/.aloop/models` if left out.
        threads: How many threads one call may use; one per core if left out.

    Raises:
        ConfigError: `threads` is less than 1.
    """

    name: Final = "all-MiniLM-L6-v2"
    dimensions: Final = _DIMENSIONS

    def __init__(self, *, models_folder: str | Path | None = None, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, or None for one per core, got {threads!r}")
        self._folder = (Path.home() / ".aloop" / "models" if models_folder is None else Path(models_folder)) / _FOLDER
        self._threads = threads
        self._lock = threading.Lock()
        self._model: _Model | None = None
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=partial(_start_over, weakref.ref(self)))

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector for each text, by its first 256 tokens.

        About 250 messages of 30 tokens a second on two cores, 30 of full length.

        Raises:
            MissingDependencyError: A package is not installed; the message gives the commands.
            EmbeddingError: The model cannot be converted or loaded.
        """
        model = self._loaded()
        tokens = [model.tokens(text) for text in texts]
        vectors: dict[int, Vector] = {}
        for batch in _batches([len(of_text) for of_text in tokens]):
            vectors.update(zip(batch, model.run([tokens[index] for index in batch]), strict=True))
        return [vectors[index] for index in range(len(texts))]

    def _loaded(self) -> _Model:
        with self._lock:
            if self._model is None:
                self._model = _Model(converted(self._folder), self._threads)
            return self._model

    def _abandon(self) -> None:
        # The parent's other threads, which may have held the lock, are not in this process.
        self._lock = threading.Lock()
        if self._model is not None:
            # Neither are the threads of the session: to use it, or to let go of it, would wait for them for ever.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._model))
            self._model = None


def _start_over(forked: weakref.ref[LocalEmbedder]) -> None:
    embedder = forked()
    if embedder is not None:
        embedder._abandon()


class _Model:
    """A loaded tokenizer and network."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        self._tokenizer = _tokenizer(folder / TOKENIZER_FILE)
        self._session = _session(folder / MODEL_FILE, threads)

    def tokens(self, text: str) -> list[int]:
        # One by one: `encode_batch` starts threads, and warns on stderr in every process forked later.
        ids: list[int] = self._tokenizer.encode(sendable(text, max_bytes=_MAX_BYTES)).ids
        return ids

    def run(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        import numpy as np

        ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (vectors,) = self._session.run(["vectors"], {"ids": ids, "mask": mask})
        return [vector.tobytes() for vector in np.asarray(vectors, "<f4")]


def _tokenizer(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(f"LocalEmbedder needs tokenizers: {INSTALL}") from error
    with _opening(path):
        tokenizer = Tokenizer.from_file(str(path))
    # The file says 128 tokens and padding to as many, which suited the model's training.
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def _session(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        raise MissingDependencyError(f"LocalEmbedder needs onnxruntime: {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # Threads that wait for work in a loop would take the cores from the agent between two texts.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with _opening(path):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the errors of both packages share no base class but this
        raise EmbeddingError(f"cannot load {str(path)!r}; delete its folder, and it will be made again") from error


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group texts of like length, so that little is computed for padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
