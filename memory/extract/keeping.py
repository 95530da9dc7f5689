"""A digest as bytes and back, for a memory that outlives its process. A summary of 3,000 facts takes about 50 kB."""

from __future__ import annotations

import json
import zlib
from dataclasses import astuple
from typing import Any

from ..errors import CorruptStorageError
from .evidence import Digest, Fact, Home
from .identifiers import Kind
from .notes import Action, Quote


def packed(digest: Digest) -> bytes:
    """Return a digest as compressed JSON. The same digest gives the same bytes."""
    text = json.dumps(
        {
            "facts": [list(fact) for fact in digest.facts.values()],
            "worth": dict(digest.worth),
            "asked": [astuple(quote) for quote in digest.asked],
            "said": [astuple(quote) for quote in digest.said],
            "actions": [astuple(action) for action in digest.actions],
            "plan": list(digest.plan),
            "plan_ref": digest.plan_ref,
            "last_said": astuple(digest.last_said) if digest.last_said is not None else None,
            "message_count": digest.message_count,
            "capacity": digest.capacity,
        },
        separators=(",", ":"),
    )
    return zlib.compress(text.encode(), level=1)


def unpacked(content: bytes) -> Digest:
    """Return the digest that was packed.

    Raises:
        CorruptStorageError: These are no bytes of a digest.
    """
    try:
        return _digest(json.loads(zlib.decompress(content)))
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise CorruptStorageError(f"what a summary knew cannot be read ({type(error).__name__})") from error


def _digest(value: dict[str, Any]) -> Digest:
    facts = [_fact(fact) for fact in value["facts"]]
    return Digest(
        facts={fact.text: fact for fact in facts},
        worth=value["worth"],
        asked=tuple(Quote(*quote) for quote in value["asked"]),
        said=tuple(Quote(*quote) for quote in value["said"]),
        actions=tuple(_action(*action) for action in value["actions"]),
        plan=tuple(value["plan"]),
        plan_ref=value["plan_ref"],
        last_said=Quote(*value["last_said"]) if value["last_said"] is not None else None,
        message_count=value["message_count"],
        capacity=value["capacity"],
    )


def _fact(value: list[Any]) -> Fact:
    text, kind, occurrences, last, crowd, by_agent, by_user, homes = value
    return Fact(text, Kind(kind), occurrences, last, crowd, by_agent, by_user, tuple(Home(*home) for home in homes))


def _action(tool: str, label: str, shape: str, changes: bool, refs: list[str], *rest: Any) -> Action:
    return Action(tool, label, shape, changes, tuple(refs), *rest)
