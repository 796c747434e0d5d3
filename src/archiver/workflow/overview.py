"""The whole service at a glance, from ledger and queue. Never asks the share: it may hang."""

from dataclasses import dataclass
from datetime import datetime, timedelta

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
    StageCount,
)
from archiver.workflow.names import SMOKE_PREFIX
from archiver.workflow.reconciliation import SERVICE as RECONCILIATION

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
