"""Flows of operators: a data set of generated files, and the smoke test of the whole way there and back."""

import uuid
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from archiver.config.logs import configure_logs
from archiver.workflow.errors import ArchiverError
from archiver.workflow.flows.configuration import flow_configuration
from archiver.workflow.flows.dataset_runs import holder
from archiver.workflow.flows.monitor import PrefectMonitor
from archiver.workflow.notifications import Weight, open_channel
from archiver.workflow.smoke_files import SmokeFiles
from archiver.workflow.smoke_test import MEGABYTE, SmokeTest
from archiver.workflow.smoke_test import create_dataset as make_dataset
from archiver.workflow.tools import open_tools

FileSize = Annotated[int, Field(ge=0, description="Size of each file, MB of 10^6 bytes")]
FileCount = Annotated[int, Field(ge=1, le=1_000_000, description="Number of files")]


@flow(name="create_dataset")
def create_dataset(
    dataset_id: str | None = None,
    file_size_MB: FileSize = 10,  # noqa: N803  # as operators know it
    num_files: FileCount = 10,
) -> State[None]:
    """Make a data set of generated files, ready to be archived; its pid is `dataset_id`, or a new one."""
    configure_logs()
    pid = dataset_id or f"archiver-test-data/{uuid.uuid4()}"
    given = SmokeFiles(pid, num_files, file_size_MB * MEGABYTE)
    try:
        with open_tools(flow_configuration()) as tools:
            make_dataset(tools, PrefectMonitor(pid, "uploading"), pid, given)
    except ArchiverError as error:
        return Failed(message=f"{pid}: {error}")
    return Completed(
        message=f"{pid}: created, {num_files} files of {file_size_MB} MB each are uploaded; it can be archived"
    )


@flow(name="end_to_end_test")
def end_to_end_test(
    file_size_MB: FileSize = 100,  # noqa: N803  # as operators know it
    num_files: FileCount = 10,
) -> State[None]:
    """Make, archive, retrieve and compare a data set, and remove all of it again."""
    configure_logs()
    try:
        configuration = flow_configuration()
    except ArchiverError as error:
        return Failed(message=str(error))  # whom to tell is not known either
    try:
        with open_tools(configuration) as tools:
            outcome = SmokeTest(tools, PrefectMonitor).run(num_files, file_size_MB * MEGABYTE, holder())
    except ArchiverError as error:
        title = "Archiver: end_to_end_test failed"
        open_channel(configuration.notifications).send(title, str(error), Weight.FAILURE)
        return Failed(message=str(error))
    return Completed(message=f"{outcome.pid}: {outcome.message}")
