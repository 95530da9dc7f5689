"""From a digest to a text: sections a person can read, identifiers beside what they belong to, within a target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import log

from .evidence import Digest, Fact, Home, folder_of
from .identifiers import Kind, chunks, identify, parts
from .notes import Action

Count = Callable[[str], int]

_SHARES = {"Asked": 0.10, "Done": 0.14, "Errors": 0.05, "Decided": 0.07, "Open": 0.06}
"""Parts of the target that the course of events may fill; the identifiers get the rest, and all that is not used."""
_IDLE_PRICE = 5.0
"""What a user's words cost that hold neither an identifier nor a rule: they may fill a fifth of their share."""
_USERS_FACTS = 1.0
"""Share of the target for a user's words when every identifier is theirs; in proportion when fewer are."""
_RULES_AT_MOST = 0.35
"""Share of the target that the user's rules may take, however many there are."""
_FIRST_LINE_AT_MOST = 0.1
"""Share of the target up to which the weightiest line of a section is taken though it exceeds the section's share."""
_ORDER = ("Asked", "Done", "Found", "Errors", "Decided", "Open")
_DEARNESS = 0.2
"""How much a fact's length in tokens counts against it: 0 not at all, 1 in proportion."""
_HEADER_TOKENS = 4
_LABEL_LENGTH = 60
_TINY_TOKENS = 60
"""Below this there is room for a few identifiers and their references, nothing else."""
_CHARACTERS_PER_TOKEN = 3.7
_SLOPPY = {Kind.NUMBER: 2.2, Kind.HASH: 1.8, Kind.CODE: 2.2, Kind.RECORD: 2.6, Kind.URL: 3.2}
_MAX_KNOWN_TEXT = 200_000
_ROUNDS = 6


def render(digest: Digest, *, target_tokens: int, count: Count, task: str = "") -> str:
    """Write the summary in at most `target_tokens` by `count`; empty only if nothing can be said.

    `task` is text that stays in the context beside the summary (the first user message, older summaries): nothing
    that stands there is repeated.
    """
    writer = _Writer(digest, beside=task)
    return _fill(writer.compose, target_tokens, count)


def missing_identifiers(digest: Digest, text: str, *, target_tokens: int, count: Count) -> str:
    """List the identifiers that matter most and are not in `text`, grouped as in a summary; empty if there are none.

    For a summary by a model: what it lost is appended to it word for word.
    """
    writer = _Writer(digest, beside=text)
    return _fill(writer.compose_identifiers, target_tokens, count)


def _fill(compose: Callable[[float], str], target_tokens: int, count: Count) -> str:
    """Compose until the text is nearly as long as allowed; `count` is called a handful of times.

    The room given to a composition is an estimate, and its length grows with it in steps, so this is a search:
    in proportion to the last length, but always between what was too little and what was too much.
    """
    best, best_size, best_room, shortest = "", 0, 0.0, ""
    room, too_much = float(target_tokens), float("inf")
    for _ in range(_ROUNDS):
        text = compose(room)
        size = count(text) if text else 0
        if size > target_tokens:
            # The same again: there was more room than words to fill it, so go down faster.
            step = 0.98 * target_tokens / size * (0.75 if text == shortest else 1.0)
            too_much, shortest = room, text
            room = max((room + best_room) / 2 if best else 0.0, room * step)
            continue
        if size <= best_size:  # there is no more to say
            break
        best, best_size, best_room = text, size, room
        if size >= 0.97 * target_tokens:
            break
        room = min(room * 0.99 * target_tokens / size, (room + too_much) / 2)
    return best or _cut(shortest, target_tokens, count)


def _cut(text: str, target_tokens: int, count: Count) -> str:
    while text and count(text) > target_tokens:
        text = text[: len(text) * 3 // 4].rpartition(" ")[0]
    return text


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    weight: float
    price: float = 1.0
    """Factor on its length."""
    brief: str = ""
    """What to say where the whole does not fit."""
    is_rule: bool = False
    """What the user said must or must never be: it comes first, whatever the target."""


class _Writer:
    """Composes one digest at different lengths; what does not depend on the length is prepared once."""

    def __init__(self, digest: Digest, *, beside: str) -> None:
        self._digest = digest
        self._beside = beside
        self._known = known = _named(beside[:_MAX_KNOWN_TEXT])
        ranked = [
            (digest.worth[fact.text] - _DEARNESS * log(cost), cost, fact)
            for fact in digest.facts.values()
            if fact.text not in known
            for cost in (_cost(fact),)
        ]
        self._ranked = sorted(ranked, key=lambda item: (-item[0], item[2].text))
        self._parts: dict[str, list[str]] = {}
        self._order = {name: number for number, name in enumerate(digest.facts)}
        by_user = sum(fact.by_user for *_, fact in self._ranked)
        users_share = _USERS_FACTS * by_user / max(1, len(self._ranked))
        self._shares = {**_SHARES, "Asked": max(_SHARES["Asked"], users_share)}
        self._lines = {
            "Asked": self._asked(),
            "Done": self._done(),
            "Errors": self._errors(),
            "Decided": self._decided(),
            "Open": self._open(),
        }

    def compose(self, room: float) -> str:
        if room < _TINY_TOKENS:
            return "\n".join(self.found(room, ()))
        sections = {
            name: _fit(lines, max(room * self._shares[name], _guaranteed(lines, room)))
            for name, lines in self._lines.items()
        }
        told = _joined(sections)
        sections["Found"] = self.found(room - _tokens(told), _named(told))
        return _joined(sections)

    def compose_identifiers(self, room: float) -> str:
        return "\n".join(["## Exact identifiers", *lines]) if (lines := self.found(room - 4, ())) else ""

    def found(self, room: float, told: Collection[str]) -> list[str]:
        """Choose facts by worth until the room is used, and print them by where they stand."""
        header_tokens = _HEADER_TOKENS if room >= _TINY_TOKENS else 3
        label_length = int(min(_LABEL_LENGTH, max(0.0, room - _TINY_TOKENS) / 4))
        chosen: list[Fact] = []
        labels: set[str] = set()
        covered = set(told)
        for _, cost, fact in self._ranked:
            if fact.text in covered:
                continue
            is_new = labels.isdisjoint([home.label for home in fact.homes])
            if cost + is_new * header_tokens > room:
                if room < header_tokens:
                    break
                continue
            room -= cost + is_new * header_tokens
            if is_new:
                labels.add(fact.homes[-1].label)
            chosen.append(fact)
            covered.add(fact.text)
            covered.update(self._parts_of(fact))
        # A longer string chosen later may hold a shorter one chosen before.
        inside = {part for fact in chosen for part in self._parts_of(fact)}
        return self._grouped([fact for fact in chosen if fact.text not in inside], label_length)

    def _parts_of(self, fact: Fact) -> list[str]:
        found = self._parts.get(fact.text)
        if found is None:
            found = self._parts[fact.text] = parts(fact.text)
        return found

    def _grouped(self, facts: Iterable[Fact], label_length: int) -> list[str]:
        facts = sorted(facts, key=lambda fact: self._order[fact.text])
        # Each fact goes where most others stand, so that lines and references are few.
        sizes = Counter(label for fact in facts for label in {home.label for home in fact.homes})
        messages = Counter(home for fact in facts for home in fact.homes)
        groups: dict[str, list[tuple[Fact, Home]]] = {}
        for fact in facts:
            home = fact.homes[0]
            if len(fact.homes) > 1:
                home = max(fact.homes, key=lambda home: (sizes[home.label], messages[home]))
            groups.setdefault(home.label, []).append((fact, home))
        return [_group_line(_shown(label, label_length), members) for label, members in groups.items()]

    def _asked(self) -> list[_Line]:
        """Quote the user: whole sentences, where the identifiers in them would lose what they are about."""
        quotes = [quote for quote in self._digest.asked if quote.text and quote.text[:60] not in self._beside]
        lines: list[_Line] = []
        for number, quote in enumerate(quotes, start=1):
            telling = min(4, len(_named(quote.text) - self._known)) + quote.weight
            price = 1.0 if telling else _IDLE_PRICE
            brief = f'- {quote.ref} "{quote.rules}"' if quote.rules and quote.rules != quote.text else ""
            weight = telling + number / len(quotes)
            lines.append(_Line(f'- {quote.ref} "{quote.text}"', weight, price, brief, bool(quote.rules)))
        return lines

    def _done(self) -> list[_Line]:
        actions = self._digest.actions
        return [
            _Line(_action_line(action), 2 * n / len(actions) + (action.shape != "command") + 0.5 * bool(action.outcome))
            for n, action in enumerate(actions)
            if action.changes and not action.failed and not self._is_told(_action_line(action))
        ]

    def _errors(self) -> list[_Line]:
        failed = [_action_line(action) for action in self._digest.actions if action.failed]
        return [_Line(line, n) for n, line in enumerate(failed) if not self._is_told(line)]

    def _decided(self) -> list[_Line]:
        said = self._digest.said
        lines = [_Line(f'- {q.ref} "{q.text}"', q.weight + 3 * n / len(said)) for n, q in enumerate(said)]
        return [line for line in lines if not self._is_told(line.text)]

    def _open(self) -> list[_Line]:
        lines = [_Line(f"- {item} ({self._digest.plan_ref})", -n) for n, item in enumerate(self._digest.plan)]
        last = self._digest.last_said
        lines += [_Line(f'- {last.ref} last said: "{last.text}"', 1)] if last is not None else []
        return [line for line in lines if not self._is_told(line.text)]

    def _is_told(self, line: str) -> bool:
        """Whether a summary that stays beside this one has the very line."""
        return line in self._beside


def _named(text: str) -> set[str]:
    names = {name for chunk in set(chunks(text)) for name, _ in identify(chunk)}
    return names | {part for name in names for part in parts(name)}


def _joined(sections: dict[str, list[str]]) -> str:
    return "\n".join(f"## {name}\n" + "\n".join(sections[name]) for name in _ORDER if sections.get(name))


def _fit(lines: Sequence[_Line], room: float) -> list[str]:
    """Take the rules, then the weightiest lines that fit, in their order; of a rule that does not fit, its core."""
    taken: dict[int, str] = {}
    for number in sorted(range(len(lines)), key=lambda n: (-lines[n].is_rule, -lines[n].weight, n)):
        line = lines[number]
        for text in filter(None, (line.text, line.brief)):
            cost = (_tokens(text) + 1) * line.price
            if cost <= room:
                taken[number] = text
                room -= cost
                break
    return [taken[number] for number in sorted(taken)]


def _guaranteed(lines: Sequence[_Line], room: float) -> float:
    """Return what a section gets however small its share: its weightiest line, and of the user's rules all."""
    rules = sum(_tokens(line.brief or line.text) + 1 for line in lines if line.is_rule)
    best = max(lines, key=lambda line: line.weight, default=None)
    first = (_tokens(best.brief or best.text) + 1) * best.price if best is not None else 0.0
    return max(min(rules, room * _RULES_AT_MOST), first if first <= room * _FIRST_LINE_AT_MOST else 0.0)


def _tokens(text: str) -> float:
    return len(text) / _CHARACTERS_PER_TOKEN


def _cost(fact: Fact) -> float:
    return 0.3 + len(fact.text) / _SLOPPY.get(fact.kind, _CHARACTERS_PER_TOKEN)


def _action_line(action: Action) -> str:
    name = action.label if action.shape == "other" else f"{action.tool} {action.label}"
    name = f"`{action.label}`" if action.shape == "command" else name
    says = action.outcome and (action.shape != "file" or action.failed)
    return f"- {name} ({' '.join(action.refs)})" + (f' -> "{action.outcome}" ({action.outcome_ref})' if says else "")


def _group_line(label: str, members: Sequence[tuple[Fact, Home]]) -> str:
    shown = [(fact, home) for fact, home in members if fact.text not in label]
    refs = " ".join(dict.fromkeys(home.ref for _, home in shown or members))
    where = f"{label} ({refs})" if label else refs
    return f"- {where}: {' '.join(fact.text for fact, _ in shown)}" if shown else f"- {where}"


def _shown(label: str, limit: int) -> str:
    """Shorten a label: a command at a word, a path to its last component."""
    if len(label) <= limit:
        return label
    if " " not in label:
        return label if limit == _LABEL_LENGTH else label[len(folder_of(label)) :].lstrip("/\\")[:limit]
    return f"{label[:limit].rpartition(' ')[0] or label[:limit]} …" if limit > 8 else ""
