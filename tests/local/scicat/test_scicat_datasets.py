"""Data sets: creating, reading, changing, deleting, and who may."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

Body = Callable[..., dict[str, Any]]
Path = Callable[..., str]


def test_a_v4_create_fills_in_what_is_missing(alice: httpx.Client, dataset_body: Body) -> None:
    reply = alice.post("/api/v4/datasets", json=dataset_body(sourceFolder="/data/run/", classification="x"))
    body = reply.json()
    assert reply.status_code == 201
    assert re.fullmatch(r"20\.500\.12345/[0-9a-f-]{36}", body["pid"])
    assert body["id"] == body["_id"] == body["pid"]
    assert body["sourceFolder"] == "/data/run"
    assert body["creationTime"] == "2026-03-01T12:00:00.000Z"
    assert body["classification"] == "IN=medium,AV=low,CO=low"
    assert (body["size"], body["numberOfFiles"], body["version"], body["accessGroups"]) == (0, 0, "4", [])
    assert body["createdBy"] == "alice"
    assert body["datasetlifecycle"]["archivable"] is True
    assert "archiveReturnMessage" not in body["datasetlifecycle"]


def test_a_v3_create_stores_singulars_as_lists_with_nulls(alice: httpx.Client, raw_body: Body, path_of: Path) -> None:
    body = raw_body(proposalId="p1", sourceFolder="/a/b/c")
    del body["datasetName"]
    created = alice.post("/api/v3/datasets", json=body)
    assert created.status_code == 201
    assert "id" not in created.json()
    read = alice.get(path_of(created.json()["pid"])).json()
    assert (read["proposalIds"], read["proposalId"]) == (["p1"], "p1")
    assert (read["sampleIds"], read["instrumentIds"]) == ([None], [None])
    assert (read["principalInvestigators"], read["principalInvestigator"]) == (["Alice"], "Alice")
    assert read["datasetName"] == "b/c"
    assert read["history"] == []
    assert read["version"] == "3"


def test_a_v4_create_refuses_singulars_and_a_v3_create_plurals(
    alice: httpx.Client, dataset_body: Body, raw_body: Body
) -> None:
    assert alice.post("/api/v4/datasets", json=dataset_body(principalInvestigator="A")).status_code == 400
    assert alice.post("/api/v3/datasets", json=raw_body(proposalIds=["p"])).status_code == 400


def test_a_v4_create_without_owner_fails_in_the_database(alice: httpx.Client, dataset_body: Body) -> None:
    body = dataset_body()
    del body["owner"]
    reply = alice.post("/api/v4/datasets", json=body)
    assert reply.status_code == 500
    assert set(reply.json()) == {"message", "statusCode"}


def test_only_listed_groups_choose_a_pid_and_a_known_one_gives_409(
    alice: httpx.Client, sign_in: Callable[[str], httpx.Client], dataset_body: Body
) -> None:
    body = dataset_body(pid="20.500.12345/mine")
    assert alice.post("/api/v4/datasets", json=body).status_code == 403
    withpid = sign_in("withpid")
    assert withpid.post("/api/v4/datasets", json=body).status_code == 201
    again = withpid.post("/api/v4/datasets", json=body)
    assert again.status_code == 409
    assert (again.json()["error"], again.json()["statusCode"]) == ("Conflict", 409)


def test_only_privileged_accounts_create_for_other_groups(
    bob: httpx.Client, sign_in: Callable[[str], httpx.Client], anonymous: httpx.Client, dataset_body: Body
) -> None:
    assert bob.post("/api/v4/datasets", json=dataset_body()).status_code == 403
    assert sign_in("privileged").post("/api/v4/datasets", json=dataset_body()).status_code == 201
    assert anonymous.post("/api/v3/datasets", json=dataset_body()).status_code == 403


@pytest.mark.parametrize("version", [3, 4])
def test_reading_needs_a_group_a_share_or_publication(
    alice: httpx.Client,
    bob: httpx.Client,
    archiver: httpx.Client,
    admin: httpx.Client,
    anonymous: httpx.Client,
    new_dataset: Callable[..., str],
    path_of: Path,
    version: int,
) -> None:
    private = path_of(new_dataset(), version=version)
    for client, status in ((alice, 200), (bob, 403), (archiver, 200), (admin, 200), (anonymous, 403)):
        assert client.get(private).status_code == status
    assert bob.get(path_of(new_dataset(accessGroups=["p54321"]), version=version)).status_code == 200
    assert bob.get(path_of(new_dataset(sharedWith=["bob@facility.test"]), version=version)).status_code == 200
    published = path_of(new_dataset(isPublished=True), version=version)
    assert bob.get(published).status_code == 200
    assert anonymous.get(published).status_code == (200 if version == 3 else 403)
    assert alice.get(path_of("20.500.12345/none", version=version)).status_code == 404


def test_published_data_sets_are_public_in_v4(
    anonymous: httpx.Client, new_dataset: Callable[..., str], path_of: Path
) -> None:
    private, public = new_dataset(), new_dataset(isPublished=True)
    listed = anonymous.get("/api/v4/datasets/public").json()
    assert [one["pid"] for one in listed] == [public]
    assert anonymous.get(path_of(public, version=4).replace("datasets/", "datasets/public/")).status_code == 200
    assert anonymous.get(path_of(private, version=4).replace("datasets/", "datasets/public/")).status_code == 404


@pytest.mark.parametrize("version", [3, 4])
def test_a_patch_changes_only_the_given_fields(
    alice: httpx.Client, bob: httpx.Client, new_dataset: Callable[..., str], path_of: Path, version: int
) -> None:
    path = path_of(new_dataset(description="old", keywords=["k"]), version=version)
    reply = alice.patch(path, json={"description": "new"})
    assert reply.status_code == 200
    assert (reply.json()["description"], reply.json()["keywords"]) == ("new", ["k"])
    assert reply.json()["updatedBy"] == "alice"
    assert alice.patch(path, json={"pid": "x"}).status_code == 400
    assert alice.patch(path, json={"datasetlifecycle.archivable": False}).status_code == 400
    assert bob.patch(path, json={"description": "bad"}).status_code == 403
    assert alice.patch(path_of("no/ne", version=version), json={"description": "x"}).status_code == 404


def test_a_lifecycle_group_reads_any_data_set_but_patches_only_lifecycles(
    archiver: httpx.Client, admin: httpx.Client, new_dataset: Callable[..., str], path_of: Path
) -> None:
    pid = new_dataset()
    assert archiver.patch(path_of(pid), json={"description": "x"}).status_code == 403
    assert admin.patch(path_of(pid), json={"description": "x"}).status_code == 200
    assert archiver.patch(path_of(pid, "datasetlifecycle"), json={"archivable": False}).status_code == 200


@pytest.mark.parametrize("version", [3, 4])
def test_a_lifecycle_in_a_data_set_patch_resets_what_it_leaves_out(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Path, version: int
) -> None:
    pid = new_dataset(datasetlifecycle={"archivable": False, "archiveStatusMessage": "started"})
    before = alice.get(path_of(pid)).json()["datasetlifecycle"]
    assert before["archiveStatusMessage"] == "started"
    alice.patch(path_of(pid, version=version), json={"datasetlifecycle": {"retrievable": True, "foo": 1}})
    after = alice.get(path_of(pid)).json()["datasetlifecycle"]
    assert (after["archivable"], after["retrievable"]) == (True, True)
    assert after["archiveStatusMessage"] == "datasetCreated"
    assert "foo" not in after
    assert after["_id"] != before["_id"]


def test_a_merge_patch_keeps_the_rest_of_a_lifecycle(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Path
) -> None:
    pid = new_dataset(datasetlifecycle={"archivable": False, "archiveStatusMessage": "started"}, comment="c")
    alice.patch(
        path_of(pid, version=4),
        json={
            "datasetlifecycle": {"retrievable": True, "archiveStatusMessage": None},
            "comment": None,
        },
        headers={"content-type": "application/merge-patch+json"},
    )
    after = alice.get(path_of(pid)).json()
    assert after["datasetlifecycle"]["archivable"] is False
    assert after["datasetlifecycle"]["retrievable"] is True
    assert after["datasetlifecycle"]["archiveStatusMessage"] == "datasetCreated"
    assert "comment" not in after


def test_a_null_is_stored_by_a_plain_v4_patch(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Path
) -> None:
    pid = new_dataset(comment="c")
    assert alice.patch(path_of(pid, version=4), json={"comment": None}).json()["comment"] is None


def test_if_unmodified_since_guards_a_patch(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Path
) -> None:
    path = path_of(new_dataset())
    old = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    reply = alice.patch(path, json={"comment": "x"}, headers={"if-unmodified-since": old})
    assert reply.status_code == 412
    assert reply.json()["error"] == "Precondition Failed"
    late = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert alice.patch(path, json={"comment": "x"}, headers={"if-unmodified-since": late}).status_code == 200


def test_a_put_loses_what_it_leaves_out(
    alice: httpx.Client, new_dataset: Callable[..., str], dataset_body: Body, path_of: Path
) -> None:
    pid = new_dataset(description="old")
    reply = alice.put(path_of(pid, version=4), json=dataset_body())
    assert reply.status_code == 200
    assert reply.json()["pid"] == pid
    assert "description" not in reply.json()


def test_deleting_needs_the_delete_group_and_leaves_the_blocks(
    admin: httpx.Client,
    archiver: httpx.Client,
    alice: httpx.Client,
    new_dataset: Callable[..., str],
    path_of: Path,
    orig_body: Body,
    block_body: Body,
    anonymous: httpx.Client,
) -> None:
    pid = new_dataset()
    alice.post(path_of(pid, "origdatablocks"), json=orig_body())
    alice.post(path_of(pid, "datablocks"), json=block_body("a"))
    assert alice.delete(path_of(pid)).status_code == 403
    assert admin.delete(path_of(pid)).status_code == 403
    deleted = archiver.delete(path_of(pid))
    assert (deleted.status_code, deleted.json()["pid"]) == (200, pid)
    assert archiver.delete(path_of(pid)).status_code == 404
    state = anonymous.get("/_sim/state").json()
    assert (state["datasets"], state["origdatablocks"], state["datablocks"]) == (0, 1, 1)


def test_metadata_keys_with_dots_are_encoded_in_v4_only(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Path
) -> None:
    pid = new_dataset(scientificMetadata={"a.b": {"c.d": 1}})
    assert alice.get(path_of(pid)).json()["scientificMetadata"] == {"a.b": {"c.d": 1}}
    assert alice.get(path_of(pid, version=4)).json()["scientificMetadata"] == {"a%2Eb": {"c%2Ed": 1}}


def test_a_body_can_be_checked_without_creating(alice: httpx.Client, dataset_body: Body) -> None:
    good = alice.post("/api/v4/datasets/isValid", json=dataset_body())
    assert (good.status_code, good.json()) == (200, {"valid": True})
    assert alice.post("/api/v4/datasets/isValid", json={}).json() == {"valid": False}
    assert alice.post("/api/v3/datasets/isValid", json={}).json()["valid"] is False
