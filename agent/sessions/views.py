"""What there is to say of sessions, as values that tables and JSON are made of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from memory.dialects import dialect_named
from memory.recall.documents import searchable_text
from memory.sessions.encoding import loaded
from memory.sessions.layouts import read_entries
from memory.sessions.lease import is_alive
from memory.sessions.shelf import Shelf
from memory.sessions.store import SessionStore
from memory.sessions.values import DailyUsage, Saved, SessionInfo, StoredCall, StoredCompression
from memory.window import Entry, Kind

from ..session_report.reading import excerpt_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Something that stands in the context."""

    ref: str
    """`r17`; of a summary `r3-r40`."""
    kind: str
    """`original`, `masked`, `clamped`, `stripped`, `recalled` or `summary`."""
    role: str
    tools: tuple[str, ...]
    tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One session, as `show` tells of it."""

    info: SessionInfo
    context: tuple[Standing, ...]
    compressions: tuple[StoredCompression, ...]
    calls: tuple[StoredCall, ...]
    """The session's own."""


def view_of(store: SessionStore, session_id: str) -> View:
    """Return one session without taking it from its owner."""
    saved = store.load(session_id)
    return View(
        info=saved.info,
        context=tuple(map(standing_of, _entries(store, saved))),
        compressions=tuple(store.compressions(session_id)),
        calls=tuple(store.calls(session_id)),
    )


def messages_of(store: SessionStore, info: SessionInfo) -> list[Standing]:
    """Return every message of a session as it came, those that it shares with its parent included."""
    shelf = _shelf(store, info)
    last = info.heading.last_seq
    shelf.appended(0, last)
    return [standing_of(shelf.entry(seq)) for seq in range(1, last + 1)]


def standing_of(entry: Entry) -> Standing:
    """Return what there is to say of an entry."""
    covers = entry.covers
    reading = entry.reading
    return Standing(
        ref=entry.ref if covers is None else f"r{covers.seqs[0]}-r{covers.seqs[-1]}",
        kind=str(entry.kind),
        role=reading.role,
        tools=tuple(dict.fromkeys([call.name for call in reading.calls] + [r.name for r in reading.results if r.name])),
        tokens=entry.tokens,
        text=searchable_text(reading),
    )


def _entries(store: SessionStore, saved: Saved) -> list[Entry]:
    shelf = _shelf(store, saved.info)
    last = saved.info.heading.last_seq
    if saved.layout is None:
        return shelf.appended(0, last)
    return [*read_entries(saved.layout, shelf), *shelf.appended(saved.layout.after_seq, last)]


def _shelf(store: SessionStore, info: SessionInfo) -> Shelf:
    return Shelf(store, info.id, dialect_named(info.heading.dialect or "openai_chat"))


def is_estimate(call: StoredCall) -> bool:
    """Return whether what a call cost is an estimate: its usage was counted, or its price is the default."""
    return call.is_estimate or call.price_is_default


def estimated(store: SessionStore, sessions: Iterable[SessionInfo]) -> frozenset[str]:
    """Return the ids of the sessions whose cost is partly an estimate.

    A store beyond a network is not asked for each of them: a list of hundreds would take seconds.
    """
    if store.is_remote:
        return frozenset()
    return frozenset(one.id for one in sessions if any(map(is_estimate, store.calls(one.id))))


def is_open(info: SessionInfo) -> bool:
    """Return whether somebody has a session open, as far as this machine can tell."""
    return info.owner is not None and is_alive(info.owner, lease_until=info.lease_until, now=time.time())


# --- As JSON values ---------------------------------------------------------------------------------------------------


def info_as_dict(info: SessionInfo) -> dict[str, Any]:
    """Return what a list shows of a session."""
    return {
        "id": info.id,
        **asdict(info.heading),
        "created_at": moment(info.created_at),
        "updated_at": moment(info.updated_at),
        "parent_id": info.parent_id,
        "parent_ref": f"r{info.parent_seq}" if info.parent_id else None,
        "is_open": is_open(info),
    }


def view_as_dict(view: View, messages: Sequence[Standing] | None) -> dict[str, Any]:
    """Return one session; its messages where they are wanted."""
    return {
        **info_as_dict(view.info),
        "cost_is_estimate": any(map(is_estimate, view.calls)),
        "context": [_standing_as_dict(one) for one in view.context],
        "compressions": [_compression_as_dict(one) for one in view.compressions],
        "calls": [{**asdict(call), "at": moment(call.at)} for call in view.calls],
        **({} if messages is None else {"messages": [_standing_as_dict(one, is_whole=True) for one in messages]}),
    }


def usage_as_dict(usage: DailyUsage) -> dict[str, Any]:
    """Return the sums of a day and a model, with the share of input that came from the cache."""
    return {**asdict(usage), "cached_share": cached_share(usage)}


def cached_share(usage: DailyUsage) -> float:
    """Return which part of the input was read from the provider's cache, 0 to 1."""
    return usage.cache_read_tokens / usage.input_tokens if usage.input_tokens else 0.0


def moment(at: float) -> str:
    """Return seconds since 1970 in ISO 8601, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def local(at: float) -> str:
    """Return seconds since 1970 as a clock on the wall shows them, to the minute."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _standing_as_dict(one: Standing, *, is_whole: bool = False) -> dict[str, Any]:
    return {**asdict(one), "text": one.text if is_whole or one.kind == Kind.SUMMARY else excerpt_of(one.text)}


def _compression_as_dict(one: StoredCompression) -> dict[str, Any]:
    event: Mapping[str, Any] = loaded(one.event)
    found = {"number": one.number, "at": moment(one.at), "first_ref": one.first_ref, "last_ref": one.last_ref}
    return {**found, "summary": one.summary, "event": event, "changes": loaded(one.plan)}
