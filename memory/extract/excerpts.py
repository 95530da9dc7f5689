"""Excerpts: how each message began, for conversations that say little in identifiers.

Facts come first (`writer`); this fills what room they leave, so that a plain talk is remembered too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, takewhile

from ..patterns import Pattern
from .evidence import Source

HEADING = "## Said"

_SENTENCE_END = Pattern(r"[.!?。！？](?:\s|$)|\n")
_CHARACTERS_PER_TOKEN = 3.2
_SHORTEST, _LONGEST = 72, 240


def excerpts(
    sources: Sequence[Source], *, before: str, target_tokens: int, count: Callable[[str], int], known: str = ""
) -> str:
    """Quote how messages begin, in order, in at most `target_tokens`; empty if there is no room for one.

    Args:
        sources: The messages. What fits no longer is left out: results first, then the oldest.
        before: The summary that this one absorbs; its own excerpts are the oldest candidates.
        target_tokens: The room, heading included.
        count: Tokens of a text.
        known: Text beside which the excerpts will stand; what it quotes already is not quoted again.
    """
    lines = [*_carried(before), *(line for source in sources for line in _quotes(source, _LONGEST, known))]
    room = target_tokens - count(HEADING) - 1
    if not lines or room <= 0:
        return ""
    # Many of them a little, rather than a few of them whole; but not so little that it says nothing.
    length = int(min(_LONGEST, max(_SHORTEST, room * _CHARACTERS_PER_TOKEN / len(lines))))
    shortened = [_shortened(line, length) for line in lines]
    return _fitting(shortened, room, count)


def _carried(before: str) -> Iterator[str]:
    """Yield the excerpts of older summaries."""
    for rest in before.split(f"{HEADING}\n")[1:]:
        yield from takewhile(lambda line: line.startswith("- r"), rest.split("\n"))


def _quotes(source: Source, length: int, known: str) -> Iterator[str]:
    reading = source.reading
    said = _first_sentences(reading.text, length)
    if said and said[:60] not in known:
        yield f'- {source.ref} {reading.role}: "{said}"'
    elif not said and reading.attachments and not reading.results:
        kinds = Counter(part.kind for part in reading.attachments)
        shown = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in kinds.items())
        yield f'- {source.ref} {reading.role}: "({shown})"'
    for result in reading.results:
        if text := _first_sentences(result.text, length):
            yield f'- {source.ref} result: "{text}"'


def _first_sentences(text: str, length: int) -> str:
    """Return the beginning of a text in one line, ended where a sentence ends if one ends within the length."""
    start = " ".join(text[: length * 4].split())
    if len(start) <= length:
        return start
    ends = [match.end() for match in _SENTENCE_END.compiled.finditer(start[:length])]
    return start[: ends[-1]].rstrip() if ends and ends[-1] > length // 3 else f"{start[:length].rstrip()}…"


def _shortened(line: str, length: int) -> str:
    head, quote, said = line.partition('"')
    return f'{head}{quote}{_first_sentences(said.rstrip(chr(34)), length)}"' if quote else line


def _fitting(lines: Sequence[str], room: int, count: Callable[[str], int]) -> str:
    """Take the lines that fit: what was said before results, the newest first; then put them in order again."""
    order = sorted(range(len(lines)), key=lambda n: (" result: " in lines[n][:24], -n))
    sizes = accumulate(len(lines[number]) / _CHARACTERS_PER_TOKEN + 1 for number in order)
    taken = sum(size <= room for size in sizes)
    while taken:
        text = "\n".join(lines[number] for number in sorted(order[:taken]))
        if count(text) <= room:
            return f"{HEADING}\n{text}"
        taken = taken * 3 // 4
    return ""
