"""What the ledger hands out. Sizes are bytes, times are UTC and aware of their zone."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class UploadState(StrEnum):
    """open -> finalized -> emptied, or open -> aborted | expired."""

    OPEN = "open"
    FINALIZED = "finalized"
    EMPTIED = "emptied"
    ABORTED = "aborted"
    EXPIRED = "expired"


class Stage(StrEnum):
    """The last stage that a data set's run finished, or that it failed."""

    CLAIMED = "claimed"
    PLANNED = "planned"
    WRITTEN = "written"
    VERIFIED = "verified"
    PUBLISHED = "published"
    REGISTERED = "registered"
    EMPTIED = "emptied"
    FAILED = "failed"
    RETIRED = "retired"
    """Withdrawn after it was archived; the bag is kept and can be restored."""
    REMOVING = "removing"
    """Its bag is being removed."""
    REMOVED = "removed"
    """Its bag is gone; a tombstone is on the share."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be done."""
        return self in (Stage.EMPTIED, Stage.RETIRED, Stage.REMOVED)


class RetirementState(StrEnum):
    """requested -> retired -> restored | removing -> removed."""

    REQUESTED = "requested"
    """Waits to be confirmed; nothing was changed yet."""
    RETIRED = "retired"
    RESTORED = "restored"
    REMOVING = "removing"
    REMOVED = "removed"

    @property
    def stage(self) -> Stage | None:
        """The stage of a data set that is withdrawn so far; None where it is not."""
        return _STAGES.get(self)


_STAGES = {
    RetirementState.RETIRED: Stage.RETIRED,
    RetirementState.REMOVING: Stage.REMOVING,
    RetirementState.REMOVED: Stage.REMOVED,
}


class RetrievalState(StrEnum):
    """Whether a datablock lies in the retrieval bucket."""

    COPYING = "copying"
    """Never yet recorded as copied."""
    READY = "ready"


class FixityOutcome(StrEnum):
    """What a fixity check found."""

    OK = "ok"
    DAMAGED = "damaged"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    SKIPPED = "skipped"
    """Not read, because that would have recalled it from tape."""

    @property
    def is_damage(self) -> bool:
        """Whether somebody must look at the datablock."""
        return self in (FixityOutcome.DAMAGED, FixityOutcome.MISSING, FixityOutcome.UNREADABLE)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The SciCat user behind a Keycloak session."""

    sid: str
    user: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """Space in the landing zone granted for one data set."""

    pid: str
    state: UploadState
    holder: str
    owner_group: str
    announced_bytes: int
    """What the client said the data set has."""
    reserved_bytes: int
    """What is set aside for it; once it is finished, for what it left in the landing zone."""
    landed_bytes: int
    """What lay in the landing zone when it was last measured."""
    created_at: datetime
    touched_at: datetime
    expires_at: datetime
    """When the upload loses its reservation; moves on with every object held."""
    held_bytes: int = 0
    """Sum of the sizes granted to objects and parts while the upload is open."""


@dataclass(frozen=True, slots=True)
class LandingUsage:
    """How much of the landing zone is spoken for by open and finalized uploads, and taken by what others left."""

    reserved_bytes: int
    landed_bytes: int
    committed_bytes: int
    """Sum over the uploads of the larger of what is reserved and what lies there."""
    open_uploads: int
    finalized_uploads: int
    left_behind_bytes: int = 0
    """Of what lies there: what closed uploads left."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a data set, until somebody else claims it with a higher fence."""

    pid: str
    fence: int
    holder: str


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """How far a data set has come on its way into the archive."""

    pid: str
    stage: Stage
    fence: int
    holder: str | None
    """Who works on it; None when nobody does."""
    heartbeat_at: datetime | None
    files: int | None
    payload_bytes: int | None
    message: str
    """Why it failed; empty otherwise."""
    updated_at: datetime
    archived_at: datetime | None
    """When it was first recorded as published; a later failure does not take it back."""


@dataclass(frozen=True, slots=True)
class RetirementRecord:
    """How far a data set is withdrawn. The truth is on the share; only requests are here alone."""

    pid: str
    state: RetirementState
    at: datetime
    by: str
    reason: str
    restorable_until: datetime | None
    """Until then nothing may be removed; None before it is retired."""
    message: str
    """What users and operators are told."""
    word: str
    """What has to be given back for the next step; empty where none was asked for."""
    word_until: datetime | None
    told: bool
    """Whether the catalogue shows it."""


@dataclass(frozen=True, slots=True)
class DatablockRecord:
    """A tar on the share."""

    archive_id: str
    pid: str
    index: int
    size: int
    """Payload: sum of the files' sizes."""
    packed_size: int
    """Length of the tar."""
    files: int
    sha256: str
    """Of the tar, lower-case hexadecimal."""
    proof: str
    """What level the read-back proved; empty before."""
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class RetrievalClaim:
    """The right to copy a datablock into the retrieval bucket, or to remove it from there."""

    archive_id: str
    fence: int
    holder: str


@dataclass(frozen=True, slots=True)
class RetrievalRecord:
    """A datablock's copy in the retrieval bucket, or a tar of single files there."""

    archive_id: str
    state: RetrievalState
    size: int | None
    sha256: str | None
    expires_at: datetime | None
    """When the copy may be removed; None until it is ready."""
    holder: str | None
    heartbeat_at: datetime | None
    updated_at: datetime
    reserved_bytes: int = 0
    """Set aside for it while it is being copied."""


@dataclass(frozen=True, slots=True)
class FixityRecord:
    """One check of a datablock on the share."""

    archive_id: str
    outcome: FixityOutcome
    proof: str
    detail: str
    checked_at: datetime
    copy: str = ""
    """Identity of the share, where it is that of a copy; empty for the first share."""


@dataclass(frozen=True, slots=True)
class FixitySummary:
    """How well the archive is looked after, over all its datablocks."""

    datablocks: int
    packed_bytes: int
    overdue: int
    """Datablocks whose bytes were not read within the period, neither by an audit nor when they were archived."""
    damaged: int
    """Datablocks whose newest check found them damaged, missing or unreadable, on any share."""
    on_tape: int
    """Datablocks that their newest check on the first share skipped, for they are stubs."""
    oldest_read: datetime | None
    """When the datablock that was read the longest ago was read; those never read do not count."""


@dataclass(frozen=True, slots=True)
class DisagreementRecord:
    """A data set on which ledger and share disagree."""

    pid: str
    kind: str
    """As the comparison names it: missing, damaged, disagrees, unreadable."""
    detail: str
    since: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A Prefect flow run made for a job."""

    job_id: str
    job_type: str
    attempt: int
    run_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Counter:
    """How often something happened since the ledger was made, and how much it was in all."""

    name: str
    label: str
    count: int
    total: float
    """Sum of what was counted, in the unit of the name (`stage_seconds`: seconds)."""


@dataclass(frozen=True, slots=True)
class ShareSpace:
    """Room on a share when it was last used."""

    share: str
    """Identity of the share."""
    free_bytes: int
    total_bytes: int
    measured_at: datetime

    def floor_bytes(self, percent: float) -> int:
        """What must stay free where that is so many percent: archiving goes as far as this."""
        return int(self.total_bytes * percent / 100)


@dataclass(frozen=True, slots=True)
class ArchiveTotals:
    """What the archive holds."""

    datasets: int
    files: int
    payload_bytes: int
    datablocks: int
    packed_bytes: int
    """Sum of the tars' lengths."""


@dataclass(frozen=True, slots=True)
class StageCount:
    """Data sets whose last recorded stage this is."""

    stage: Stage
    count: int
    held: int
    """Of these, how many a run works on now."""
    oldest: datetime
    """When the one that has been there longest came there."""


@dataclass(frozen=True, slots=True)
class CopyTotals:
    """Copies in the retrieval bucket."""

    ready: int
    bytes: int
    next_expiry: datetime | None
