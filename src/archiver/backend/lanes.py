"""Threads for blocking calls, parted so that one kind of call cannot use up the threads of another."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

Result = TypeVar("Result")


class Lane:
    """At most `width` blocking calls at the same time; others wait their turn."""

    def __init__(self, width: int) -> None:
        self._limiter = CapacityLimiter(width)

    async def run(self, call: Callable[[], Result], *, abandon: bool = False) -> Result:
        """What `call` gives, from a thread. `abandon` lets a cancelled caller go while the thread goes on."""
        return await run_sync(call, limiter=self._limiter, abandon_on_cancel=abandon)


@dataclass(frozen=True)
class Lanes:
    """The lanes of one application."""

    short: Lane = field(default_factory=lambda: Lane(40))
    """Most calls: milliseconds."""
    edge: Lane = field(default_factory=lambda: Lane(16))
    """Bookkeeping of the upload edge; there may be thousands of uploads at once."""
    slow: Lane = field(default_factory=lambda: Lane(16))
    """Calls that list, delete or wait for SciCat, which may call /archiver/jobs meanwhile."""
    jobs: Lane = field(default_factory=lambda: Lane(8))
    """/archiver/jobs, never behind anything that waits for it."""
    probes: Lane = field(default_factory=lambda: Lane(10))
    """Probes and metrics, which may hang."""
