"""Clients for a dry run of the reconciliation: they look at everything, and what would change something is left out.

What is left out counts as done for the rest of the pass, so that the pass goes the way it would really go, and its
report says what it would have done. The ledger's database itself refuses whatever else would change it; of the other
clients, and of what is done to shares, all that is neither reading nor known here is refused.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Engine

from archiver.config.settings import LedgerSettings, ObjectStoreSettings
from archiver.workflow.bags import take_turn, unfinished_files
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Datablock, Lifecycle
from archiver.workflow.errors import DatasetBusyError, PermanentError
from archiver.workflow.holdings.listing import look_into, subfolders
from archiver.workflow.holdings.rebuilding import recorded_totals
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.job_queue import JobQueue, QueuedRun
from archiver.workflow.ledger.database import open_engine
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import (
    Claim,
    DatablockRecord,
    RetirementRecord,
    RetirementState,
    RetrievalClaim,
    RetrievalRecord,
    Stage,
    UploadRecord,
    UploadState,
)
from archiver.workflow.ledger.uploads import LIVE
from archiver.workflow.notifications import Channel, Nobody, Weight
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.storage.s3_records import OpenMultipart, StoredObject
from archiver.workflow.tombstones import find_event, foresee_event
from archiver.workflow.tools import read_identity

T = TypeVar("T")
P = ParamSpec("P")

_NO_FENCE = 0
"""Of a claim that was never made."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise PermanentError("A dry run was about to change something; it was stopped. Report this as a defect.")


class DryLedger(Ledger):
    """The ledger, in transactions that can only read."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._expired: dict[str, UploadRecord] = {}
        """Uploads that would have expired, by pid."""
        self._forgotten: set[str] = set()
        """Copies that would have been removed."""

    @classmethod
    def open(cls, settings: LedgerSettings) -> Self:
        """See `Ledger.open`."""
        return cls(open_engine(settings.ledger_url.get_secret_value(), read_only=True))

    # ------------------------------------------------------------------------------------------ uploads

    def expire_uploads(self, now: datetime) -> list[UploadRecord]:
        """The open uploads that expired up to `now`, as they would be then."""
        ended_at = self.now()
        self._expired = {
            each.pid: replace(each, state=UploadState.EXPIRED, held_bytes=0, touched_at=ended_at)
            for each in super().uploads((UploadState.OPEN,))
            if each.expires_at <= now
        }
        return list(self._expired.values())

    def uploads(self, states: Sequence[UploadState] = LIVE) -> list[UploadRecord]:
        """All uploads in one of `states`; those that would have expired, as expired."""
        found = [
            each
            for each in super().uploads(states)
            if each.state is not UploadState.OPEN or each.pid not in self._expired
        ]
        return found + (list(self._expired.values()) if UploadState.EXPIRED in states else [])

    def find_upload(self, pid: str) -> UploadRecord | None:
        """The upload of the data set, as it would be."""
        return self._expired.get(pid) or super().find_upload(pid)

    def record_landed(self, pid: str, landed_bytes: int) -> None:
        """Nothing."""

    def record_left_behind(self, pid: str, landed_bytes: int) -> None:
        """Nothing."""

    def close_multipart(self, pid: str, key: str, upload_id: str) -> None:
        """Nothing."""

    # ------------------------------------------------------------------------------------------ retrievals

    def claim_retrieval(
        self, archive_id: str, holder: str, timeout: timedelta, *, reserve: int = 0, capacity: int | None = None
    ) -> RetrievalClaim:
        """A claim that nobody else sees.

        Raises:
            DatasetBusyError: it could not be had.
        """
        record = self.retrieval(archive_id)
        if record is not None and self._is_held(record.holder, record.heartbeat_at, holder, timeout):
            raise DatasetBusyError(f"{archive_id} is being copied by {record.holder}.")
        return RetrievalClaim(archive_id, _NO_FENCE, holder)

    def heartbeat_retrieval(self, claim: RetrievalClaim) -> None:
        """Nothing."""

    def release_retrieval(self, claim: RetrievalClaim) -> None:
        """Nothing."""

    def begin_removal(self, claim: RetrievalClaim, now: datetime) -> bool:
        """Whether the copy is expired, or was never completed."""
        record = self.retrieval(claim.archive_id)
        return record is None or record.expires_at is None or record.expires_at <= now

    def forget_retrieval(self, archive_id: str, claim: RetrievalClaim | None = None) -> bool:
        """From now on nothing is noted of the copy; False when nothing was."""
        known = self.retrieval(archive_id) is not None
        self._forgotten.add(archive_id)
        return known

    def retrieval(self, archive_id: str) -> RetrievalRecord | None:
        """What would be noted of the copy."""
        return None if archive_id in self._forgotten else super().retrieval(archive_id)

    def expiring_untold(self, before: datetime) -> list[RetrievalRecord]:
        """The copies that expire by then, without those that would have been removed."""
        return [each for each in super().expiring_untold(before) if each.archive_id not in self._forgotten]

    def mark_expiry_told(self, record: RetrievalRecord) -> None:
        """Nothing."""

    # ------------------------------------------------------------------------------------------ data sets

    def claim_dataset(self, pid: str, holder: str, timeout: timedelta) -> Claim:
        """A claim that nobody else sees.

        Raises:
            DatasetBusyError: it could not be had.
        """
        record = self.dataset(pid)
        if record is not None and self._is_held(record.holder, record.heartbeat_at, holder, timeout):
            raise DatasetBusyError(f"{pid} is being worked on by {record.holder}.")
        return Claim(pid, _NO_FENCE, holder)

    def _is_held(self, by: str | None, heartbeat_at: datetime | None, holder: str, timeout: timedelta) -> bool:
        return by not in (None, holder) and heartbeat_at is not None and heartbeat_at > self.now() - timeout

    def heartbeat(self, claim: Claim) -> None:
        """Nothing."""

    def check_claim(self, claim: Claim) -> None:
        """Nothing."""

    def release_claim(self, claim: Claim) -> None:
        """Nothing."""

    def forget_dataset(self, pid: str) -> bool:
        """Whether there is anything to be forgotten."""
        return self.dataset(pid) is not None

    def adopt_dataset(
        self, claim: Claim, stage: Stage, datablocks: Sequence[DatablockRecord], files: int, payload_bytes: int
    ) -> None:
        """Nothing."""

    def record_datablock(self, claim: Claim, datablock: DatablockRecord) -> None:
        """Nothing."""

    def note_retirement(
        self,
        claim: Claim,
        state: RetirementState,
        *,
        at: datetime,
        by: str,
        reason: str,
        restorable_until: datetime,
        message: str,
        files: int,
        payload_bytes: int,
    ) -> None:
        """Nothing."""

    def mark_retirement_told(self, record: RetirementRecord) -> None:
        """Nothing."""

    def expire_copies(self, folder: str) -> int:
        """Nothing; a pass removes what it lets expire only when it comes again."""
        return 0

    # ------------------------------------------------------------------------------------------ the rest

    def record_disagreement(self, pid: str, kind: str, detail: str) -> bool:
        """False: nothing is noted that would have to be told once."""
        return False

    def settle_disagreements(self, still_there: Iterable[str]) -> list[str]:
        """The pids that would be forgotten."""
        kept = set(still_there)
        return [each.pid for each in self.disagreements() if each.pid not in kept]

    def record_run(self, job_id: str, job_type: str, attempt: int, run_id: uuid.UUID) -> None:
        """Nothing."""

    def remember(self, name: str, value: str) -> str:
        """The value remembered; this one where there is none."""
        return self.remembered(name) or value

    def beat(self, service: str) -> None:
        """Nothing: a dry run is no sign of life."""

    def count_error(self, code: str) -> None:
        """Nothing."""

    def count_stuck_task(self, code: str) -> None:
        """Nothing."""


class DryQueue(JobQueue):
    """Prefect's queue, in which no run is made or ended."""

    def submit(self, job_id: str, job_type: str, attempt: int = 1, request_id: str = "") -> QueuedRun:
        """A run that nobody else sees. Where operators have deleted runs, the real one may get a higher number.

        Raises:
            BadJobError: there are no jobs of this type.
            DeploymentMissingError: nothing is deployed for it.
        """
        self._create_path(job_type)
        return QueuedRun(uuid.uuid4(), f"{job_type}-{job_id}")

    def declare_crashed(self, run_id: uuid.UUID, message: str) -> bool:
        """Whether the run has not ended yet."""
        found = self.run(run_id)
        return found is not None and not found.is_finished


class DryCatalogue(Catalogue):
    """SciCat, which is told nothing."""

    def update_job(self, job_id: str, status: str, message: str, result: Mapping[str, Any] | None = None) -> None:
        """Nothing."""

    def update_lifecycle(self, pid: str, changes: Mapping[str, Any]) -> Lifecycle:
        """The lifecycle as it is.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
        """
        return self.dataset(pid).lifecycle

    def remove_datablock(self, pid: str, block: Datablock) -> None:
        """Nothing."""

    register_datablock = create_job = create_dataset = add_orig_files = remove_dataset = _refuse


class DryStore(ObjectStore):
    """S3, in which nothing is removed."""

    def __init__(self, settings: ObjectStoreSettings, max_connections: int) -> None:
        super().__init__(settings, max_connections)
        self._aborted: set[tuple[str, str, str]] = set()

    def delete(self, bucket: str, objects: Iterable[StoredObject]) -> Sequence[StoredObject]:
        """Nothing is left, as if all could be deleted."""
        return ()

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """From now on it is not listed."""
        self._aborted.add((bucket, key, upload_id))

    def list_multiparts(self, bucket: str, prefix: str) -> Sequence[OpenMultipart]:
        """Those that would not have been aborted."""
        found = super().list_multiparts(bucket, prefix)
        return [each for each in found if (bucket, each.key, each.upload_id) not in self._aborted]

    ensure_bucket = put = multipart_writer = create_multipart = complete_multipart = accepts_unsigned_headers = _refuse


def would_remove(
    progress: Progress, address: ShareAddress, pid: str, _attempt: str, *, from_scratch: bool
) -> list[str]:
    """What `take_turn` would remove of files that dead attempts left (to be run in a child process)."""
    if from_scratch:
        _refuse()
    return unfinished_files(progress, address, pid)


_LOOKS_AT_SHARE: frozenset[Callable[..., Any]] = frozenset(
    {find_event, foresee_event, look_into, read_identity, recorded_totals, subfolders, unfinished_files}
)
_INSTEAD_AT_SHARE: dict[Callable[..., Any], Callable[..., Any]] = {take_turn: would_remove}


class DryChild(ChildProcess):
    """A child process in which shares are only looked at."""

    def call(
        self,
        function: Callable[Concatenate[Progress, P], T],
        on_progress: Progress | None = None,
        /,
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """See `ChildProcess.call`. What would change a share is done in words only, or refused."""
        if function not in _LOOKS_AT_SHARE | _INSTEAD_AT_SHARE.keys():
            _refuse()
        done = cast("Callable[Concatenate[Progress, P], T]", _INSTEAD_AT_SHARE.get(function, function))
        return super().call(done, on_progress, *arguments, **named)


class _Unheard:
    """The channel of an installation that has one, to which nothing is sent."""

    def send(self, title: str, body: str, weight: Weight) -> bool:
        """True, as if everybody got it."""
        return True


def unheard(channel: Channel) -> Channel:
    """A channel to which nothing is sent, where `channel` is anybody's."""
    return channel if isinstance(channel, Nobody) else _Unheard()
