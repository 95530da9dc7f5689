"""Text that no request can carry: lone surrogates, which models and files do contain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Json = TypeVar("Json")


def sendable(value: Json) -> Json:
    """Return JSON that can be written as UTF-8: the value itself, or a copy with U+FFFD in the place of what cannot.

    Some SDKs fail on half a surrogate pair, with an error that quotes the text; others escape it, and the server
    answers 400 ("no low surrogate in string", anthropics/claude-code#2108).
    """
    return _sendable(value)  # type: ignore[no-any-return]  # of the type that came in


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value if _is_whole(value) else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        changed = {key: new for key, old in value.items() if (new := _sendable(old)) is not old}
        return {**value, **changed} if changed else value
    if isinstance(value, list | tuple):
        items = [_sendable(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
