"""How a use case tells what it is doing, without knowing who listens."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

import structlog

from archiver.workflow.datablocks.index import DatablockTotals

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Limit(StrEnum):
    """Work that only so many may do at once, over all workers."""

    WRITE_LTS = "write-to-lts-share"
    READ_LTS = "read-from-lts-share"


class Monitor:
    """Listens to a use case and runs its steps; this one only logs.

    Subclasses show progress, run steps as tasks of their own and hold limits for them.
    """

    def __init__(self, pid: str) -> None:
        self.pid = pid

    def note(self, message: str) -> None:
        """What happens now, for people."""
        log.info("note", pid=self.pid, message=message)

    def expect(self, total_bytes: int, what: str = "") -> None:
        """How many bytes will be reported as done in all, and, for people, what is done to them."""

    def advance(self, count: int) -> None:
        """`count` bytes more are done."""

    def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
        """Run a step of the work, holding a place under `limit` meanwhile."""
        log.debug("step", pid=self.pid, name=name, limit=limit)
        return work()

    def datablocks(self, done: Sequence[DatablockTotals]) -> None:
        """The datablocks of the data set, once they are known."""
