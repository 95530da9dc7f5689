"""The time a query speaks of: `in May 2023`, `on 7 May`, `2023-05-07`, `yesterday`, `two weeks ago`. UTC, English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ..patterns import Pattern

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED: Final = Pattern(
    r"\b(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?(?: of)? )?"
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
    r"(?: (?P<late_day>\d{1,2})(?:st|nd|rd|th)?\b)?(?:,? (?P<year>(?:19|20)\d\d)\b)?"
)
_TELLS_TIME: Final = Pattern(r"\b(?:in|on|of|by|since|during|until|last|this|early|mid|late|before|after)[ -]$")
_WRITTEN: Final = Pattern(r"\b(?P<year>(?:19|20)\d\d)-(?P<month>[01]\d)(?:-(?P<day>[0-3]\d))?\b")
_YEAR: Final = Pattern(r"\b(?:in|of|since|during|until|by) (?P<year>(?:19|20)\d\d)\b")
_RELATIVE: Final = Pattern(
    r"\b(?:(?P<word>today|yesterday)|(?:last|past|previous) (?P<unit>night|week|month|year)"
    r"|(?P<number>\d{1,3}|an?|one|two|three|four|five|six) (?P<ago>day|week|month|year)s? ago)\b"
)
_DAYS: Final = {"night": 1, "day": 1, "week": 7, "month": 30, "year": 365}
_NUMBERS: Final = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_RECURS_YEARS: Final = 10
_WEEK_SECONDS: Final = 7 * 86_400.0
_MONTH_SECONDS: Final = 31 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A stretch of time, in seconds since 1970; its end is no part of it."""

    start: float
    end: float

    def is_told_at(self, at: float) -> bool:
        """Whether a message of that time may tell of the period.

        People tell of a thing when it happens or soon after: within as long again as it took, a week to a month.
        """
        return self.start <= at < self.end + min(max(self.end - self.start, _WEEK_SECONDS), _MONTH_SECONDS)


def periods_in(text: str, *, now: float) -> list[Period]:
    """Return the times that a text speaks of, seen from `now`; a month without a year is that of the last ten years."""
    folded = text.casefold()
    try:
        today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return [*_calendar(folded, today), *_relative(folded, today)]
    except (ValueError, OverflowError, OSError):  # 31 June, or a clock in no year that `datetime` knows
        return []


def _calendar(text: str, today: datetime) -> Iterator[Period]:
    for match in _NAMED.compiled.finditer(text):
        if _is_month(match, text):
            month = _MONTHS.index(match["month"][:3]) + 1
            day = int(match["day"] or match["late_day"] or 0)
            for year in _years(match["year"], today):
                yield _calendar_period(year, month, day)
    for match in _WRITTEN.compiled.finditer(text):
        yield _calendar_period(int(match["year"]), int(match["month"]), int(match["day"] or 0))
    for match in _YEAR.compiled.finditer(text):
        yield _calendar_period(int(match["year"]), 0, 0)


def _is_month(match: re.Match[str], text: str) -> bool:
    """Whether `may` and `march` are months here: beside a number, or after a word that tells a time."""
    if match["month"] not in ("may", "march", "mar"):
        return True
    beside = match["day"] or match["late_day"] or match["year"]
    return bool(beside) or _TELLS_TIME.compiled.search(text, 0, match.start()) is not None


def _years(written: str | None, today: datetime) -> list[int]:
    return [int(written)] if written else [today.year - back for back in range(_RECURS_YEARS)]


def _calendar_period(year: int, month: int, day: int) -> Period:
    start = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if day:
        end = start + timedelta(days=1)
    elif month:
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        end = start.replace(year=year + 1)
    return Period(start=start.timestamp(), end=end.timestamp())


def _relative(text: str, today: datetime) -> Iterator[Period]:
    """Yield what lies so many days back, as long as its unit."""
    for match in _RELATIVE.compiled.finditer(text):
        if match["word"]:
            back, length = (0, 1) if match["word"] == "today" else (1, 1)
        else:
            length = _DAYS[match["unit"] or match["ago"]]
            number = match["number"] or "1"
            back = length * (_NUMBERS.get(number) or int(number))
        start = today - timedelta(days=back)
        yield Period(start=start.timestamp(), end=(start + timedelta(days=length)).timestamp())
