"""Origdatablocks and datablocks: totals, truncated lists, ownership and its holes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Body = Callable[..., dict[str, Any]]
Path = Callable[..., str]
Filter = Callable[[Any], dict[str, str]]


@pytest.fixture
def pid(new_dataset: Callable[..., str]) -> str:
    """A data set of alice's."""
    return new_dataset()


@pytest.fixture
def totals(admin: httpx.Client, path_of: Path) -> Callable[[str], tuple[int, int, int, int]]:
    """Reads size, numberOfFiles, packedSize and numberOfFilesArchived of a data set."""

    def read(pid: str) -> tuple[int, int, int, int]:
        body = admin.get(path_of(pid)).json()
        return body["size"], body["numberOfFiles"], body["packedSize"], body["numberOfFilesArchived"]

    return read


def test_a_nested_origdatablock_adds_to_the_totals(
    alice: httpx.Client, pid: str, path_of: Path, orig_body: Body, totals: Callable[[str], tuple[int, ...]]
) -> None:
    reply = alice.post(path_of(pid, "origdatablocks"), json=orig_body(3, chkAlg="md5"))
    body = reply.json()
    assert reply.status_code == 201
    assert (body["datasetId"], body["ownerGroup"], body["size"]) == (pid, "p12345", 30)
    assert body["id"] == body["_id"]
    entry = body["dataFileList"][0]
    assert entry["id"] == entry["_id"]
    assert (entry["path"], entry["time"]) == ("f0", "2026-03-01T12:00:00.000Z")
    alice.post(path_of(pid, "origdatablocks"), json=orig_body(2))
    assert totals(pid)[:2] == (50, 5)


def test_a_nested_origdatablock_takes_no_ownership_fields(
    alice: httpx.Client, pid: str, path_of: Path, orig_body: Body
) -> None:
    for name, value in (("datasetId", pid), ("ownerGroup", "p12345"), ("accessGroups", [])):
        reply = alice.post(path_of(pid, "origdatablocks"), json=orig_body(**{name: value}))
        assert reply.json()["message"] == [f"property {name} should not exist"]
    assert alice.post(path_of(pid, "origdatablocks"), json={"size": 1, "dataFileList": []}).status_code == 400
    assert alice.post(path_of("no/ne", "origdatablocks"), json=orig_body()).status_code == 404


def test_the_nested_ways_in_accept_anybody_who_creates_data_sets(
    bob: httpx.Client, anonymous: httpx.Client, pid: str, path_of: Path, orig_body: Body, block_body: Body
) -> None:
    assert bob.post(path_of(pid, "origdatablocks"), json=orig_body()).status_code == 201
    assert bob.post(path_of(pid, "datablocks"), json=block_body("bobs")).status_code == 201
    assert anonymous.post(path_of(pid, "origdatablocks"), json=orig_body()).status_code == 403


def test_the_top_level_ways_in_check_ownership(
    alice: httpx.Client,
    bob: httpx.Client,
    admin: httpx.Client,
    sign_in: Callable[[str], httpx.Client],
    pid: str,
    orig_body: Body,
) -> None:
    body = orig_body(datasetId=pid)
    for version in (3, 4):
        url = f"/api/v{version}/origdatablocks"
        assert alice.post(url, json=body).status_code == 201
        assert bob.post(url, json=body).status_code == 403
        assert sign_in("privileged").post(url, json=body).status_code == 403
        assert admin.post(url, json=orig_body(datasetId="no/ne")).status_code == 404
    assert alice.post("/api/v3/origdatablocks", json=orig_body(datasetId="no/ne")).status_code == 404
    assert alice.post("/api/v4/origdatablocks", json=orig_body(datasetId="no/ne")).status_code == 403


def test_lists_of_origdatablocks_are_cut_without_a_word(
    alice: httpx.Client,
    pid: str,
    path_of: Path,
    orig_body: Body,
    as_filter: Filter,
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    for number in range(103):
        alice.post(path_of(pid, "origdatablocks"), json=orig_body(1, prefix=f"b{number}-"))
    assert totals(pid)[:2] == (1030, 103)
    nested = path_of(pid, "origdatablocks")
    assert len(alice.get(nested).json()) == 100
    assert len(alice.get(nested, params=as_filter({"limits": {"skip": 100}})).json()) == 100
    assert alice.get(f"{nested}/count").json() == {"count": 103}
    where = {"where": {"datasetId": pid}}
    assert len(alice.get("/api/v3/origdatablocks", params=as_filter(where)).json()) == 100
    assert len(alice.get("/api/v4/origdatablocks", params=as_filter(where)).json()) == 10
    for version in (3, 4):
        limited = as_filter({**where, "limits": {"limit": 1000}})
        assert len(alice.get(f"/api/v{version}/origdatablocks", params=limited).json()) == 103
    rest = alice.get("/api/v3/origdatablocks", params=as_filter({**where, "limits": {"limit": 50, "skip": 100}}))
    assert [one["dataFileList"][0]["path"] for one in rest.json()] == ["b100-0", "b101-0", "b102-0"]
    included = alice.get(path_of(pid), params=as_filter({"include": [{"relation": "origdatablocks"}]})).json()
    assert len(included["origdatablocks"]) == 103
    assert "id" not in included["origdatablocks"][0]
    v4 = alice.get(path_of(pid, version=4), params={"include": "origdatablocks"}).json()
    assert len(v4["origdatablocks"]) == 103
    # The next top-level posts count the totals anew over what such a list shows.
    alice.post("/api/v3/origdatablocks", json=orig_body(1, datasetId=pid))
    assert totals(pid)[:2] == (1000, 100)
    alice.post("/api/v4/origdatablocks", json=orig_body(1, datasetId=pid))
    assert totals(pid)[:2] == (100, 10)


def test_an_archiver_that_is_no_admin_sees_files_only_through_the_v3_include(
    archiver: httpx.Client,
    admin: httpx.Client,
    alice: httpx.Client,
    pid: str,
    path_of: Path,
    orig_body: Body,
    as_filter: Filter,
) -> None:
    alice.post(path_of(pid, "origdatablocks"), json=orig_body())
    included = as_filter({"include": [{"relation": "origdatablocks"}]})
    listed = as_filter({"where": {"datasetId": pid}})
    assert archiver.get(path_of(pid, "origdatablocks")).status_code == 403
    for version in (3, 4):
        reply = archiver.get(f"/api/v{version}/origdatablocks", params=listed)
        assert (reply.status_code, reply.json()) == (200, [])
        assert len(admin.get(f"/api/v{version}/origdatablocks", params=listed).json()) == 1
    assert len(archiver.get(path_of(pid), params=included).json()["origdatablocks"]) == 1
    v4 = archiver.get(path_of(pid, version=4), params={"include": "origdatablocks"})
    assert v4.json()["origdatablocks"] == []
    assert len(admin.get(path_of(pid, "origdatablocks")).json()) == 1


def test_an_include_can_be_narrowed(
    alice: httpx.Client, pid: str, path_of: Path, orig_body: Body, as_filter: Filter
) -> None:
    for number in range(3):
        alice.post(path_of(pid, "origdatablocks"), json=orig_body(1, prefix=f"b{number}-"))
    scope = {"fields": ["size", "dataFileList.path"], "limits": {"limit": 1, "skip": 1}}
    body = alice.get(
        path_of(pid), params=as_filter({"include": [{"relation": "origdatablocks", "scope": scope}]})
    ).json()
    (block,) = body["origdatablocks"]
    assert set(block) == {"_id", "size", "dataFileList"}
    assert block["dataFileList"] == [{"path": "b1-0"}]


def test_blocks_are_found_by_a_files_name(
    alice: httpx.Client, pid: str, path_of: Path, orig_body: Body, as_filter: Filter
) -> None:
    alice.post(path_of(pid, "origdatablocks"), json=orig_body(2, prefix="x"))
    alice.post(path_of(pid, "origdatablocks"), json=orig_body(2, prefix="y"))
    found = alice.get("/api/v4/origdatablocks", params=as_filter({"where": {"dataFileList.path": "y1"}})).json()
    assert [one["dataFileList"][0]["path"] for one in found] == ["y0"]


def test_files_are_listed_one_per_row(
    alice: httpx.Client, pid: str, path_of: Path, orig_body: Body, as_filter: Filter
) -> None:
    alice.post(path_of(pid, "origdatablocks"), json=orig_body(12))
    rows = alice.get(
        "/api/v4/origdatablocks/files", params=as_filter({"where": {"datasetId": pid}, "limits": {"limit": 50}})
    ).json()
    assert [row["dataFileList"]["path"] for row in rows] == [f"f{number}" for number in range(12)]
    assert rows[0]["datasetExist"] is True
    unknown = alice.get("/api/v4/origdatablocks/files", params=as_filter({"where": {"foo": 1}}))
    assert unknown.status_code == 400


def test_one_origdatablock_is_read_by_id_and_deleted_by_the_delete_group(
    alice: httpx.Client,
    bob: httpx.Client,
    archiver: httpx.Client,
    pid: str,
    path_of: Path,
    orig_body: Body,
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    keys = [alice.post(path_of(pid, "origdatablocks"), json=orig_body()).json()["_id"] for _ in range(3)]
    assert alice.get(f"/api/v4/origdatablocks/{keys[0]}").json()["_id"] == keys[0]
    assert bob.get(f"/api/v4/origdatablocks/{keys[0]}").status_code == 403
    assert alice.get("/api/v4/origdatablocks/none").status_code == 404
    assert alice.delete(path_of(pid, "origdatablocks", keys[0])).status_code == 403
    assert archiver.delete(path_of(pid, "origdatablocks", keys[0])).json()["_id"] == keys[0]
    assert totals(pid)[:2] == (40, 4)
    assert archiver.delete(f"/api/v4/origdatablocks/{keys[1]}").json()["_id"] == keys[1]
    assert totals(pid)[:2] == (20, 2)


def test_a_nested_patch_of_an_origdatablock_needs_the_whole_body(
    alice: httpx.Client,
    pid: str,
    path_of: Path,
    orig_body: Body,
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    key = alice.post(path_of(pid, "origdatablocks"), json=orig_body()).json()["_id"]
    path = path_of(pid, "origdatablocks", key)
    assert alice.patch(path, json={"size": 5}).status_code == 400
    assert alice.patch(path, json=orig_body(4)).status_code == 200
    assert totals(pid)[:2] == (40, 4)


@pytest.mark.parametrize("way", ["nested", "top"])
def test_a_datablock_adds_to_the_archived_totals(
    archiver: httpx.Client,
    pid: str,
    path_of: Path,
    block_body: Body,
    totals: Callable[[str], tuple[int, ...]],
    way: str,
) -> None:
    if way == "nested":
        reply = archiver.post(path_of(pid, "datablocks"), json=block_body("a"))
    else:
        reply = archiver.post("/api/v3/datablocks", json=block_body("a", datasetId=pid))
    body = reply.json()
    assert reply.status_code == 201
    assert (body["archiveId"], body["ownerGroup"], body["packedSize"]) == ("a", "p12345", 100)
    assert totals(pid)[2:] == (100, 2)


def test_a_known_archive_id_gives_409_at_the_top_and_a_bare_500_nested(
    archiver: httpx.Client,
    new_dataset: Callable[..., str],
    path_of: Path,
    block_body: Body,
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    first, second = new_dataset(), new_dataset()
    archiver.post("/api/v3/datablocks", json=block_body("same", datasetId=first))
    top = archiver.post("/api/v3/datablocks", json=block_body("same", datasetId=second))
    assert (top.status_code, top.json()["error"]) == (409, "Conflict")
    nested = archiver.post(path_of(second, "datablocks"), json=block_body("same"))
    assert (nested.status_code, nested.json()) == (500, "Internal server error")
    assert totals(second)[2:] == (0, 0)


def test_a_top_level_datablock_needs_a_named_group_and_takes_unknown_data_sets(
    alice: httpx.Client,
    admin: httpx.Client,
    sign_in: Callable[[str], httpx.Client],
    pid: str,
    new_dataset: Callable[..., str],
    block_body: Body,
) -> None:
    refused = alice.post("/api/v3/datablocks", json=block_body("a", datasetId=pid))
    assert (refused.status_code, refused.json()) == (403, {"message": "Forbidden", "statusCode": 403})
    orphan = admin.post("/api/v3/datablocks", json=block_body("b", datasetId="no/ne"))
    assert (orphan.status_code, orphan.json()["ownerGroup"]) == (201, "")
    withpid = sign_in("withpid")
    assert withpid.post("/api/v3/datablocks", json=block_body("c", datasetId=pid)).status_code == 201
    other = new_dataset(client=admin, ownerGroup="p54321")
    assert withpid.post("/api/v3/datablocks", json=block_body("d", datasetId=other)).status_code == 403


def test_reading_one_datablock_by_id_is_broken(
    archiver: httpx.Client, alice: httpx.Client, bob: httpx.Client, pid: str, block_body: Body
) -> None:
    nothing = alice.get("/api/v3/datablocks/any")
    assert (nothing.status_code, nothing.content) == (200, b"")
    first = archiver.post("/api/v3/datablocks", json=block_body("a", datasetId=pid)).json()
    second = archiver.post("/api/v3/datablocks", json=block_body("b", datasetId=pid)).json()
    for key in (second["_id"], "unknown"):
        assert alice.get(f"/api/v3/datablocks/{key}").json()["_id"] == first["_id"]
    refused = bob.get(f"/api/v3/datablocks/{second['_id']}")
    assert (refused.status_code, refused.json()) == (401, {"message": "Unauthorized", "statusCode": 401})


def test_lists_of_datablocks_obey_groups(
    archiver: httpx.Client,
    alice: httpx.Client,
    bob: httpx.Client,
    anonymous: httpx.Client,
    pid: str,
    path_of: Path,
    block_body: Body,
    as_filter: Filter,
) -> None:
    block = archiver.post("/api/v3/datablocks", json=block_body("a", datasetId=pid)).json()
    asked = as_filter({"where": {"datasetId": pid}})
    by_id = as_filter({"where": {"_id": block["_id"]}})
    assert [one["_id"] for one in alice.get("/api/v3/datablocks", params=by_id).json()] == [block["_id"]]
    assert len(archiver.get("/api/v3/datablocks", params=asked).json()) == 1
    assert archiver.get("/api/v3/datablocks/count", params=asked).json() == {"count": 1}
    assert bob.get("/api/v3/datablocks", params=asked).json() == []
    assert anonymous.get("/api/v3/datablocks", params=asked).status_code == 403
    assert len(alice.get(path_of(pid, "datablocks")).json()) == 1
    assert alice.get(path_of(pid, "datablocks", "count")).json() == {"count": 1}
    assert archiver.get(path_of(pid, "datablocks")).status_code == 403
    included = alice.get(path_of(pid), params=as_filter({"include": ["datablocks"]})).json()
    assert [one["archiveId"] for one in included["datablocks"]] == ["a"]


def test_a_datablock_patch_leaves_totals_and_hides_its_refusal_in_a_500(
    archiver: httpx.Client,
    alice: httpx.Client,
    bob: httpx.Client,
    pid: str,
    block_body: Body,
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    block = archiver.post("/api/v3/datablocks", json=block_body("a", datasetId=pid)).json()
    archiver.post("/api/v3/datablocks", json=block_body("b", datasetId=pid))
    path = f"/api/v3/datablocks/{block['_id']}"
    assert alice.patch(path, json={"packedSize": 7}).json()["packedSize"] == 7
    assert totals(pid)[2:] == (200, 4)
    assert alice.patch(path, json={"archiveId": "b"}).status_code == 409
    assert alice.patch("/api/v3/datablocks/none", json={}).status_code == 404
    refused = bob.patch(path, json={"packedSize": 1})
    assert refused.status_code == 500
    assert refused.json()["status"] == 403
    assert refused.json()["response"]["statusCode"] == 403
    assert refused.json()["name"] == "ForbiddenException"


def test_a_nested_datablock_patch_takes_the_first_block_for_the_old_one(
    archiver: httpx.Client,
    alice: httpx.Client,
    pid: str,
    path_of: Path,
    block_body: Body,
    files: Callable[..., list[dict[str, Any]]],
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    archiver.post("/api/v3/datablocks", json=block_body("a", datasetId=pid))
    second = archiver.post("/api/v3/datablocks", json=block_body("b", 3, datasetId=pid, packedSize=40)).json()
    assert totals(pid)[2:] == (140, 5)
    path = path_of(pid, "datablocks", second["_id"])
    assert alice.patch(path, json={"packedSize": 50}).status_code == 400
    assert alice.patch(path, json={"packedSize": 50, "dataFileList": files(3)}).status_code == 200
    assert totals(pid)[2:] == (140 + 50 - 100, 5 + 3 - 2)


def test_deleting_datablocks_takes_them_off_the_totals(
    archiver: httpx.Client,
    admin: httpx.Client,
    pid: str,
    path_of: Path,
    block_body: Body,
    totals: Callable[[str], tuple[int, ...]],
) -> None:
    keys = [
        archiver.post("/api/v3/datablocks", json=block_body(name, datasetId=pid)).json()["_id"]
        for name in ("a", "b", "c", "d")
    ]
    assert admin.delete(f"/api/v3/datablocks/{keys[0]}").status_code == 403
    assert archiver.delete(f"/api/v3/datablocks/{keys[0]}").json()["archiveId"] == "a"
    assert totals(pid)[2:] == (300, 6)
    nested = archiver.delete(path_of(pid, "datablocks", keys[1]))
    assert (nested.status_code, nested.content) == (200, b"")
    assert totals(pid)[2:] == (200, 4)
    assert archiver.delete(path_of(pid, "datablocks")).json() == {"count": 2}
    assert totals(pid)[2:] == (0, 0)
    assert archiver.delete(f"/api/v3/datablocks/{keys[2]}").status_code == 404
    archiver.post("/api/v3/datablocks", json=block_body("e", datasetId=pid))
    orphan = archiver.get("/api/v3/datablocks").json()[0]["_id"]
    archiver.delete(path_of(pid))
    assert archiver.delete(f"/api/v3/datablocks/{orphan}").status_code == 404


def test_twenty_blocks_of_20000_files_are_kept_and_given_whole(
    alice: httpx.Client,
    anonymous: httpx.Client,
    pid: str,
    path_of: Path,
    orig_body: Body,
    as_filter: Filter,
) -> None:
    for number in range(20):
        reply = alice.post(path_of(pid, "origdatablocks"), json=orig_body(20_000, prefix=f"part{number}/"))
        assert reply.status_code == 201
    assert anonymous.get("/_sim/state").json()["origdatablockFiles"] == 400_000
    body = alice.get(path_of(pid), params=as_filter({"include": [{"relation": "origdatablocks"}]})).json()
    paths = {entry["path"] for block in body["origdatablocks"] for entry in block["dataFileList"]}
    assert len(paths) == 400_000
    assert body["numberOfFiles"] == 400_000
