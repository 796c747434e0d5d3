"""What a job ends with: its status, its message and the links it hands out."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from archiver.workflow.download_script import Download
from archiver.workflow.errors import (
    ArchiverError,
    DatasetBusyError,
    MissingFilesError,
    PermanentError,
    UnsafeNameError,
    WrongShareError,
)
from archiver.workflow.jobs import DatasetResult, JobStatus, message_of, result_object, result_of_error, status_of
from archiver.workflow.names import archive_id
from archiver.workflow.retrieval import RetrievalOutcome, RetrievedTar

EXPIRES = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
LATER = datetime(2030, 1, 3, tzinfo=UTC)
GOOD = DatasetResult("x/1", "archived: 3 files")
USERS_FAULT = result_of_error("x/2", MissingFilesError("Missing:", ["a"]))
SYSTEM_FAULT = result_of_error("x/3", PermanentError("The disk is broken."))


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([GOOD], "finishedSuccessful"),
        ([GOOD, GOOD], "finishedSuccessful"),
        ([USERS_FAULT], "finishedWithDatasetErrors"),
        ([GOOD, USERS_FAULT], "finishedWithDatasetErrors"),
        ([SYSTEM_FAULT], "finishedUnsuccessful"),
        ([GOOD, SYSTEM_FAULT], "finishedUnsuccessful"),
        ([USERS_FAULT, SYSTEM_FAULT], "finishedUnsuccessful"),
        ([SYSTEM_FAULT, USERS_FAULT, GOOD], "finishedUnsuccessful"),
    ],
)
def test_the_worst_data_set_decides_the_status(results: Sequence[DatasetResult], status: str) -> None:
    assert status_of(results) == status
    assert status_of(results[::-1]) is JobStatus(status)


@pytest.mark.parametrize(
    ("error", "users_fault"),
    [
        (MissingFilesError("m"), True),
        (UnsafeNameError("m"), True),
        (PermanentError("m"), False),
        (WrongShareError("m"), False),
        (DatasetBusyError("m"), False),
        (ArchiverError("m"), False),
    ],
)
def test_a_failure_is_the_users_or_the_systems(error: ArchiverError, users_fault: bool) -> None:
    result = result_of_error("x/1", error)

    assert (result.pid, result.message, result.failed, result.users_fault) == ("x/1", "m", True, users_fault)


def test_the_message_tells_each_data_set_with_failures_first() -> None:
    assert message_of([GOOD, USERS_FAULT, SYSTEM_FAULT]).splitlines() == [
        "x/2: Missing: 'a'",
        "x/3: The disk is broken.",
        "x/1: archived: 3 files",
    ]


def _retrieved(pid: str, count: int, expires_at: datetime = EXPIRES) -> DatasetResult:
    blocks = tuple(
        RetrievedTar(archive_id(pid, index), 10 + index, 10240, f"{index:064}", shared=False) for index in range(count)
    )
    downloads = tuple(
        Download(pid, block.name, block.packed_size, block.sha256, f"https://s3.test/{block.archive_id}?signed")
        for block in blocks
    )
    return DatasetResult(pid, "retrieved", retrieval=RetrievalOutcome(pid, blocks, expires_at), downloads=downloads)


def test_every_datablock_is_handed_out_with_its_link_and_checksum() -> None:
    result = result_object([_retrieved("x/1", 2)])

    assert result is not None
    assert result["result"][1] == {
        "datasetId": "x/1",
        "name": "x-1_1.tar",
        "size": 11,
        "archiveId": "openem-network/datasets/x/1/data/datablocks/x-1_1.tar",
        "url": "https://s3.test/openem-network/datasets/x/1/data/datablocks/x-1_1.tar?signed",
        "packedSize": 10240,
        "sha256": f"{1:064}",
        "expiresAt": "2030-01-02T03:04:00+00:00",
    }
    assert [entry["name"] for entry in result["result"]] == ["x-1_0.tar", "x-1_1.tar"]


def test_data_sets_whose_tars_have_one_name_keep_their_own_links() -> None:
    result = result_object([_retrieved("a/b", 1), _retrieved("a-b", 1)])

    assert result is not None
    assert [(entry["datasetId"], entry["archiveId"]) for entry in result["result"]] == [
        ("a/b", archive_id("a/b", 0)),
        ("a-b", archive_id("a-b", 0)),
    ]


def test_the_script_fetches_every_link_until_the_first_ends() -> None:
    result = result_object([_retrieved("x/1", 2, LATER), USERS_FAULT, _retrieved("x/2", 1)])

    assert result is not None
    script = base64.b64decode(result["downloadScript"]).decode()
    assert script.startswith("#!/usr/bin/env bash\n")
    assert all(entry["url"] in script for entry in result["result"])
    assert "until 2030-01-02 03:04 UTC" in script
    assert {entry["expiresAt"] for entry in result["result"]} == {EXPIRES.isoformat()}


@pytest.mark.parametrize("results", [[], [GOOD], [SYSTEM_FAULT, USERS_FAULT]])
def test_without_links_there_is_no_result(results: Sequence[DatasetResult]) -> None:
    assert result_object(results) is None
