"""The parts of an OpenAI chat message's content, as adapters write them from what their frameworks hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_PAYLOAD_CHARACTERS = 1_000
"""A text without a single space that is longer than this is encoded data, not words."""


def content(parts: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return parts as the content of a message: text alone as text."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return list(parts)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def media(
    media_type: str, *, base64: str | None = None, url: str | None = None, detail: str | None = None
) -> dict[str, Any]:
    """Return an image, a sound or a file, by data or by address; with neither it is known to the provider alone.

    Chat has no films: they are files, like documents.
    """
    kind, _, form = media_type.partition("/")
    address = f"data:{media_type};base64,{base64}" if base64 is not None else url
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": address or "", **({"detail": detail} if detail else {})}}
    if kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": base64 or "", "format": form}}
    return {"type": "file", "file": {"file_data": address} if base64 is not None else {"file_id": address}}


def unknown(part: object) -> dict[str, Any]:
    """Return a part that chat has no words for as the text of its JSON, without data that no one can read.

    It is counted and can be found by its words; what is sent is the framework's own object.
    """
    return text(json.dumps(_readable(part), ensure_ascii=False, separators=(",", ":"), default=_unreadable))


def thinking(words: str, signature: str | None) -> dict[str, Any]:
    """Return a block for `thinking_blocks`, as LiteLLM writes them (https://docs.litellm.ai/docs/reasoning_content)."""
    return {"type": "thinking", "thinking": words, **({"signature": signature} if signature else {})}


def _readable(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _readable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(inner) for inner in value]
    if isinstance(value, str) and len(value) > _PAYLOAD_CHARACTERS and not any(map(str.isspace, value)):
        return f"({len(value)} characters of data)"
    return value


def _unreadable(value: object) -> str:
    return f"({len(value)} bytes of data)" if isinstance(value, bytes) else repr(value)
