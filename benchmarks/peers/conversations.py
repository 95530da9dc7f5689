"""The conversations of the comparison: recorded ones in OpenAI's chat format, and one long loop made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.transcripts import Transcript, read_transcripts

LOOP_MESSAGES: Final = 1_000
_LOOP_FILE: Final = "tau-bench-airline.jsonl.gz"


def recorded(corpus: Path) -> list[Transcript]:
    """Return the corpus' conversations in OpenAI's chat format, the only one that all peers take."""
    found = (one for path in sorted(corpus.glob("*/*.jsonl.gz")) for one in read_transcripts(path))
    return [with_unique_ids(one) for one in found if one.dialect == "openai_chat"]


def customer_service_loop(corpus: Path, *, message_count: int = LOOP_MESSAGES) -> Transcript | None:
    """Return one long loop: a system prompt, then recorded customer-service conversations one after the other.

    None where the corpus does not hold them.
    """
    path = next(iter(corpus.glob(f"*/{_LOOP_FILE}")), None)
    if path is None:
        return None
    conversations = read_transcripts(path)
    rest = [message for one in conversations for message in one.messages if message.get("role") != "system"]
    messages = (conversations[0].messages[0], *rest)[:message_count]
    loop = Transcript(id="customer-service-loop", source=str(path), dialect="openai_chat", messages=messages)
    return with_unique_ids(loop)


def with_unique_ids(transcript: Transcript) -> Transcript:
    """Return a transcript in which no two calls have the same id: some peers take such for a repeated call."""
    return replace(transcript, messages=tuple(_renamed(transcript.messages)))


def _renamed(messages: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    seen: dict[str, int] = {}
    newest: dict[str, str] = {}
    for message in messages:
        if message.get("tool_calls"):
            calls = [_with_id(call, seen, newest) for call in message["tool_calls"]]
            yield {**message, "tool_calls": calls}
        elif message.get("tool_call_id") in newest:
            yield {**message, "tool_call_id": newest[message["tool_call_id"]]}
        else:
            yield message


def _with_id(call: Mapping[str, Any], seen: dict[str, int], newest: dict[str, str]) -> dict[str, Any]:
    id_ = str(call.get("id"))
    seen[id_] = seen.get(id_, 0) + 1
    newest[id_] = id_ if seen[id_] == 1 else f"{id_}-{seen[id_]}"
    return {**call, "id": newest[id_]}
