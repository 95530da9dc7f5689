"""From a store to the account of a session. Nothing is written, and nobody's session is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from memory.dialects import dialect_named
from memory.recall.documents import searchable_text
from memory.recall.tools import ToolNames
from memory.sessions.encoding import loaded
from memory.sessions.layouts import read_entries
from memory.sessions.shelf import Shelf
from memory.sessions.store import SessionStore
from memory.sessions.values import StoredCall, StoredLayout, StoredMessage
from memory.window import Entry

from .account import Account, account_of
from .expenses import BESIDE, Cost, Expense, Place, Standing, costs_of

MOST_EXPENSES: Final = 15
_EXCERPT_CHARACTERS: Final = 160


def read_account(store: SessionStore, session_id: str) -> Account:
    """Return the account of a session; of a branch, what it did itself.

    Raises:
        StorageError: The store failed.
        UnknownSessionError: There is none of that id.
    """
    saved = store.load(session_id)
    info = saved.info
    shelf = Shelf(store, session_id, dialect_named(info.heading.dialect or "openai_chat"))
    messages = store.messages(session_id, last_seq=info.heading.last_seq)
    calls = sent(store.calls(session_id), messages)
    entries = {entry.seq: entry for entry in shelf.appended(0, info.heading.last_seq)}
    layouts = store.layouts(session_id)
    costs = costs_of(
        [call for call in calls if call.purpose == "agent"],
        [
            Standing(after_seq=layout.after_seq, places=tuple(map(_place, read_entries(layout, shelf))))
            for layout in layouts
        ],
        [(seq, _place(entry)) for seq, entry in entries.items()],
        beside_tokens=int(_number(saved.state, "size", "beside_tokens") or 0),
    )
    names = ToolNames()
    tools = {seq: names.of(shelf.entry(seq).reading) for seq in range(1, info.heading.last_seq + 1)}
    by_ref = {f"r{message.seq}": message for message in messages}
    expenses = [_expense(cost, by_ref, tools, shelf) for cost in costs[:MOST_EXPENSES]]
    return account_of(
        info,
        calls,
        store.compressions(session_id),
        expenses,
        undone=undone(layouts),
        saved_usd=_number(saved.state, "accounts", "ledger", "saved_usd"),
    )


def sent(calls: Sequence[StoredCall], messages: Sequence[StoredMessage]) -> list[StoredCall]:
    """Return the calls with the newest message that each of them sent: the one before the answer, if that is there."""
    answers = {message.seq for message in messages if message.role == "assistant"}
    return [replace(call, seq=_before(call.seq, answers)) for call in calls]


def _before(seq: int, answers: set[int]) -> int:
    while seq in answers:
        seq -= 1
    return seq


def undone(layouts: Sequence[StoredLayout]) -> dict[int, int]:
    """Return which of the compressions were taken back, by number, and the newest message when that was done."""
    standing: list[int] = []
    found = {}
    count = 0
    for layout in layouts:
        if layout.reason == "compression":
            count += 1
            standing.append(count)
        elif layout.reason == "undo" and standing:
            found[standing.pop()] = layout.after_seq
    return found


def _number(state: str, *path: str) -> float | None:
    """Return a figure of a memory's state; None where that has none there."""
    value = loaded(state)
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, (int, float)) else None


def _place(entry: Entry) -> Place:
    if entry.covers is None:
        return Place(key=entry.ref, tokens=entry.tokens)
    first, last = entry.covers.seqs[0], entry.covers.seqs[-1]
    return Place(key=f"r{first}-r{last}", tokens=entry.tokens)


def _expense(
    cost: Cost, by_ref: Mapping[str, StoredMessage], tools: Mapping[int, tuple[str, ...]], shelf: Shelf
) -> Expense:
    message = by_ref.get(cost.key)
    if message is None:
        return Expense(cost=cost, role="system prompt and tools" if cost.key == BESIDE else "summary")
    text = searchable_text(shelf.entry(message.seq).reading)
    return Expense(cost=cost, role=message.role, tools=tools[message.seq], excerpt=excerpt_of(text))


def excerpt_of(text: str) -> str:
    """Return the first words of a text on one line."""
    words = " ".join(text[: 8 * _EXCERPT_CHARACTERS].split())
    return words if len(words) <= _EXCERPT_CHARACTERS else f"{words[: _EXCERPT_CHARACTERS - 1]}…"
