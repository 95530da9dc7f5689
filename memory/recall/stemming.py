"""English word stems by Porter's algorithm, so that `researching` finds `research`.

M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the two departures its author
published with his own implementation (`-bli` for `-abli`, `-logi`), https://tartarus.org/martin/PorterStemmer/ (2006).
Words that are not English or not words keep a stable, if meaningless, stem: documents and queries share it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Final

_LONG_SUFFIXES: Final = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "logi": "log",
}
_MIDDLE_SUFFIXES: Final = {
    "icate": "ic",
    "ative": "",
    "alize": "al",
    "iciti": "ic",
    "ical": "ic",
    "ful": "",
    "ness": "",
}
_LAST: Final = "al ance ence er ic able ible ant ement ment ent sion tion ou ism ate iti ous ive ize"
_LAST_SUFFIXES: Final = dict.fromkeys(_LAST.split(), "")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return the stem of a word in lower case; words of other letters than a-z, or of one or two, stay as they are."""
    if len(word) < 3 or not (word.isascii() and word.isalpha()):
        return word
    word = _without_plural(word)
    word = _without_participle(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _exchange(word, _LONG_SUFFIXES, longer_than=0)
    word = _exchange(word, _MIDDLE_SUFFIXES, longer_than=0)
    word = _exchange(word, _LAST_SUFFIXES, longer_than=1)
    return _without_last_e(word)


def _without_plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_participle(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    ending = next((ending for ending in ("ed", "ing") if word.endswith(ending)), "")
    rest = word.removesuffix(ending)
    if not ending or not _has_vowel(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _ends_double(rest) and not rest.endswith(("l", "s", "z")):
        return rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _ends_short(rest) else rest


def _exchange(word: str, endings: dict[str, str], *, longer_than: int) -> str:
    """Exchange the longest ending that fits, where enough of the word stands before it."""
    for length in range(min(7, len(word) - 1), 1, -1):
        new = endings.get(word[-length:])
        if new is not None:
            kept = -3 if word.endswith(("sion", "tion")) and endings is _LAST_SUFFIXES else -length
            rest = word[:kept]
            return rest + new if _measure(rest) > longer_than else word
    return word


def _without_last_e(word: str) -> str:
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _ends_short(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _is_consonant(word: str, index: int) -> bool:
    if word[index] == "y":
        return index == 0 or not _is_consonant(word, index - 1)
    return word[index] not in "aeiou"


def _has_vowel(word: str) -> bool:
    return any(not _is_consonant(word, index) for index in range(len(word)))


def _measure(word: str) -> int:
    """Count how often a vowel is followed by a consonant: Porter's m."""
    kinds = [_is_consonant(word, index) for index in range(len(word))]
    return sum(now and not before for before, now in pairwise(kinds))


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _is_consonant(word, len(word) - 1)


def _ends_short(word: str) -> bool:
    """Whether a word ends consonant, vowel, consonant (not w, x or y): `hop`, so that `hoping` gives `hope`."""
    return (
        len(word) > 2
        and _is_consonant(word, len(word) - 1)
        and not _is_consonant(word, len(word) - 2)
        and _is_consonant(word, len(word) - 3)
        and word[-1] not in "wxy"
    )
