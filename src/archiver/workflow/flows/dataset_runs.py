"""Working on a job: its data sets side by side, each failing alone."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar, cast

import stamina
import structlog
from prefect import tags
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from archiver.config.logs import configure_logs
from archiver.config.settings import NotificationSettings
from archiver.workflow.archiving import report_archiving_failure
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Job
from archiver.workflow.errors import (
    ArchiverError,
    BadJobError,
    DatasetBusyError,
    NoSpaceError,
    PermanentError,
    QueueError,
    TransientError,
)
from archiver.workflow.flows.configuration import flow_configuration
from archiver.workflow.flows.log_context import logged_with
from archiver.workflow.flows.messages import tell_what_to_do
from archiver.workflow.flows.server_away import server_may_be_away
from archiver.workflow.flows.stopping import Stop, stopping_together
from archiver.workflow.job_queue import DATASET_TAG
from archiver.workflow.jobs import (
    DatasetResult,
    JobStatus,
    JobType,
    begin_job,
    end_job,
    message_of,
    result_of_error,
)
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.notifications import Weight, open_channel
from archiver.workflow.retrieval import report_retrieval_failure
from archiver.workflow.tools import Tools, open_tools

log = structlog.get_logger(__name__)

T = TypeVar("T")

TRIES = 3


def completed(result: DatasetResult) -> State[DatasetResult]:
    """The state that a data set's run ends with: it says what it came to."""
    return Completed(message=result.message, data=result)


def result_of(ended: object) -> DatasetResult:
    """What a data set's run gave: called from another flow, Prefect hands out the result in place of the state."""
    return cast("DatasetResult", ended)


def holder() -> str:
    """Who holds claims of this run, told apart from its other attempts."""
    return f"{flow_run.id}/{flow_run.run_count}"


def _may_pass(error: Exception) -> bool:
    """What is worth another try; those that were waited for already are not."""
    return isinstance(error, TransientError) and not isinstance(error, DatasetBusyError | NoSpaceError)


def _tries(stop: Stop, may_pass: Callable[[Exception], bool]) -> Iterable[stamina.Attempt]:
    """Attempts with back-off while what fails may pass and nobody asked to stop."""
    return stamina.retry_context(
        on=lambda error: may_pass(error) and not stop.is_asked,
        attempts=TRIES,
        timeout=None,
        wait_initial=10,
        wait_max=300,
        wait_jitter=5,
    )


def with_tries(pid: str, work: Callable[[Tools], T]) -> T:
    """`work`, tried again while what went wrong, in opening its tools too, may pass; then its error.

    Raises:
        StoppedError: the run is being cancelled; what went wrong then is of no account.
    """
    stop = Stop()
    for attempt in _tries(stop, _may_pass):
        with attempt:
            stop.check()
            if attempt.num > 1:
                get_run_logger().warning("%s: try %d of %d", pid, attempt.num, TRIES)
            with open_tools(flow_configuration()) as tools:
                result = work(tools)
    return result


def _run_of_its_own(run: Callable[[str], DatasetResult], pid: str) -> DatasetResult:
    """A data set's run within that of the job, begun again where the Prefect server was away when it was to begin.

    Raises:
        StoppedError: the job's run is being cancelled.
    """
    stop = Stop()
    for attempt in _tries(stop, lambda error: isinstance(error, QueueError)):
        with attempt:
            stop.check()
            with server_may_be_away():
                result = run(pid)
    return result


async def run_job(job_id: str, job_type: JobType, run: Callable[[str], DatasetResult]) -> State[None]:
    """Work on a job of the catalogue and tell it how each data set ended; the state this run ends with."""
    configure_logs()
    with logged_with(job_id=job_id):
        return await _run_job(job_id, job_type, run)


async def _run_job(job_id: str, job_type: JobType, run: Callable[[str], DatasetResult]) -> State[None]:
    configuration = await asyncio.to_thread(flow_configuration)
    with Catalogue.open(configuration.catalogue) as catalogue, Ledger.open(configuration.ledger) as ledger:
        try:
            job = await asyncio.to_thread(begin_job, catalogue, job_id, job_type)
        except BadJobError as error:
            await asyncio.to_thread(ledger.count_error, error.code)
            return Failed(message=str(error))
        places = asyncio.Semaphore(configuration.archiving.archiver_parallel_datasets)

        async def one(pid: str) -> DatasetResult:
            async with places:
                return await asyncio.to_thread(_run_of_its_own, run, pid)

        def tell(pid: str, error: ArchiverError) -> None:
            log.error("dataset_failed", pid=pid, code=error.code, error=str(error))
            if job_type is JobType.RETRIEVE:
                report_retrieval_failure(catalogue, pid, error)
            else:
                timeout = timedelta(seconds=configuration.archiving.claim_timeout_s)
                report_archiving_failure(catalogue, ledger, pid, error, timeout)
            tell_what_to_do(job_id, pid, error)
            ledger.count_error(error.code)

        pids = [dataset.pid for dataset in job.datasets]
        with stopping_together(), tags(DATASET_TAG):
            ended = await asyncio.gather(*(one(pid) for pid in pids), return_exceptions=True)
        results = [
            outcome if isinstance(outcome, DatasetResult) else await asyncio.to_thread(_failed, pid, outcome, tell)
            for pid, outcome in zip(pids, ended, strict=True)
        ]
        status = await asyncio.to_thread(end_job, catalogue, job, results)
    message = message_of(results)
    await asyncio.to_thread(_notify, configuration.notifications, job, status, message)
    return Completed(message=message) if status is JobStatus.SUCCESSFUL else Failed(message=message)


def _notify(settings: NotificationSettings, job: Job, status: JobStatus, message: str) -> None:
    if status is not JobStatus.SUCCESSFUL or settings.notify_success:
        weight = Weight.SUCCESS if status is JobStatus.SUCCESSFUL else Weight.FAILURE
        title = f"Archiver: {job.type} job {job.id} {status}"
        open_channel(settings).send(title, message, weight)


def _failed(pid: str, error: BaseException, report: Callable[[str, ArchiverError], None]) -> DatasetResult:
    """The result of a data set that failed for good; the catalogue is told why."""
    if not isinstance(error, Exception):
        raise error  # cancelled, or the process is to end: a new run goes on
    if not isinstance(error, ArchiverError):
        error = PermanentError(f"Unexpected {type(error).__name__}: {error}. See the log of this data set's run.")
    logger = get_run_logger()
    logger.error("%s: %s", pid, error)
    try:
        report(pid, error)
    except ArchiverError as untold:
        logger.error("%s: the catalogue could not be told: %s", pid, untold)  # noqa: TRY400
    return result_of_error(pid, error)
