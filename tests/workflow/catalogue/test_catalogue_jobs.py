"""Jobs through both versions of SciCat's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.defaults import ARCHIVER, stack_config
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.documents import read_job
from archiver.workflow.catalogue.models import Job, JobDataset
from archiver.workflow.errors import BadJobError, CatalogueError, CatalogueRefusedError

if TYPE_CHECKING:
    from workflow.catalogue.conftest import Exchange, Facility, Reply

PID = "20.500.12345/jobs"
PATCH = {"method": "PATCH", "path_regex": "/jobs/"}
CREATE = {"method": "POST", "path_regex": "/api/v[34]/jobs$"}


@pytest.fixture(params=["/api/v4", "/api/v3"])
def jobs_prefix(request: pytest.FixtureRequest) -> str:
    """Both versions."""
    return str(request.param)


@pytest.fixture
def jobs(facility: Facility, jobs_prefix: str) -> Iterator[Catalogue]:
    """The catalogue under test, with one version of the jobs API and a data set."""
    facility.ingest(PID)
    facility.list_files(PID, facility.files(2))
    with facility.open(scicat_jobs_api_prefix=jobs_prefix, scicat_timeout_s=1) as catalogue:
        yield catalogue


SUBMITTED = ["jobSubmitted"]


def submit(facility: Facility, *pids: str, job_type: str = "archive", files: tuple[str, ...] = ()) -> str:
    """A job as a user submits it."""
    body = {
        "type": job_type,
        "ownerGroup": "p12345",
        "jobParams": {"datasetList": [{"pid": pid, "files": list(files)} for pid in pids], "username": "ig"},
    }
    return str(facility.call("POST", "/api/v4/jobs", body)["id"])


def stored(facility: Facility, job_id: str) -> Any:
    """The job as SciCat keeps it."""
    return facility.call("GET", f"/api/v4/jobs/{job_id}", user=ARCHIVER)


def test_a_job_is_read(facility: Facility, jobs: Catalogue, jobs_prefix: str) -> None:
    other = facility.ingest("20.500.12345/other")
    job_id = submit(facility, PID, other)

    job = jobs.job(job_id)

    assert (job.id, job.type, job.status) == (job_id, "archive", "jobSubmitted")
    assert job.datasets == (JobDataset(PID, ()), JobDataset(other, ()))
    assert (job.owner_user, job.contact_email) == ("ingestor", "ingestor@facility.test")
    assert job.created_at.endswith("Z")
    if jobs_prefix == "/api/v4":
        assert job.owner_group == "p12345"


def test_the_files_a_job_asks_for_are_read(facility: Facility, jobs: Catalogue) -> None:
    job_id = submit(facility, PID, files=("raw/000001.tif",))
    assert jobs.job(job_id).datasets == (JobDataset(PID, ("raw/000001.tif",)),)


@pytest.mark.parametrize("job_id", ["3f0e2a9c-0000-4000-8000-000000000000", "no job", "a/b"])
def test_an_unknown_job_is_a_bad_job(jobs: Catalogue, job_id: str) -> None:
    with pytest.raises(BadJobError, match="does not know the job"):
        jobs.job(job_id)
    with pytest.raises(BadJobError, match="does not know the job"):
        jobs.update_job(job_id, "inProgress", "Archiving.")


def test_a_job_gets_its_state_message_and_result(facility: Facility, jobs: Catalogue, jobs_prefix: str) -> None:
    job_id = submit(facility, PID)
    jobs.update_job(job_id, "inProgress", "Archiving 2 files.")
    job = stored(facility, job_id)
    assert (job["statusCode"], job["jobResultObject"]) == ("inProgress", {})
    if jobs_prefix == "/api/v4":
        assert job["statusMessage"] == "Archiving 2 files."

    jobs.update_job(job_id, "finishedSuccessful", "Archived.", {"result": [{"datasetId": PID}]})
    assert stored(facility, job_id)["jobResultObject"] == {"result": [{"datasetId": PID}]}

    jobs.update_job(job_id, "finishedSuccessful", "Archived.")
    assert stored(facility, job_id)["jobResultObject"] == {"result": [{"datasetId": PID}]}
    assert jobs.job(job_id).status == "finishedSuccessful"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"drop_connection": True},
        {"drop_connection": True, "after_effect": True},
        {"delay_seconds": 2, "after_effect": True},
        {"status": 502, "after_effect": True},
        {"status": 400, "after_effect": True},
    ],
)
def test_a_lost_answer_to_an_update_is_settled(facility: Facility, jobs: Catalogue, fault: dict[str, Any]) -> None:
    job_id = submit(facility, PID)
    armed = facility.fault(**PATCH, **fault)
    jobs.update_job(job_id, "inProgress", "Archiving.")
    assert stored(facility, job_id)["statusCode"] == "inProgress"
    assert facility.fired(armed) == 1


def test_a_refused_update_is_not_taken_for_an_unknown_job(facility: Facility, jobs: Catalogue) -> None:
    job_id = submit(facility, PID)
    facility.fault(**PATCH, status=400, times=None)
    with pytest.raises(CatalogueRefusedError, match="set the job"):
        jobs.update_job(job_id, "inProgress", "Archiving.")


def test_only_submitted_jobs_of_the_types_are_listed(facility: Facility, jobs: Catalogue) -> None:
    assert jobs.jobs_in_state(["archive", "retrieve"], SUBMITTED) == []
    begun, waiting = submit(facility, PID), submit(facility, PID)
    jobs.update_job(begun, "inProgress", "Archiving.")
    jobs.update_lifecycle(PID, {"retrievable": True})
    retrieval = submit(facility, PID, job_type="retrieve")

    assert {job.id for job in jobs.jobs_in_state(["archive", "retrieve"], SUBMITTED)} == {waiting, retrieval}
    assert [job.id for job in jobs.jobs_in_state(["archive"], SUBMITTED)] == [waiting]
    assert jobs.jobs_in_state(["archive"], SUBMITTED)[0].datasets == (JobDataset(PID, ()),)


def test_more_submitted_jobs_than_a_page_are_all_listed(facility: Facility, jobs: Catalogue) -> None:
    submitted = {submit(facility, PID) for _ in range(103)}
    assert {job.id for job in jobs.jobs_in_state(["archive"], SUBMITTED)} == submitted


def test_no_jobs_are_not_believed_from_a_scicat_that_forgot_us(facility: Facility, jobs_prefix: str) -> None:
    facility.ingest(PID)
    job_id = submit(facility, PID)
    logins: list[str] = []

    def forget_the_first_login(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.path.endswith("/login"):
            logins.append(exchange.path)
        elif len(logins) == 1:
            if "/jobs" in exchange.path:
                return 200, b"[]"
            exchange.headers["authorization"] = "Bearer no.longer.valid"
        return forward()

    with facility.behind(forget_the_first_login, scicat_jobs_api_prefix=jobs_prefix) as (catalogue, _):
        assert [job.id for job in catalogue.jobs_in_state(["archive"], SUBMITTED)] == [job_id]
    assert len(logins) == 2


def test_a_job_is_created_for_a_data_set(facility: Facility, jobs: Catalogue) -> None:
    job_id = jobs.create_job("archive", PID, "ingestor", "p12345", "alice@facility.test", "ingestor")

    job = stored(facility, job_id)
    assert (job["type"], job["statusCode"]) == ("archive", "jobSubmitted")
    assert (job["ownerUser"], job["ownerGroup"]) == ("ingestor", "p12345")
    assert job["contactEmail"] == "alice@facility.test"
    assert job["jobParams"]["datasetList"] == [{"pid": PID, "files": []}]
    assert facility.count("jobs") == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"drop_connection": True},
        {"drop_connection": True, "after_effect": True},
        {"delay_seconds": 2, "after_effect": True},
    ],
)
def test_a_lost_answer_to_a_creation_leaves_one_job(facility: Facility, jobs: Catalogue, fault: dict[str, Any]) -> None:
    earlier = submit(facility, PID)
    armed = facility.fault(**CREATE, **fault)

    job_id = jobs.create_job("archive", PID, "ingestor", "p12345", "", "ingestor")

    assert job_id != earlier
    assert stored(facility, job_id)["jobParams"]["datasetList"] == [{"pid": PID, "files": []}]
    assert facility.fired(armed) == 1
    assert facility.count("jobs") == 2


def test_a_job_that_may_not_be_created_is_refused_with_scicats_reason(facility: Facility, jobs: Catalogue) -> None:
    jobs.update_lifecycle(PID, {"archivable": False})
    with pytest.raises(CatalogueRefusedError, match="create a job of type archive"):
        jobs.create_job("archive", PID, "ingestor", "p12345", "", "ingestor")
    assert facility.count("jobs") == 0


def test_a_creation_that_fails_for_long_is_an_error_that_can_pass(facility: Facility) -> None:
    facility.ingest(PID)
    facility.fault(**CREATE, status=500, times=None)
    with facility.open(scicat_retry_s=0.5) as catalogue, pytest.raises(CatalogueError):
        catalogue.create_job("archive", PID, "ingestor", "p12345", "", "ingestor")


def test_a_hook_that_fails_still_leaves_the_job(
    facility_with: Callable[[ScicatConfig], AbstractContextManager[Facility]], jobs_prefix: str
) -> None:
    with facility_with(stack_config(hook_url="http://127.0.0.1:9/jobs")) as facility:
        facility.ingest(PID)
        with facility.open(scicat_jobs_api_prefix=jobs_prefix) as catalogue:
            job_id = catalogue.create_job("archive", PID, "ingestor", "p12345", "", "ingestor")
            assert [job.id for job in catalogue.jobs_in_state(["archive"], SUBMITTED)] == [job_id]
        assert facility.count("jobs") == 1


def test_both_forms_of_a_job_are_the_same_job() -> None:
    parameters = {"datasetList": [{"pid": "b"}, {"pid": "a", "files": ["x"]}, {"pid": "b", "files": ["y"]}]}
    datasets = (JobDataset("b", ()), JobDataset("a", ("x",)))
    v4 = {
        "id": "1",
        "type": "archive",
        "statusCode": "jobSubmitted",
        "ownerUser": "alice",
        "ownerGroup": "p1",
        "contactEmail": "a@b.test",
        "jobParams": parameters,
        "createdAt": "2026-03-01T12:00:00.000Z",
    }
    assert read_job(v4) == Job(
        "1",
        "archive",
        "jobSubmitted",
        datasets,
        "alice",
        "p1",
        "a@b.test",
        parameters,
        "2026-03-01T12:00:00.000Z",
    )
    v3 = {
        "_id": "1",
        "type": "archive",
        "jobStatusMessage": "jobSubmitted",
        "jobParams": {"username": "alice", "ownerGroup": "p1"},
        "datasetList": parameters["datasetList"],
        "emailJobInitiator": "a@b.test",
        "creationTime": "2026-03-01T12:00:00.000Z",
    }
    assert read_job(v3).datasets == datasets
    assert (read_job(v3).owner_user, read_job(v3).owner_group) == ("alice", "p1")
    assert read_job({"id": "1", "jobParams": None, "datasetList": ["odd", {}]}).datasets == ()


@pytest.mark.parametrize(
    ("listed", "asked_for"),
    [
        ([["x"], ["y", "z"]], ("x", "y", "z")),
        ([["x"], []], ()),
        ([[], ["x"]], ()),
        ([[], ["x"], ["y"]], ()),
    ],
)
def test_a_data_set_named_twice_is_asked_for_with_the_files_of_both(
    listed: list[list[str]], asked_for: tuple[str, ...]
) -> None:
    parameters = {"datasetList": [{"pid": "a", "files": files} for files in listed]}
    job = read_job({"id": "1", "type": "retrieve", "jobParams": parameters})
    assert job.datasets == (JobDataset("a", asked_for),)
