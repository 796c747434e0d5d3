"""Filters of v3 and v4, their limits and their traps with dates."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from archiver.local.scicat.js_dates import js_date
from archiver.local.scicat.matching import from_loopback, matches

Filter = Callable[[Any], dict[str, str]]


@pytest.mark.parametrize(
    "text",
    ["run 1", "3", "2026", "2026-03-01", "2026-03-01T12:00:00Z", "March 7, 2026", "sample-12", "12/25/2026"],
)
def test_javascript_takes_these_for_dates(text: str) -> None:
    assert js_date(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p12345",
        "raw",
        "jobSubmitted",
        "13",
        "1 run",
        "20.500.12345/6b04cd2a-1b2c-4d5e-8f90-a1b2c3d4e5f6",
        "6b04cd2a-1b2c-4d5e-8f90-a1b2c3d4e5f6",
        "abcdefab-1234-5678-9012-123456789012",
        "openem-network/datasets/1/2/3/4",
        "5 - 3",
    ],
)
def test_javascript_takes_these_for_no_dates(text: str) -> None:
    assert js_date(text) is None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"a": 1}, True),
        ({"a": {"$gt": 0, "$lt": 2}}, True),
        ({"a": {"$gte": "0"}}, False),
        ({"tags": "x"}, True),
        ({"tags": {"$in": ["z", "y"]}}, True),
        ({"tags": {"$nin": ["x"]}}, False),
        ({"list.pid": "b"}, True),
        ({"list": {"$elemMatch": {"pid": "b", "n": 1}}}, False),
        ({"missing": None}, True),
        ({"missing": {"$exists": False}}, True),
        ({"$or": [{"a": 2}, {"b.c": True}]}, True),
        ({"$nor": [{"a": 1}]}, False),
        ({"b.c": 1}, False),
        ({"name": {"$regex": "^AL", "$options": "i"}}, True),
        ({"name": {"$not": {"$regex": "z"}}}, True),
        ({"a": {"$ne": 1}}, False),
        ({"tags": {"$size": 2}}, True),
        ({"tags": {"$all": ["x", "y"]}}, True),
    ],
)
def test_mongo_operators_select_documents(where: dict[str, Any], expected: bool) -> None:
    document = {
        "a": 1,
        "b": {"c": True},
        "tags": ["x", "y"],
        "name": "alice",
        "list": [{"pid": "a", "n": 1}, {"pid": "b", "n": 2}],
    }
    assert matches(document, where) is expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"name": {"inq": ["alice", "bob"]}}, True),
        ({"and": [{"name": {"like": "li"}}, {"size": {"gt": 3}}]}, True),
        ({"or": [{"name": {"ilike": "ALI"}}, {"size": 1}]}, True),
        ({"name": {"nin": ["alice"]}}, False),
        ({"name": {"neq": "bob"}}, True),
    ],
)
def test_loopback_operators_select_documents(where: dict[str, Any], expected: bool) -> None:
    assert matches({"name": "alice", "size": 5}, from_loopback(where)) is expected


def test_an_unknown_operator_is_an_internal_error(
    alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter
) -> None:
    new_dataset()
    for where in ({"size": {"$foo": 1}}, {"$foo": 1}, {"size": {"$in": 3}}):
        reply = alice.get("/api/v4/datasets", params=as_filter({"where": where}))
        assert (reply.status_code, reply.json()) == (500, "Internal server error")


def test_default_limits_are_100_in_v3_and_the_10_newest_in_v4(
    alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter
) -> None:
    pids = [new_dataset() for _ in range(101)]
    v3 = alice.get("/api/v3/datasets").json()
    assert [one["pid"] for one in v3] == pids[:100]
    v4 = alice.get("/api/v4/datasets").json()
    assert len(v4) == 10
    times = [one["createdAt"] for one in v4]
    assert times == sorted(times, reverse=True)
    assert len(alice.get("/api/v4/datasets", params=as_filter({"limits": {"limit": 200}})).json()) == 101
    assert alice.get("/api/v3/datasets/count").json() == {"count": 101}
    paged = alice.get("/api/v3/datasets", params=as_filter({"limits": {"limit": 5, "skip": 99}})).json()
    assert [one["pid"] for one in paged] == pids[99:]


def test_a_text_that_looks_like_a_date_finds_nothing_in_v3(
    alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter
) -> None:
    pid = new_dataset(datasetName="run 1")
    asked = as_filter({"where": {"datasetName": "run 1"}})
    assert alice.get("/api/v3/datasets", params=asked).json() == []
    assert [one["pid"] for one in alice.get("/api/v4/datasets", params=asked).json()] == [pid]


def test_windows_of_time_work_in_v3_only(
    alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter
) -> None:
    new_dataset(creationTime="2026-03-01T12:00:00Z")
    asked = as_filter({"where": {"creationTime": {"$gte": "2026-01-01", "$lt": "2026-04-01"}}})
    assert len(alice.get("/api/v3/datasets", params=asked).json()) == 1
    assert alice.get("/api/v4/datasets", params=asked).json() == []


def test_nested_fields_can_be_asked_for_and_shown(
    alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter
) -> None:
    pid = new_dataset()
    new_dataset(datasetlifecycle={"archivable": False})
    asked = as_filter(
        {"where": {"datasetlifecycle.archivable": True}, "fields": ["pid", "datasetlifecycle.archivable"]}
    )
    for version in (3, 4):
        assert alice.get(f"/api/v{version}/datasets", params=asked).json() == [
            {"_id": pid, "pid": pid, "datasetlifecycle": {"archivable": True}}
        ]
    v3 = as_filter({"where": {"pid": pid}, "fields": {"size": True, "owner": False}})
    assert alice.get("/api/v3/datasets", params=v3).json() == [{"_id": pid, "size": 0}]


def test_orders_are_followed(alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter) -> None:
    for size in (2, 3, 1):
        new_dataset(size=size)
    v3 = alice.get("/api/v3/datasets", params=as_filter({"limits": {"order": "size:desc"}})).json()
    assert [one["size"] for one in v3] == [3, 2, 1]
    v4 = alice.get("/api/v4/datasets", params=as_filter({"limits": {"sort": {"size": "asc"}}})).json()
    assert [one["size"] for one in v4] == [1, 2, 3]


def test_find_one_gives_the_first_or_nothing(
    alice: httpx.Client, new_dataset: Callable[..., str], as_filter: Filter
) -> None:
    pid = new_dataset()
    for version in (3, 4):
        path = f"/api/v{version}/datasets/findOne"
        assert alice.get(path, params=as_filter({"where": {"pid": pid}})).json()["pid"] == pid
        nothing = alice.get(path, params=as_filter({"where": {"pid": "no"}}))
        assert (nothing.status_code, nothing.content) == (200, b"")


@pytest.mark.parametrize("text", ["{", "[]", '{"surprise": 1}', '{"limits": {"limit": "x"}}'])
def test_an_unusable_v4_filter_gives_400(alice: httpx.Client, text: str) -> None:
    assert alice.get("/api/v4/datasets", params={"filter": text}).status_code == 400


def test_a_v3_filter_may_be_a_header_but_not_both(alice: httpx.Client, new_dataset: Callable[..., str]) -> None:
    pid = new_dataset(size=1)
    new_dataset(size=2)
    header = {"filter": json.dumps({"where": {"size": 1}})}
    assert [one["pid"] for one in alice.get("/api/v3/datasets", headers=header).json()] == [pid]
    assert alice.get("/api/v3/datasets", headers=header, params=header).status_code == 400


def test_an_unknown_relation_gives_400(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Callable[..., str], as_filter: Filter
) -> None:
    pid = new_dataset()
    assert alice.get(path_of(pid), params=as_filter({"include": ["friends"]})).status_code == 400
    assert alice.get(path_of(pid, version=4), params={"include": "friends"}).status_code == 400
    everything = alice.get(path_of(pid, version=4), params={"include": "all"}).json()
    assert (everything["datablocks"], everything["samples"]) == ([], [])
