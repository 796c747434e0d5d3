"""How fast work goes now, and how long it will take at that. Pure."""

from collections import deque

from archiver.workflow.amounts import duration_text, size_text

WINDOW_S = 120.0
"""The pace is that of the last two minutes: what was fast an hour ago tells nothing."""
_ENOUGH_S = 10.0
"""Before so much was seen, there is nothing to go by."""
_STANDING_S = 60.0


class Pace:
    """Progress through a number of bytes. Times are seconds of any clock that does not go back."""

    def __init__(self, total: int, now: float, what: str = "") -> None:
        """`what` is done to so many bytes, for people."""
        self.total = total
        self._what = f" {what}" if what else ""
        self.done = 0
        self._moved_at = now
        self._seen: deque[tuple[float, int]] = deque([(now, 0)])

    def advance(self, count: int, now: float) -> None:
        """`count` bytes more are done, never more than there are."""
        self.done = min(self.done + count, self.total)
        self._moved_at = now
        if now - self._seen[-1][0] >= 1:
            self._seen.append((now, self.done))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    @property
    def percent(self) -> float:
        """Share that is done; 100 where there is nothing to do."""
        return 100.0 if self.total == 0 else 100 * self.done / self.total

    def rate(self, now: float) -> float | None:
        """Bytes a second of late; None before it can be told."""
        began, before = self._seen[0]
        return (self.done - before) / (now - began) if now - began >= _ENOUGH_S else None

    def describe(self, now: float) -> str:
        """Where it stands, in words; a time to go only where there is something to go by."""
        text = f"{size_text(self.done)} of {size_text(self.total)}{self._what}"
        if self.done >= self.total:
            return text
        if now - self._moved_at >= _STANDING_S:
            return f"{text}, nothing moved for {duration_text(now - self._moved_at)}"
        rate = self.rate(now)
        if not rate:
            return text
        return f"{text}, {size_text(round(rate))}/s, about {duration_text((self.total - self.done) / rate)} to go"
