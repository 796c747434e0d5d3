"""Flow `archive_datasetlist`: the archive job of the catalogue."""

from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State

from archiver.workflow.archiving import Archiving
from archiver.workflow.flows.dataset_runs import completed, holder, result_of, run_job, with_tries
from archiver.workflow.flows.log_context import logged_with
from archiver.workflow.flows.messages import link_to_catalogue
from archiver.workflow.flows.monitor import PrefectMonitor
from archiver.workflow.jobs import DatasetResult, JobType


@flow(name="archive_dataset", flow_run_name="archive {pid}")
def archive_dataset(pid: str, job_id: str) -> State[DatasetResult]:
    """Archive one data set of the job `job_id`."""
    link_to_catalogue(pid)
    monitor = PrefectMonitor(pid, "archiving")
    with logged_with(job_id=job_id, pid=pid):
        outcome = with_tries(pid, lambda tools: Archiving(tools, monitor).archive(pid, holder()))
    return completed(DatasetResult(pid, outcome.message))


@flow(name="archive_datasetlist", flow_run_name="archive-{job_id}")
async def archive_datasetlist(job_id: UUID) -> State[None]:
    """Archive the data sets of a catalogue job, side by side."""
    return await run_job(str(job_id), JobType.ARCHIVE, lambda pid: result_of(archive_dataset(pid, str(job_id))))
