"""Flow `retrieve_datasetlist`: the retrieve job of the catalogue."""

from uuid import UUID

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from archiver.workflow.download_script import Download
from archiver.workflow.flows.dataset_runs import completed, holder, result_of, run_job, with_tries
from archiver.workflow.flows.log_context import logged_with
from archiver.workflow.flows.messages import link_to_catalogue
from archiver.workflow.flows.monitor import PrefectMonitor, artifact_key
from archiver.workflow.flows.server_away import only_shown
from archiver.workflow.jobs import DatasetResult, JobType, files_wanted
from archiver.workflow.retrieval import Retrieval, RetrievalOutcome
from archiver.workflow.retrieval_sources import RetrievalSources
from archiver.workflow.tools import Tools


@flow(name="retrieve_dataset", flow_run_name="retrieve {pid}")
def retrieve_dataset(pid: str, job_id: str) -> State[DatasetResult]:
    """Retrieve one data set of the job `job_id`."""
    link_to_catalogue(pid)
    monitor = PrefectMonitor(pid, "retrieving")

    def retrieve(tools: Tools) -> tuple[RetrievalOutcome, tuple[Download, ...], str]:
        files = files_wanted(tools.catalogue, job_id, pid)
        sources = RetrievalSources(tools, monitor)
        retrieved = sources.first_good(pid, lambda given: Retrieval(given, monitor).retrieve(pid, holder(), files))
        return retrieved, tuple(Retrieval(tools, monitor).downloads(retrieved)), sources.message

    with logged_with(job_id=job_id, pid=pid):
        outcome, downloads, remark = with_tries(pid, retrieve)
    links = "".join(f"- [{download.name}]({download.url})\n" for download in downloads)
    with only_shown("links"):
        create_markdown_artifact(
            f"Links to what was retrieved of {pid}, until {outcome.expires_at:%Y-%m-%d %H:%M} UTC:\n\n{links}",
            artifact_key("links", pid),
        )
    return completed(DatasetResult(pid, outcome.message + remark, retrieval=outcome, downloads=downloads))


@flow(name="retrieve_datasetlist", flow_run_name="retrieve-{job_id}")
async def retrieve_datasetlist(job_id: UUID) -> State[None]:
    """Retrieve the data sets of a catalogue job, side by side."""

    def retrieve(pid: str) -> DatasetResult:
        return result_of(retrieve_dataset(pid, str(job_id)))

    return await run_job(str(job_id), JobType.RETRIEVE, retrieve)
