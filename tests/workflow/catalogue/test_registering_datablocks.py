"""Registering datablocks: once, whatever happens to the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from archiver.local.scicat.defaults import INGESTOR
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Datablock, DatablockFile
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError, UnknownDatasetError

if TYPE_CHECKING:
    from workflow.catalogue.conftest import Exchange, Facility, Reply

PID = "20.500.12345/registering"
POST = {"method": "POST", "path_regex": "^/api/v3/datablocks$"}


def datablock(number: int = 0, *, files: int = 2, pid: str = PID) -> Datablock:
    """A datablock as the archive makes them."""
    return Datablock(
        archive_id=f"openem-network/datasets/{pid}/data/datablocks/block_{number}.tar",
        size=10 * files,
        packed_size=10240,
        chk_alg="sha256",
        version="1",
        files=tuple(
            DatablockFile(
                path=f"raw/{number}/{file:06}.tif",
                size=10,
                time="2026-03-01T12:00:00+00:00",
                chk=f"{file:064x}",
                uid="1000",
                gid="1000",
                perm="-rw-r--r--",
            )
            for file in range(files)
        ),
    )


@pytest.fixture
def dataset(facility: Facility) -> str:
    """A data set to register datablocks for."""
    return facility.ingest(PID)


def test_a_datablock_is_registered_and_read_back(facility: Facility, catalogue: Catalogue, dataset: str) -> None:
    wanted = datablock()
    registered = catalogue.register_datablock(dataset, wanted)

    assert registered.id
    assert catalogue.datablocks(dataset) == [registered]
    assert replace(registered, id="", files=()) == replace(wanted, files=())
    assert [file.path for file in registered.files] == [file.path for file in wanted.files]
    assert catalogue.dataset(dataset).packed_size == 10240
    assert facility.count("datablocks") == 1


def test_a_datablock_with_only_what_must_be_given_is_registered(catalogue: Catalogue, dataset: str) -> None:
    wanted = replace(datablock(), chk_alg=None, files=(DatablockFile("a.tif", 10, "2026-03-01T12:00:00.123456Z"),))
    registered = catalogue.register_datablock(dataset, wanted)
    assert registered.files == (DatablockFile("a.tif", 10, "2026-03-01T12:00:00.123Z"),)
    assert registered.chk_alg is None


def test_many_datablocks_are_all_listed(facility: Facility, dataset: str) -> None:
    with facility.open() as catalogue:
        for number in range(104):
            body = {
                "datasetId": dataset,
                "archiveId": f"{number}.tar",
                "size": 1,
                "packedSize": 2,
                "version": "1",
                "dataFileList": facility.files(1, prefix=str(number)),
            }
            facility.call("POST", "/api/v3/datablocks", body, user="archiveManager")
        listed = catalogue.datablocks(dataset)
        headers = catalogue.datablocks(dataset, with_files=False)

    assert sorted(block.archive_id for block in listed) == sorted(f"{number}.tar" for number in range(104))
    assert [replace(block, files=()) for block in listed] == headers
    assert all(len(block.files) == 1 for block in listed)


def test_registering_again_adopts_what_is_there(facility: Facility, catalogue: Catalogue, dataset: str) -> None:
    first = catalogue.register_datablock(dataset, datablock())
    armed = facility.fault(**POST, times=None, status=500)

    assert catalogue.register_datablock(dataset, datablock()) == first
    assert facility.fired(armed) == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"drop_connection": True, "after_effect": True},
        {"status": 500, "after_effect": True},
        {"status": 504, "after_effect": True},
        {"delay_seconds": 2, "after_effect": True},
        {"status": 500},
        {"drop_connection": True},
        {"delay_seconds": 2, "status": 500},
    ],
)
def test_a_lost_answer_leaves_one_datablock(facility: Facility, dataset: str, fault: dict[str, Any]) -> None:
    armed = facility.fault(**POST, **fault)
    with facility.open(scicat_timeout_s=1) as catalogue:
        registered = catalogue.register_datablock(dataset, datablock())
        assert catalogue.datablocks(dataset) == [registered]

    assert facility.fired(armed) == 1
    assert facility.count("datablocks") == 1
    assert facility.call("GET", "/api/v3/datasets/20.500.12345%2Fregistering")["packedSize"] == 10240


def test_a_failure_that_lasts_is_an_error_that_can_pass(facility: Facility, dataset: str) -> None:
    facility.fault(**POST, times=None, status=500)
    with facility.open(scicat_retry_s=0.5) as catalogue, pytest.raises(CatalogueError, match="register"):
        catalogue.register_datablock(dataset, datablock())
    assert facility.count("datablocks") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"size": 21},
        {"packed_size": 1},
        {"chk_alg": "md5"},
        {"version": "2"},
        {"files": datablock(files=3).files},
        {"files": (datablock().files[0], datablock().files[1]._replace(chk="0" * 64))},
        {"files": (datablock().files[0], datablock().files[1]._replace(time="2026-03-01T12:00:01Z"))},
        {"files": datablock().files[::-1]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_datablock_of_that_name_is_left_alone(
    facility: Facility, catalogue: Catalogue, dataset: str, change: dict[str, Any]
) -> None:
    first = catalogue.register_datablock(dataset, datablock())

    with pytest.raises(CatalogueRefusedError, match="another datablock"):
        catalogue.register_datablock(dataset, replace(datablock(), **change))

    assert catalogue.datablocks(dataset) == [first]


def test_a_name_that_another_data_set_uses_is_refused(facility: Facility, catalogue: Catalogue, dataset: str) -> None:
    other = facility.ingest("20.500.12345/other")
    catalogue.register_datablock(other, datablock())

    with pytest.raises(CatalogueRefusedError, match="Another data set"):
        catalogue.register_datablock(dataset, datablock())

    assert catalogue.datablocks(dataset) == []


def test_nothing_is_registered_for_an_unknown_data_set(facility: Facility, catalogue: Catalogue) -> None:
    with pytest.raises(UnknownDatasetError):
        catalogue.register_datablock("20.500.12345/unknown", datablock())
    assert facility.count("datablocks") == 0


def test_a_datablock_too_large_for_scicat_is_refused_before_it_is_sent(
    facility: Facility, catalogue: Catalogue, dataset: str
) -> None:
    armed = facility.fault(**POST, times=None, status=500)
    wanted = replace(datablock(), files=tuple(datablock().files[0] for _ in range(90_000)))

    with pytest.raises(CatalogueRefusedError, match="ARCHIVER_DATABLOCK_FILES"):
        catalogue.register_datablock(dataset, wanted)

    assert facility.fired(armed) == 0


def test_a_datablock_of_twenty_thousand_files_is_registered(catalogue: Catalogue, dataset: str) -> None:
    registered = catalogue.register_datablock(dataset, datablock(files=20_000))
    assert len(registered.files) == 20_000


def test_a_datablock_that_scicat_changed_is_not_taken_for_registered(facility: Facility, dataset: str) -> None:
    def lose_a_file(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.method == "POST" and exchange.path.endswith("/datablocks"):
            body = json.loads(exchange.body)
            body["dataFileList"].pop()
            exchange.body = json.dumps(body).encode()
        return forward()

    with (
        facility.behind(lose_a_file) as (catalogue, _),
        pytest.raises(CatalogueRefusedError, match="1 files instead of 2"),
    ):
        catalogue.register_datablock(dataset, datablock())


def test_a_datablock_of_the_older_service_is_read(facility: Facility, catalogue: Catalogue, dataset: str) -> None:
    facility.call(
        "POST",
        f"/api/v3/datasets/{dataset.replace('/', '%2F')}/datablocks",
        {
            "archiveId": f"openem-network/datasets/{dataset}/datablocks/x_0.tar.gz",
            "size": 20,
            "packedSize": 10240,
            "chkAlg": "md5",
            "version": "1.0",
            "dataFileList": [
                {"path": "a.tif", "size": 20, "time": "2025-01-01T00:00:00.000Z", "chk": "9e107d9d"}
                | {"uid": "0", "gid": "0", "perm": "420"}
            ],
        },
    )
    (block,) = catalogue.datablocks(dataset)
    assert (block.chk_alg, block.version) == ("md5", "1.0")
    assert block.files == (DatablockFile("a.tif", 20, "2025-01-01T00:00:00.000Z", "9e107d9d", "0", "0", "420"),)


@pytest.mark.parametrize("may", [True, False])
def test_the_right_to_delete_is_seen_without_deleting_anything(
    facility: Facility, catalogue: Catalogue, dataset: str, may: bool
) -> None:
    catalogue.register_datablock(dataset, datablock())
    account = {} if may else {"scicat_user": SecretStr(INGESTOR), "scicat_password": SecretStr(INGESTOR)}

    with facility.behind(lambda _, forward: forward(), **account) as (asking, proxy):
        assert asking.may_remove_datablocks() is may

    asked = [exchange.path for exchange in proxy.seen if exchange.method == "DELETE"]
    assert asked
    assert all("/datasets/archiver-doctor%2F" in path for path in asked)
    assert len(catalogue.datablocks(dataset)) == 1


def test_a_scicat_that_cannot_be_asked_to_delete_says_nothing_of_rights(facility: Facility) -> None:
    def unknown(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.method != "DELETE":
            return forward()
        return 404, json.dumps({"message": f"Cannot DELETE {exchange.path}", "statusCode": 404}).encode()

    with facility.behind(unknown) as (catalogue, _), pytest.raises(CatalogueRefusedError, match="SCICAT_API_PREFIX"):
        catalogue.may_remove_datablocks()
