"""Put right what crashes, lost messages and time left behind.

A small service of its own, outside the limited pools (`python -m archiver.workflow.reconciliation`): each pass is
idempotent, safe to run twice at once and to be broken off anywhere, and says what it did.
"""

import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType

import structlog

from archiver.config.logs import configure_logs
from archiver.config.settings import FlowConfiguration, OpenDeploymentError, ReconciliationSettings
from archiver.config.sources import UnreadableSecretFileError
from archiver.workflow.archiving import report_archiving_failure
from archiver.workflow.attempts import submit_again
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Job
from archiver.workflow.claims import Heartbeat, claimed
from archiver.workflow.dry_run import DryCatalogue, DryLedger, DryQueue, DryStore, unheard
from archiver.workflow.errors import (
    ArchiverError,
    BadJobError,
    ClaimLostError,
    DatasetBusyError,
    PermanentError,
    TransientError,
)
from archiver.workflow.job_queue import JobQueue, RunState
from archiver.workflow.jobs import UNFINISHED_STATUSES, JobStatus, JobType
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import (
    RetrievalClaim,
    RetrievalRecord,
    RetrievalState,
    Stage,
    UploadRecord,
    UploadState,
)
from archiver.workflow.ledger.uploads import LIVE
from archiver.workflow.names import DATASETS_FOLDER, RAW_FILES, dataset_prefix
from archiver.workflow.notifications import Channel, Nobody, Weight, open_channel
from archiver.workflow.retirement import tell_retirement
from archiver.workflow.retrieval import report_retrieval_failure
from archiver.workflow.share_comparison import ShareComparison
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.storage.s3_records import OpenMultipart

log = structlog.get_logger("archiver.workflow.reconciliation")  # by name: run with -m, it is `__main__`

SERVICE = "reconciliation"
"""Name of this service's sign of life in the ledger."""
_JOB_TYPES = tuple(str(each) for each in JobType)
_STARTING = timedelta(minutes=15)
"""A run that is being started gives no sign of life meanwhile, and its image may have to be fetched first."""
_LEFTOVERS = timedelta(days=1)
"""How long multipart uploads of an upload that was closed are looked for."""
_MEASURE_EVERY = timedelta(minutes=15)
"""Measuring an upload lists all its objects."""

_LATE = timedelta(days=8)
"""URLs of an upload work on for 7 days at most after its end, and what is begun with one then takes its time."""
_LATE_EVERY = timedelta(hours=1)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_LISTED = 50
"""Links that a message names."""

Task = tuple[str, Callable[[], str | None]]
"""What is looked after, and what does it: says what it did, None when there was nothing to do."""


@dataclass
class Report:
    """What a pass did; empty when there was nothing to do."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """What may pass, or kept the pass from being a whole one: it gives no sign of life."""
    alarms: list[str] = field(default_factory=list)
    """What somebody must look at; nothing repairs it by itself."""


@dataclass(frozen=True, slots=True)
class _Silence:
    """A run's last sign of life, and since when no other was seen."""

    last_sign: datetime
    watched_since: datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Reconciliation:
    """One pass after another over everything that can be left behind."""

    catalogue: Catalogue
    queue: JobQueue
    ledger: Ledger
    store: ObjectStore
    retrieval_bucket: str
    landing_bucket: str
    settings: ReconciliationSettings
    claim_timeout: timedelta = timedelta(minutes=2)
    """A claim without heartbeat for so long is nobody's."""
    share: ShareComparison | None = None
    """None where the share is not to be looked at."""
    clock: Callable[[], datetime] = _now
    channel: Channel = field(default_factory=Nobody)
    warn_before: timedelta = timedelta()
    """How long before links expire operators are told; zero: never."""
    storage_location: str = ""
    """Name of this archive in the catalogue."""
    _name: str = field(default_factory=lambda: f"{SERVICE}/{uuid.uuid4()}")
    _silences: dict[uuid.UUID, _Silence] = field(default_factory=dict)
    _measured: dict[str, datetime] = field(default_factory=dict)
    _uploads_listed_at: datetime = _LONG_AGO
    _surprises: dict[str, str] = field(default_factory=dict)
    """Errors of this pass that nobody foresaw, by task."""
    _surprises_told: set[str] = field(default_factory=set)

    def reconcile(self, *, whole_share: bool = False) -> Report:
        """One pass. What fails does not stop the rest, and is tried again in the next pass.

        A pass gives a sign of life when all parts were walked, also where some tasks are stuck until somebody acts.
        A pass walks the share for a stretch of time, and the next one goes on; with `whole_share`, to its end.
        """
        report = Report()
        parts: list[tuple[str, Callable[[], Iterator[Task]], Sequence[Callable[[], None]]]] = [
            ("dead runs", self._dead_runs, [self.queue.check]),
            ("jobs without a run", self._jobs_without_run, [self.queue.check, self.catalogue.check]),
            ("expired uploads", self._expired_uploads, [self.store.check]),
            ("the landing zone", self._landing_zone, [self.store.check]),
            ("expired retrievals", self._expired_retrievals, [self.store.check]),
            ("unfinished uploads", self._unfinished_uploads, [self.store.check]),
            ("links that expire soon", self._expiring_links, []),
            ("withdrawn data sets", self._withdrawals, [self.catalogue.check]),
        ]
        for name, part, checks in parts:
            try:
                for task in part():
                    self._attempt(task, checks, report)
            except ArchiverError as error:
                report.failed.append(f"{name}: {error}")
                log.warning("reconciliation_failed", part=name, error=str(error))
            except Exception as error:  # noqa: BLE001  # nobody is at hand: the other parts must be done all the same
                report.failed.append(self._unforeseen(name, error))
        self._compare_share(report, whole_share=whole_share)
        self._tell_unforeseen()
        if not report.failed:
            try:
                self.ledger.beat(SERVICE)
            except ArchiverError as error:
                report.failed.append(f"the sign of life: {error}")
                log.warning("reconciliation_failed", part="the sign of life", error=str(error))
        return report

    def _attempt(self, task: Task, checks: Sequence[Callable[[], None]], report: Report) -> None:
        """One task of a part.

        Raises:
            ArchiverError: it failed as the others of this part would, because what they need is down.
        """
        name, work = task
        try:
            action = work()
        except (TransientError, ClaimLostError) as error:
            report.failed.append(f"{name}: {error}")
            log.warning("reconciliation_failed", task=name, error=str(error))
            for check in checks:
                check()
            return
        except ArchiverError as error:
            # It fails in each pass until somebody acts, and must not make a service that lives look dead so long.
            report.alarms.append(f"{name}: {error}")
            log.error("reconciliation_stuck", task=name, error=str(error))  # noqa: TRY400 - the text says it all
            self.ledger.count_stuck_task(error.code)
            return
        except Exception as error:  # noqa: BLE001  # nobody is at hand: the other tasks must be done all the same
            report.alarms.append(self._unforeseen(name, error))
            return
        if action is not None:
            report.done.append(action)
            log.info("reconciled", action=action)

    def _unforeseen(self, name: str, error: Exception) -> str:
        """What nobody foresaw is told by everything there is: log, counter and channel; in words for the report."""
        text = f"{name}: unexpected {type(error).__name__}: {error}"
        log.error("reconciliation_stuck", task=name, error=text, exc_info=error)
        self._surprises[name] = text
        try:
            self.ledger.count_stuck_task(PermanentError.code)
        except ArchiverError as uncounted:
            log.warning("reconciliation_failed", part="counting what is stuck", error=str(uncounted))
        return text

    def _tell_unforeseen(self) -> None:
        """Once for each, and again where it comes back after a pass without it."""
        surprises, self._surprises = self._surprises, {}
        self._surprises_told &= surprises.keys()
        new = [text for name, text in surprises.items() if name not in self._surprises_told]
        if not new:
            return
        title = f"Archiver: reconciliation met {len(new)} errors that nobody foresaw"
        advice = "Look at its log, which has the traceback, and report it. Everything else goes on."
        if self.channel.send(title, "\n".join([*new[:_LISTED], advice]), Weight.FAILURE):
            self._surprises_told |= surprises.keys()

    # ------------------------------------------------------------------------------------------ runs of jobs

    def _dead_runs(self) -> Iterator[Task]:
        """Runs whose process is gone give their place back.

        Those that wait for a place or a pause are no process yet, and a cancellation that nobody carries out is
        ended by Prefect itself. Silence counts from when it was first seen here: while the server was away, no
        sign of life could arrive. A data set's run within that of its job ends when that does; else it is what a
        process that was killed has left.
        """
        try:
            runs = self.queue.unfinished_runs()
            at_work = {run.job_id for run in runs}
            runs += [each for each in self.queue.unfinished_dataset_runs() if each.job_id not in at_work]
        except ArchiverError:
            self._silences.clear()
            raise
        before, now = self._silences, self.clock()
        self._silences = {}
        patience = {
            "RUNNING": timedelta(seconds=self.settings.reconciliation_dead_run_s),
            "PENDING": max(_STARTING, timedelta(seconds=self.settings.reconciliation_dead_run_s)),
        }
        for run in runs:
            if run.state_type not in patience:
                continue
            silence = before.get(run.id)
            if silence is None or silence.last_sign != run.last_sign:
                silence = _Silence(run.last_sign, now)
            self._silences[run.id] = silence
            if now - silence.watched_since >= patience[run.state_type]:
                yield f"run {run.name}", partial(self._declare_crashed, run)

    def _declare_crashed(self, run: RunState) -> str | None:
        reason = f"No sign of life since {run.last_sign:%Y-%m-%d %H:%M:%S} UTC; its process is gone."
        return f"run {run.name} declared crashed" if self.queue.declare_crashed(run.id, reason) else None

    def _jobs_without_run(self) -> Iterator[Task]:
        """Jobs of the catalogue that nobody works on get a run: the first, or another after a crash."""
        at_work = {run.job_id for run in self.queue.unfinished_runs()}
        for job in self.catalogue.jobs_in_state(_JOB_TYPES, sorted(UNFINISHED_STATUSES)):
            if job.id not in at_work:
                yield f"job {job.id}", partial(self._look_after, job.id)

    def _look_after(self, job_id: str) -> str | None:
        runs = self.queue.runs_of_job(job_id)
        if any(not run.is_finished for run in runs):
            return None
        try:
            # Read after the runs: one that ended in between has told the catalogue before it did.
            job = self.catalogue.job(job_id)
        except BadJobError:
            return None  # deleted meanwhile
        if job.status not in UNFINISHED_STATUSES:
            return None
        if not runs:
            return self._submit(job, runs, "its notification was lost")
        last = runs[-1]
        told = last.message.rstrip(".") or f"it ended {last.state_name}"
        if last.state_type == "CANCELLED":
            return self._give_up(job, f"Its run was cancelled: {told}. {_again(job)} when it may run.")
        if len(runs) >= self.settings.reconciliation_max_attempts:
            return self._give_up(
                job,
                f"Given up after {len(runs)} runs; the last one: {told}. Look at the runs of this job in the Prefect "
                f"UI and mend the cause. {_again(job)} then.",
            )
        # Also a run that ended but could not tell the catalogue: the use case is run again and tells it.
        return self._submit(job, runs, f"its last run ended {last.state_name}")

    def _submit(self, job: Job, runs: Sequence[RunState], reason: str) -> str:
        attempt, _ = submit_again(self.queue, self.ledger, job, runs)
        return f"job {job.id} queued (run {attempt}): {reason}"

    def _give_up(self, job: Job, message: str) -> str | None:
        if job.type == JobType.ARCHIVE and any(self._is_being_archived(dataset.pid) for dataset in job.datasets):
            log.debug("job_still_at_work", job_id=job.id)
            return None  # by another job, or by a process that only seemed dead: its end decides
        for dataset in job.datasets:
            try:
                self._tell(job, dataset.pid, PermanentError(message))
            except TransientError:
                raise
            except ArchiverError as error:
                # The job must end all the same: a data set that is gone from the catalogue never comes back.
                log.warning("dataset_not_told", job_id=job.id, pid=dataset.pid, error=str(error))
        self.catalogue.update_job(job.id, JobStatus.UNSUCCESSFUL, message)
        self.channel.send(f"Archiver: {job.type} job {job.id} given up", message, Weight.FAILURE)
        for _ in range(max(1, len(job.datasets))):  # now that the job has ended: until then this is tried again
            self.ledger.count_error(PermanentError.code)
        return f"job {job.id} given up: {message}"

    def _tell(self, job: Job, pid: str, error: PermanentError) -> None:
        if job.type == JobType.RETRIEVE:
            report_retrieval_failure(self.catalogue, pid, error)
            return
        record = self.ledger.dataset(pid)
        if record is None or record.stage is not Stage.EMPTIED:
            report_archiving_failure(self.catalogue, self.ledger, pid, error, self.claim_timeout)

    def _is_being_archived(self, pid: str) -> bool:
        record = self.ledger.dataset(pid)
        return (
            record is not None
            and record.holder is not None
            and record.heartbeat_at is not None
            and self.clock() - record.heartbeat_at < self.claim_timeout
        )

    # ------------------------------------------------------------------------------------------ space

    def _expired_uploads(self) -> Iterator[Task]:
        """Uploads nobody went on with give their reservation back; what they uploaded stays and is reported."""
        for upload in self.ledger.expire_uploads(self.clock()):
            log.info("upload_expired", pid=upload.pid, holder=upload.holder, reserved_bytes=upload.reserved_bytes)
            yield f"expired upload of {upload.pid}", partial(self._tell_expired, upload)
        closed = self.ledger.uploads((UploadState.EXPIRED, UploadState.ABORTED, UploadState.EMPTIED))
        for pid in {each.pid for each in closed if _now() - each.touched_at < _LEFTOVERS}:
            yield f"unfinished parts of {pid}", partial(self._drop_multiparts, pid)

    def _tell_expired(self, upload: UploadRecord) -> str:
        left = self.store.usage(self.landing_bucket, dataset_prefix(upload.pid))
        self.ledger.record_left_behind(upload.pid, left.bytes)
        self._measured[upload.pid] = self.clock()
        return (
            f"upload of {upload.pid} by {upload.holder} expired: {upload.reserved_bytes} reserved bytes come free; "
            f"{left.objects} objects of {left.bytes} bytes stay in the landing zone"
        )

    def _drop_multiparts(self, pid: str) -> str | None:
        begun = self.ledger.multiparts(pid)
        if not begun:
            return None
        # Looked at after the list was read: what a new upload of this data set begins is not in it.
        upload = self.ledger.find_upload(pid)
        if upload is not None and upload.state in LIVE:
            return None
        for key, upload_id in begun:
            self.store.abort_multipart(self.landing_bucket, key, upload_id)
            self.ledger.close_multipart(pid, key, upload_id)
        return f"{len(begun)} unfinished multipart uploads of {pid} aborted"

    def _landing_zone(self) -> Iterator[Task]:
        """What lies in the landing zone is compared with what was reserved; grants count the larger of the two.

        Also where an upload ended: a URL that was handed out before may still be used.
        """
        now = self.clock()
        due = {each.pid: (each, _LATE_EVERY) for each in self.ledger.closed_since(now - _LATE)}
        taking = [*self.ledger.left_behind(), *self.ledger.uploads()]  # where both have one, the live one
        due |= {each.pid: (each, _MEASURE_EVERY) for each in taking}
        self._measured = {pid: at for pid, at in self._measured.items() if pid in due}
        for pid, (upload, every) in due.items():
            if now - self._measured.get(pid, _LONG_AGO) >= every:
                yield f"the landing zone of {pid}", partial(self._measure, upload)

    def _measure(self, upload: UploadRecord) -> str | None:
        landed = self.store.usage(self.landing_bucket, dataset_prefix(upload.pid)).bytes
        self._measured[upload.pid] = self.clock()
        if upload.state not in LIVE:
            self.ledger.record_left_behind(upload.pid, landed)
            if landed == upload.landed_bytes:
                return None
            if not landed:
                return f"nothing of {upload.pid} lies in the landing zone any more: its upload is {upload.state}"
            return f"{landed} bytes of {upload.pid} lie in the landing zone and count: its upload is {upload.state}"
        if landed == upload.landed_bytes:
            return None
        self.ledger.record_landed(upload.pid, landed)
        if landed <= max(upload.reserved_bytes, upload.landed_bytes):
            return None
        return (
            f"{landed} bytes of {upload.pid} lie in the landing zone, where {upload.holder} had "
            f"{upload.reserved_bytes} reserved; all of them count from now on"
        )

    def _expired_retrievals(self) -> Iterator[Task]:
        """Copies in the retrieval bucket whose links have expired are removed, and those that died half made."""
        for record in self.ledger.expired_retrievals(self.clock()):
            yield f"expired copy {record.archive_id}", partial(self._remove_copy, record.archive_id)

    def _expiring_links(self) -> Iterator[Task]:
        """Operators are told once, and again only where the links were extended meanwhile."""
        if not self.warn_before or isinstance(self.channel, Nobody):
            return
        soon = self.ledger.expiring_untold(self.clock() + self.warn_before)
        if soon:
            yield "links that expire soon", partial(self._tell_expiring, soon)

    def _tell_expiring(self, soon: Sequence[RetrievalRecord]) -> str | None:
        lines = [f"{each.archive_id}: {each.expires_at:%Y-%m-%d %H:%M} UTC" for each in soon]
        more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        title = f"Archiver: links to {len(lines)} datablocks expire soon"
        if not self.channel.send(title, "\n".join(lines[:_LISTED] + more), Weight.WARNING):
            return None  # told in the next pass
        for each in soon:
            self.ledger.mark_expiry_told(each)
        return f"operators told that links to {len(lines)} datablocks expire soon"

    def _remove_copy(self, archive_id: str) -> str | None:
        try:
            claim = self.ledger.claim_retrieval(archive_id, self._name, self.claim_timeout)
        except DatasetBusyError:
            return None
        try:
            # Deleting may be tried again for minutes. Whoever took the claim over meanwhile would make the same copy
            # anew, and nothing tells that one from this.
            every_s = self.claim_timeout.total_seconds() / 4
            with Heartbeat(lambda: self.ledger.heartbeat_retrieval(claim), every_s) as heart:
                removed = self._remove_claimed_copy(claim, heart)
        except ArchiverError:
            self.ledger.release_retrieval(claim)
            raise
        if not removed:
            self.ledger.release_retrieval(claim)
            return None
        return f"expired copy {archive_id} removed"

    def _remove_claimed_copy(self, claim: RetrievalClaim, heart: Heartbeat) -> bool:
        if not self.ledger.begin_removal(claim, self.clock()):
            return False
        for begun in self.store.list_multiparts(self.retrieval_bucket, claim.archive_id):
            if begun.key == claim.archive_id:
                self.store.abort_multipart(self.retrieval_bucket, begun.key, begun.upload_id)
        listed = [
            each for each in self.store.list(self.retrieval_bucket, claim.archive_id) if each.key == claim.archive_id
        ]
        heart.check()
        self.ledger.heartbeat_retrieval(claim)  # the last look before it: this pass may have stood still
        self.store.delete(self.retrieval_bucket, listed)
        self.ledger.forget_retrieval(claim.archive_id, claim)
        return True

    def _unfinished_uploads(self) -> Iterator[Task]:
        """Multipart uploads that nobody goes on with, in both buckets: their parts take space that no list shows."""
        now = self.clock()
        if now - self._uploads_listed_at < _MEASURE_EVERY:
            return
        for bucket, abandon in (
            (self.landing_bucket, self._abandon_upload),
            (self.retrieval_bucket, self._abandon_copy),
        ):
            for each in self.store.list_multiparts(bucket, f"{DATASETS_FOLDER}/"):
                if each.begun_at is not None and now - each.begun_at >= _LEFTOVERS:
                    yield f"unfinished upload of {each.key}", partial(abandon, each)
        self._uploads_listed_at = now

    def _abandon_upload(self, begun: OpenMultipart) -> str | None:
        pid, mark, _ = begun.key.removeprefix(f"{DATASETS_FOLDER}/").partition(f"/{RAW_FILES}/")
        upload = self.ledger.find_upload(pid)
        if not mark or (upload is not None and upload.state in LIVE):
            return None
        self.store.abort_multipart(self.landing_bucket, begun.key, begun.upload_id)
        self.ledger.close_multipart(pid, begun.key, begun.upload_id)
        return f"unfinished upload of {begun.key} aborted: {pid} has no open upload"

    def _abandon_copy(self, begun: OpenMultipart) -> str | None:
        """Under the claim on the copy: a run that makes one holds it."""
        try:
            claim = self.ledger.claim_retrieval(begun.key, self._name, self.claim_timeout)
        except DatasetBusyError:
            return None
        try:
            self.store.abort_multipart(self.retrieval_bucket, begun.key, begun.upload_id)
            record = self.ledger.retrieval(begun.key)
            if record is not None and record.state is RetrievalState.COPYING:
                self.ledger.forget_retrieval(begun.key, claim)
        finally:
            self.ledger.release_retrieval(claim)
        return f"unfinished copy {begun.key} aborted"

    # ------------------------------------------------------------------------------------------ withdrawn

    def _withdrawals(self) -> Iterator[Task]:
        """Data sets that were withdrawn, restored or removed, and of which the catalogue was not told. None is removed
        here, however long its time is over: that is done by an operator alone."""
        for record in self.ledger.retirements():
            if not record.told:
                yield f"the withdrawal of {record.pid}", partial(self._tell_withdrawal, record.pid)

    def _tell_withdrawal(self, pid: str) -> str | None:
        try:
            with claimed(self.ledger, pid, self._name, self.claim_timeout):
                told = tell_retirement(self.catalogue, self.ledger, self.storage_location, pid)
        except DatasetBusyError:
            return None
        return None if told is None else f"the catalogue was told that {pid} is {told.state}"

    # ------------------------------------------------------------------------------------------ the share

    def _compare_share(self, report: Report, *, whole_share: bool) -> None:
        if self.share is None:
            return
        try:
            for finding in self.share.go_on(to_the_end=whole_share):
                (report.alarms if finding.is_alarm else report.done).append(finding.text)
                if not finding.is_alarm:
                    log.info("reconciled", action=finding.text)
        except ArchiverError as error:
            report.failed.append(f"ledger against share: {error}")
            log.warning("reconciliation_failed", part="ledger against share", error=str(error))
        except Exception as error:  # noqa: BLE001  # nobody is at hand: the next passes must be made all the same
            report.failed.append(self._unforeseen("ledger against share", error))


def _again(job: Job) -> str:
    """What to do for the work to be done after all."""
    if job.type == JobType.ARCHIVE:
        return "Set the data set archivable in SciCat and submit a new job"
    return "Submit a new job"


@contextmanager
def open_reconciliation(
    configuration: FlowConfiguration, settings: ReconciliationSettings, *, with_share: bool, dry_run: bool = False
) -> Iterator[Reconciliation]:
    """Reconciliation with clients of everything around, for the time of the `with` block.

    With `dry_run` they change nothing, and reports say what a pass would do. Its log lines say the same as ever.
    """
    name = f"{SERVICE}/{uuid.uuid4()}"
    claim_timeout = timedelta(seconds=configuration.archiving.claim_timeout_s)
    with ExitStack() as stack:
        ledger = stack.enter_context((DryLedger if dry_run else Ledger).open(configuration.ledger))
        channel = open_channel(configuration.notifications)
        share = None
        if with_share:
            comparison = ShareComparison(
                ledger, configuration.lts, settings, claim_timeout, name, channel, dry_run=dry_run
            )
            share = stack.enter_context(comparison)
        yield Reconciliation(
            stack.enter_context((DryCatalogue if dry_run else Catalogue).open(configuration.catalogue)),
            stack.enter_context((DryQueue if dry_run else JobQueue).open(configuration.queue)),
            ledger,
            stack.enter_context((DryStore if dry_run else ObjectStore).open(configuration.store)),
            configuration.store.s3_retrieval_bucket,
            configuration.store.s3_landingzone_bucket,
            settings,
            claim_timeout,
            share,
            channel=unheard(channel) if dry_run else channel,
            warn_before=timedelta(hours=configuration.notifications.notify_expiry_hours),
            storage_location=configuration.catalogue.storage_location,
            _name=name,
        )


def serve(configuration: FlowConfiguration, settings: ReconciliationSettings) -> None:
    """Reconcile every interval, for ever."""
    with_share = settings.reconciliation_share_hours > 0
    with open_reconciliation(configuration, settings, with_share=with_share) as reconciliation:
        pause = threading.Event()
        while True:
            reconciliation.reconcile()
            pause.wait(settings.reconciliation_interval_s)


def _end(_number: int, _frame: FrameType | None) -> None:
    # At once, also out of a call that is being retried: a pass may be broken off anywhere.
    raise SystemExit(0)


def main() -> int:
    """Run the service until SIGTERM or SIGINT; the exit status where it is refused."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _end)
    configure_logs()
    try:
        configuration = FlowConfiguration()
        configuration.refuse_to_be_open()
    except (OpenDeploymentError, UnreadableSecretFileError) as error:
        log.error("configuration_refused", error=str(error))  # noqa: TRY400 - the text says it all
        return 2
    serve(configuration, ReconciliationSettings())
    return 0


if __name__ == "__main__":
    sys.exit(main())
