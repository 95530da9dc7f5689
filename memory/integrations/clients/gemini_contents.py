"""The many forms in which google-genai takes `contents`, made the one list that goes over the wire.

As `t_contents` in `google/genai/_transformers.py` of google-genai 3.4 does it, so that the memory sees messages:
text alone is the user's, neighbouring parts make one content, a function call is the model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any


def contents_of(contents: object) -> list[Any]:
    """Return the contents as a list in which every item is a content; those given as such are the same objects."""
    items = contents if isinstance(contents, list) else [contents]
    found: list[Any] = []
    for kind, group in groupby(items, _kind):
        if kind == "content":
            found += group
        elif kind == "parts":
            found += (_content("user", parts) for parts in group)
        else:
            found.append(_content(kind, list(group)))
    return found


def _kind(item: object) -> str:
    """Say what an item is: a content, a list of the user's parts, or the role whose part it is."""
    if isinstance(item, list):
        return "parts"
    if isinstance(item, Mapping):
        if not item or "parts" in item or "role" in item:
            return "content"
        return "model" if item.get("function_call") or item.get("functionCall") else "user"
    if "parts" in getattr(type(item), "model_fields", ()):
        return "content"
    return "model" if getattr(item, "function_call", None) else "user"


def _content(role: str, parts: Sequence[object]) -> dict[str, Any]:
    return {"role": role, "parts": [_part(part) for part in parts]}


def _part(part: object) -> object:
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Mapping) or "function_call" in getattr(type(part), "model_fields", ()):
        return part
    # An uploaded file or a picture of PIL: the SDK, which is there if such a thing is, knows how it travels.
    from google.genai import types

    (converted,) = types.UserContent(parts=[part]).parts or (part,)
    return converted
