"""From a digest to a text: sections a person can read, identifiers beside what they belong to, within a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log

from .digest import Digest, Fact, ranking
from .identifiers import Kind, chunks, identify
from .notes import is_reading

Count = Callable[[str], int]

_SHARES = {"Asked": 0.10, "Done": 0.16, "Decided": 0.07, "Open": 0.07}
"""Parts of the target for what happened; the facts get the rest."""
_DEAR = 0.5
_CHARACTERS_PER_TOKEN = {Kind.NUMBER: 2.2, Kind.HASH: 1.8, Kind.CODE: 2.2, Kind.RECORD: 2.6, Kind.URL: 3.2}


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    weight: float
    order: int


def render(digest: Digest, *, target_tokens: int, count: Count, task: str = "") -> str:
    """Write the summary in at most `target_tokens` by `count`; empty only if nothing can be said.

    `task` is text that stays in the context beside the summary (the first user message, say): nothing that
    stands there is repeated.
    """
    if target_tokens <= 0:
        return ""
    room = float(target_tokens)
    for _ in range(4):
        text = _compose(digest, room, task)
        size = count(text) if text else 0
        if size <= target_tokens and (size >= 0.93 * target_tokens or room > 3 * target_tokens):
            return text
        best = text if size <= target_tokens else ""
        room *= target_tokens / max(size, 1) * (0.985 if size > target_tokens else 0.99)
    return best or _trimmed(text, target_tokens, count)


def _trimmed(text: str, target_tokens: int, count: Count) -> str:
    lines = text.split("\n")
    while lines and count("\n".join(lines)) > target_tokens:
        lines = lines[: len(lines) * 9 // 10]
    return "\n".join(lines)


def _compose(digest: Digest, room: float, task: str) -> str:
    sections = {
        "Asked": _fit(_asked(digest, task), room * _SHARES["Asked"]),
        "Done": _fit(_done(digest), room * _SHARES["Done"]),
        "Decided": _fit(_decided(digest), room * _SHARES["Decided"]),
        "Open": _fit(_open(digest), room * _SHARES["Open"]),
    }
    told = "\n".join(f"## {name}\n" + "\n".join(lines) for name, lines in sections.items() if lines)
    found = _found(digest, room - _estimate(told), told, task)
    order = ("Asked", "Done", "Found", "Decided", "Open")
    sections["Found"] = found
    return "\n".join(f"## {name}\n" + "\n".join(sections[name]) for name in order if sections[name])


def _estimate(text: str) -> float:
    return len(text) / 3.6


def _fit(lines: Sequence[_Line], room: float) -> list[str]:
    chosen: list[_Line] = []
    for line in sorted(lines, key=lambda line: -line.weight):
        cost = _estimate(line.text) + 1
        if cost <= room:
            chosen.append(line)
            room -= cost
    return [line.text for line in sorted(chosen, key=lambda line: line.order)]


def _asked(digest: Digest, task: str) -> list[_Line]:
    quotes = [quote for quote in digest.asked if quote.text and quote.text[:80] not in task]
    return [_Line(f'- {q.ref}: "{q.text}"', q.weight + 3 * n / len(quotes), n) for n, q in enumerate(quotes)]


def _decided(digest: Digest) -> list[_Line]:
    return [_Line(f"- {q.ref}: {q.text}", q.weight + 3 * n / len(digest.said), n) for n, q in enumerate(digest.said)]


def _open(digest: Digest) -> list[_Line]:
    lines = [_Line(f"- {item} ({digest.plan_ref})", 2, n) for n, item in enumerate(digest.plan)]
    return lines


def _done(digest: Digest) -> list[_Line]:
    lines = []
    for n, action in enumerate(digest.actions):
        if not action.failed and not action.changes and (action.shape != "command" or is_reading(action)):
            continue
        refs = " ".join(action.refs)
        name = action.label if action.shape == "other" else f"{action.tool} {action.label}"
        name = f"`{action.label}`" if action.shape == "command" else name
        is_plain = action.shape == "file" and not action.failed
        outcome = f" -> {action.outcome}" if action.outcome and not is_plain else ""
        weight = 2 * n / len(digest.actions) + 1.5 * action.changes + action.failed + 0.5 * bool(action.outcome)
        lines.append(_Line(f"- {name} ({refs}){outcome}", weight, n))
    return lines


def _found(digest: Digest, room: float, told: str, task: str) -> list[str]:
    chosen: list[Fact] = []
    known = {name for chunk in chunks(task[:100_000]) for name, _ in identify(chunk)}
    worth = ranking(digest)
    ranked = sorted(digest.facts.values(), key=lambda f: (-worth(f) + _DEAR * log(_cost(f)), f.text))
    labels: set[str] = set()
    for fact in ranked:
        if fact.text in known or fact.text in told:
            continue
        cost = _cost(fact) + (0.0 if any(h.label in labels for h in fact.homes) else 6.0)
        if cost > room:
            continue
        room -= cost
        labels.update(h.label for h in fact.homes[:1])
        chosen.append(fact)
    picked = {fact.text for fact in chosen}
    return _grouped(fact for name, fact in digest.facts.items() if name in picked)


def _cost(fact: Fact) -> float:
    return 0.3 + len(fact.text) / _CHARACTERS_PER_TOKEN.get(fact.kind, 3.7)


def _grouped(facts: Iterable[Fact]) -> list[str]:
    groups: dict[str, list[tuple[Fact, str]]] = {}
    waiting = list(facts)
    while waiting:
        sizes: dict[str, int] = {}
        for fact in waiting:
            for label in {home.label for home in fact.homes}:
                sizes[label] = sizes.get(label, 0) + 1
        label = max(sizes, key=lambda name: (sizes[name], name))
        mine = [f for f in waiting if any(h.label == label for h in f.homes)]
        groups[label] = [(f, next(h.ref for h in f.homes if h.label == label)) for f in mine]
        taken = set(map(id, mine))
        waiting = [f for f in waiting if id(f) not in taken]
    return [_group_line(label, members) for label, members in groups.items()]


def _group_line(label: str, members: Sequence[tuple[Fact, str]]) -> str:
    refs = " ".join(dict.fromkeys(ref for _, ref in members))
    names: list[str] = []
    covered = label[:60]
    for fact, _ in sorted(members, key=lambda m: -len(m[0].text)):
        if fact.text not in covered:
            names.append(fact.text)
            covered += f" {fact.text}"
    chosen = set(names)
    return f"- {label[:60]} ({refs}): {' '.join(f.text for f, _ in members if f.text in chosen)}"


def missing_identifiers(digest: Digest, text: str, *, target_tokens: int, count: Count) -> str:
    return ""
