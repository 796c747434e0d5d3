"""Reading data sets, their files and their datablocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

from archiver.local.scicat.config import Account, GroupLists, ScicatConfig
from archiver.local.scicat.defaults import ARCHIVER, stack_config
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import OrigFile
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError, UnknownDatasetError

if TYPE_CHECKING:
    from workflow.catalogue.conftest import Exchange, Facility, Reply

TIME = "2026-03-01T12:00:00.000Z"
PID = "20.500.12345/6f0e-a"


def as_before_scopes(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
    """An older SciCat, which includes all there is whatever the scope."""
    if "filter" in exchange.url.params:
        asked = json.loads(exchange.url.params["filter"])
        for include in asked["include"]:
            del include["scope"]
        exchange.url = exchange.url.copy_set_param("filter", json.dumps(asked))
    return forward()


def test_a_data_set_is_read_with_its_lifecycle_and_its_whole_record(facility: Facility, catalogue: Catalogue) -> None:
    facility.ingest(PID, accessGroups=["beamline"], scientificMetadata={"energy": {"value": 7}})
    facility.list_files(PID, facility.files(3))

    dataset = catalogue.dataset(PID)

    assert dataset.pid == PID
    assert (dataset.owner, dataset.owner_group, dataset.access_groups) == ("Alice", "p12345", ("beamline",))
    assert (dataset.name, dataset.source_folder) == ("run", "/data/run")
    assert dataset.contact_email == "alice@facility.test"
    assert (dataset.number_of_files, dataset.size, dataset.packed_size) == (3, 30, 0)
    assert (dataset.lifecycle.archivable, dataset.lifecycle.retrievable) == (True, False)
    assert dataset.lifecycle.archive_status == "datasetCreated"
    assert dataset.lifecycle.archive_return is None
    assert dataset.document["scientificMetadata"]["energy"]["value"] == 7


@pytest.mark.parametrize("pid", ["20.500.12345/nothing", "no-such", "with space/ä"])
def test_an_unknown_data_set_is_told_apart_from_a_failure(catalogue: Catalogue, pid: str) -> None:
    for read in (catalogue.dataset, catalogue.orig_files, catalogue.datablocks):
        with pytest.raises(UnknownDatasetError, match="does not know the data set"):
            read(pid)


def test_an_address_without_scicat_is_not_taken_for_an_unknown_data_set(facility: Facility) -> None:
    with (
        facility.open(scicat_api_prefix="/elsewhere/api/v3") as catalogue,
        pytest.raises(CatalogueRefusedError, match="SCICAT_API_PREFIX"),
    ):
        catalogue.dataset(PID)


def test_every_field_of_a_file_is_read(facility: Facility, catalogue: Catalogue) -> None:
    facility.ingest(PID)
    facility.list_files(
        PID,
        [
            {"path": "a/b.tif", "size": 5, "time": TIME, "chk": "c0ffee", "uid": "u", "gid": "g"}
            | {"perm": "-rw-r--r--", "type": "file"},
            {"path": "a", "size": 4096, "time": TIME, "perm": "drwxr-xr-x"},
        ],
        chk_alg="sha256",
    )

    assert catalogue.orig_files(PID) == [
        OrigFile("a/b.tif", 5, TIME, "-rw-r--r--", "c0ffee", "sha256", "u", "g", "file"),
        OrigFile("a", 4096, TIME, "drwxr-xr-x", None, None, "", "", ""),
    ]


@pytest.mark.parametrize("older", [False, True])
def test_more_blocks_than_any_list_of_scicat_shows_are_all_read(facility: Facility, older: bool) -> None:
    facility.ingest(PID)
    for block in range(103):
        facility.list_files(PID, facility.files(2, prefix=f"{block:03}"))

    meddle = as_before_scopes if older else lambda _, forward: forward()
    with facility.behind(meddle) as (catalogue, _):
        files = catalogue.orig_files(PID)

    assert sorted(file.path for file in files) == [
        f"{block:03}/{number:06}.tif" for block in range(103) for number in range(2)
    ]


def test_no_answer_is_longer_than_scicats_database_allows(facility: Facility) -> None:
    most = 700_000
    facility.ingest(PID)
    for block in range(6):
        facility.list_files(PID, facility.files(3000, prefix=f"block-{block}"))
    for block in range(6, 12):
        facility.list_files(PID, facility.files(1, prefix=f"block-{block}"))

    lengths: list[int] = []

    def limited(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        status, content = forward()
        if len(content) > most:
            return 400, json.dumps({"message": "BSONObj size is invalid", "statusCode": 400}).encode()
        lengths.append(len(content))
        return status, content

    with facility.behind(limited) as (catalogue, _):
        files = catalogue.orig_files(PID)

    assert len({file.path for file in files}) == 6 * 3000 + 6
    assert max(lengths) > most / 2


def test_a_block_that_comes_while_the_list_is_read_is_not_lost_silently(facility: Facility) -> None:
    facility.ingest(PID)
    facility.list_files(PID, facility.files(1, prefix="first"))
    facility.list_files(PID, facility.files(1, prefix="second"))

    def remove_one(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        status, content = forward()
        document = json.loads(content)
        if "dataFileList" in str(document.get("origdatablocks")):
            document["origdatablocks"][0]["_id"] = "another"
        return status, json.dumps(document).encode()

    with (
        facility.behind(remove_one) as (catalogue, _),
        pytest.raises(CatalogueError, match="changed while"),
    ):
        catalogue.orig_files(PID)


def test_a_data_set_without_files_has_an_empty_list(facility: Facility, catalogue: Catalogue) -> None:
    facility.ingest(PID)
    assert catalogue.orig_files(PID) == []


def test_an_empty_list_of_a_data_set_with_files_is_a_matter_of_rights(facility: Facility) -> None:
    facility.ingest(PID)
    facility.list_files(PID, facility.files(3))

    def hide(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.path.endswith("/count"):
            return 403, b'{"message":"Forbidden","statusCode":403}'
        status, content = forward()
        document = json.loads(content)
        if "origdatablocks" in document:
            document["origdatablocks"] = []
        return status, json.dumps(document).encode()

    with (
        facility.behind(hide) as (catalogue, _),
        pytest.raises(CatalogueRefusedError, match="right to read all origdatablocks"),
    ):
        catalogue.orig_files(PID)


def test_fewer_blocks_than_scicat_counts_are_refused(facility: Facility) -> None:
    facility.ingest(PID)
    for block in range(3):
        facility.list_files(PID, facility.files(1, prefix=str(block)))

    def hide_one(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        status, content = forward()
        document = json.loads(content)
        if "dataFileList" not in content.decode() and "origdatablocks" in document:
            document["origdatablocks"].pop()
        return status, json.dumps(document).encode()

    with (
        facility.behind(hide_one) as (catalogue, _),
        pytest.raises(CatalogueRefusedError, match="shows 2 origdatablocks"),
    ):
        catalogue.orig_files(PID)


def test_an_archiver_that_is_no_administrator_reads_every_file_of_others(
    facility_with: Callable[[ScicatConfig], AbstractContextManager[Facility]],
) -> None:
    group = "archivers"
    config = stack_config()
    config = config.model_copy(
        update={
            "accounts": (
                *(account for account in config.accounts if account.username != ARCHIVER),
                Account(username=ARCHIVER, password=ARCHIVER, email="a@facility.test", groups=(group,)),
            ),
            "groups": GroupLists(
                delete=(group,),
                update_dataset_lifecycle=(group,),
                update_job_privileged=(group,),
                create_dataset_privileged=(group,),
                create_dataset_with_pid=("ingestor",),
            ),
        }
    )
    with facility_with(config) as facility:
        facility.ingest(PID)
        for block in range(12):
            facility.list_files(PID, facility.files(2, prefix=str(block)))
        with facility.open() as catalogue:
            assert len(catalogue.orig_files(PID)) == 24
            assert catalogue.own_user().groups == (group,)


@pytest.mark.parametrize("broken", [{"path": 7}, {"size": "large"}, {"size": None}])
def test_a_broken_entry_is_named_instead_of_skipped(facility: Facility, broken: dict[str, Any]) -> None:
    facility.ingest(PID)
    facility.list_files(PID, facility.files(2))

    def spoil(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        status, content = forward()
        document = json.loads(content)
        for block in document.get("origdatablocks", []):
            block.get("dataFileList", [{}])[0].update(broken)
        return status, json.dumps(document).encode()

    with (
        facility.behind(spoil) as (catalogue, _),
        pytest.raises(CatalogueRefusedError, match="without path, size or time"),
    ):
        catalogue.orig_files(PID)
