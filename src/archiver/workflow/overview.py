"""The whole service at a glance, from ledger and queue. Never asks the share: it may hang."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.config.settings import (
    ArchivingSettings,
    BackupSettings,
    FixitySettings,
    LandingZoneSettings,
    LtsSettings,
    ObjectStoreSettings,
)
from archiver.workflow.amounts import age_text, size_text
from archiver.workflow.errors import ArchiverError
from archiver.workflow.job_queue import Waiting
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
from archiver.workflow.ledger.runs import BACKED_UP
from archiver.workflow.names import SMOKE_PREFIX
from archiver.workflow.queue_control import PoolState, QueueControl
from archiver.workflow.reconciliation import SERVICE as RECONCILIATION

NEARLY_FULL = 80
"""Percent from which a store is shown as filling up."""
FULL = 95
"""Percent from which it needs attention."""
RECONCILIATION_LATE = timedelta(minutes=10)
BACKUP_SLACK = timedelta(hours=1)
"""As long as the stack itself lets a backup take (deployment/postgres/backup-age.sh)."""
STUCK_LATELY = timedelta(minutes=15)
"""As the alert rule has it. What fails in each pass fails more often than that."""
LISTED = 50
"""Data sets that are not done are listed up to this number."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service goes by, and is judged by."""

    landing_bytes: int
    """May be reserved for uploads in all."""
    retrieval_bytes: int
    """Retrieved copies may take in all."""
    lts_floor_percent: float
    """So much of the share must stay free."""
    claim_timeout: timedelta
    fixity_period: timedelta
    backup_interval: timedelta | None
    """None where backups are somebody else's to make."""

    @classmethod
    def of(
        cls,
        landing: LandingZoneSettings,
        store: ObjectStoreSettings,
        lts: LtsSettings,
        archiving: ArchivingSettings,
        fixity: FixitySettings,
        backup: BackupSettings,
    ) -> "Limits":
        """As the settings have them."""
        return cls(
            landing_bytes=landing.capacity_bytes,
            retrieval_bytes=store.retrieval_capacity_bytes,
            lts_floor_percent=lts.lts_free_space_percentage,
            claim_timeout=timedelta(seconds=archiving.claim_timeout_s),
            fixity_period=fixity.period,
            backup_interval=backup.interval,
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """How the service is doing. Times are the database's."""

    at: datetime
    capacity_bytes: int
    """Of the landing zone: what may be reserved."""
    landing: LandingUsage
    share: ShareSpace | None
    floor_bytes: int
    """Of the share: what must stay free; 0 where no run measured it."""
    planned_bytes: int
    """Is to be written to the share, and was not yet."""
    retrieval_bytes: int
    """What retrieved copies take, those that are being made included."""
    retrieval_capacity_bytes: int
    archived: ArchiveTotals
    stages: tuple[StageCount, ...]
    unfinished: tuple[DatasetRecord, ...]
    """Data sets that failed or are on their way, newest change first."""
    fixity: FixitySummary
    copies: CopyTotals
    reconciled_at: datetime | None
    stuck: tuple[str, ...]
    """Codes of the errors that reconciliation lately failed with, until somebody acts."""
    disagreements: int
    """Data sets on which ledger and share disagree."""
    backups: Mapping[str, datetime]
    """The newest one of each database that has any."""
    backup_interval: timedelta | None
    pools: tuple[PoolState, ...]
    """What Prefect has of the service; none where it did not answer."""
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
        """How much of what may be used of the share was in use when a run measured it last; None where none did."""
        space = self.share
        return None if space is None else _percent(space.total_bytes - space.free_bytes, self.share_usable_bytes)

    @property
    def share_usable_bytes(self) -> int:
        """The share without what must stay free."""
        return 0 if self.share is None else self.share.total_bytes - self.floor_bytes

    @property
    def retrieval_percent(self) -> int:
        """How much of the retrieval bucket is taken."""
        return _percent(self.retrieval_bytes, self.retrieval_capacity_bytes)

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
        found = [*self._full(), *self._unsafe()]
        if self.reconciled_at is None or self.at - self.reconciled_at > RECONCILIATION_LATE:
            found.append(f"Reconciliation last ran {self.reconciled}: what crashed is not cleared. Look at its log.")
        if self.stuck:
            kinds = ", ".join(self.stuck)
            found.append(f"Reconciliation cannot do some of its work ({kinds}). archiver reconcile says what to do.")
        if self.failed:
            found.append(f"{self.failed} data set{'s' if self.failed > 1 else ''} failed; see below what to do.")
        return found + self._idle()

    def _full(self) -> list[str]:
        """Stores without room."""
        stores = {
            "Landing zone": (self.landing_percent, "in use. Make room."),
            "Long-term storage": (self.share_percent, "of what may be used is in use. Make room, or enlarge it."),
            "Retrieval bucket": (
                self.retrieval_percent,
                "in use: retrievals wait until copies expire. Raise S3_TOTAL_RETRIEVAL_SPACE_TB where there is room.",
            ),
        }
        found = [
            f"{name}: {percent} % {what}"
            for name, (percent, what) in stores.items()
            if percent is not None and percent >= FULL
        ]
        if self.share is not None and self.planned_bytes > self.share.free_bytes - self.floor_bytes:
            found.append(
                f"{size_text(self.planned_bytes)} are planned and do not fit on the long-term storage, which has "
                f"{size_text(self.share.free_bytes)} free, of which {size_text(self.floor_bytes)} must stay free: "
                "runs wait, and then fail. Enlarge it."
            )
        return found

    def _unsafe(self) -> list[str]:
        """What may cost data."""
        found = []
        if self.fixity.damaged:
            found.append(f"{self.fixity.damaged} datablocks are damaged or missing. Act before the last copy goes.")
        if self.disagreements:
            found.append(
                f"Ledger and share disagree on {self.disagreements} data set{'s' if self.disagreements > 1 else ''}. "
                "Nothing is changed by itself; archiver reconcile names them."
            )
        if self.fixity.overdue:
            found.append(
                f"{self.fixity.overdue} datablocks were not read as often as they must be. Look whether the fixity "
                "audit runs and how much it may read a day."
            )
        every = self.backup_interval
        for database in BACKED_UP if every is not None else ():
            made = self.backups.get(database)
            if made is None or every is None or self.at - made > every + BACKUP_SLACK:
                told = "was ever noted" if made is None else f"was made for {age_text(made, self.at)}"
                found.append(f"No backup of the database {database} {told}. Look at the log of postgres-backup.")
        return found

    def _idle(self) -> list[str]:
        """Why runs wait."""
        if self.queue_problem:
            return [self.queue_problem]
        if not self.pools:
            return ["Prefect has no pool of this service. Deploy the flows (prefect deploy --all)."]
        found = []
        for pool in self.pools:
            if pool.is_paused:
                found.append(f"{pool.name} is paused: its runs wait. Go on with: archiver resume")
            if not pool.online:
                found.append(f"{pool.name} has no worker online: its runs wait. Start one, and look at its log.")
        return found


def _percent(part: int, whole: int) -> int:
    return min(100, round(100 * part / whole)) if whole > 0 else 0


def at_work(states: dict[str, Waiting]) -> tuple[int, int]:
    """Of the runs of one type, by state: how many wait, and how many have begun."""
    begun = sum(states[state].count for state in ("pending", "running", "cancelling"))
    return sum(found.count for found in states.values()) - begun, begun


def look(ledger: Ledger, queue: QueueControl, limits: Limits) -> Overview:
    """The service as it is now.

    Raises:
        LedgerError: the ledger does not answer; without it nothing is known.
    """
    waiting, problem = None, ""
    pools: list[PoolState] = []
    try:
        waiting = queue.waiting()
        pools = queue.pools()
    except ArchiverError as error:
        problem = str(error)
    space = ledger.share_space()
    return Overview(
        at=ledger.now(),
        capacity_bytes=limits.landing_bytes,
        landing=ledger.landing_usage(),
        share=space,
        floor_bytes=0 if space is None else space.floor_bytes(limits.lts_floor_percent),
        planned_bytes=ledger.planned_bytes(),
        retrieval_bytes=ledger.retrieval_bytes(limits.claim_timeout),
        retrieval_capacity_bytes=limits.retrieval_bytes,
        archived=ledger.archive_totals(),
        stages=tuple(ledger.stage_counts()),
        unfinished=tuple(ledger.unfinished_datasets(LISTED)),
        fixity=ledger.fixity_summary(limits.fixity_period, not_below=SMOKE_PREFIX),
        copies=ledger.copy_totals(),
        reconciled_at=ledger.last_beat(RECONCILIATION),
        stuck=tuple(ledger.stuck_on(STUCK_LATELY)),
        disagreements=len(ledger.disagreements()),
        backups=ledger.backups(),
        backup_interval=limits.backup_interval,
        pools=tuple(pools),
        waiting=waiting,
        queue_problem=problem,
    )
