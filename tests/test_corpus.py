"""The corpus is there where it must be, and read in full."""

from __future__ import annotations

import json
from pathlib import Path

from .corpus import malformed, transcripts


def test_every_conversation_of_the_index_is_read(corpus_dir: Path) -> None:
    index = [json.loads(line) for line in (corpus_dir / "index.jsonl").read_text(encoding="utf-8").splitlines()]

    assert sorted(one.id for one in transcripts()) == sorted(row["id"] for row in index)
    assert all(one.messages for one in [*transcripts(), *malformed()])
