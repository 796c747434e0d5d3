"""Flows whose Prefect server is away: what is only shown is not worth a run, and a place that is lost is had again."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
import stamina
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient

from archiver.workflow.errors import QueueError
from archiver.workflow.flows import archive, messages, monitor, retrieve
from archiver.workflow.flows.archive import archive_datasetlist
from archiver.workflow.flows.configuration import flow_configuration
from archiver.workflow.flows.monitor import PrefectMonitor
from archiver.workflow.flows.retrieve import retrieve_datasetlist
from archiver.workflow.monitor import Limit
from support.facility import Facility

# Prefect leaves closing its connections to the garbage collector; ours are closed, as the use cases' tests show.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def away(*_: object, **__: object) -> Any:
    raise httpx.ConnectError("the server is away")


def run(job_flow: Callable[..., Any], job_id: str) -> None:
    async def ended() -> None:
        await job_flow(UUID(job_id), return_state=True)

    asyncio.run(ended())


@pytest.fixture
def nothing_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in {
        monitor: ("create_progress_artifact", "update_progress_artifact", "create_table_artifact"),
        messages: ("create_link_artifact", "create_markdown_artifact"),
        retrieve: ("create_markdown_artifact",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, away)
    monkeypatch.setenv("SCICAT_FRONTEND_URL", "https://scicat.example")


@pytest.mark.usefixtures("nothing_can_be_shown")
def test_jobs_end_well_though_nothing_of_them_can_be_shown(registered: Facility) -> None:
    pid = registered.ingest({"f": b"1"})
    archived, retrieved = registered.submit("archive", pid), None

    run(archive_datasetlist, archived)
    retrieved = registered.submit("retrieve", pid)
    run(retrieve_datasetlist, retrieved)

    assert registered.job(archived)["statusCode"] == "finishedSuccessful", registered.job(archived)["statusMessage"]
    assert registered.job(retrieved)["statusCode"] == "finishedSuccessful", registered.job(retrieved)["statusMessage"]


@pytest.mark.usefixtures("nothing_can_be_shown")
def test_a_data_set_whose_owner_must_mend_it_is_told_so_though_nothing_can_be_shown(registered: Facility) -> None:
    pid = registered.new_dataset()
    registered.list_files(pid, [{"path": "missing", "size": 1, "time": "2024-05-06T07:08:09.000Z"}])
    job_id = registered.submit("archive", pid)

    run(archive_datasetlist, job_id)

    assert registered.job(job_id)["statusCode"] == "finishedWithDatasetErrors"
    assert "'missing'" in registered.job(job_id)["statusMessage"]


def test_a_server_that_is_away_when_a_data_set_is_begun_or_its_settings_are_read_is_asked_again(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = registered.ingest({"f": b"1"})
    job_id = registered.submit("archive", pid)
    asked: list[str] = []
    begin, read = archive.archive_dataset, SyncPrefectClient.read_variables

    def begin_at_the_second_try(*arguments: Any) -> Any:
        asked.append("run")
        return away() if asked.count("run") == 1 else begin(*arguments)

    def read_at_the_third_time(client: SyncPrefectClient, **options: Any) -> Any:
        asked.append("settings")
        return away() if asked.count("settings") in (2, 3) else read(client, **options)

    monkeypatch.setattr(archive, "archive_dataset", begin_at_the_second_try)
    monkeypatch.setattr(SyncPrefectClient, "read_variables", read_at_the_third_time)
    with stamina.set_testing(True, attempts=3):  # without the pauses
        run(archive_datasetlist, job_id)

    assert registered.job(job_id)["statusCode"] == "finishedSuccessful", registered.job(job_id)["statusMessage"]
    assert asked.count("run") == 2
    assert asked.count("settings") > 3


def test_settings_that_cannot_be_read_are_a_reason_to_try_again(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SyncPrefectClient, "read_variables", away)

    with pytest.raises(QueueError, match="does not answer"):
        flow_configuration()


def work_until(condition: Callable[[], bool]) -> Callable[[], str]:
    """Work of many small pieces, as progress comes from the child process."""

    def work() -> str:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return "done"

    return work


def test_a_place_whose_lease_cannot_be_renewed_is_lost_and_the_step_is_tried_again(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect.concurrency._leases._RENEWAL_RETRY_BASE_DELAY", 0.01)
    renewals: list[float] = []

    def renew(*_: object, **__: object) -> None:
        renewals.append(time.monotonic())
        away()

    monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", renew)

    @flow(name="loses its place")
    def losing() -> str:
        return PrefectMonitor("p/1", "testing").step("work", work_until(lambda: False), Limit.WRITE_LTS)

    with pytest.raises(QueueError, match=f"limit {Limit.WRITE_LTS} was lost"):
        losing()
    assert len(renewals) == 3  # Prefect gives up then


def test_work_that_is_done_counts_though_its_place_cannot_be_given_back(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect.concurrency._sync.release_concurrency_slots_with_lease", away)

    @flow(name="keeps its place")
    def keeping() -> str:
        return PrefectMonitor("p/1", "testing").step("work", lambda: "done", Limit.READ_LTS)

    assert keeping() == "done"


def test_a_limit_that_is_not_registered_fails_before_the_work_begins(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []

    @flow(name="has no limit")
    def limitless() -> None:
        PrefectMonitor("p/1", "testing").step("work", lambda: begun.append(True), "no-such-limit")  # type: ignore[arg-type]

    with pytest.raises(Exception, match="no-such-limit"):
        limitless()
    assert begun == []
