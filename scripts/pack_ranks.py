"""Pack OpenAI's published BPE ranks into the two files that the wheel carries.

Usage: python scripts/pack_ranks.py CL100K_FILE O200K_FILE

The arguments are `cl100k_base.tiktoken` and `o200k_base.tiktoken` as OpenAI publishes them. Each is checked against the
SHA-256 that stands in tiktoken's own `tiktoken_ext/openai_public.py` before anything is written.

A published file has a line per token: its base64, a space, its rank. The ranks run from 0 without a gap, so the
order says them, and no token is longer than 255 bytes. What is left: one byte of length per token, then all tokens
in a row, compressed with xz (2.2 MB instead of 5.3 MB of base64, 1.2 MB compressed).
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import sys
from pathlib import Path

RANKS = Path(__file__).parent.parent / "memory" / "ranks"
SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}


def pack(name: str, published: bytes) -> bytes:
    """Return the packed form of a published file.

    Raises:
        ValueError: The file is not the one tiktoken names, or its ranks have gaps.
    """
    digest = hashlib.sha256(published).hexdigest()
    if digest != SHA256[name]:
        raise ValueError(f"{name}: SHA-256 is {digest}, tiktoken's source says {SHA256[name]}")
    lines = [line.split() for line in published.splitlines()]
    if [int(rank) for _, rank in lines] != list(range(len(lines))):
        raise ValueError(f"{name}: the ranks are not consecutive")
    tokens = [base64.b64decode(token) for token, _ in lines]
    return lzma.compress(bytes(map(len, tokens)) + b"".join(tokens), preset=9 | lzma.PRESET_EXTREME)


def main(cl100k_file: str, o200k_file: str) -> None:
    for name, source in (("cl100k_base", cl100k_file), ("o200k_base", o200k_file)):
        packed = pack(name, Path(source).read_bytes())
        (RANKS / f"{name}.xz").write_bytes(packed)
        sys.stdout.write(f"{name}: {len(packed):,} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
