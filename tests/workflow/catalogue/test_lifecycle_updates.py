"""Changing a data set's lifecycle, against SciCat's habit of writing whole records."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.documents import is_kept, merge_patch
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError, UnknownDatasetError

if TYPE_CHECKING:
    from workflow.catalogue.conftest import Exchange, Facility, Reply

PID = "20.500.12345/lifecycle"
PATCH = {"method": "PATCH", "path_regex": "/datasetlifecycle$"}


def without_v4(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
    """A SciCat whose API v4 has no lifecycle yet."""
    if exchange.path.startswith("/api/v4/datasets"):
        text = f"Cannot {exchange.method} {exchange.path}"
        return 404, json.dumps({"message": text, "error": "Not Found", "statusCode": 404}).encode()
    return forward()


def plain(_: Exchange, forward: Callable[[], Reply]) -> Reply:
    """SciCat as it is."""
    return forward()


@pytest.fixture
def dataset(facility: Facility) -> str:
    """A data set that is to be archived."""
    return facility.ingest(PID)


@pytest.fixture(params=[plain, without_v4], ids=["v4", "v3"])
def meddle(request: pytest.FixtureRequest) -> Any:
    """Both versions of the lifecycle's API."""
    return request.param


def test_only_the_named_fields_change(facility: Facility, dataset: str, meddle: Any) -> None:
    before = facility.lifecycle(dataset)
    with facility.behind(meddle) as (catalogue, _):
        found = catalogue.update_lifecycle(
            dataset, {"archivable": False, "archiveStatusMessage": "started", "storageLocation": "ETHZ"}
        )
    after = facility.lifecycle(dataset)

    assert (found.archivable, found.archive_status, found.storage_location) == (False, "started", "ETHZ")
    changed = {"archivable": False, "archiveStatusMessage": "started", "storageLocation": "ETHZ"}
    assert after == before | changed


def test_return_messages_are_set_replaced_and_emptied(facility: Facility, dataset: str, meddle: Any) -> None:
    with facility.behind(meddle) as (catalogue, _):
        first = {"code": "missing-files", "details": {"files": ["a"], "more": 3}}
        found = catalogue.update_lifecycle(dataset, {"archiveReturnMessage": first})
        assert found.archive_return == first

        second = {"code": "wrong-size", "details": {"files": ["b"]}}
        found = catalogue.update_lifecycle(dataset, {"archiveReturnMessage": second})
        assert found.archive_return == second

        found = catalogue.update_lifecycle(dataset, {"archiveReturnMessage": "all is well"})
        assert found.archive_return == "all is well"

        found = catalogue.update_lifecycle(dataset, {"archiveReturnMessage": None, "retrievable": True})
        assert found.archive_return is None
        assert found.retrievable
    assert not facility.lifecycle(dataset).get("archiveReturnMessage")


def test_the_missing_version_is_asked_for_once(facility: Facility, dataset: str) -> None:
    with facility.behind(without_v4) as (catalogue, proxy):
        for status in ("started", "datasetOnArchiveDisk"):
            catalogue.update_lifecycle(dataset, {"archiveStatusMessage": status})
    patched = [path.split("/")[2] for path in proxy.paths("PATCH")]
    assert patched == ["v4", "v3", "v3"]


def test_an_unknown_data_set_is_told_apart(facility: Facility, meddle: Any) -> None:
    with facility.behind(meddle) as (catalogue, _), pytest.raises(UnknownDatasetError):
        catalogue.update_lifecycle("20.500.12345/unknown", {"archivable": False})


@pytest.mark.parametrize("changes", [{"archivable": "yes"}, {"noSuchField": 1}])
def test_a_change_scicat_does_not_take_is_refused(catalogue: Catalogue, dataset: str, changes: dict[str, Any]) -> None:
    with pytest.raises(CatalogueRefusedError, match="change the lifecycle"):
        catalogue.update_lifecycle(dataset, changes)


def test_a_scicat_that_does_not_know_the_storage_location_gets_the_rest(facility: Facility, dataset: str) -> None:
    def before_locations(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.method == "PATCH" and "storageLocation" in json.loads(exchange.body):
            body = {"message": ["property storageLocation should not exist"], "statusCode": 400}
            return 400, json.dumps(body).encode()
        return forward()

    with facility.behind(before_locations) as (catalogue, _):
        found = catalogue.update_lifecycle(dataset, {"archiveStatusMessage": "started", "storageLocation": "ETHZ"})
    assert found.archive_status == "started"
    assert "storageLocation" not in facility.lifecycle(dataset)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"drop_connection": True},
        {"drop_connection": True, "after_effect": True},
        {"delay_seconds": 2, "after_effect": True},
    ],
)
def test_a_lost_answer_is_asked_for_again(facility: Facility, dataset: str, fault: dict[str, Any]) -> None:
    armed = facility.fault(**PATCH, **fault)
    with facility.open(scicat_timeout_s=1) as catalogue:
        assert not catalogue.update_lifecycle(dataset, {"archivable": False}).archivable
    assert facility.fired(armed) == 1


def reset_lifecycle(facility: Facility) -> None:
    """What a PATCH of the whole data set by somebody else does."""
    body = {"datasetlifecycle": {"publishable": True}}
    facility.call("PATCH", f"/api/v3/datasets/{quote(PID, safe='')}", body, user=ARCHIVER)


def test_what_somebody_overwrote_is_written_again(facility: Facility, dataset: str) -> None:
    overwrites = iter(range(2))

    def overwrite(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        reply = forward()
        if exchange.method == "PATCH" and next(overwrites, None) is not None:
            reset_lifecycle(facility)
        return reply

    with facility.behind(overwrite) as (catalogue, proxy):
        found = catalogue.update_lifecycle(
            dataset, {"archivable": False, "archiveStatusMessage": "datasetOnArchiveDisk"}
        )

    assert (found.archivable, found.archive_status) == (False, "datasetOnArchiveDisk")
    assert facility.lifecycle(dataset)["archivable"] is False
    assert len(proxy.paths("PATCH")) == 3


def test_endless_overwriting_is_an_error(facility: Facility, dataset: str) -> None:
    def overwrite(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        reply = forward()
        if exchange.method == "PATCH":
            reset_lifecycle(facility)
        return reply

    with (
        facility.behind(overwrite) as (catalogue, proxy),
        pytest.raises(CatalogueError, match="did not keep archivable"),
    ):
        catalogue.update_lifecycle(dataset, {"archivable": False})
    assert 1 < len(proxy.paths("PATCH")) < 10


def test_writes_to_one_data_set_do_not_overlap(facility: Facility, dataset: str) -> None:
    writing: list[int] = []
    most: list[int] = []

    def watch(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.method != "PATCH":
            return forward()
        writing.append(1)
        most.append(len(writing))
        reply = forward()
        writing.pop()
        return reply

    fields = ["archiveStatusMessage", "retrieveStatusMessage", "archiveReturnMessage", "exportedTo"]
    with facility.behind(watch) as (catalogue, _), ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda field: catalogue.update_lifecycle(dataset, {field: "x"}), fields))

    assert max(most) == 1
    assert [facility.lifecycle(dataset)[field] for field in fields] == ["x"] * 4


@pytest.mark.parametrize(
    ("wanted", "found", "patch"),
    [
        ("text", {"a": 1}, "text"),
        ({}, {"a": 1}, None),
        ({"a": 1}, "text", {"a": 1}),
        ({"b": 2}, {"a": 1}, {"b": 2, "a": None}),
        ({"a": {"y": 1}}, {"a": {"x": 1}}, {"a": {"y": 1, "x": None}}),
        ({"a": 1}, None, {"a": 1}),
    ],
)
def test_a_merge_patch_removes_what_is_stale(wanted: Any, found: Any, patch: Any) -> None:
    assert merge_patch(wanted, found) == patch


@pytest.mark.parametrize(
    ("wanted", "found", "kept"),
    [
        (None, None, True),
        (None, {}, True),
        (None, "old", False),
        ("", None, True),
        (False, False, True),
        (False, None, False),
        (False, True, False),
        ({"a": None, "b": 1}, {"b": 1}, True),
        ({"b": 1}, {"a": 1, "b": 1}, False),
        ({"b": 1}, "text", False),
    ],
)
def test_what_was_read_back_is_compared(wanted: Any, found: Any, kept: bool) -> None:
    assert is_kept(wanted, found) is kept


def test_a_connection_refused_by_the_proxy_is_not_hidden(facility: Facility, dataset: str) -> None:
    with (
        facility.open(scicat_endpoint="http://127.0.0.1:9", scicat_retry_s=0.2) as catalogue,
        pytest.raises(CatalogueError) as raised,
    ):
        catalogue.update_lifecycle(dataset, {"archivable": False})
    assert isinstance(raised.value.__cause__, httpx.ConnectError)
