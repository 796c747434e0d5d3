"""Reconciliation with a real Prefect server, catalogue, ledger and object store."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from structlog.testing import capture_logs

from archiver.config.settings import QueueSettings, ReconciliationSettings
from archiver.local.postgres import PostgresServer
from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.catalogue.models import Job
from archiver.workflow.claims import claimed
from archiver.workflow.dry_run import DryCatalogue, DryLedger, DryQueue, DryStore, unheard
from archiver.workflow.holdings.rebuilding import note_event_in_ledger
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.job_queue import DATASET_TAG, DEPLOYMENTS, JobQueue, QueuedRun, RunState
from archiver.workflow.ledger.counters import ERRORS, STUCK_TASKS
from archiver.workflow.ledger.records import RetirementState, UploadState
from archiver.workflow.ledger.tables import metadata
from archiver.workflow.names import DATASETS_FOLDER, TEMPORARY_MARK, dataset_prefix
from archiver.workflow.notifications import Channel, Nobody, Weight
from archiver.workflow.reconciliation import SERVICE, Reconciliation, Report
from archiver.workflow.retirement import tell_retirement
from archiver.workflow.share_comparison import ShareComparison
from archiver.workflow.storage.lts import IDENTITY_FILE
from archiver.workflow.storage.s3_records import OpenMultipart, StoredObject
from archiver.workflow.tombstones import Event, EventKind, note_event, remove_bag
from support.bags import make_bag
from support.facility import Facility
from support.instrument import eventually
from support.prefect_server import PrefectServer, run_prefect_server

MINUTE = timedelta(minutes=1)


@dataclass
class Clock:
    """The time, as far ahead as a test wants."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Office:
    """A facility and its queue, and reconciliation over both."""

    facility: Facility
    queue: JobQueue
    prefect: httpx.Client
    clock: Clock = field(default_factory=Clock)

    def reconciliation(self, **changes: Any) -> Reconciliation:
        """A service that has not made a pass yet."""
        tools = self.facility.tools
        parts: dict[str, Any] = {
            "catalogue": tools.catalogue,
            "queue": self.queue,
            "ledger": tools.ledger,
            "store": tools.store,
            "retrieval_bucket": tools.store_settings.s3_retrieval_bucket,
            "landing_bucket": tools.store_settings.s3_landingzone_bucket,
            "settings": ReconciliationSettings(reconciliation_max_attempts=3, reconciliation_dead_run_s=180),
            "clock": self.clock,
        }
        return Reconciliation(**(parts | changes))

    def reconcile(self) -> Report:
        """A pass of a service that was just started."""
        return self.reconciliation().reconcile()

    def archive_job(self, files: dict[str, bytes] | None = None) -> tuple[str, str]:
        """A job of SciCat whose notification got lost, and its data set."""
        pid = self.facility.ingest(files or {"f": b"1"})
        return self.facility.submit("archive", pid), pid

    def start(self, job_id: str, job_type: str = "archive", attempt: int = 1) -> QueuedRun:
        """A run that works on a job, which the catalogue knows to be in progress."""
        run = self.queue.submit(job_id, job_type, attempt)
        self.enter(run, "PENDING", "RUNNING")
        self.facility.tools.catalogue.update_job(job_id, "inProgress", "working on 1 data sets")
        return run

    def start_dataset(self, job_id: str, pid: str) -> QueuedRun:
        """The run for one data set within that of its job, as the flows make it."""
        flow = self.prefect.post("flows/", json={"name": "archive_dataset"}).raise_for_status().json()["id"]
        body = {
            "flow_id": flow,
            "name": f"archive {pid}",
            "parameters": {"pid": pid, "job_id": job_id},
            "tags": [DATASET_TAG],
        }
        made = self.prefect.post("flow_runs/", json=body).raise_for_status().json()
        run = QueuedRun(uuid.UUID(made["id"]), made["name"])
        self.enter(run, "PENDING", "RUNNING")
        return run

    def enter(self, run: QueuedRun, *states: str, message: str = "", name: str | None = None) -> None:
        """Takes a run through states, as a worker does."""
        for state in states:
            wanted = {"type": state, "name": name, "message": message}
            answer = self.prefect.post(f"flow_runs/{run.id}/set_state", json={"state": wanted, "force": True})
            assert answer.raise_for_status().json()["status"] == "ACCEPT"

    def crash(self, job_id: str, times: int, job_type: str = "archive") -> None:
        """Runs of a job that all crashed."""
        for attempt in range(1, times + 1):
            self.enter(self.start(job_id, job_type, attempt), "CRASHED", message="Out of memory.")

    def states(self, job_id: str) -> list[str]:
        """States of a job's runs."""
        return [run.state_type for run in self.queue.runs_of_job(job_id)]

    def beat(self, run: QueuedRun, at: datetime) -> None:
        """A heartbeat of a run, once it has arrived."""
        event = {
            "id": str(uuid.uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": at.isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        }
        self.prefect.post("events", json=[event]).raise_for_status()

        def arrived() -> bool:
            found = self.queue.run(run.id)
            return found is not None and found.last_sign == at

        assert eventually(arrived)

    @contextmanager
    def fault(self, **fields: Any) -> Iterator[Callable[[], bool]]:
        """A fault of the catalogue while the block runs; tells whether it has struck."""
        url = f"{self.facility.scicat_url}/_sim/faults"
        armed = httpx.post(url, json={"times": None} | fields).raise_for_status().json()["id"]
        try:
            yield lambda: any(each["id"] == armed and each["fired"] for each in httpx.get(url).json())
        finally:
            httpx.delete(f"{url}/{armed}").raise_for_status()


def withdraw(facility: Facility, pid: str, *, remove: bool = False) -> None:
    """Share and ledger know of a withdrawal, as `archiver retire` makes one; the catalogue is still to be told."""
    tools = facility.tools
    now = tools.ledger.now()
    event = Event(pid, EventKind.RETIRED, now, "ada", "wrong sample", now, 1, 1, ())
    with ChildProcess(60) as child, claimed(tools.ledger, pid, "ada", MINUTE) as claim:
        for kind in (EventKind.RETIRED, EventKind.REMOVING, EventKind.REMOVED)[: 3 if remove else 1]:
            noted = child.call(note_event, None, tools.share, event.then(kind, now, "ada"), "test")
            assert noted is not None
            note_event_in_ledger(tools.ledger, claim, noted)
            if kind is EventKind.REMOVING:
                child.call(remove_bag, None, tools.share, pid)


@pytest.fixture(scope="session")
def prefect_server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that knows the deployments, which nobody works on."""
    with run_prefect_server(postgres, tmp_path_factory.mktemp("prefect")) as server:
        with server.client() as client:
            for flow, name in DEPLOYMENTS.values():
                flow_id = client.post("flows/", json={"name": flow}).raise_for_status().json()["id"]
                client.post("deployments/", json={"name": name, "flow_id": flow_id}).raise_for_status()
        yield server


def queue_settings(server: PrefectServer) -> QueueSettings:
    auth = SecretStr(server.environment["PREFECT_API_AUTH_STRING"])
    return QueueSettings(prefect_api_url=server.url, prefect_api_auth_string=auth)


@pytest.fixture
def office(facility: Facility, prefect_server: PrefectServer) -> Iterator[Office]:
    """A facility with empty catalogue and queue."""
    httpx.post(f"{facility.scicat_url}/_sim/reset").raise_for_status()
    with JobQueue.open(queue_settings(prefect_server)) as queue, prefect_server.client() as prefect:
        yield Office(facility, queue, prefect)
        httpx.post(f"{facility.scicat_url}/_sim/reset").raise_for_status()
        runs = prefect.post("flow_runs/filter", json={"flow_runs": {"tags": {"any_": ["archiver", DATASET_TAG]}}})
        for run in runs.raise_for_status().json():
            prefect.delete(f"flow_runs/{run['id']}").raise_for_status()
        tools = facility.tools
        for bucket in (facility.bucket, tools.store_settings.s3_retrieval_bucket):
            for begun in tools.store.list_multiparts(bucket, DATASETS_FOLDER):
                tools.store.abort_multipart(bucket, begun.key, begun.upload_id)


# ---------------------------------------------------------------------------------------------- runs of jobs


def test_a_job_whose_notification_was_lost_gets_a_run(office: Office) -> None:
    job_id, _ = office.archive_job()

    report = office.reconcile()

    assert report.done == [f"job {job_id} queued (run 1): its notification was lost"]
    (run,) = office.queue.runs_of_job(job_id)
    assert [(each.run_id, each.attempt) for each in office.facility.tools.ledger.runs(job_id)] == [(run.id, 1)]
    assert office.reconcile() == Report()


def test_two_services_at_once_make_one_run(office: Office) -> None:
    jobs = [office.archive_job()[0] for _ in range(3)]
    services = [office.reconciliation() for _ in range(2)]
    ready = threading.Barrier(2)

    def pass_together(service: Reconciliation) -> Report:
        ready.wait()
        return service.reconcile()

    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(pass_together, services))

    assert [report.failed for report in reports] == [[], []]
    assert [office.states(job_id) for job_id in jobs] == [["SCHEDULED"]] * 3


def test_a_run_without_sign_of_life_is_declared_crashed_and_its_job_runs_again(office: Office) -> None:
    job_id, _ = office.archive_job()
    run = office.start(job_id)
    service = office.reconciliation()
    assert service.reconcile() == Report()

    office.clock.ahead = 2 * MINUTE
    assert service.reconcile() == Report()
    office.clock.ahead = 4 * MINUTE
    report = service.reconcile()

    assert report.done == [
        f"run {run.name} declared crashed",
        f"job {job_id} queued (run 2): its last run ended Crashed",
    ]
    assert office.states(job_id) == ["CRASHED", "SCHEDULED"]
    first = office.queue.run(run.id)
    assert first is not None
    assert "No sign of life since" in first.message


def test_a_killed_jobs_runs_of_its_data_sets_are_declared_crashed_when_it_has_none(
    office: Office,
) -> None:
    job_id, pid = office.archive_job()
    job_run = office.start(job_id)
    dataset_run = office.start_dataset(job_id, pid)
    service = office.reconciliation()
    service.reconcile()

    office.clock.ahead = 4 * MINUTE
    office.beat(job_run, datetime.now(UTC) + timedelta(seconds=30))
    assert service.reconcile() == Report()

    office.facility.tools.catalogue.update_job(job_id, "finishedSuccessful", "done")
    office.enter(job_run, "COMPLETED")
    service.reconcile()
    office.clock.ahead = 8 * MINUTE
    report = service.reconcile()

    assert report.done == [f"run {dataset_run.name} declared crashed"]
    ended = office.queue.run(dataset_run.id)
    assert ended is not None
    assert ended.state_type == "CRASHED"


def test_a_run_with_a_heartbeat_lives(office: Office) -> None:
    job_id, _ = office.archive_job()
    run = office.start(job_id)
    service = office.reconciliation()
    service.reconcile()

    office.clock.ahead = 4 * MINUTE
    office.beat(run, datetime.now(UTC) + timedelta(seconds=30))

    assert service.reconcile() == Report()
    assert office.states(job_id) == ["RUNNING"]


def test_silence_while_the_server_was_away_does_not_count(office: Office) -> None:
    job_id, _ = office.archive_job()
    office.start(job_id)
    service = office.reconciliation()
    service.reconcile()

    office.clock.ahead = 4 * MINUTE
    with JobQueue.open(QueueSettings(prefect_api_url="http://127.0.0.1:9/api"), patience_s=0.2) as away:
        service.queue = away
        assert any("dead runs" in failure for failure in service.reconcile().failed)
    service.queue = office.queue

    assert service.reconcile() == Report()
    assert office.states(job_id) == ["RUNNING"]
    office.clock.ahead = 8 * MINUTE
    service.reconcile()
    assert office.states(job_id) == ["CRASHED", "SCHEDULED"]


def test_a_run_that_is_being_started_has_more_time(office: Office) -> None:
    job_id, _ = office.archive_job()
    office.enter(office.queue.submit(job_id, "archive"), "PENDING")
    service = office.reconciliation()
    service.reconcile()

    office.clock.ahead = 14 * MINUTE
    assert service.reconcile() == Report()
    assert office.states(job_id) == ["PENDING"]
    office.clock.ahead = 16 * MINUTE
    service.reconcile()
    assert office.states(job_id) == ["CRASHED", "SCHEDULED"]


@pytest.mark.parametrize(
    ("states", "name"),
    [
        (["SCHEDULED"], "Late"),
        (["SCHEDULED"], "AwaitingConcurrencySlot"),
        (["RUNNING", "PAUSED"], "Suspended"),
        (["RUNNING", "CANCELLING"], "Cancelling"),
    ],
)
def test_a_run_that_only_waits_is_not_dead(office: Office, states: list[str], name: str) -> None:
    job_id, _ = office.archive_job()
    office.enter(office.queue.submit(job_id, "archive"), *states, name=name)
    service = office.reconciliation()
    service.reconcile()

    office.clock.ahead = timedelta(days=3)

    assert service.reconcile() == Report()
    assert office.states(job_id) == states[-1:]


def test_after_the_last_attempt_the_job_ends_and_the_data_set_says_why(office: Office) -> None:
    job_id, pid = office.archive_job()
    office.crash(job_id, 2)
    assert office.reconcile().done == [f"job {job_id} queued (run 3): its last run ended Crashed"]
    office.enter(office.start(job_id, attempt=3), "CRASHED", message="Out of memory.")

    (done,) = office.reconcile().done

    assert done.startswith(f"job {job_id} given up: Given up after 3 runs; the last one: Out of memory.")
    job, lifecycle = office.facility.job(job_id), office.facility.lifecycle(pid)
    assert job["statusCode"] == "finishedUnsuccessful"
    assert job["statusMessage"] == lifecycle["archiveReturnMessage"] == done.partition("given up: ")[2]
    assert lifecycle["archiveStatusMessage"] == "scheduleArchiveJobFailed"
    counted = {each.label: each.count for each in office.facility.tools.ledger.counters() if each.name == ERRORS}
    assert counted == {"permanent": 1}
    assert office.reconcile() == Report()
    assert office.states(job_id) == ["CRASHED"] * 3


def test_a_cancelled_run_ends_the_job_and_is_not_run_again(office: Office) -> None:
    job_id, pid = office.archive_job()
    office.enter(office.start(job_id), "CANCELLED", message="Not tonight.")

    office.reconcile()

    job = office.facility.job(job_id)
    assert job["statusCode"] == "finishedUnsuccessful"
    assert job["statusMessage"].startswith("Its run was cancelled: Not tonight.")
    assert office.facility.lifecycle(pid)["archiveReturnMessage"] == job["statusMessage"]
    assert office.reconcile() == Report()
    assert office.states(job_id) == ["CANCELLED"]


def test_a_job_that_ended_and_told_is_left_alone(office: Office) -> None:
    job_id, _ = office.archive_job()
    run = office.start(job_id)
    office.facility.tools.catalogue.update_job(job_id, "finishedWithDatasetErrors", "a file is missing")
    office.enter(run, "FAILED")

    assert office.reconcile() == Report()
    assert office.states(job_id) == ["FAILED"]
    assert office.facility.job(job_id)["statusMessage"] == "a file is missing"


def test_a_run_that_ended_and_could_not_tell_is_run_again(office: Office) -> None:
    job_id, _ = office.archive_job()
    office.enter(office.start(job_id), "COMPLETED")

    assert office.reconcile().done == [f"job {job_id} queued (run 2): its last run ended Completed"]


def test_a_retrieve_job_that_is_given_up_leaves_its_data_set_archived(office: Office) -> None:
    pid = office.facility.ingest({"f": b"1"})
    office.facility.archive(pid)
    job_id = office.facility.submit("retrieve", pid)
    office.crash(job_id, 3, "retrieve")

    office.reconcile()

    lifecycle = office.facility.lifecycle(pid)
    assert office.facility.job(job_id)["statusCode"] == "finishedUnsuccessful"
    assert (lifecycle["retrieveStatusMessage"], lifecycle["retrievable"]) == ("scheduleRetrieveJobFailed", True)
    assert "Given up after 3 runs" in lifecycle["retrieveReturnMessage"]
    assert lifecycle["archiveStatusMessage"] == "datasetOnArchiveDisk"


def test_giving_a_job_up_says_nothing_of_its_archived_data_sets(office: Office) -> None:
    done, undone = office.facility.ingest({"f": b"1"}), office.facility.ingest({"g": b"2"})
    job_id = office.facility.submit("archive", done, undone)
    office.facility.archive(done)
    before = office.facility.lifecycle(done)
    office.crash(job_id, 3)

    office.reconcile()

    assert office.facility.lifecycle(done) == before
    assert office.facility.lifecycle(undone)["archiveStatusMessage"] == "scheduleArchiveJobFailed"
    assert office.facility.job(job_id)["statusCode"] == "finishedUnsuccessful"


def test_giving_a_job_up_leaves_a_withdrawn_data_set_what_it_says(office: Office) -> None:
    facility = office.facility
    pid = facility.ingest({"f": b"1"})
    job_id = facility.submit("archive", pid)
    facility.archive(pid)
    withdraw(facility, pid)
    tell_retirement(facility.tools.catalogue, facility.tools.ledger, "ETHZ", pid)
    before = facility.lifecycle(pid)
    assert "was withdrawn" in before["archiveReturnMessage"]
    office.crash(job_id, 3)

    assert len(office.reconcile().done) == 1

    assert facility.lifecycle(pid) == before
    assert facility.job(job_id)["statusCode"] == "finishedUnsuccessful"


def test_a_job_is_not_given_up_while_its_data_set_is_being_archived(office: Office) -> None:
    job_id, pid = office.archive_job()
    office.crash(job_id, 3)
    ledger = office.facility.tools.ledger
    claim = ledger.claim_dataset(pid, "seemed dead", timedelta(minutes=2))

    assert office.reconcile() == Report()
    assert office.facility.job(job_id)["statusCode"] == "inProgress"

    office.clock.ahead = 3 * MINUTE  # no heartbeat meanwhile
    assert len(office.reconcile().done) == 1
    ledger.release_claim(claim)


def test_a_data_set_that_is_gone_from_the_catalogue_does_not_keep_its_job_open(office: Office) -> None:
    job_id, pid = office.archive_job()
    office.crash(job_id, 3)
    office.facility.call("DELETE", f"v3/datasets/{quote(pid, safe='')}", user=ARCHIVER)

    report = office.reconcile()

    assert report.failed == []
    assert office.facility.job(job_id)["statusCode"] == "finishedUnsuccessful"


def test_a_job_that_is_refused_is_an_alarm_in_each_pass_and_neither_stops_the_others_nor_makes_the_service_look_dead(
    office: Office,
) -> None:
    stuck, _ = office.archive_job()
    office.crash(stuck, 3)
    others = [office.archive_job()[0] for _ in range(2)]
    ledger = office.facility.tools.ledger

    with office.fault(method="PATCH", path_regex=f"/jobs/{stuck}$", status=403) as struck:
        first, beat = office.reconcile(), ledger.last_beat(SERVICE)
        second, later = office.reconcile(), ledger.last_beat(SERVICE)
        assert struck()

    for report in (first, second):
        (alarm,) = report.alarms
        assert alarm.startswith(f"job {stuck}: SciCat refused")
        assert "Check the rights" in alarm
        assert report.failed == []
    assert [office.states(job_id) for job_id in others] == [["SCHEDULED"]] * 2
    assert beat is not None
    assert later is not None
    assert later > beat
    counted = {each.label: each.count for each in ledger.counters() if each.name == STUCK_TASKS}
    assert counted == {"catalogue-refused": 2}
    assert len(office.reconcile().done) == 1


def test_an_error_that_nobody_foresaw_is_told_and_neither_stops_the_others_nor_the_service(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, _ = office.archive_job()
    other, _ = office.archive_job()
    channel = Told()
    service = office.reconciliation(channel=channel)
    job_of, ledger = service.catalogue.job, office.facility.tools.ledger

    def job(job_id: str) -> Job:
        if job_id == odd:
            raise KeyError("a document of another form")
        return job_of(job_id)

    monkeypatch.setattr(service.catalogue, "job", job)
    with capture_logs() as logs:
        first, second = service.reconcile(), service.reconcile()

    for report in (first, second):
        assert report.alarms == [f"job {odd}: unexpected KeyError: 'a document of another form'"]
        assert report.failed == []
    assert office.states(other) == ["SCHEDULED"]
    assert channel.titles == ["Archiver: reconciliation met 1 errors that nobody foresaw"]
    assert all("exc_info" in each for each in logs if each["event"] == "reconciliation_stuck")
    counted = {each.label: each.count for each in ledger.counters() if each.name == STUCK_TASKS}
    assert counted == {"permanent": 2}


def test_a_part_that_ends_in_an_error_that_nobody_foresaw_fails_the_pass_and_the_other_parts_are_done(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = office.archive_job()
    service = office.reconciliation()

    def unfinished_dataset_runs() -> list[RunState]:
        raise TypeError("of another form")

    monkeypatch.setattr(service.queue, "unfinished_dataset_runs", unfinished_dataset_runs)
    report = service.reconcile()

    assert report.failed == ["dead runs: unexpected TypeError: of another form"]
    assert office.states(job_id) == ["SCHEDULED"]
    assert office.facility.tools.ledger.last_beat(SERVICE) is None


def test_a_job_that_could_not_be_ended_for_the_moment_keeps_the_pass_from_counting(office: Office) -> None:
    stuck, _ = office.archive_job()
    office.crash(stuck, 3)
    others = [office.archive_job()[0] for _ in range(2)]

    with office.fault(method="PATCH", path_regex=f"/jobs/{stuck}$", status=503) as struck:
        report = office.reconcile()
        assert struck()

    assert [failure.partition(":")[0] for failure in report.failed] == [f"job {stuck}"]
    assert report.alarms == []
    assert [office.states(job_id) for job_id in others] == [["SCHEDULED"]] * 2
    assert office.facility.tools.ledger.last_beat(SERVICE) is None
    assert len(office.reconcile().done) == 1


def test_a_removal_of_which_scicat_deletes_no_datablocks_is_told_until_it_does(office: Office) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    pid = facility.ingest({"f": b"1"})
    facility.archive(pid)
    withdraw(facility, pid, remove=True)

    with office.fault(method="DELETE", path_regex="/datablocks/", status=403) as struck:
        report = office.reconcile()
        assert struck()

    (alarm,) = report.alarms
    assert alarm.startswith(f"the withdrawal of {pid}: SciCat refused")
    assert (report.failed, ledger.last_beat(SERVICE) is not None) == ([], True)
    assert len(facility.registered(pid)) == 1
    assert office.reconcile() == Report(done=[f"the catalogue was told that {pid} is removed"])
    assert facility.registered(pid) == []


def test_a_run_that_operators_deleted_does_not_stop_the_next_one(office: Office) -> None:
    job_id, _ = office.archive_job()
    office.crash(job_id, 2)
    first, second = office.queue.runs_of_job(job_id)
    office.prefect.delete(f"flow_runs/{first.id}").raise_for_status()

    assert office.reconcile().done == [f"job {job_id} queued (run 3): its last run ended Crashed"]

    assert office.queue.runs_of_job(job_id)[0].id == second.id
    assert office.states(job_id) == ["CRASHED", "SCHEDULED"]


# ---------------------------------------------------------------------------------------------- space


def reserve(facility: Facility, pid: str, expires_in: timedelta, reserved: int = 1000) -> None:
    """An open upload."""
    facility.tools.ledger.reserve_upload(
        pid, "ada", "p12345", reserved, reserved, 10**12, datetime.now(UTC) + expires_in
    )


def begin_multipart(facility: Facility, pid: str) -> OpenMultipart:
    """A multipart upload with a part that was sent, as a client begins it through the API."""
    key = f"{dataset_prefix(pid)}large"
    upload_id = facility.tools.store.create_multipart(facility.bucket, key)
    facility.tools.ledger.open_multipart(pid, key, upload_id)
    signed = facility.tools.store.signed_put(facility.bucket, key, size=4, upload_id=upload_id, part=1)
    httpx.put(signed.url, content=b"part", headers=signed.headers).raise_for_status()
    return OpenMultipart(key, upload_id)


def begun(facility: Facility, pid: str) -> list[OpenMultipart]:
    """Multipart uploads that S3 keeps parts of."""
    found = facility.tools.store.list_multiparts(facility.bucket, f"{dataset_prefix(pid)}large")
    return [OpenMultipart(each.key, each.upload_id) for each in found]


def test_an_expired_upload_gives_its_reservation_back_and_its_data_stays(office: Office) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    pid, lasting = facility.ingest({"kept": b"content"}), facility.new_dataset()
    reserve(facility, pid, -MINUTE)
    reserve(facility, lasting, MINUTE)
    multipart, other = begin_multipart(facility, pid), begin_multipart(facility, lasting)
    assert begun(facility, pid) == [multipart]

    report = office.reconcile()

    assert report.done == [
        f"upload of {pid} by ada expired: 1000 reserved bytes come free; 1 objects of 7 bytes stay in the landing zone",
        f"1 unfinished multipart uploads of {pid} aborted",
    ]
    upload = ledger.find_upload(pid)
    assert upload is not None
    assert upload.state is UploadState.EXPIRED
    assert (begun(facility, pid), ledger.multiparts(pid)) == ([], [])
    assert facility.landed(pid) == {"kept"}
    assert begun(facility, lasting) == [other]
    assert ledger.landing_usage().reserved_bytes == 1000
    assert office.reconcile() == Report()


def test_parts_that_could_not_be_dropped_are_dropped_by_the_next_pass(office: Office) -> None:
    facility = office.facility
    pid = facility.new_dataset()
    reserve(facility, pid, -MINUTE)
    begin_multipart(facility, pid)

    report = office.reconciliation(landing_bucket="no-such-bucket").reconcile()
    assert any(f"unfinished parts of {pid}" in alarm for alarm in report.alarms)
    assert [failure.partition(":")[0] for failure in report.failed] == ["unfinished uploads"]

    assert office.reconcile().done == [f"1 unfinished multipart uploads of {pid} aborted"]
    assert begun(facility, pid) == []


def test_parts_of_a_new_upload_of_the_same_data_set_stay(office: Office) -> None:
    facility = office.facility
    pid = facility.new_dataset()
    reserve(facility, pid, -MINUTE)
    facility.tools.ledger.expire_uploads(datetime.now(UTC))
    reserve(facility, pid, MINUTE)
    multipart = begin_multipart(facility, pid)

    assert office.reconcile() == Report()

    assert begun(facility, pid) == [multipart]


def test_more_in_the_landing_zone_than_was_reserved_is_counted_and_told_once(office: Office) -> None:
    facility = office.facility
    pid = facility.ingest({"large": bytes(5000)})
    reserve(facility, pid, MINUTE, reserved=1000)
    service = office.reconciliation()

    (told,) = service.reconcile().done

    assert f"5000 bytes of {pid} lie in the landing zone" in told
    assert facility.tools.ledger.landing_usage().committed_bytes == 5000
    office.clock.ahead = timedelta(seconds=30)
    facility.upload(pid, {"more": bytes(700)})
    assert service.reconcile() == Report()
    assert facility.tools.ledger.landing_usage().committed_bytes == 5000


def test_what_an_abort_that_was_broken_off_left_is_measured_and_told(office: Office) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    pid = facility.ingest({"left": bytes(700)})
    reserve(facility, pid, timedelta(hours=1), reserved=1000)
    ledger.abort_upload(pid, emptied=False)
    service = office.reconciliation()

    assert service.reconcile().done == [f"700 bytes of {pid} lie in the landing zone and count: its upload is aborted"]

    assert ledger.landing_usage().left_behind_bytes == 700
    tools = facility.tools
    tools.store.delete(facility.bucket, tools.store.list(facility.bucket, dataset_prefix(pid)))
    office.clock.ahead = 16 * MINUTE
    told = f"nothing of {pid} lies in the landing zone any more: its upload is aborted"
    assert service.reconcile().done == [told]
    assert ledger.landing_usage().committed_bytes == 0


def test_what_is_sent_by_an_old_url_after_the_end_of_an_upload_counts_and_is_told(office: Office) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    pid = facility.new_dataset()
    reserve(facility, pid, timedelta(hours=1), reserved=1000)
    ledger.finalize_upload(pid, 1000)
    ledger.landing_emptied(pid)
    service = office.reconciliation()
    assert service.reconcile() == Report()
    facility.upload(pid, {"late": bytes(300)})

    office.clock.ahead = timedelta(hours=1)
    assert service.reconcile().done == [f"300 bytes of {pid} lie in the landing zone and count: its upload is emptied"]
    assert ledger.landing_usage().committed_bytes == 300

    office.clock.ahead = timedelta(days=9)  # it counts for as long as it lies there
    assert service.reconcile() == Report()
    assert ledger.landing_usage().committed_bytes == 300


def test_landed_bytes_within_the_reservation_are_noted_in_silence(office: Office) -> None:
    facility = office.facility
    pid = facility.ingest({"small": bytes(500)})
    reserve(facility, pid, timedelta(hours=1), reserved=1000)
    service = office.reconciliation()
    assert service.reconcile() == Report()
    assert facility.tools.ledger.landing_usage().landed_bytes == 500

    facility.upload(pid, {"more": bytes(300)})
    office.clock.ahead = 16 * MINUTE
    assert service.reconcile() == Report()
    assert facility.tools.ledger.landing_usage().landed_bytes == 800


def retrieve(facility: Facility) -> str:
    """A data set that was archived and retrieved; the archiveId of its one copy."""
    pid = facility.ingest({"f": b"1"})
    facility.archive(pid)
    return facility.retrieve(pid).tars[0].archive_id


def is_copied(facility: Facility, archive_id: str) -> bool:
    tools = facility.tools
    there = tools.store.head(tools.store_settings.s3_retrieval_bucket, archive_id) is not None
    assert there == (tools.ledger.retrieval(archive_id) is not None)
    return there


def test_an_expired_copy_is_removed_and_an_extended_one_stays(office: Office) -> None:
    facility, tools = office.facility, office.facility.tools
    expired, extended = retrieve(facility), retrieve(facility)
    days = tools.store_settings.retrieval_lifetime
    tools.ledger.extend_retrieval(extended, datetime.now(UTC) + days + timedelta(hours=2))
    assert office.reconcile() == Report()

    office.clock.ahead = days + timedelta(hours=1)
    # The bucket is shared: so long after, what other tests began and left there is cleared up, too.
    done = office.reconcile().done
    assert [each for each in done if each.startswith("expired")] == [f"expired copy {expired} removed"]

    assert not is_copied(facility, expired)
    assert is_copied(facility, extended)
    assert (facility.lts_root / expired).exists()
    assert office.reconcile() == Report()


def test_a_copy_that_a_run_works_on_stays(office: Office) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    archive_id = retrieve(facility)
    claim = ledger.claim_retrieval(archive_id, "a run", timedelta(minutes=2))
    office.clock.ahead = timedelta(days=30)

    assert office.reconcile() == Report()
    assert is_copied(facility, archive_id)

    ledger.release_retrieval(claim)
    assert office.reconcile().done == [f"expired copy {archive_id} removed"]


def test_a_removal_that_was_replaced_does_not_delete_the_copy_that_was_made_anew(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, ledger = office.facility.tools, office.facility.tools.ledger
    archive_id = retrieve(office.facility)
    office.clock.ahead = timedelta(days=30)
    service = office.reconciliation()
    listed = service.store.list

    def meanwhile(bucket: str, prefix: str) -> Iterator[StoredObject]:
        yield from listed(bucket, prefix)
        if prefix == archive_id:  # as a run does to which this pass seems dead
            claim = ledger.claim_retrieval(archive_id, "a run", timedelta())
            ledger.record_retrieved(claim, 1, "ab" * 32, datetime.now(UTC) + timedelta(days=60))

    monkeypatch.setattr(service.store, "list", meanwhile)
    report = service.reconcile()

    assert [each.partition(":")[0] for each in report.failed] == [f"expired copy {archive_id}"]
    assert tools.store.head(tools.store_settings.s3_retrieval_bucket, archive_id) is not None


def test_a_removal_that_takes_long_keeps_its_claim(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = office.facility.tools.ledger
    archive_id = retrieve(office.facility)
    office.clock.ahead = timedelta(days=30)
    service = office.reconciliation(claim_timeout=timedelta(seconds=0.4))
    listed = service.store.list

    def slow(bucket: str, prefix: str) -> Iterator[StoredObject]:
        if prefix == archive_id:
            before = ledger.retrieval(archive_id)

            def is_later() -> bool:
                now = ledger.retrieval(archive_id)
                return before is not None and now is not None and now.heartbeat_at != before.heartbeat_at

            assert eventually(is_later)
        yield from listed(bucket, prefix)

    monkeypatch.setattr(service.store, "list", slow)

    assert service.reconcile().done == [f"expired copy {archive_id} removed"]
    assert ledger.retrieval(archive_id) is None


def test_a_copy_that_is_gone_already_is_forgotten(office: Office) -> None:
    facility, tools = office.facility, office.facility.tools
    archive_id, bucket = retrieve(facility), office.facility.tools.store_settings.s3_retrieval_bucket
    tools.store.delete(bucket, tools.store.list(bucket, archive_id))
    office.clock.ahead = timedelta(days=30)

    assert office.reconcile().done == [f"expired copy {archive_id} removed"]

    assert tools.ledger.retrieval(archive_id) is None


def test_a_copy_that_was_never_completed_leaves_nothing(office: Office) -> None:
    tools, bucket = office.facility.tools, office.facility.tools.store_settings.s3_retrieval_bucket
    archive_id = retrieve(office.facility)
    tools.ledger.forget_retrieval(archive_id)  # as if the copy was complete, and the ledger not told
    claim = tools.ledger.claim_retrieval(archive_id, "a run", timedelta(minutes=2))
    tools.store.create_multipart(bucket, archive_id)
    office.clock.ahead = timedelta(days=2)
    assert office.reconcile() == Report()  # the run may be at work

    tools.ledger.release_retrieval(claim)

    assert f"expired copy {archive_id} removed" in office.reconcile().done
    assert not is_copied(office.facility, archive_id)
    assert list(tools.store.list_multiparts(bucket, archive_id)) == []


# ---------------------------------------------------------------------------------------------- the service


def test_a_pass_with_nothing_to_do_says_nothing_and_shows_that_it_was_made(office: Office) -> None:
    service = office.reconciliation()
    service.reconcile()  # logs in
    before = office.facility.tools.ledger.last_beat(SERVICE)
    assert before is not None

    with capture_logs() as said:
        assert service.reconcile() == Report()

    assert said == []
    after = office.facility.tools.ledger.last_beat(SERVICE)
    assert after is not None
    assert after > before


def test_a_catalogue_that_is_down_does_not_stop_the_rest(office: Office) -> None:
    facility = office.facility
    office.archive_job()
    archive_id, pid = retrieve(facility), facility.new_dataset()
    reserve(facility, pid, -MINUTE)
    office.clock.ahead = timedelta(days=30)

    with office.fault(path_regex="^/api/", status=503) as struck:
        report = office.reconcile()
        assert struck()

    assert [failure.partition(":")[0] for failure in report.failed] == ["jobs without a run"]
    assert any(f"upload of {pid}" in action for action in report.done)
    assert not is_copied(facility, archive_id)
    assert facility.tools.ledger.last_beat(SERVICE) is None

    assert any("its notification was lost" in action for action in office.reconcile().done)
    assert facility.tools.ledger.last_beat(SERVICE) is not None


def test_a_ledger_that_is_down_fails_the_pass_and_not_the_service(office: Office, postgres: PostgresServer) -> None:
    settings = office.facility.ledger_settings
    url = settings.ledger_url.get_secret_value().replace(f":{postgres.port}/", ":9/")
    away = type(office.facility.tools.ledger).open(settings.model_copy(update={"ledger_url": SecretStr(url)}))

    with away:
        report = office.reconciliation(ledger=away).reconcile()

    assert {failure.partition(":")[0] for failure in report.failed} >= {"expired uploads", "expired retrievals"}


def service_environment(office: Office, server: PrefectServer) -> dict[str, str]:
    """Environment of the service."""
    facility = office.facility
    store, catalogue = facility.tools.store_settings, facility.catalogue_settings
    return os.environ | {
        "PREFECT_API_URL": server.url,
        "PREFECT_API_AUTH_STRING": server.environment["PREFECT_API_AUTH_STRING"],
        "LEDGER_URL": facility.ledger_settings.ledger_url.get_secret_value(),
        "S3_ENDPOINT": store.s3_endpoint,
        "S3_USER": store.s3_user.get_secret_value(),
        "S3_PASSWORD": store.s3_password.get_secret_value(),
        "SCICAT_ENDPOINT": facility.scicat_url,
        "SCICAT_USER": catalogue.scicat_user.get_secret_value(),
        "SCICAT_PASSWORD": catalogue.scicat_password.get_secret_value(),
        "SCICAT_RETRY_S": "600",
        "RECONCILIATION_INTERVAL_S": "3600",
        "LTS_ROOT_FOLDER": str(facility.lts_root),
    }


@contextmanager
def service_process(office: Office, server: PrefectServer, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The service as it is started."""
    command = [sys.executable, "-m", "archiver.workflow.reconciliation"]
    process = subprocess.Popen(command, env=service_environment(office, server), cwd=folder)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_the_service_makes_a_pass_and_ends_at_once_when_it_is_told_to(
    office: Office, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    job_id, _ = office.archive_job()
    with service_process(office, prefect_server, tmp_path) as process:
        assert eventually(lambda: office.facility.tools.ledger.last_beat(SERVICE) is not None)
        assert office.states(job_id) == ["SCHEDULED"]
        process.send_signal(signal.SIGTERM)  # its pause lasts an hour

        assert process.wait(20) == 0


def test_the_service_ends_at_once_also_while_it_tries_a_call_again(
    office: Office, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    with (
        office.fault(path_regex="^/api/", status=503) as struck,
        service_process(office, prefect_server, tmp_path) as process,
    ):
        assert eventually(struck)
        process.send_signal(signal.SIGTERM)  # it would try for ten minutes

        assert process.wait(20) == 0


# ---------------------------------------------------------------------------------------------- unfinished uploads


def unfinished(office: Office, bucket: str, key: str) -> list[str]:
    return [each.upload_id for each in office.facility.tools.store.list_multiparts(bucket, key)]


def test_a_copy_that_nobody_finishes_is_aborted_after_a_day(office: Office) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    store, bucket = facility.tools.store, facility.tools.store_settings.s3_retrieval_bucket
    key = f"{dataset_prefix(facility.new_dataset())}x.tar"
    upload_id = store.create_multipart(bucket, key)
    service = office.reconciliation()

    service.reconcile()
    assert unfinished(office, bucket, key) == [upload_id]

    office.clock.ahead = timedelta(days=1, minutes=1)
    claim = ledger.claim_retrieval(key, "a run that lives", timedelta(minutes=5))
    service.reconcile()
    assert unfinished(office, bucket, key) == [upload_id]

    ledger.release_retrieval(claim)
    ledger.forget_retrieval(key)  # what it knows goes as an expired copy
    assert f"unfinished copy {key} aborted" in office.reconcile().done
    assert unfinished(office, bucket, key) == []
    assert ledger.retrieval(key) is None


def test_an_upload_that_the_ledger_does_not_know_is_aborted_after_a_day(office: Office) -> None:
    facility = office.facility
    pid, lasting = facility.new_dataset(), facility.new_dataset()
    reserve(facility, lasting, timedelta(days=3))
    keys = [f"{dataset_prefix(each)}large" for each in (pid, lasting)]
    for key in keys:
        facility.tools.store.create_multipart(facility.bucket, key)
    office.clock.ahead = timedelta(days=1, minutes=1)

    done = office.reconcile().done

    assert f"unfinished upload of {keys[0]} aborted: {pid} has no open upload" in done
    assert unfinished(office, facility.bucket, keys[0]) == []
    assert len(unfinished(office, facility.bucket, keys[1])) == 1


# ---------------------------------------------------------------------------------------------- dry runs


@dataclass
class Told:
    """A channel that keeps what it was sent."""

    titles: list[str] = field(default_factory=list)

    def send(self, title: str, body: str, weight: Weight) -> bool:
        self.titles.append(title)
        return True


@contextmanager
def dry_run(office: Office, server: PrefectServer, channel: Channel) -> Iterator[Reconciliation]:
    """A service whose passes change nothing."""
    facility, tools = office.facility, office.facility.tools
    with (
        DryLedger.open(facility.ledger_settings) as ledger,
        DryCatalogue.open(facility.catalogue_settings) as catalogue,
        DryQueue.open(queue_settings(server)) as queue,
        DryStore.open(tools.store_settings) as store,
        ShareComparison(ledger, tools.lts, ReconciliationSettings(), MINUTE, "dry run", dry_run=True) as share,
    ):
        clients = {"ledger": ledger, "catalogue": catalogue, "queue": queue, "store": store, "share": share}
        yield office.reconciliation(**clients, channel=unheard(channel), warn_before=MINUTE)


def everything(office: Office, jobs: list[str], pids: list[str]) -> dict[str, Any]:
    """All that a pass could change."""
    facility, store = office.facility, office.facility.tools.store
    buckets = (facility.bucket, facility.tools.store_settings.s3_retrieval_bucket)
    with facility.tools.ledger._transaction() as connection:
        rows = {each.name: sorted(map(str, connection.execute(select(each)))) for each in metadata.sorted_tables}
    runs = office.prefect.post("flow_runs/filter", json={}).raise_for_status().json()
    return {
        "ledger": rows,
        "jobs": [facility.job(each) for each in jobs],
        "data sets": [(facility.lifecycle(each), facility.registered(each)) for each in pids],
        "runs": sorted((run["id"], run["state_id"]) for run in runs),
        "objects": [list(store.list(each, DATASETS_FOLDER)) for each in buckets],
        "unfinished": [list(store.list_multiparts(each, DATASETS_FOLDER)) for each in buckets],
        "share": facility.share_contents(),
    }


def test_a_dry_run_tells_what_a_pass_then_does_and_changes_nothing(
    office: Office, prefect_server: PrefectServer
) -> None:
    facility, tools = office.facility, office.facility.tools
    lost, crashed, hopeless = [office.archive_job() for _ in range(3)]
    office.crash(crashed[0], 1)
    office.crash(hopeless[0], 3)
    expired, larger = facility.ingest({"kept": b"content"}), facility.ingest({"large": bytes(5000)})
    reserve(facility, expired, -MINUTE)
    begin_multipart(facility, expired)
    reserve(facility, larger, timedelta(days=60))
    retrieve(facility)
    moved, withdrawn = [facility.ingest({"f": b"1"}) for _ in range(2)]
    for pid in (moved, withdrawn):
        facility.archive(pid)
    facility.bag(moved).rename(facility.lts_root / "moved")
    claim, now = tools.ledger.claim_dataset(withdrawn, "ada", MINUTE), tools.ledger.now()
    tools.ledger.note_retirement(
        claim,
        RetirementState.RETIRED,
        at=now,
        by="ada",
        reason="wrong sample",
        restorable_until=now,
        message="It was withdrawn.",
        files=1,
        payload_bytes=1,
    )
    tools.ledger.release_claim(claim)
    make_bag(tools.share, "20.500/unknown")
    make_bag(tools.share, "20.500/dead", publish=False)
    left_over = f"{facility.bag('20.500/dead')}/manifest-sha256.txt{TEMPORARY_MARK}dead"
    Path(left_over).write_bytes(b"half")
    office.clock.ahead = timedelta(days=30)
    jobs = [job_id for job_id, _ in (lost, crashed, hopeless)]
    pids = [*(pid for _, pid in (lost, crashed, hopeless)), expired, larger, moved, withdrawn]
    before, told = everything(office, jobs, pids), Told()

    with dry_run(office, prefect_server, told) as service:
        dry = service.reconcile(whole_share=True)

    assert everything(office, jobs, pids) == before
    assert told.titles == []
    with ShareComparison(tools.ledger, tools.lts, ReconciliationSettings(), MINUTE, "a pass") as share:
        real = office.reconciliation(share=share, channel=told, warn_before=MINUTE).reconcile(whole_share=True)
    assert dry == real
    words = [
        *("its notification was lost", "(run 2)", "given up", f"{expired} by ada expired", "1 unfinished multipart"),
        *("5000 bytes", "expired copy", "is retired", "20.500/unknown", "20.500/dead"),
    ]
    assert [word for word in words if not any(word in action for action in dry.done)] == []
    assert {pid for pid in (moved, withdrawn) if any(pid in alarm for alarm in dry.alarms)} == {moved, withdrawn}
    assert dry.failed == []
    assert told.titles == [f"Archiver: archive job {hopeless[0]} given up"]


def test_a_dry_run_leaves_alone_what_a_run_is_working_on(office: Office, prefect_server: PrefectServer) -> None:
    tools = office.facility.tools
    make_bag(tools.share, "20.500/busy")
    copy = retrieve(office.facility)
    claims = (
        tools.ledger.claim_dataset("20.500/busy", "a run", MINUTE),
        tools.ledger.claim_retrieval(copy, "it", MINUTE),
    )
    office.clock.ahead = timedelta(days=30)

    with dry_run(office, prefect_server, Nobody()) as service:
        report = service.reconcile(whole_share=True)

    assert [action for action in report.done if "20.500/busy" in action or copy in action] == []
    tools.ledger.release_claim(claims[0])
    tools.ledger.release_retrieval(claims[1])
    with dry_run(office, prefect_server, Nobody()) as service:
        report = service.reconcile(whole_share=True)
    assert len([action for action in report.done if "20.500/busy" in action or copy in action]) == 2


def test_operators_are_told_what_a_pass_would_do_before_it_does_it(
    office: Office, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    facility, ledger = office.facility, office.facility.tools.ledger
    job_id, _ = office.archive_job()
    make_bag(facility.tools.share, "20.500/unknown")
    environment = service_environment(office, prefect_server)

    def reconcile(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "archiver.cli", "reconcile", *options]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    people, programs = reconcile("--dry-run"), reconcile("--dry-run", "--json")

    assert (people.returncode, programs.returncode) == (0, 0), people.stderr
    assert (people.stderr, programs.stderr) == ("", "")
    *lines, unknown, last = people.stdout.splitlines()
    assert {line.partition(":")[0] for line in lines} == {"would be done"}
    assert unknown.startswith("not known: runs that died")
    assert last == "dry run, nothing was changed; 2 would be done, 0 failed, 0 need attention"
    told = json.loads(programs.stdout)
    assert told["dry_run"]
    assert (office.states(job_id), ledger.datasets(), ledger.last_beat(SERVICE)) == ([], [], None)
    done = json.loads(reconcile("--json").stdout)
    assert (done["done"], done["unknown"], done["dry_run"]) == (told["done"], [], False)


# ---------------------------------------------------------------------------------------------- the share


def test_an_alarm_of_the_share_is_no_failure_of_the_pass(office: Office) -> None:
    tools = office.facility.tools
    pid = office.facility.ingest({"f": b"1"})
    office.facility.archive(pid)
    office.facility.bag(pid).rename(office.facility.lts_root / "moved")
    settings = ReconciliationSettings()

    with ShareComparison(tools.ledger, tools.lts, settings, MINUTE, "reconciliation") as share:
        report = office.reconciliation(share=share).reconcile()

    (alarm,) = report.alarms
    assert f"ledger and share disagree on {pid} (missing)" in alarm
    assert report.failed == []
    assert tools.ledger.last_beat(SERVICE) is not None


def test_a_share_that_is_not_mounted_fails_the_pass_and_stops_nothing_else(office: Office) -> None:
    tools = office.facility.tools
    office.archive_job()
    (office.facility.lts_root / IDENTITY_FILE).unlink()

    with ShareComparison(tools.ledger, tools.lts, ReconciliationSettings(), MINUTE, "reconciliation") as share:
        report = office.reconciliation(share=share).reconcile()

    (failure,) = report.failed
    assert failure.startswith("ledger against share: ")
    assert any("its notification was lost" in action for action in report.done)
    assert tools.ledger.last_beat(SERVICE) is None


def test_operators_make_one_pass_and_are_told_what_it_did(
    office: Office, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    facility = office.facility
    job_id, _ = office.archive_job()
    make_bag(facility.tools.share, "20.500/unknown")
    environment = service_environment(office, prefect_server)
    command = [sys.executable, "-m", "archiver.cli", "reconcile", "--json"]

    first = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    facility.bag("20.500/unknown").rename(facility.lts_root / "moved")
    second = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert (document["failed"], document["alarms"], document["complete"]) == ([], [], True)
    assert f"job {job_id} queued (run 1): its notification was lost" in document["done"]
    assert any("20.500/unknown is on the share" in action for action in document["done"])
    assert second.returncode == 3
    assert "20.500/unknown (missing)" in json.loads(second.stdout)["alarms"][0]
