"""What operators do to jobs and to the whole service: look, try again, cancel, pause, go on."""

from collections.abc import Collection
from dataclasses import dataclass

import structlog

from archiver.workflow.attempts import submit_again
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Job
from archiver.workflow.errors import QueueError, UserError
from archiver.workflow.job_queue import QueuedRun, RunState
from archiver.workflow.jobs import FAILED_STATUSES, UNFINISHED_STATUSES, JobStatus, JobType
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.queue_control import PoolState, QueueControl

log = structlog.get_logger(__name__)

_JOB_TYPES = tuple(str(each) for each in JobType)


class JobStateError(UserError):
    """What is asked for does not fit the state that the job is in."""

    code = "job-state"


@dataclass(frozen=True, slots=True)
class JobView:
    """A job of the catalogue and the runs made for it, the oldest first."""

    job: Job
    runs: tuple[RunState, ...]

    @property
    def unfinished_runs(self) -> tuple[RunState, ...]:
        """Those that wait or work."""
        return tuple(run for run in self.runs if not run.is_finished)


@dataclass(frozen=True, slots=True)
class Operations:
    """The use cases. Whatever takes `dry_run` only tells what it would do.

    Raises what the catalogue, the queue and the ledger raise.
    """

    catalogue: Catalogue
    queue: QueueControl
    ledger: Ledger

    def jobs(self, *, failed: bool, limit: int) -> tuple[list[JobView], int]:
        """The newest `limit` jobs that wait or are worked on, or that failed; and how many there are in all."""
        statuses: Collection[str] = FAILED_STATUSES if failed else UNFINISHED_STATUSES
        found = self.catalogue.jobs_in_state(_JOB_TYPES, sorted(statuses))
        found.sort(key=lambda job: job.created_at, reverse=True)
        return [self._view(job) for job in found[:limit]], len(found)

    def job(self, job_id: str) -> JobView:
        """One job.

        Raises:
            BadJobError: the catalogue does not know it.
        """
        return self._view(self.catalogue.job(job_id))

    def _view(self, job: Job) -> JobView:
        return JobView(job, tuple(self.queue.runs_of_job(job.id)))

    def retry(self, job_id: str, *, dry_run: bool) -> tuple[int, QueuedRun | None]:
        """Another run for a job that failed, or whose runs have ended without a word; its number, and the run.

        Raises:
            BadJobError: the catalogue does not know the job.
            JobStateError: it is being worked on, or it succeeded.
        """
        view = self.job(job_id)
        if view.unfinished_runs:
            raise JobStateError(
                f"The job {job_id} is at work: the run {view.unfinished_runs[-1].name} is "
                f"{view.unfinished_runs[-1].state_name}. Wait for it, or cancel it first: archiver cancel {job_id}"
            )
        if view.job.status not in FAILED_STATUSES | UNFINISHED_STATUSES:
            raise JobStateError(
                f"The job {job_id} is {view.job.status}; there is nothing to try again. Submit a new job in SciCat."
            )
        attempt = len(view.runs) + 1
        if dry_run:
            return attempt, None
        # First, or the run might have ended the job before; without a run, reconciliation makes one.
        self.catalogue.update_job(job_id, JobStatus.IN_PROGRESS, f"queued again by an operator (run {attempt})")
        attempt, run = submit_again(self.queue, self.ledger, view.job, view.runs)
        log.warning("job_retried", job_id=job_id, attempt=attempt, run_id=str(run.id))
        return attempt, run

    def cancel(self, job_id: str, *, dry_run: bool) -> list[RunState]:
        """Ends the runs of a job. Reconciliation then tells the catalogue that the job was cancelled.

        Raises:
            JobStateError: no run of it waits or works.
        """
        runs = [run for run in self.queue.runs_of_job(job_id) if not run.is_finished]
        if not runs:
            raise JobStateError(
                f"No run of the job {job_id} waits or works, so there is nothing to cancel. See: archiver jobs {job_id}"
            )
        return [run for run in runs if dry_run or self.queue.cancel(run.id)]

    def set_paused(self, is_paused: bool, *, dry_run: bool) -> list[tuple[PoolState, bool]]:
        """Lets no more runs start, or lets them start again; each pool as it was, and whether that changes it.

        Uploads go on, and jobs are queued. Runs that are at work go on to their end.

        Raises:
            QueueError: no pool of this service is there.
        """
        pools = self.queue.pools()
        if not pools:
            raise QueueError("No flows of this service are deployed. Deploy them (prefect deploy --all).")
        changes = [(pool, pool.is_paused != is_paused) for pool in pools]
        for pool, is_change in changes:
            if is_change and not dry_run:
                self.queue.set_paused(pool.name, is_paused)
        return changes
