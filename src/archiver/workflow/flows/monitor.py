"""What operators see of a run: tasks, progress with a time to go, a table of datablocks, notes in the log."""

import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar, cast
from uuid import UUID

import structlog
from prefect import task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger

from archiver.workflow.amounts import size_text
from archiver.workflow.datablocks.index import DatablockTotals
from archiver.workflow.errors import QueueError
from archiver.workflow.flows.server_away import only_shown, server_may_be_away
from archiver.workflow.flows.stopping import Stop
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.pace import Pace

log = structlog.get_logger(__name__)

T = TypeVar("T")

PROGRESS_EVERY_S = 3.0
LEASE_S = 120
"""A place under a limit comes free so long after its holder died."""


def artifact_key(*parts: str) -> str:
    """A key Prefect accepts: lower case letters, digits and dashes."""
    text = "-".join(parts).lower()
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text).strip("-")


class PrefectMonitor(Monitor):
    """Shows a use case in the Prefect UI, and ends it when its run is being cancelled (`StoppedError`)."""

    def __init__(self, pid: str, doing: str) -> None:
        super().__init__(pid)
        self._doing = doing
        self._shown = time.monotonic()
        self._pace: Pace | None = None
        self._artifact: UUID | None = None
        self._logger = get_run_logger()
        self._stop = Stop()

    def note(self, message: str) -> None:
        """Say it in the log of the run."""
        self._stop.check()
        self._logger.info("%s: %s", self.pid, message)

    def expect(self, total_bytes: int, what: str = "") -> None:
        """Begin to show progress towards so many bytes."""
        self._pace = Pace(total_bytes, time.monotonic(), what)
        with only_shown("progress"):
            artifact = create_progress_artifact(0.0, artifact_key(self._doing, self.pid), self._describe(self._pace))
            self._artifact = cast("UUID", artifact)  # outside of coroutines the call is synchronous

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        self._stop.check()
        # What is read back is the tar, a little more than its payload: the pace never goes beyond the whole.
        now = time.monotonic()
        if self._pace is not None:
            self._pace.advance(count, now)
        if now - self._shown >= PROGRESS_EVERY_S:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self._artifact is not None and self._pace is not None:
            with only_shown("progress"):
                update_progress_artifact(self._artifact, round(self._pace.percent, 1), self._describe(self._pace))

    def _describe(self, pace: Pace) -> str:
        # First what is looked for, since lists of artifacts cut it off. With the time: a run that hangs cannot say so.
        return f"{pace.describe(time.monotonic())} (at {datetime.now(UTC):%H:%M:%S} UTC): {self.pid}"

    def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
        """Do a piece of work as a task of its own, within `limit`.

        Raises:
            QueueError: no place under the limit could be had, or it was lost; what is done anew begins there.
        """
        self._stop.check()
        done: list[T] = []

        def limited() -> None:
            if limit is None:
                done.append(work())
                return
            asked_at = time.monotonic()
            get_run_logger().info("Asking for a place under the limit %s; it begins when one comes free.", limit)
            with concurrency(str(limit), occupy=1, lease_duration=LEASE_S, strict=True):
                get_run_logger().info("It has a place, after %.0f s.", time.monotonic() - asked_at)
                done.append(work())

        run = task(name=name, task_run_name=lambda: f"{name}, {self.pid}", cache_policy=NO_CACHE)(limited)
        try:
            with server_may_be_away():
                run()
        except QueueError as error:
            # The work itself does not speak to the server. A place that was not given back comes free by itself.
            if not done:
                raise
            log.warning("place_not_given_back", pid=self.pid, step=name, limit=limit, error=str(error))
        except CancelledError as error:
            # Prefect ends the work so when the lease could not be renewed: somebody else may have the place.
            self._stop.check()
            if not done:
                raise QueueError(
                    f"The place under the limit {limit} was lost: the Prefect server was away for too long."
                ) from error
        self._show()
        return done[0]

    def datablocks(self, done: Sequence[DatablockTotals]) -> None:
        """Show the finished datablocks as a table: what is short first, for its lines are not broken."""
        rows = [
            {
                "no.": totals.index,
                "files": totals.files,
                "payload": size_text(totals.size),
                "tar bytes": totals.packed_size,
                "SHA-256": totals.sha256,
                "datablock": totals.archive_id,
            }
            for totals in done
        ]
        with only_shown("datablocks"):
            create_table_artifact(
                rows,
                artifact_key("datablocks", self.pid),
                f"Datablocks of {self.pid}, each written, read back and proven",
            )
