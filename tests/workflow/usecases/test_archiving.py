"""Archiving with real parts: what ends up where."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

import bagit  # type: ignore[import-untyped]
import pytest

from archiver.workflow.errors import (
    LedgerDisagreesError,
    MissingFilesError,
    OtherContentError,
    VerificationError,
    WrongSizeError,
)
from archiver.workflow.ledger.records import Stage
from support.facility import Facility, file_entry

FILES = {"a.txt": b"alpha", "sub/b.bin": b"\x00\x01" * 5000, "sub/deep/empty": b""}


def test_an_archived_data_set_is_a_valid_bag_and_the_landing_zone_is_empty(facility: Facility) -> None:
    pid = facility.ingest(FILES)

    outcome = facility.archive(pid)

    assert (outcome.files, outcome.payload_bytes) == (3, 10005)
    assert bagit.Bag(str(facility.bag(pid))).is_valid()
    assert facility.landed(pid) == set()
    record = facility.tools.ledger.dataset(pid)
    assert record is not None
    assert record.stage is Stage.EMPTIED
    lifecycle = facility.lifecycle(pid)
    assert (lifecycle["archivable"], lifecycle["retrievable"]) == (False, True)
    assert lifecycle["archiveStatusMessage"] == "datasetOnArchiveDisk"


def test_a_bag_is_readable_with_tar_and_coreutils_alone(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)

    bag = facility.bag(pid)
    subprocess.run(["sha256sum", "--check", "--strict", "manifest-sha256.txt"], cwd=bag, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "tagmanifest-sha256.txt"], cwd=bag, check=True)
    unpacked = facility.lts_root.parent / "unpacked"
    unpacked.mkdir()
    for tar in sorted((bag / "data/datablocks").iterdir()):
        subprocess.run(["tar", "-xf", tar, "-C", unpacked], check=True)
    assert {
        str(each.relative_to(unpacked)): each.read_bytes() for each in unpacked.rglob("*") if each.is_file()
    } == FILES
    assert int((unpacked / "a.txt").stat().st_mtime) == 1714979289
    assert (unpacked / "a.txt").stat().st_mode & 0o777 == 0o644


def test_the_catalogue_knows_every_file_with_checksum_time_and_mode(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)

    (block,) = facility.registered(pid)
    assert block["chkAlg"] == "sha256"
    assert (facility.lts_root / block["archiveId"]).stat().st_size == block["packedSize"]
    files = {file["path"]: file for file in block["dataFileList"]}
    assert set(files) == set(FILES)
    assert files["a.txt"]["chk"] == hashlib.sha256(b"alpha").hexdigest()
    assert files["a.txt"]["time"] == "2024-05-06T07:08:09.000Z"
    assert files["a.txt"]["perm"] == "-rw-r--r--"


def test_a_missing_file_is_named_and_everything_stays_where_it_is(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry("here", 4), file_entry("not\nhere", 4)])
    facility.upload(pid, {"here": b"here"})

    with pytest.raises(MissingFilesError, match=r"upload them.*'not\\nhere'"):
        facility.archive(pid)

    assert facility.landed(pid) == {"here"}
    assert not facility.is_published(pid)
    assert facility.registered(pid) == []


def test_a_file_of_another_size_is_named_and_everything_stays_where_it_is(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry("a", 5)])
    facility.upload(pid, {"a": b"four"})

    with pytest.raises(WrongSizeError, match="'a'"):
        facility.archive(pid)

    assert facility.landed(pid) == {"a"}
    assert not facility.is_published(pid)


def test_a_second_job_for_an_archived_data_set_touches_nothing(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    before = facility.share_contents()

    outcome = facility.archive(pid, "second job")

    assert outcome.was_archived
    assert facility.share_contents() == before
    assert len(facility.registered(pid)) == 1


def test_the_same_content_uploaded_again_is_proven_and_then_removed(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    facility.upload(pid, FILES)

    facility.archive(pid, "second job")

    assert facility.landed(pid) == set()


def test_other_content_under_the_name_of_an_archived_data_set_is_refused_and_kept(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    before = facility.share_contents()
    facility.upload(pid, {"a.txt": b"omega", "sub/b.bin": FILES["sub/b.bin"]})

    with pytest.raises(OtherContentError, match=r"'a\.txt'"):
        facility.archive(pid, "second job")

    assert facility.landed(pid) == {"a.txt", "sub/b.bin"}
    assert facility.share_contents() == before


def test_files_are_dealt_out_over_datablocks_of_the_target_size(facility: Facility) -> None:
    facility = facility.with_settings(archiver_target_size_gb=0.000_02)
    pid = facility.ingest({f"f{number}": bytes(9000) for number in range(5)} | {"large": bytes(50_000)})

    outcome = facility.archive(pid)

    assert [totals.size for totals in outcome.datablocks] == [18000, 18000, 9000, 50000]
    names = []
    for totals in outcome.datablocks:
        with tarfile.open(facility.lts_root / totals.archive_id) as tar:
            names.append(tar.getnames())
    assert names == [["f0", "f1"], ["f2", "f3"], ["f4"], ["large"]]
    assert len(facility.registered(pid)) == 4


def _same_uploaded_again(facility: Facility) -> tuple[str, Path]:
    """An archived data set whose files were uploaded again, and its tar."""
    pid = facility.ingest(FILES)
    tar = facility.lts_root / facility.archive(pid).datablocks[0].archive_id
    facility.upload(pid, FILES)
    tar.chmod(0o644)
    return pid, tar


def test_a_copy_in_the_landing_zone_is_kept_when_the_tar_does_not_read_back(facility: Facility) -> None:
    pid, tar = _same_uploaded_again(facility)
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)

    with pytest.raises(VerificationError, match="does not read back"):
        facility.archive(pid, "second job")

    assert facility.landed(pid) == set(FILES)


def test_a_copy_in_the_landing_zone_is_kept_when_the_tar_is_gone(facility: Facility) -> None:
    pid, tar = _same_uploaded_again(facility)
    tar.unlink()

    with pytest.raises(LedgerDisagreesError, match="the landing zone is kept"):
        facility.archive(pid, "second job")

    assert facility.landed(pid) == set(FILES)


def test_a_second_job_says_read_back_only_of_what_it_read(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    assert "read back and proven" in facility.archive(pid).message

    assert "proven when they were archived" in facility.archive(pid, "second job").message
