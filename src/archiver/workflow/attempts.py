"""Another run for a job whose runs have ended."""

from collections.abc import Sequence

from archiver.workflow.catalogue.models import Job
from archiver.workflow.job_queue import JobQueue, QueuedRun, RunState
from archiver.workflow.ledger.ledger import Ledger


def submit_again(queue: JobQueue, ledger: Ledger, job: Job, runs: Sequence[RunState]) -> tuple[int, QueuedRun]:
    """A run for the attempt after `runs`, all the runs of the job there are; the attempt's number, and the run."""
    known = {run.id for run in runs}
    attempt = len(runs) + 1
    # Where operators have deleted a run, this number may be that of one that has ended.
    while (run := queue.submit(job.id, job.type, attempt)).id in known:
        attempt += 1
    ledger.record_run(job.id, job.type, attempt, run.id)
    return attempt, run
