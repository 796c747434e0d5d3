"""Answers kept for a short time."""

import pytest

from archiver.backend.cache import TimedCache


class Source:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0

    def load(self) -> int:
        self.asked += 1
        return self.asked


def test_an_answer_is_kept_until_its_time_is_over() -> None:
    source = Source()
    cache: TimedCache[str, int] = TimedCache(60, clock=lambda: source.now)
    assert [cache.get("a", source.load) for _ in range(3)] == [1, 1, 1]
    source.now = 59.9
    assert cache.get("a", source.load) == 1
    source.now = 60.1
    assert cache.get("a", source.load) == 2


def test_the_oldest_answer_makes_room() -> None:
    source = Source()
    cache: TimedCache[str, int] = TimedCache(60, limit=2, clock=lambda: source.now)
    for key in ("a", "b", "c"):
        cache.get(key, source.load)
    assert [cache.get(key, source.load) for key in ("c", "b")] == [3, 2]
    assert cache.get("a", source.load) == 4


def test_a_failure_is_not_kept() -> None:
    source = Source()
    cache: TimedCache[str, int] = TimedCache(60)

    def fail() -> int:
        raise LookupError("not now")

    with pytest.raises(LookupError):
        cache.get("a", fail)
    assert cache.get("a", source.load) == 1
