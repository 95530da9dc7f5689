"""A session in its provider's own format: a request body with the messages as they came."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from ..dialects import DIALECTS
from ..errors import ConfigError
from ..messages import DialectName, Fit, Wire
from ..native import to_wire
from .encoding import decode
from .layouts import read_layout
from .shelf import Shelf
from .store import SessionStore
from .values import Saved

NativeFormat: TypeAlias = Literal["openai", "openai-responses", "anthropic", "gemini"]

_DIALECTS: Final[Mapping[NativeFormat, DialectName]] = {
    "openai": "openai_chat",
    "openai-responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
_KEYS: Final[Mapping[NativeFormat, tuple[str, str]]] = {
    "openai": ("messages", "system"),
    "openai-responses": ("input", "instructions"),
    "anthropic": ("messages", "system"),
    "gemini": ("contents", "system_instruction"),
}
"""Where a request body has the messages, and where the system prompt that travels beside them."""


def native_body(store: SessionStore, session_id: str, format: NativeFormat) -> str:
    """Return a session as JSON text in ASCII, on one line: messages, and model, system prompt and tools where known.

    Bytes, which some SDKs have in messages, become base64 as on the wire; of an SDK's object it is its JSON.

    Raises:
        ConfigError: The messages are in another format. They are never converted: that would not be exact.
        UnknownSessionError: There is none of that id.
    """
    saved = store.load(session_id)
    messages = [
        _sendable(to_wire(decode(message.body, message.form, store.blob)))
        for message in store.messages(session_id, last_seq=saved.info.heading.last_seq)
        if not message.is_written  # nobody said it: a copy of what stands elsewhere among them
    ]
    _refuse_other_format(saved, messages, format)
    beside = _beside(store, saved, format)
    body = {"header": {"id": saved.info.id, "format": format}, **beside, _KEYS[format][0]: messages}
    return json.dumps(body) + "\n"


def format_of(dialect: DialectName) -> NativeFormat:
    """Return the format that a dialect's messages are in."""
    return next(name for name, of_format in _DIALECTS.items() if of_format == dialect)


def _refuse_other_format(saved: Saved, messages: Sequence[Wire], format: NativeFormat) -> None:
    dialect = saved.info.heading.dialect
    if dialect is not None and dialect != _DIALECTS[format]:
        raise ConfigError(
            f"this session is in the format {format_of(dialect)}, not {format}; messages are exported as they came, "
            f"never converted: use {format_of(dialect)} or jsonl",
            field="format",
        )
    if dialect is None and any(DIALECTS[_DIALECTS[format]].recognise(one) is Fit.NO for one in messages):
        raise ConfigError(f"the messages of this session cannot be read as {format}", field="format")


def _beside(store: SessionStore, saved: Saved, format: NativeFormat) -> dict[str, Any]:
    system = tools = None
    if saved.layout is not None:
        shelf = Shelf(store, saved.info.id, DIALECTS[_DIALECTS[format]])
        layout = read_layout(saved.layout, shelf)
        system, tools = layout.system, layout.tools
    beside = {"model": saved.info.heading.model, _KEYS[format][1]: _sendable(system), "tools": _sendable(tools)}
    return {name: value for name, value in beside.items() if value}


def _sendable(value: Any) -> Any:
    match value:
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case Mapping():
            return {key: _sendable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_sendable(item) for item in value]
    return value
