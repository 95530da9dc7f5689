"""What stands in a window, as JSON and back: originals by their number, copies and summaries whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..compressor import CompressedMemory
from ..errors import MessageError
from ..extract import Digest
from ..extract.keeping import packed, unpacked
from ..history import Standing
from ..marks import Mark
from ..native import to_wire
from ..summarize import Summary
from ..window import Coverage, Entry, Kind
from .encoding import decode, digest_of, dumped, encode, loaded
from .shelf import Shelf, standing_entry, standing_value
from .values import StoredLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A window at some moment."""

    entries: tuple[Entry, ...] = field(default=(), repr=False)
    standing: Standing = field(default_factory=Standing, repr=False)
    archived_seqs: tuple[int, ...] = ()
    """The messages that are in the archive, ascending."""
    system: object | None = field(default=None, repr=False)
    tools: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    undoable_count: int = 0
    """How many compressions could be taken back from it, one after the other."""
    marks_before: Sequence[tuple[int, list[Mark]]] | None = None
    """Behind a compression: the marks on the messages that it was made of; None where none was ever marked."""


class Digests:
    """What summaries know beyond their text, packed once each: a summary stands in several layouts."""

    def __init__(self) -> None:
        self._packed: dict[int, tuple[Digest, bytes]] = {}

    def packed(self, digest: Digest) -> bytes:
        """Return a digest as bytes."""
        known = self._packed.get(id(digest))
        if known is None:
            known = digest, packed(digest)
            self._packed[id(digest)] = known  # beside the digest, whose id is its own for as long as it is here
        return known[1]

    def keep_only(self, standing: Standing) -> None:
        """Let go of what belongs to no summary that stands."""
        ids = {id(summary.digest) for summary in standing.summaries.values()}
        self._packed = {key: value for key, value in self._packed.items() if key in ids}


def stored_layout(
    layout: Layout,
    digests: Digests,
    *,
    number: int,
    after_seq: int,
    reason: Literal["compression", "undo", "branch", "edit"],
) -> tuple[StoredLayout, dict[str, bytes]]:
    """Return a layout as a row, and the blobs that go with it. O(entries)."""
    blobs: dict[str, bytes] = {}
    value = {
        "entries": list(_entries(layout.entries, blobs)),
        "standing": _standing(layout.standing, layout.entries, digests, blobs),
        "archived": runs(layout.archived_seqs),
        "beside": _beside(layout, blobs),
        "undoable_count": layout.undoable_count,
        "marks_before": layout.marks_before,
    }
    body = dumped(value)
    return StoredLayout(number=number, after_seq=after_seq, reason=reason, body=body, blobs=tuple(blobs)), blobs


def read_layout(stored: StoredLayout, shelf: Shelf) -> Layout:
    """Return the window that a row tells of."""
    value = loaded(stored.body)
    entries = _all_entries(value, shelf)
    beside = decode(value["beside"], "dict", shelf.blob)
    assert isinstance(beside, dict)
    return Layout(
        entries=entries,
        standing=_read_standing(value["standing"], entries, shelf),
        archived_seqs=tuple(unrun(value["archived"])),
        system=beside["system"],
        tools=beside["tools"],
        undoable_count=value["undoable_count"],
        marks_before=value.get("marks_before"),
    )


def read_entries(stored: StoredLayout, shelf: Shelf) -> tuple[Entry, ...]:
    """Return only what stood in the window that a row tells of: a tenth of the work, for those who look."""
    return _all_entries(loaded(stored.body), shelf)


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Return ascending numbers as pairs of the first and the last of each run without a gap."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def unrun(pairs: Iterable[Sequence[int]]) -> Iterator[int]:
    """Yield the numbers of which `runs` made pairs."""
    for first, last in pairs:
        yield from range(first, last + 1)


# --- Entries ----------------------------------------------------------------------------------------------------------


def _entries(entries: Sequence[Entry], blobs: dict[str, bytes]) -> Iterator[Any]:
    """Yield runs of originals as pairs of numbers, everything else as objects."""
    run: list[int] = []
    for entry in entries:
        if entry.kind in (Kind.ORIGINAL, Kind.RECALLED):
            run.append(entry.seq)
            continue
        yield from runs(run)
        run = []
        yield _entry(entry, blobs)
    yield from runs(run)


def _entry(entry: Entry, blobs: dict[str, bytes]) -> dict[str, Any]:
    value = standing_value(entry, blobs)
    if entry.covers is not None:
        value |= {"covers": runs(entry.covers.seqs), "covered_tokens": entry.covers.tokens}
    return value


def _all_entries(value: Mapping[str, Any], shelf: Shelf) -> tuple[Entry, ...]:
    shelf.fetch(_numbers(value["entries"]))
    return tuple(entry for item in value["entries"] for entry in _read_entries(item, shelf))


def _numbers(values: Sequence[Any]) -> list[int]:
    """Return the numbers of all messages that entries are made of."""
    pairs = [pair for pair in values if isinstance(pair, list)]
    copies = [value["seq"] for value in values if isinstance(value, dict) and "covers" not in value]
    return [*unrun(pairs), *copies]


def _read_entries(value: Any, shelf: Shelf) -> Iterator[Entry]:
    if isinstance(value, list):
        yield from (shelf.entry(seq) for seq in unrun([value]))
    elif "covers" in value:
        yield _read_summary(value, shelf)
    else:
        yield standing_entry(value, shelf)


def _read_summary(value: dict[str, Any], shelf: Shelf) -> Entry:
    message = decode(value["message"], value["form"], shelf.blob)
    return Entry(
        seq=value["seq"],
        message=message,
        reading=shelf.dialect.read(to_wire(message)),
        tokens=value["tokens"],
        kind=Kind.SUMMARY,
        covers=Coverage(seqs=tuple(unrun(value["covers"])), tokens=value["covered_tokens"]),
    )


# --- What is known of the compressed part -----------------------------------------------------------------------------


def _standing(
    standing: Standing, entries: Sequence[Entry], digests: Digests, blobs: dict[str, bytes]
) -> dict[str, Any]:
    return {
        "summaries": [[seq, _summary(summary, digests, blobs)] for seq, summary in standing.summaries.items()],
        "memory": None if standing.memory is None else _memory(standing.memory, entries, blobs),
        "masked": runs(sorted(standing.masked_seqs)),
        "saved_tokens": standing.saved_tokens,
    }


def _read_standing(value: dict[str, Any], entries: Sequence[Entry], shelf: Shelf) -> Standing:
    memory = value["memory"]
    return Standing(
        summaries={seq: _read_summary_text(summary, shelf) for seq, summary in value["summaries"]},
        memory=None if memory is None else _read_memory(memory, entries, shelf),
        masked_seqs=frozenset(unrun(value["masked"])),
        saved_tokens=value["saved_tokens"],
    )


def _summary(summary: Summary, digests: Digests, blobs: dict[str, bytes]) -> dict[str, Any]:
    content = digests.packed(summary.digest)
    digest = digest_of(content)
    blobs[digest] = content  # the same one in every layout in which the summary stands
    return {"text": summary.text, "method": summary.method, "made_from": summary.made_from, "digest": digest}


def _read_summary_text(value: dict[str, Any], shelf: Shelf) -> Summary:
    return Summary(
        text=value["text"],
        method=value["method"],
        made_from=value["made_from"],
        digest=unpacked(shelf.blob(value["digest"])),
    )


_COUNTED = (
    *("summary", "original_message_count", "original_tokens", "compressed_tokens", "strategy", "method"),
    "stripped_count",
)
"""Fields of `CompressedMemory` that are JSON values as they are."""


def _memory(memory: CompressedMemory, entries: Sequence[Entry], blobs: dict[str, bytes]) -> dict[str, Any]:
    """Return it as JSON values; a message that stands in the window is told by its place there."""
    places = {id(entry.message): place for place, entry in enumerate(entries)}
    messages = [
        places[id(message)] if id(message) in places else _message(message, blobs) for message in memory.messages
    ]
    counted = {name: getattr(memory, name) for name in _COUNTED}
    return {**counted, "degraded": list(memory.degraded), "messages": messages}


def _read_memory(value: dict[str, Any], entries: Sequence[Entry], shelf: Shelf) -> CompressedMemory:
    messages = tuple(
        entries[message].message if isinstance(message, int) else decode(message[0], message[1], shelf.blob)
        for message in value["messages"]
    )
    counted = {name: value[name] for name in _COUNTED}
    return CompressedMemory(**counted, degraded=tuple(value["degraded"]), messages=messages)


def _message(message: object, blobs: dict[str, bytes]) -> list[str]:
    encoded = encode(message)
    blobs.update(encoded.blobs)
    return [encoded.body, encoded.form]


def _beside(layout: Layout, blobs: dict[str, bytes]) -> str:
    """Return what travels beside the messages. Tools that are no JSON, such as functions, are not kept."""
    try:
        encoded = encode({"system": layout.system, "tools": layout.tools})
    except MessageError:
        encoded = encode({"system": None, "tools": None})
    blobs.update(encoded.blobs)
    return encoded.body
