"""Jobs: the order of checks, both APIs' words, lists, and who may."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Body = Callable[..., dict[str, Any]]
Path = Callable[..., str]
Filter = Callable[[Any], dict[str, str]]
NewDataset = Callable[..., str]


@pytest.fixture
def new_job(alice: httpx.Client, new_dataset: NewDataset, job_body: Body) -> Callable[..., dict[str, Any]]:
    """Creates an archive job of alice's for a new data set."""

    def create(**fields: Any) -> dict[str, Any]:
        reply = alice.post("/api/v4/jobs", json=job_body(new_dataset(), **fields))
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    return create


def test_a_v4_job_starts_as_submitted_and_belongs_to_its_creator(
    alice: httpx.Client, new_dataset: NewDataset, job_body: Body
) -> None:
    pid = new_dataset()
    reply = alice.post("/api/v4/jobs", json=job_body(pid))
    job = reply.json()
    assert reply.status_code == 201
    assert job["id"] == job["_id"]
    assert (job["statusCode"], job["statusMessage"]) == ("jobSubmitted", "Job submitted.")
    assert (job["ownerUser"], job["ownerGroup"], job["contactEmail"]) == (
        "alice",
        "p12345",
        "alice@facility.test",
    )
    assert job["jobParams"] == {"datasetList": [{"pid": pid, "files": []}]}
    assert (job["jobResultObject"], job["configVersion"], job["__v"]) == ({}, "simulator-1", 0)


def test_a_job_leaves_the_lifecycle_alone_and_a_second_one_is_accepted(
    alice: httpx.Client, new_dataset: NewDataset, job_body: Body, path_of: Path
) -> None:
    pid = new_dataset()
    before = alice.get(path_of(pid)).json()["datasetlifecycle"]
    for _ in range(2):
        assert alice.post("/api/v4/jobs", json=job_body(pid)).status_code == 201
    assert alice.get(path_of(pid)).json()["datasetlifecycle"] == before


def test_the_first_failed_check_decides(
    alice: httpx.Client, bob: httpx.Client, new_dataset: NewDataset, job_body: Body
) -> None:
    pid = new_dataset(datasetlifecycle={"archivable": False})

    def refused(client: httpx.Client, **body: Any) -> tuple[int, set[str]]:
        reply = client.post("/api/v4/jobs", json=body)
        return reply.status_code, set(reply.json())

    nest, hand_made = {"message", "error", "statusCode"}, {"status", "message"}
    empty: list[Any] = []
    assert refused(alice, type="nope", jobParams={}, surprise=1) == (400, nest)
    assert refused(alice, type="nope", jobParams={"datasetList": empty}) == (400, hand_made)
    assert refused(alice, type="archive", jobParams={"datasetList": empty}) == (400, hand_made)
    assert refused(alice, type="archive", jobParams={"datasetList": [{"pid": pid}]}) == (400, hand_made)
    unknown = {"datasetList": [{"pid": "no/ne", "files": empty}]}
    assert refused(alice, type="archive", jobParams=unknown) == (400, hand_made)
    known = {"datasetList": [{"pid": pid, "files": empty}]}
    assert refused(alice, type="archive", jobParams=known) == (400, hand_made)
    assert refused(alice, type="archive", jobParams={}, ownerGroup="p12345") == (400, hand_made)
    assert refused(bob, type="archive", jobParams=known, ownerGroup="p54321") == (403, nest)
    assert refused(alice, type="archive", jobParams=known, ownerGroup="p12345") == (400, hand_made)


@pytest.mark.parametrize(
    "owner", [{"ownerGroup": "p54321"}, {"ownerUser": "bob"}, {"ownerGroup": None}, {"contactEmail": "nobody"}]
)
def test_a_wrong_owner_is_a_400_not_a_403(
    alice: httpx.Client, new_dataset: NewDataset, job_body: Body, owner: dict[str, Any]
) -> None:
    assert alice.post("/api/v4/jobs", json=job_body(new_dataset(), **owner)).status_code == 400


def test_an_admin_may_name_any_owner_but_must_name_one(
    admin: httpx.Client, new_dataset: NewDataset, job_body: Body
) -> None:
    body = job_body(new_dataset())
    del body["ownerGroup"]
    assert admin.post("/api/v4/jobs", json=body).status_code == 400
    job = admin.post("/api/v4/jobs", json={**body, "ownerUser": "bob"}).json()
    assert job["ownerUser"] == "bob"
    assert "ownerGroup" not in job
    assert admin.post("/api/v4/jobs", json={**body, "ownerUser": "ghost"}).json()["ownerUser"] == "admin"


def test_missing_files_are_named_in_json_text(
    alice: httpx.Client, new_dataset: NewDataset, path_of: Path, orig_body: Body
) -> None:
    pid = new_dataset()
    alice.post(path_of(pid, "origdatablocks"), json=orig_body(2))
    listed = [{"pid": pid, "files": ["f0", "nope"]}]
    body = {"type": "archive", "ownerGroup": "p12345", "jobParams": {"datasetList": listed}}
    reply = alice.post("/api/v4/jobs", json=body)
    assert reply.status_code == 400
    assert json.loads(reply.json()["error"]) == [{"pid": pid, "nonExistFiles": ["nope"]}]
    listed[0]["files"] = ["f0", "f1"]
    assert alice.post("/api/v4/jobs", json=body).status_code == 201


def test_files_of_two_data_sets_in_one_job_wrongly_fail(
    alice: httpx.Client, new_dataset: NewDataset, path_of: Path, orig_body: Body
) -> None:
    pids = [new_dataset(), new_dataset()]
    for pid, prefix in zip(pids, ("x", "y"), strict=True):
        alice.post(path_of(pid, "origdatablocks"), json=orig_body(1, prefix=prefix))
    listed = [{"pid": pids[0], "files": ["x0"]}, {"pid": pids[1], "files": ["y0"]}]
    body = {"type": "archive", "ownerGroup": "p12345", "jobParams": {"datasetList": listed}}
    assert alice.post("/api/v4/jobs", json=body).status_code == 400


def test_the_file_check_sees_100_origdatablocks(
    alice: httpx.Client, new_dataset: NewDataset, path_of: Path, orig_body: Body
) -> None:
    pid = new_dataset()
    for number in range(101):
        alice.post(path_of(pid, "origdatablocks"), json=orig_body(1, prefix=f"b{number}-"))
    for name, status in (("b99-0", 201), ("b100-0", 400)):
        params = {"datasetList": [{"pid": pid, "files": [name]}]}
        body = {"type": "archive", "ownerGroup": "p12345", "jobParams": params}
        assert alice.post("/api/v4/jobs", json=body).status_code == status


def test_a_job_takes_100_data_sets_and_no_more(alice: httpx.Client, new_dataset: NewDataset, job_body: Body) -> None:
    pids = [new_dataset() for _ in range(101)]
    assert alice.post("/api/v4/jobs", json=job_body(*pids)).status_code == 400
    assert alice.post("/api/v4/jobs", json=job_body(*pids[:100])).status_code == 201


def test_a_pid_listed_twice_gives_403(alice: httpx.Client, new_dataset: NewDataset, job_body: Body) -> None:
    pid = new_dataset()
    assert alice.post("/api/v4/jobs", json=job_body(pid, pid)).status_code == 403


def test_access_is_enough_to_retrieve_and_publication_for_the_public(
    alice: httpx.Client, bob: httpx.Client, new_dataset: NewDataset, job_body: Body, anonymous: httpx.Client
) -> None:
    lifecycle = {"retrievable": True}
    shared = new_dataset(accessGroups=["p54321"], datasetlifecycle=lifecycle)
    private = new_dataset(datasetlifecycle=lifecycle)
    published = new_dataset(isPublished=True)

    def ask(client: httpx.Client, pid: str, kind: str) -> int:
        return client.post("/api/v4/jobs", json=job_body(pid, kind=kind, ownerGroup="p54321")).status_code

    assert ask(bob, shared, "retrieve") == 201
    assert ask(bob, shared, "archive") == 403
    assert ask(bob, private, "retrieve") == 403
    assert ask(bob, published, "public") == 201
    assert ask(bob, published, "retrieve") == 400
    body = job_body(published, kind="public", contactEmail="me@home.test")
    del body["ownerGroup"]
    assert anonymous.post("/api/v4/jobs", json=body).status_code == 201
    assert anonymous.post("/api/v4/jobs", json=job_body(private)).status_code == 403


def test_an_update_needs_both_texts_and_nothing_unknown(
    archiver: httpx.Client, new_job: Callable[..., dict[str, Any]]
) -> None:
    path = f"/api/v4/jobs/{new_job()['id']}"
    assert archiver.patch(path, json={"statusCode": "inProgress"}).status_code == 400
    assert archiver.patch(path, json={"statusMessage": "x"}).status_code == 400
    both = {"statusCode": "inProgress", "statusMessage": "started"}
    assert archiver.patch(path, json={**both, "type": "x"}).status_code == 400
    reply = archiver.patch(path, json=both)
    assert reply.status_code == 200
    assert (reply.json()["statusCode"], reply.json()["statusMessage"]) == ("inProgress", "started")
    assert reply.json()["updatedBy"] == "archiver"
    assert archiver.put(path, json=both).status_code == 404


def test_a_result_is_replaced_merged_or_kept(archiver: httpx.Client, new_job: Callable[..., dict[str, Any]]) -> None:
    path = f"/api/v4/jobs/{new_job()['id']}"
    both = {"statusCode": "a", "statusMessage": "b"}
    archiver.patch(path, json={**both, "jobResultObject": {"x": {"y": 1}}})
    assert archiver.patch(path, json=both).json()["jobResultObject"] == {"x": {"y": 1}}
    merged = archiver.patch(
        path,
        json={**both, "jobResultObject": {"x": {"z": 2}}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert merged.json()["jobResultObject"] == {"x": {"y": 1, "z": 2}}
    replaced = archiver.patch(path, json={**both, "jobResultObject": {"q": 1, "executionTime": "T"}}).json()
    assert replaced["jobResultObject"] == {"q": 1}
    assert replaced["jobParams"]["executionTime"] == "T"


def test_an_unknown_job_is_a_400(archiver: httpx.Client, sign_in: Callable[[str], httpx.Client]) -> None:
    body = {"statusCode": "a", "statusMessage": "b"}
    for reply in (
        archiver.get("/api/v4/jobs/none"),
        archiver.get("/api/v3/jobs/none"),
        archiver.patch("/api/v4/jobs/none", json=body),
        sign_in("deleter").delete("/api/v4/jobs/none"),
    ):
        assert reply.status_code == 400
        assert set(reply.json()) == {"status", "message"}


def test_jobs_are_read_by_owner_group_and_updaters_and_changed_as_their_type_says(
    alice: httpx.Client,
    bob: httpx.Client,
    admin: httpx.Client,
    archiver: httpx.Client,
    anonymous: httpx.Client,
    sign_in: Callable[[str], httpx.Client],
    new_job: Callable[..., dict[str, Any]],
) -> None:
    path = f"/api/v4/jobs/{new_job()['id']}"
    body = {"statusCode": "a", "statusMessage": "b"}
    readers = [(alice, 200), (sign_in("carol"), 200), (bob, 403), (admin, 200), (archiver, 200), (anonymous, 403)]
    for client, status in readers:
        assert client.get(path).status_code == status
    for client, status in ((alice, 403), (bob, 403), (admin, 200), (archiver, 200), (anonymous, 403)):
        assert client.patch(path, json=body).status_code == status
    note = alice.post("/api/v4/jobs", json={"type": "note", "jobParams": {}, "ownerGroup": "p12345"}).json()
    assert alice.patch(f"/api/v4/jobs/{note['id']}", json=body).status_code == 200
    assert sign_in("carol").patch(f"/api/v4/jobs/{note['id']}", json=body).status_code == 403


def test_jobs_are_deleted_by_the_listed_group_only(
    alice: httpx.Client,
    admin: httpx.Client,
    sign_in: Callable[[str], httpx.Client],
    new_job: Callable[..., dict[str, Any]],
) -> None:
    job = new_job()
    path = f"/api/v4/jobs/{job['id']}"
    for client in (alice, admin):
        assert client.delete(path).status_code == 403
    assert sign_in("deleter").delete(path).json()["id"] == job["id"]
    assert admin.get(path).status_code == 400


def test_the_job_list_has_no_default_limit_and_limits_before_it_skips(
    archiver: httpx.Client,
    alice: httpx.Client,
    bob: httpx.Client,
    new_dataset: NewDataset,
    job_body: Body,
    as_filter: Filter,
) -> None:
    pid = new_dataset()
    keys = [alice.post("/api/v4/jobs", json=job_body(pid)).json()["id"] for _ in range(15)]
    archiver.patch(f"/api/v4/jobs/{keys[0]}", json={"statusCode": "done", "statusMessage": "x"})

    def ask(**asked: Any) -> list[str]:
        return [job["id"] for job in archiver.get("/api/v4/jobs", params=as_filter(asked)).json()]

    assert ask() == keys
    assert ask(limits={"limit": 3, "skip": 1}) == keys[1:3]
    assert ask(where={"type": {"$in": ["archive"]}, "statusCode": "jobSubmitted"}) == keys[1:]
    assert ask(where={"jobParams.datasetList.pid": pid}) == keys
    assert ask(limits={"sort": {"createdAt": "desc"}}) == keys
    assert ask(sort={"createdAt": -1}) == sorted(
        keys, key=[job["id"] for job in archiver.get("/api/v4/jobs").json()].index, reverse=True
    )
    assert archiver.get("/api/v4/jobs", params=as_filter({"sort": {"createdAt": "desc"}})).status_code == 400
    assert archiver.get("/api/v4/jobs", params=as_filter({"where": {"createdAt": {"$gt": "2020-01-01"}}})).json() == []
    assert bob.get("/api/v4/jobs").json() == []
    shown = archiver.get("/api/v4/jobs", params=as_filter({"fields": ["type"], "limits": {"limit": 1}})).json()
    assert shown == [{"_id": keys[0], "type": "archive"}]


def test_a_jobs_data_sets_can_be_included(
    alice: httpx.Client, new_dataset: NewDataset, job_body: Body, as_filter: Filter
) -> None:
    pid = new_dataset()
    job = alice.post("/api/v4/jobs", json=job_body(pid)).json()
    read = alice.get(f"/api/v4/jobs/{job['id']}", params=as_filter({"include": ["datasets"]})).json()
    assert [one["pid"] for one in read["datasets"]] == [pid]


def test_a_v3_job_is_mapped_both_ways(alice: httpx.Client, archiver: httpx.Client, new_dataset: NewDataset) -> None:
    pid = new_dataset(datasetlifecycle={"retrievable": True})
    reply = alice.post(
        "/api/v3/jobs",
        json={
            "type": "retrieve",
            "datasetList": [{"pid": pid, "files": []}],
            "jobParams": {"username": "alice", "destinationPath": "/archive/retrieve", "datasetList": "dropped"},
            "creationTime": "2020-01-01",
            "surprise": 1,
        },
    )
    job = reply.json()
    assert reply.status_code == 201
    assert set(job) == {
        "_id",
        "id",
        "emailJobInitiator",
        "type",
        "creationTime",
        "jobParams",
        "jobStatusMessage",
        "datasetList",
        "jobResultObject",
    }
    assert job["emailJobInitiator"] == "alice@facility.test"
    assert job["jobParams"] == {"username": "alice", "destinationPath": "/archive/retrieve"}
    assert job["datasetList"] == [{"pid": pid, "files": []}]
    assert job["jobStatusMessage"] == "jobSubmitted"
    v4 = archiver.get(f"/api/v4/jobs/{job['id']}").json()
    assert (v4["ownerUser"], v4["ownerGroup"], v4["contactEmail"]) == ("alice", "p12345", "alice@facility.test")
    assert v4["jobParams"]["datasetList"] == [{"pid": pid, "files": []}]
    assert v4["createdAt"] == job["creationTime"]
    assert alice.get(f"/api/v3/jobs/{job['id']}").json() == job


def test_a_v3_status_sets_both_texts(alice: httpx.Client, archiver: httpx.Client, new_dataset: NewDataset) -> None:
    body = {
        "type": "archive",
        "datasetList": [{"pid": new_dataset(), "files": []}],
        "jobStatusMessage": "jobCreated",
    }
    job = alice.post("/api/v3/jobs", json=body).json()
    v3, v4 = f"/api/v3/jobs/{job['id']}", f"/api/v4/jobs/{job['id']}"
    created = archiver.get(v4).json()
    assert (created["statusCode"], created["statusMessage"]) == ("jobCreated", "jobCreated")
    reply = archiver.patch(v3, json={"jobStatusMessage": "inProgress", "jobResultObject": {"a": 1}, "foo": 2})
    assert (reply.status_code, reply.json()["jobStatusMessage"]) == (200, "inProgress")
    updated = archiver.get(v4).json()
    assert (updated["statusCode"], updated["statusMessage"]) == ("inProgress", "inProgress")
    assert archiver.patch(v3, json={}).json()["jobResultObject"] == {"a": 1}
    assert archiver.patch(v3, json={"jobStatusMessage": 5}).status_code == 400
    emptied = archiver.patch(v3, json={"executionTime": "2026-01-01T00:00:00Z"}).json()
    assert emptied["jobResultObject"] == {}
    assert archiver.get(v4).json()["jobParams"]["executionTime"] == "2026-01-01T00:00:00Z"


def test_a_v3_job_gets_the_first_group_common_to_data_sets_and_user(
    sign_in: Callable[[str], httpx.Client],
    archiver: httpx.Client,
    privileged: httpx.Client,
    new_dataset: NewDataset,
) -> None:
    lifecycle = {"retrievable": True}
    both = new_dataset(accessGroups=["shared"], datasetlifecycle=lifecycle)
    foreign = new_dataset(client=privileged, ownerGroup="p54321", accessGroups=["shared"], datasetlifecycle=lifecycle)
    listed = [{"pid": pid, "files": []} for pid in (both, foreign)]
    job = sign_in("carol").post("/api/v3/jobs", json={"type": "retrieve", "datasetList": listed}).json()
    assert archiver.get(f"/api/v4/jobs/{job['id']}").json()["ownerGroup"] == "shared"


@pytest.fixture
def privileged(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """An account that creates data sets for any group."""
    return sign_in("privileged")


def test_the_v3_list_refuses_where_and_the_full_query_takes_fields(
    alice: httpx.Client, new_dataset: NewDataset, job_body: Body, as_filter: Filter
) -> None:
    pid = new_dataset()
    keys = [alice.post("/api/v4/jobs", json=job_body(pid)).json()["id"] for _ in range(3)]
    assert alice.get("/api/v3/jobs", params=as_filter({"where": {"type": "archive"}})).status_code == 400
    assert [job["id"] for job in alice.get("/api/v3/jobs").json()] == keys
    found = alice.get(
        "/api/v3/jobs/fullquery",
        params={"fields": '{"type":"archive","jobStatusMessage":"jobSubmitted"}', "limits": '{"limit":2}'},
    ).json()
    assert [job["id"] for job in found] == keys[:2]
    assert found[0]["datasetList"] == [{"pid": pid, "files": []}]
    none = alice.get("/api/v3/jobs/fullquery", params={"fields": '{"type":"retrieve"}'}).json()
    assert none == []
    v4 = alice.get("/api/v4/jobs/fullquery", params=as_filter({"where": {"type": "archive"}})).json()
    assert [job["id"] for job in v4] == keys
