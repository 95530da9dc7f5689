"""The corpus of recorded transcripts, which lies beside the project and is no part of it."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from memory.messages import DialectName

CORPUS_ENV: Final = "ALOOP_CORPUS"
"""Names the folder where it lies elsewhere."""

_DIALECTS: Final[dict[str, DialectName]] = {
    "openai": "openai_chat",
    "openai-responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
_BODIES: Final = ("messages", "contents", "input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One recorded conversation. Its messages are shared between tests: read them, never change them.

    Of what was said nothing is in its `repr`, which pytest prints when a test fails.
    """

    id: str
    dialect: DialectName
    messages: list[dict[str, Any]] = field(repr=False)
    system: Any = field(default=None, repr=False)
    tools: Any = field(default=None, repr=False)
    header: dict[str, Any] = field(repr=False)


def find_corpus() -> Path | None:
    """Return the corpus folder, None where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "corpus"
    folder = Path(os.environ.get(CORPUS_ENV, beside))
    return folder if (folder / "index.jsonl").is_file() else None


def transcripts(*, dialect: DialectName | None = None, max_tokens: int | None = None) -> list[Recorded]:
    """Return the whole recorded conversations, ordered by file and line; none where the corpus is absent.

    `max_tokens` compares with the corpus's own estimate. A test that parametrises over these must also ask for the
    fixture `corpus_dir`, which reports a missing corpus.
    """
    return [
        one
        for one in _all()
        if dialect in (None, one.dialect) and (max_tokens is None or one.header.get("tokens_est", 0) <= max_tokens)
    ]


def malformed() -> list[Recorded]:
    """Return the real broken conversations; `header["defects"]` says what is wrong with each."""
    folder = find_corpus()
    return [] if folder is None else list(_read(folder / "malformed.jsonl.gz"))


def probes() -> list[dict[str, Any]]:
    """Return the recall probes, one mapping per conversation."""
    folder = find_corpus()
    if folder is None:
        return []
    return [json.loads(line) for line in (folder / "probes.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def _all() -> tuple[Recorded, ...]:
    folder = find_corpus()
    files = [] if folder is None else sorted(folder.glob("*/*.jsonl.gz"))
    return tuple(one for path in files for one in _read(path))


def _read(path: Path) -> Iterator[Recorded]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            body = next(raw[key] for key in _BODIES if key in raw)
            header = raw["header"]
            yield Recorded(
                id=header.get("id", path.name),
                dialect=_DIALECTS[header["format"]],
                messages=body,
                system=raw.get("system"),
                tools=raw.get("tools"),
                header=header,
            )
