"""Answers kept for a short time."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TimedCache(Generic[Key, Value]):
    """Keeps up to `limit` values for `seconds` each. Thread-safe; what is being loaded may be loaded twice."""

    def __init__(self, seconds: float, limit: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Key, tuple[float, Value]] = {}

    def get(self, key: Key, load: Callable[[], Value]) -> Value:
        """The kept value of `key`, else what `load` gives, which is kept. What `load` raises is not kept."""
        now = self._clock()
        with self._lock:
            found = self._kept.get(key)
        if found is not None and found[0] > now:
            return found[1]
        value = load()
        with self._lock:
            self._kept.pop(key, None)
            if len(self._kept) >= self._limit:
                # The oldest entry comes first: every write moves its key to the end.
                del self._kept[next(iter(self._kept))]
            self._kept[key] = (now + self._seconds, value)
        return value
