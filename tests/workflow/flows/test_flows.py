"""The flows on a Prefect server: what the catalogue is told, and what operators see."""

import asyncio
import base64
import io
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import stamina
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State

from archiver.config.settings import FlowConfiguration
from archiver.workflow.flows.archive import archive_datasetlist
from archiver.workflow.flows.monitor import artifact_key
from archiver.workflow.flows.retrieve import retrieve_datasetlist
from archiver.workflow.ledger.counters import ERRORS
from archiver.workflow.ledger.errors import LedgerError
from archiver.workflow.ledger.records import Stage
from archiver.workflow.tools import Tools, open_tools
from support.facility import Facility, file_entry

# Prefect leaves closing its connections to the garbage collector; ours are closed, as the use cases' tests show.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def run(flow: Callable[..., Any], job_id: str) -> State[None]:
    """The state a flow ends with."""

    async def ended() -> State[None]:
        state: State[None] = await flow(UUID(job_id), return_state=True)
        return state

    return asyncio.run(ended())


def archive(job_id: str) -> State[None]:
    return run(archive_datasetlist, job_id)


def retrieve(job_id: str) -> State[None]:
    return run(retrieve_datasetlist, job_id)


def test_a_job_archives_its_data_sets_and_ends_successfully(registered: Facility) -> None:
    pids = [registered.ingest({"f": b"1"}), registered.ingest({"g": b"22"})]
    job_id = registered.submit("archive", *pids)

    state = archive(job_id)

    assert state.is_completed(), state.message
    assert all(registered.is_published(pid) for pid in pids)
    job = registered.job(job_id)
    assert job["statusCode"] == "finishedSuccessful"
    assert all(f"{pid}: archived: 1 files" in job["statusMessage"] for pid in pids)


def test_one_data_set_fails_alone_and_the_job_says_which(registered: Facility) -> None:
    good = registered.ingest({"f": b"1"})
    bad = registered.new_dataset()
    registered.list_files(bad, [file_entry("missing", 1)])
    job_id = registered.submit("archive", bad, good)

    state = archive(job_id)

    assert state.is_failed()
    assert registered.is_published(good)
    job = registered.job(job_id)
    assert job["statusCode"] == "finishedWithDatasetErrors"
    assert f"{bad}: Files of the catalogue's list are not in the landing zone" in job["statusMessage"]
    assert job["statusMessage"] == state.message
    assert registered.lifecycle(bad)["archiveStatusMessage"] == "missingFilesError"
    assert registered.lifecycle(bad)["archiveReturnMessage"] in job["statusMessage"]


def test_a_run_that_is_cancelled_stops_the_work_on_its_data_sets(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = registered.ingest({"f": b"1"})
    job_id = registered.submit("archive", pid)
    ledger = registered.tools.ledger
    # It waits for more space than there is, for hours, unless it is stopped.
    monkeypatch.setenv("LTS_FREE_SPACE_PERCENTAGE", "99.99")

    def is_waiting() -> bool:
        record = ledger.dataset(pid)
        return record is not None and record.stage is Stage.PLANNED

    async def work() -> None:
        await archive_datasetlist(UUID(job_id))

    async def cancelled() -> None:
        run = asyncio.create_task(work())
        while not await asyncio.to_thread(is_waiting):
            assert not run.done()
            await asyncio.sleep(0.1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancelled())  # returns when the threads have ended

    record = ledger.dataset(pid)
    assert record is not None
    assert record.holder is None
    assert "The run was cancelled" in record.message
    assert not registered.is_published(pid)
    assert registered.landed(pid) == {"f"}


def test_a_retrieve_job_hands_out_links_and_a_script(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1"})
    archive(registered.submit("archive", pid))
    job_id = registered.submit("retrieve", pid)

    state = retrieve(job_id)

    assert state.is_completed(), state.message
    result = registered.job(job_id)["jobResultObject"]
    (entry,) = result["result"]
    assert entry["datasetId"] == pid
    assert entry["archiveId"].endswith("_0.tar")
    assert entry["url"].startswith("http")
    assert "sha256sum" in base64.b64decode(result["downloadScript"]).decode()


def test_a_retrieve_job_that_names_files_hands_out_these_alone(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1", "folder/g": b"22"})
    archive(registered.submit("archive", pid))
    job_id = registered.submit("retrieve", pid, files=["folder/g"])

    state = retrieve(job_id)

    assert state.is_completed(), state.message
    (entry,) = registered.job(job_id)["jobResultObject"]["result"]
    assert entry["size"] == 2
    with tarfile.open(fileobj=io.BytesIO(httpx.get(entry["url"]).content)) as tar:
        assert tar.getnames() == ["folder/g"]
    assert "1 files that were asked for" in registered.job(job_id)["statusMessage"]


def test_a_retrieve_job_that_names_unknown_files_is_the_users_error(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1"})
    archive(registered.submit("archive", pid))
    # SciCat itself refuses what no list names; this one was listed after the data set was archived.
    registered.list_files(pid, [file_entry("g", 1)])
    job_id = registered.submit("retrieve", pid, files=["f", "g"])

    state = retrieve(job_id)

    assert state.is_failed()
    job = registered.job(job_id)
    assert job["statusCode"] == "finishedWithDatasetErrors"
    assert "Unknown: 'g'" in job["statusMessage"]
    assert "Unknown: 'g'" in registered.lifecycle(pid)["retrieveReturnMessage"]


def test_a_job_of_another_type_is_ended_with_a_message(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1"})
    archive(registered.submit("archive", pid))
    job_id = registered.submit("retrieve", pid)

    state = archive(job_id)

    assert state.is_failed()
    assert registered.job(job_id)["statusCode"] == "finishedWithDatasetErrors"
    assert "is of type 'retrieve', not 'archive'" in registered.job(job_id)["statusMessage"]
    counted = {each.label: each.count for each in registered.tools.ledger.counters() if each.name == ERRORS}
    assert counted == {"bad-job": 1}


def test_an_unknown_job_fails_with_a_message(registered: Facility) -> None:
    state = archive(str(uuid4()))

    assert state.is_failed()
    assert "job" in (state.message or "")


def test_an_unmounted_share_is_a_system_error_the_catalogue_is_told(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1"})
    job_id = registered.submit("archive", pid)
    (registered.lts_root / ".archiver-share-identity").rename(registered.lts_root.parent / "identity")

    state = archive(job_id)

    assert state.is_failed()
    assert registered.job(job_id)["statusCode"] == "finishedUnsuccessful"
    assert registered.lifecycle(pid)["archiveStatusMessage"] == "scheduleArchiveJobFailed"
    assert "not mounted" in registered.lifecycle(pid)["archiveReturnMessage"]


def test_a_ledger_that_does_not_answer_at_first_is_asked_again(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = registered.ingest({"f": b"1"})
    job_id = registered.submit("archive", pid)
    asked = []

    def open_at_the_second_try(configuration: FlowConfiguration) -> AbstractContextManager[Tools]:
        asked.append(1)
        if len(asked) == 1:
            raise LedgerError("away for a moment")
        return open_tools(configuration)

    monkeypatch.setattr("archiver.workflow.flows.dataset_runs.open_tools", open_at_the_second_try)
    with stamina.set_testing(True, attempts=2):  # without the pauses
        state = archive(job_id)

    assert state.is_completed(), state.message
    assert len(asked) == 2


def test_an_unexpected_error_is_told_too(registered: Facility, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = registered.ingest({"f": b"1"})
    job_id = registered.submit("archive", pid)

    def broken(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("archiver.workflow.flows.archive.Archiving.archive", broken)
    state = archive(job_id)

    assert state.is_failed()
    assert registered.job(job_id)["statusCode"] == "finishedUnsuccessful"
    assert "Unexpected KeyError" in registered.lifecycle(pid)["archiveReturnMessage"]


def test_operators_see_data_sets_progress_and_datablocks(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1"})
    archive(registered.submit("archive", pid))

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[f"archive {pid}"])))
        artifacts = client.read_artifacts(
            artifact_filter=None, flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [str(run.id)]}})
        )
    assert run.state is not None
    assert run.state.is_completed()
    assert "1 files, 1 bytes in 1 datablocks, read back and proven" in (run.state.message or "")
    shown = {artifact.type: artifact for artifact in artifacts}
    assert float(str(shown["progress"].data)) == 100.0
    assert pid in (shown["table"].description or "")


def test_a_failed_data_set_says_what_to_do_and_every_line_carries_the_ids(
    registered: Facility, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCICAT_FRONTEND_URL", "https://scicat.example")
    pid = registered.new_dataset()
    registered.list_files(pid, [file_entry("missing.mrc", 1)])
    job_id = registered.submit("archive", pid)

    archive(job_id)

    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts(limit=200)}
    told = artifacts[artifact_key("what-to-do", pid)]
    assert "missing.mrc" in str(told.data)
    assert f"archiver retry {job_id}" in str(told.data)
    assert "https://scicat.example/datasets/" in str(artifacts[artifact_key("scicat", pid)].data)
    (line,) = [record.getMessage() for record in caplog.records if "dataset_failed" in record.getMessage()]
    assert f"job_id={job_id}" in line
    assert f"pid={pid}" in line
    assert "run_id=" in line
    assert "code=missing-files" in line
    counted = {each.label: each.count for each in registered.tools.ledger.counters() if each.name == "errors"}
    assert counted == {"missing-files": 1}
