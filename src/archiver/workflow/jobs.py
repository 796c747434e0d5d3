"""A job of the catalogue: data sets that are worked on side by side and fail alone, and what it ends with."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Job
from archiver.workflow.download_script import Download, download_script
from archiver.workflow.errors import ArchiverError, BadJobError, UserError
from archiver.workflow.retrieval import RetrievalOutcome

log = structlog.get_logger(__name__)


class JobType(StrEnum):
    """Jobs this service works on."""

    ARCHIVE = "archive"
    RETRIEVE = "retrieve"


class JobStatus(StrEnum):
    """States of a job as the facility's catalogue and its mails know them."""

    IN_PROGRESS = "inProgress"
    SUCCESSFUL = "finishedSuccessful"
    WITH_DATASET_ERRORS = "finishedWithDatasetErrors"
    UNSUCCESSFUL = "finishedUnsuccessful"


UNFINISHED_STATUSES = frozenset({"jobSubmitted", str(JobStatus.IN_PROGRESS)})
"""Of jobs that wait or are worked on."""
FAILED_STATUSES = frozenset({str(JobStatus.WITH_DATASET_ERRORS), str(JobStatus.UNSUCCESSFUL)})
"""Of jobs that ended badly."""


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """How one data set of a job ended."""

    pid: str
    message: str
    failed: bool = False
    users_fault: bool = False
    retrieval: RetrievalOutcome | None = None
    downloads: tuple[Download, ...] = ()


def result_of_error(pid: str, error: ArchiverError) -> DatasetResult:
    """The failure of one data set."""
    return DatasetResult(pid, str(error), failed=True, users_fault=isinstance(error, UserError))


def status_of(results: Sequence[DatasetResult]) -> JobStatus:
    """What a job ends with: any system error weighs more than users' errors, and those more than success."""
    if any(result.failed and not result.users_fault for result in results):
        return JobStatus.UNSUCCESSFUL
    if any(result.failed for result in results):
        return JobStatus.WITH_DATASET_ERRORS
    return JobStatus.SUCCESSFUL


def message_of(results: Sequence[DatasetResult]) -> str:
    """How each data set ended, failures first."""
    ordered = sorted(results, key=lambda result: not result.failed)
    return "\n".join(f"{result.pid}: {result.message}" for result in ordered)


def result_object(results: Sequence[DatasetResult]) -> Mapping[str, Any] | None:
    """`jobResultObject` of a retrieve job: links, and the download script in base64; None without any."""
    downloads = [(result, download) for result in results for download in result.downloads]
    if not downloads:
        return None
    expires_at = min(result.retrieval.expires_at for result, _ in downloads if result.retrieval is not None)
    script = download_script([download for _, download in downloads], expires_at)
    entries = []
    for result, download in downloads:
        tars = result.retrieval.tars if result.retrieval is not None else ()
        tar = next(tar for tar in tars if tar.name == download.name)
        entries.append(
            {
                "datasetId": result.pid,
                "name": download.name,
                "size": tar.size,
                "archiveId": tar.archive_id,
                "url": download.url,
                "packedSize": tar.packed_size,
                "sha256": tar.sha256,
                "expiresAt": expires_at.isoformat(),
            }
        )
    return {"result": entries, "downloadScript": base64.b64encode(script.encode()).decode()}


def begin_job(catalogue: Catalogue, job_id: str, job_type: JobType) -> Job:
    """The job, now in progress.

    Raises:
        BadJobError: it is unknown, of another type, or names no data sets; a known one is ended with that message.
    """
    job = catalogue.job(job_id)
    problem = ""
    if job.type != job_type:
        problem = f"The job {job_id} is of type {job.type!r}, not '{job_type}'. Submit a job of the right type."
    elif not job.datasets:
        problem = f"The job {job_id} names no data sets. Submit a job with at least one."
    if problem:
        catalogue.update_job(job_id, JobStatus.WITH_DATASET_ERRORS, problem)
        raise BadJobError(problem)
    catalogue.update_job(job_id, JobStatus.IN_PROGRESS, f"working on {len(job.datasets)} data sets")
    return job


def files_wanted(catalogue: Catalogue, job_id: str, pid: str) -> tuple[str, ...]:
    """The files of `pid` that the job asks for by name; none where it asks for all.

    Asked of the catalogue by who needs it: there may be more names than a flow run's parameters may hold.

    Raises:
        BadJobError: the catalogue does not know the job.
    """
    return next((dataset.files for dataset in catalogue.job(job_id).datasets if dataset.pid == pid), ())


def end_job(catalogue: Catalogue, job: Job, results: Sequence[DatasetResult]) -> JobStatus:
    """Tell the catalogue how the job ended: status, message and, for a retrieval, the links."""
    status = status_of(results)
    catalogue.update_job(job.id, status, message_of(results), result_object(results))
    log.info("job_ended", job_id=job.id, status=status, datasets=len(results))
    return status
