"""Sizes and ages as people read them."""

from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SECONDS = {"d": 86400, "h": 3600, "min": 60}


def size_text(count: int) -> str:
    """`count` bytes in the decimal unit that tells it best, three digits: `0 B`, `12.3 GB`, `50.0 TB`."""
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.{max(0, 2 - len(str(int(abs(value)))) + 1)}f} {unit}"


def duration_text(seconds: float) -> str:
    """So many seconds, in the unit that tells it best: `12 s`, `5 min`, `3 h`, `4 d`."""
    for unit, length in _SECONDS.items():
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def age_text(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago that was; `never` for None."""
    return "never" if moment is None else duration_text(((now or datetime.now(UTC)) - moment).total_seconds())
