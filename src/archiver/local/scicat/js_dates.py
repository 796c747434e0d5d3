"""Which texts JavaScript's ``Date.parse`` takes for a date, and which date it makes of them.

The v3 filters of the backend turn every such text into a date, so ``"run 1"`` or ``"3"`` never equals a stored
text. The rules of the old, lenient parser of V8: words before the first number are skipped unless a digit
follows them at once, and every character from ``A`` on makes a word; words after it must be names of months,
days' halves or zones; there are at most three numbers.
"""

from __future__ import annotations

import re
from datetime import MAXYEAR, UTC, datetime

from archiver.local.scicat.values import parse_iso

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES = frozenset({"am", "pm", "ut", "utc", "z", "gmt", "cdt", "cst", "edt", "est", "mdt", "mst", "pdt", "pst", "t"})
_TOKEN = re.compile(r"\([^)]*\)?|\d+:\d+(?::\d+(?:\.\d+)?)?|\d+|[A-\U0010ffff]+|.", re.DOTALL)
_MAX_NUMBERS = 3
_LAST_YEAR = 275_760


def js_date(text: str) -> datetime | None:
    """The date JavaScript reads from ``text`` (the time of day of lenient forms is dropped), or None."""
    moment = parse_iso(text)
    return moment if moment is not None else _lenient(text)


def _lenient(text: str) -> datetime | None:
    parts = _TOKEN.findall(text)
    numbers: list[int] = []
    month: int | None = None
    timed = False
    for place, part in enumerate(parts):
        following = parts[place + 1] if place + 1 < len(parts) else ""
        previous = parts[place - 1] if place else ""
        if part.startswith("("):
            continue
        if ":" in part and part[0].isdigit():
            timed = True
        elif part.isascii() and part.isdigit():
            if timed and previous in {"+", "-"}:
                continue
            if len(numbers) == _MAX_NUMBERS:
                return None
            numbers.append(int(part))
        elif part[0] >= "A":
            word = part.lower()
            if word[:3] in _MONTHS:
                month = _MONTHS.index(word[:3]) + 1
            elif not (numbers and word in _ZONES) and (numbers or timed or following[:1].isdigit()):
                return None
        elif part in {"+", "-", ")"} and numbers and not timed and not (part == "-" and previous.isdigit()):
            return None
    return _compose(numbers, month)


def _compose(numbers: list[int], named_month: int | None) -> datetime | None:
    if not numbers:
        return None
    first, second, third = [*numbers, 1, 1][:3]
    if named_month is not None:
        month = named_month
        day, year = (first, second) if 1 <= first <= 31 else (second, first)
    elif 1 <= first <= 31:
        month, day, year = first, second, third
    else:
        year, month, day = first, second, third
    if 0 <= year <= 49:
        year += 2000
    elif year <= 99:
        year += 1900
    if not (1 <= month <= 12 and 1 <= day <= 31 and year <= _LAST_YEAR):
        return None
    # JavaScript lets day 31 of a short month run over; which day it becomes matters to nobody here.
    return datetime(min(year, MAXYEAR), month, min(day, 28), tzinfo=UTC)
