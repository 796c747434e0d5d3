"""Waiting for conditions, never for time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LOOK_S = 0.5


class NotInTimeError(AssertionError):
    """What was waited for did not come."""


def wait_for(what: str, look: Callable[[], T | None], within_s: float, pause_s: float = _LOOK_S) -> T:
    """What `look` gives as soon as that is neither None nor false.

    Raises:
        NotInTimeError: it did not within `within_s`.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotInTimeError(f"{what}: not within {within_s:.0f} s.")
        time.sleep(pause_s)
