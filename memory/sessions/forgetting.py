"""Taking words away for good: what stands in the place of a message, a summary or a layout that quoted them.

What remains is a message of the same shape, so that a conversation that goes on stays one that its provider accepts:
roles, ids and names of tools stay, every word becomes `FORGOTTEN`, arguments become empty, images and files become a
text. Signed reasoning cannot lose its words and keep its signature, so it goes whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..archive import as_number
from ..extract import Digest
from ..extract.keeping import packed
from .encoding import FORGOTTEN, digest_of, dumped, loaded, without_marks
from .values import StoredCompression, StoredLayout, StoredMessage

_KEPT = frozenset(
    {"role", "type", "id", "call_id", "tool_call_id", "tool_use_id", "name", "status", "object", "tool_name"}
)
"""Keys whose texts say how a message is built."""
_ARGUMENTS = frozenset({"arguments", "input", "args", "parameters"})
_SIGNATURES = frozenset({"signature", "thoughtSignature", "thought_signature", "encrypted_content"})
_REASONING = frozenset({"thinking", "redacted_thinking", "reasoning"})
_ATTACHED = frozenset({"inlineData", "inline_data", "fileData", "file_data"})
_TEXTUAL = frozenset(
    {
        *("text", "input_text", "output_text", "refusal", "message", "function", "custom", "reasoning"),
        *("tool_use", "tool_result", "function_call", "function_call_output"),
        *("custom_tool_call", "custom_tool_call_output"),
    }
)
"""Types of parts and items that are emptied where they stand.

Parts of other types become a text; also what a provider's own tools were asked and answered, in one message.
"""


def forgotten_message(message: StoredMessage) -> StoredMessage:
    """Return a message without its words."""
    shown = None if message.shown is None else _shown(message.shown)
    return replace(message, body=forgotten_body(message.body), shown=shown, blobs=())


def forgotten_body(body: str) -> str:
    """Return the JSON text of a message without its words and without blobs."""
    return dumped(_emptied(without_marks(loaded(body)), ""))


def forgotten_compression(compression: StoredCompression, seqs: Collection[int]) -> StoredCompression:
    """Return a compression without its summary where that may quote one of these messages.

    A later summary may repeat what an earlier one says, so all that reach as far as the first of them are taken.
    """
    last = as_number(compression.last_ref)
    reach = compression.seq if last is None else last
    return replace(compression, summary=FORGOTTEN) if compression.summary and reach >= min(seqs) else compression


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenLayout:
    """A layout that lost words."""

    layout: StoredLayout
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """What it refers to now and the store may not have."""


def forgotten_layout(layout: StoredLayout, seqs: Collection[int]) -> ForgottenLayout:
    """Return a layout whose summaries and whose copies of these messages lost their words."""
    if layout.after_seq < min(seqs):
        return ForgottenLayout(layout=layout)
    value = loaded(layout.body)
    nothing = packed(Digest())
    digest = digest_of(nothing)
    if "entries" in value:
        value["entries"] = [_entry(one, seqs) for one in value["entries"]]
        summaries = [one for one in value["entries"] if isinstance(one, dict) and "covers" in one]
        untouched = [one["seq"] for one in summaries if not _quotes(one, seqs)]
        value["standing"] = _standing(value["standing"], untouched, digest)
    body = dumped(value)
    blobs = tuple(one for one in layout.blobs if one in body)
    is_new = digest in body
    return ForgottenLayout(
        layout=replace(layout, body=body, blobs=(*blobs, digest) if is_new and digest not in blobs else blobs),
        blobs={digest: nothing} if is_new else {},
    )


# --- Layouts and copies -----------------------------------------------------------------------------------------------


def _shown(shown: str) -> str:
    value = loaded(shown)
    return dumped(_without_words(value)) if isinstance(value, dict) and "message" in value else dumped(FORGOTTEN)


def _entry(entry: Any, seqs: Collection[int]) -> Any:
    """Return an entry of a layout; originals are pairs of numbers, summaries say what they cover."""
    if not isinstance(entry, dict):
        return entry
    quotes = _quotes(entry, seqs) if "covers" in entry else entry["seq"] in seqs
    return _without_words(entry) if quotes else entry


def _quotes(summary: Mapping[str, Any], seqs: Collection[int]) -> bool:
    return max((last for _, last in summary["covers"]), default=0) >= min(seqs)


def _without_words(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "message": forgotten_body(entry["message"])}


def _standing(standing: Mapping[str, Any], untouched: Collection[int], digest: str) -> dict[str, Any]:
    """Return what is known of the summaries; `untouched` are those that quote nothing of what is forgotten."""
    lost = {"text": FORGOTTEN, "digest": digest}
    summaries = [[seq, summary if seq in untouched else {**summary, **lost}] for seq, summary in standing["summaries"]]
    memory = standing["memory"]
    if memory is not None and any(seq not in untouched for seq, _ in summaries):
        messages = [one if isinstance(one, int) else [forgotten_body(one[0]), one[1]] for one in memory["messages"]]
        memory = {**memory, "summary": FORGOTTEN, "messages": messages}
    return {**standing, "summaries": summaries, "memory": memory}


# --- Messages ---------------------------------------------------------------------------------------------------------


def _emptied(value: Any, key: str) -> Any:
    match value:
        case str():
            return value if key in _KEPT else "{}" if key == "arguments" else FORGOTTEN
        case dict() if key in _ARGUMENTS:
            return {}
        case dict() if key == "response":
            return {"output": FORGOTTEN}
        case dict():
            return {name: _emptied(inner, name) for name, inner in value.items() if name not in _SIGNATURES}
        case list():
            return _emptied_list(value, key)
    return value


def _emptied_list(values: list[Any], key: str) -> list[Any]:
    if key == "summary":  # of a reasoning item
        return []
    kept = [_part(one, key) for one in values if not (isinstance(one, dict) and one.get("type") in _REASONING)]
    return kept or ([{"type": "text", "text": FORGOTTEN}] if values and key == "content" else [])


def _part(part: Any, key: str) -> Any:
    if not isinstance(part, dict):
        return _emptied(part, key)
    if not _ATTACHED.isdisjoint(part):
        return {"text": FORGOTTEN}
    kind = part.get("type", "text")
    if kind in _TEXTUAL:
        return _emptied(part, "")
    return {"type": "input_text" if str(kind).startswith("input_") else "text", "text": FORGOTTEN}
