"""The whole service at a glance, from ledger and queue. Never asks the share: it may hang."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.workflow.amounts import age_text
from archiver.workflow.errors import ArchiverError
from archiver.workflow.job_queue import JobQueue, Waiting
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import (
    ArchiveTotals,
    CopyTotals,
    DatasetRecord,
    FixitySummary,
    LandingUsage,
    ShareSpace,
    Stage,
    StageCount,
)
from archiver.workflow.names import SMOKE_PREFIX
from archiver.workflow.reconciliation import SERVICE as RECONCILIATION

NEARLY_FULL = 80
"""Percent from which a store is shown as filling up."""
FULL = 95
"""Percent from which it needs attention."""
RECONCILIATION_LATE = timedelta(minutes=10)
LISTED = 50
"""Data sets that are not done are listed up to this number."""


@dataclass(frozen=True, slots=True)
class Overview:
    """How the service is doing. Times are the database's."""

    at: datetime
    capacity_bytes: int
    """Of the landing zone: what may be reserved."""
    landing: LandingUsage
    share: ShareSpace | None
    archived: ArchiveTotals
    stages: tuple[StageCount, ...]
    unfinished: tuple[DatasetRecord, ...]
    """Data sets that failed or are on their way, newest change first."""
    fixity: FixitySummary
    copies: CopyTotals
    reconciled_at: datetime | None
    waiting: dict[str, dict[str, Waiting]] | None
    """Runs by type and state; None where Prefect did not answer."""
    queue_problem: str
    """Why it did not; empty where it did."""

    @property
    def landing_percent(self) -> int:
        """How much of the landing zone is spoken for."""
        return _percent(self.landing.committed_bytes, self.capacity_bytes)

    @property
    def share_percent(self) -> int | None:
        """How much of the share was in use when a run measured it last; None where none did."""
        space = self.share
        return None if space is None else _percent(space.total_bytes - space.free_bytes, space.total_bytes)

    @property
    def failed(self) -> int:
        """Data sets whose last run failed."""
        return sum(each.count for each in self.stages if each.stage is Stage.FAILED)

    @property
    def reconciled(self) -> str:
        """How long ago the reconciliation last ran."""
        age = age_text(self.reconciled_at, self.at)
        return age if self.reconciled_at is None else f"{age} ago"

    @property
    def concerns(self) -> list[str]:
        """What somebody must look at, with what to do; empty when all is well."""
        stores = {"Landing zone": self.landing_percent, "Long-term storage": self.share_percent}
        found = [
            f"{name}: {percent} % in use. Make room."
            for name, percent in stores.items()
            if percent is not None and percent >= FULL
        ]
        if self.fixity.damaged:
            found.append(f"{self.fixity.damaged} datablocks are damaged or missing. Act before the last copy goes.")
        if self.reconciled_at is None or self.at - self.reconciled_at > RECONCILIATION_LATE:
            found.append(f"Reconciliation last ran {self.reconciled}: what crashed is not cleared. Look at its log.")
        if self.failed:
            found.append(f"{self.failed} data set{'s' if self.failed > 1 else ''} failed; see below what to do.")
        if self.queue_problem:
            found.append(self.queue_problem)
        return found


def _percent(part: int, whole: int) -> int:
    return min(100, round(100 * part / whole)) if whole > 0 else 0


def at_work(states: dict[str, Waiting]) -> tuple[int, int]:
    """Of the runs of one type, by state: how many wait, and how many have begun."""
    begun = sum(states[state].count for state in ("pending", "running", "cancelling"))
    return sum(found.count for found in states.values()) - begun, begun


def look(ledger: Ledger, queue: JobQueue, capacity_bytes: int, fixity_period: timedelta) -> Overview:
    """The service as it is now.

    Raises:
        LedgerError: the ledger does not answer; without it nothing is known.
    """
    waiting, problem = None, ""
    try:
        waiting = queue.waiting()
    except ArchiverError as error:
        problem = str(error)
    return Overview(
        at=ledger.now(),
        capacity_bytes=capacity_bytes,
        landing=ledger.landing_usage(),
        share=ledger.share_space(),
        archived=ledger.archive_totals(),
        stages=tuple(ledger.stage_counts()),
        unfinished=tuple(ledger.unfinished_datasets(LISTED)),
        fixity=ledger.fixity_summary(fixity_period, not_below=SMOKE_PREFIX),
        copies=ledger.copy_totals(),
        reconciled_at=ledger.last_beat(RECONCILIATION),
        waiting=waiting,
        queue_problem=problem,
    )
