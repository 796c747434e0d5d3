"""Bad input: a clear error, and landing zone, share and catalogue as they should be afterwards."""

import base64
import hashlib
import os
import tarfile
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar
from urllib.parse import quote

import pytest

from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.archiving import Archiving, report_archiving_failure
from archiver.workflow.bags import inspect_bag
from archiver.workflow.errors import (
    ChangedDuringArchivingError,
    DatasetBusyError,
    EmptyDatasetError,
    LedgerDisagreesError,
    MissingFilesError,
    UnknownDatasetError,
    UnsafeNameError,
    UserError,
    WrongChecksumError,
    WrongShareError,
)
from archiver.workflow.ledger.records import Stage
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.lts import IDENTITY_FILE
from support.facility import Facility, file_entry

T = TypeVar("T")


def assert_nothing_archived(facility: Facility, pid: str) -> None:
    """Neither the share nor the catalogue has anything of the data set."""
    assert not facility.is_published(pid)
    assert list(facility.bag(pid).rglob("*.tar")) == []
    assert facility.registered(pid) == []


def test_an_extra_file_is_archived_and_reported(facility: Facility) -> None:
    pid = facility.ingest({"listed": b"1"})
    facility.upload(pid, {"not listed": b"22"})

    outcome = facility.archive(pid)

    assert outcome.extra == ("not listed",)
    assert "1 files were not in the catalogue's list" in outcome.message
    assert facility.landed(pid) == set()
    (block,) = facility.registered(pid)
    assert {file["path"] for file in block["dataFileList"]} == {"listed", "not listed"}


def test_a_bit_flipped_in_the_landing_zone_is_found_by_the_catalogues_checksum(facility: Facility) -> None:
    pid = facility.new_dataset()
    md5 = hashlib.md5(b"right", usedforsecurity=False).hexdigest()
    facility.list_files(pid, [file_entry("f", 5, chk=md5)], chk_alg="md5")
    facility.upload(pid, {"f": b"ri\x67hu"})

    with pytest.raises(WrongChecksumError, match=r"catalogue's checksum \(md5\).*'f'"):
        facility.archive(pid)

    assert facility.landed(pid) == {"f"}
    assert_nothing_archived(facility, pid)


def test_an_object_replaced_after_the_plan_is_refused_and_kept(facility: Facility) -> None:
    pid = facility.ingest({"a": b"first", "b": b"second"})

    class Replacing(Monitor):
        def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
            facility.upload(pid, {"b": b"SECOND"})
            return super().step(name, work, limit)

    with pytest.raises(ChangedDuringArchivingError, match="replaced or removed while it was being archived"):
        Archiving(facility.tools, Replacing(pid)).archive(pid, "test")

    assert facility.landed(pid) == {"a", "b"}
    assert_nothing_archived(facility, pid)


def test_an_upload_finished_after_a_failure_is_archived_by_the_next_run(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry("a", 1), file_entry("b", 1)])
    facility.upload(pid, {"a": b"1"})
    with pytest.raises(MissingFilesError):
        facility.archive(pid)
    facility.upload(pid, {"b": b"2"})

    assert facility.archive(pid, "next job").files == 2


class _EndingBeforeReadBack(Monitor):
    """Ends the run when everything is written, as a crash would."""

    def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
        if name.startswith("read back"):
            raise ConnectionAbortedError
        return super().step(name, work, limit)


def _written(facility: Facility, pid: str) -> None:
    with pytest.raises(ConnectionAbortedError):
        Archiving(facility.tools, _EndingBeforeReadBack(pid)).archive(pid, "first run")
    assert list(facility.bag(pid).rglob("*.tar"))


def _correct_list(facility: Facility, pid: str, entries: list[dict[str, object]], chk_alg: str) -> None:
    blocks = f"v3/datasets/{quote(pid, safe='')}/origdatablocks"
    (block,) = facility.call("GET", blocks)
    facility.call("DELETE", f"{blocks}/{quote(block['_id'], safe='')}", user=ARCHIVER)
    facility.list_files(pid, entries, chk_alg)


def test_a_checksum_that_was_corrected_in_the_catalogue_is_the_one_that_counts(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry("f", 5, chk="00" * 16)], chk_alg="md5")
    facility.upload(pid, {"f": b"right"})
    with pytest.raises(WrongChecksumError):
        facility.archive(pid, "first job")
    md5 = hashlib.md5(b"right", usedforsecurity=False).hexdigest()
    _correct_list(facility, pid, [file_entry("f", 5, chk=md5)], "md5")

    assert facility.archive(pid, "next job").files == 1
    assert facility.landed(pid) == set()


def test_files_listed_after_a_failed_run_are_missed_by_the_next(facility: Facility) -> None:
    pid = facility.ingest({"a": b"1"})
    _written(facility, pid)
    facility.list_files(pid, [file_entry("b", 1)])

    with pytest.raises(MissingFilesError, match="'b'"):
        facility.archive(pid, "next job")

    assert facility.landed(pid) == {"a"}
    assert not facility.is_published(pid)
    facility.upload(pid, {"b": b"2"})
    assert facility.archive(pid, "third job").files == 2


def test_what_was_written_is_kept_when_the_landing_zone_has_lost_a_file_since(facility: Facility) -> None:
    pid = facility.ingest({"a": b"first", "b": b"second"})
    _written(facility, pid)
    (lost,) = facility.tools.store.list(facility.bucket, dataset_prefix(pid) + "b")
    facility.tools.store.delete(facility.bucket, iter([lost]))

    with pytest.raises(MissingFilesError, match="'b'"):
        facility.archive(pid, "next job")

    (tar,) = facility.bag(pid).rglob("*.tar")
    with tarfile.open(tar) as datablock:
        content = datablock.extractfile("b")
        assert content is not None
        assert content.read() == b"second"


def test_a_file_replaced_after_a_failed_run_is_archived_as_it_is_now(facility: Facility) -> None:
    pid = facility.ingest({"a": b"first", "b": b"second"})

    class Failing(Monitor):
        def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
            if name.startswith("read back"):
                raise ConnectionAbortedError
            return super().step(name, work, limit)

    with pytest.raises(ConnectionAbortedError):
        Archiving(facility.tools, Failing(pid)).archive(pid, "test")
    facility.upload(pid, {"b": b"SECOND"})

    outcome = facility.archive(pid, "next job")

    (block,) = facility.registered(pid)
    checksums = {file["path"]: file["chk"] for file in block["dataFileList"]}
    assert checksums["b"] == hashlib.sha256(b"SECOND").hexdigest()
    assert outcome.datablocks[0].packed_size == block["packedSize"]


def test_an_empty_data_set_is_refused(facility: Facility) -> None:
    pid = facility.new_dataset()

    with pytest.raises(EmptyDatasetError, match="lists no files"):
        facility.archive(pid)

    assert_nothing_archived(facility, pid)


def test_a_data_set_of_folders_only_is_refused(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry("empty", 4096, perm="drwxr-xr-x")])

    with pytest.raises(EmptyDatasetError):
        facility.archive(pid)

    assert_nothing_archived(facility, pid)


def test_an_unknown_pid_is_refused(facility: Facility) -> None:
    with pytest.raises(UnknownDatasetError):
        facility.archive("20.500.11935/never-heard-of")


@pytest.mark.parametrize(
    "pid",
    ["../up", "/absolute", "a/../b", "a//b", "a/", "white space/1", "a/data/b", "a/archiver", "x/y.tar", "ü/1", ""],
)
def test_a_pid_that_cannot_name_a_folder_is_refused_before_anything_is_touched(facility: Facility, pid: str) -> None:
    before = facility.share_contents()

    with pytest.raises(UnsafeNameError):
        facility.archive(pid)

    assert facility.share_contents() == before
    assert facility.tools.ledger.dataset(pid) is None


@pytest.mark.parametrize("pid", ["20.500.11935/A_b-C~d", "10.16907/a=b@c", "plain"])
def test_odd_but_safe_pids_are_archived(facility: Facility, pid: str) -> None:
    import uuid

    own = f"{pid}{uuid.uuid4().hex}"
    facility.ingest({"f": b"1"}, own)

    assert facility.archive(own).files == 1
    assert facility.retrieve(own).tars[0].packed_size > 0


def test_a_pid_inside_anothers_folder_is_refused(facility: Facility) -> None:
    outer = facility.ingest({"f": b"1"})
    facility.archive(outer)
    inner = facility.ingest({"f": b"2"}, f"{outer}/inner")

    with pytest.raises(UnsafeNameError, match="inside the folder of the data set"):
        facility.archive(inner)

    assert facility.landed(inner) == {"f"}
    assert facility.tools.ledger.dataset(outer).stage is Stage.EMPTIED  # type: ignore[union-attr]


def test_a_pid_whose_folder_holds_other_data_sets_is_refused(facility: Facility) -> None:
    outer = facility.new_dataset()
    facility.archive(facility.ingest({"f": b"2"}, f"{outer}/inner"))
    facility.list_files(outer, [file_entry("f", 1)])
    facility.upload(outer, {"f": b"1"})

    with pytest.raises(UnsafeNameError, match="holds other data sets"):
        facility.archive(outer)

    assert facility.landed(outer) == {"f"}


def test_names_that_are_awkward_come_back_as_they_were(facility: Facility, tmp_path: pytest.TempPathFactory) -> None:
    files = {
        "ünïcödé/文件.txt": b"1",
        "with  spaces ": b"2",
        "new\nline": b"3",
        "-rf": b"4",
        "Case": b"5",
        "case": b"6",
        "/".join(["long" * 25] * 3): b"7" * 10,
        "zero": b"",
        "quote'\"`$(x)": b"8",
        "control\x01\x1b\ufffe": b"9",
    }
    pid = facility.ingest(files)

    facility.archive(pid)

    (block,) = facility.registered(pid)
    assert {file["path"] for file in block["dataFileList"]} == set(files)
    assert facility.landed(pid) == set()


@pytest.mark.parametrize("path", ["../escape", "/absolute", "a/../../b", "a//b", "nul\0byte", "back\\slash", "x" * 256])
def test_listed_names_that_would_leave_the_data_set_are_refused(facility: Facility, path: str) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry("fine", 1), file_entry(path, 1)])
    facility.upload(pid, {"fine": b"1"})

    with pytest.raises(UnsafeNameError):
        facility.archive(pid)

    assert facility.landed(pid) == {"fine"}
    assert_nothing_archived(facility, pid)


def test_folders_and_links_are_listed_as_the_facilitys_tools_do(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(
        pid,
        [
            file_entry("folder", 4096, perm="drwxr-x---"),
            file_entry("folder/empty", 4096, perm="drwxr-xr-x"),
            file_entry("folder/file", 3, perm="-rwxr-x---"),
            file_entry("link", 11, perm="Lrwxrwxrwx"),
        ],
    )
    facility.upload(pid, {"folder/file": b"abc", "link": b"what the link points to"})

    outcome = facility.archive(pid)

    import tarfile

    with tarfile.open(facility.lts_root / outcome.datablocks[0].archive_id) as tar:
        members = {member.name: member for member in tar}
    assert members["folder/empty"].isdir()
    assert members["folder"].mode == 0o750
    assert members["folder/file"].mode == 0o750
    assert members["link"].isreg()
    assert members["link"].size == 23


def test_a_file_over_the_target_gets_a_datablock_of_its_own_and_no_datablock_is_empty(facility: Facility) -> None:
    facility = facility.with_settings(archiver_target_size_gb=0.000_001)
    pid = facility.ingest({"a large": os.urandom(20_000), "b": b"1"})

    outcome = facility.archive(pid)

    assert [totals.files for totals in outcome.datablocks] == [1, 1]


def test_an_upload_in_parts_is_checked_against_its_composite_checksum(facility: Facility) -> None:
    pid = facility.new_dataset()
    content = os.urandom(12 * 1024**2)
    facility.list_files(pid, [file_entry("large", len(content))])
    with facility.tools.store.multipart_writer(facility.bucket, dataset_prefix(pid) + "large") as writer:
        for number, start in enumerate(range(0, len(content), 5 * 1024**2), start=1):
            writer.write_part(number, content[start : start + 5 * 1024**2])
        head = writer.complete()
    assert head.checksum is not None
    parts = [content[start : start + 5 * 1024**2] for start in range(0, len(content), 5 * 1024**2)]
    composite = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    assert head.checksum.sha256_base64 == base64.b64encode(composite).decode()

    outcome = facility.archive(pid)

    assert outcome.unproven == 0
    (block,) = facility.registered(pid)
    assert block["dataFileList"][0]["chk"] == hashlib.sha256(content).hexdigest()


def test_a_share_without_its_identity_is_not_written_to(facility: Facility) -> None:
    pid = facility.ingest({"f": b"1"})
    identity = facility.lts_root / IDENTITY_FILE
    identity.rename(facility.lts_root.parent / "identity")

    with pytest.raises(WrongShareError, match="not mounted"):
        facility.archive(pid)

    assert list(facility.lts_root.iterdir()) == []
    assert facility.landed(pid) == {"f"}


def test_another_share_is_not_written_to(facility: Facility) -> None:
    pid = facility.ingest({"f": b"1"})
    identity = facility.lts_root / IDENTITY_FILE
    identity.chmod(0o644)
    identity.write_text("00000000-0000-4000-8000-000000000000\n")

    with pytest.raises(WrongShareError, match="Mount the right one"):
        facility.archive(pid)

    assert [each.name for each in facility.lts_root.iterdir()] == [IDENTITY_FILE]


def test_a_data_set_another_run_works_on_is_left_to_it(facility: Facility) -> None:
    from datetime import timedelta

    pid = facility.ingest({"f": b"1"})
    facility.tools.ledger.claim_dataset(pid, "another run", timedelta(minutes=2))

    with pytest.raises(DatasetBusyError):
        facility.archive(pid)

    assert facility.landed(pid) == {"f"}
    assert facility.lifecycle(pid)["archiveStatusMessage"] == "datasetCreated"


def test_a_bag_that_vanished_raises_an_alarm_and_is_never_written_again(facility: Facility) -> None:
    pid = facility.ingest({"f": b"1"})
    facility.archive(pid)
    facility.bag(pid).rename(facility.lts_root.parent / "moved away")
    facility.upload(pid, {"f": b"1"})

    with pytest.raises(LedgerDisagreesError, match="Look for the bag"):
        facility.archive(pid, "second job")

    assert not facility.bag(pid).exists()
    assert facility.landed(pid) == {"f"}


def test_a_bag_the_ledger_does_not_know_is_verified_and_adopted(facility: Facility, ledger_url: str) -> None:
    pid = facility.ingest({"f": b"1"})
    facility.archive(pid)
    engine = facility.tools.ledger
    facility.tools.ledger.forget_dataset(pid)
    assert engine.dataset(pid) is None

    outcome = facility.archive(pid, "after the ledger was lost")

    assert outcome.was_archived
    record = engine.dataset(pid)
    assert record is not None
    assert record.archived_at is not None
    assert [block.sha256 for block in engine.datablocks(pid)] == [outcome.datablocks[0].sha256]


def test_a_users_error_reaches_the_catalogue_in_the_same_words_and_leaves_it_archivable(facility: Facility) -> None:
    pid = facility.new_dataset()
    facility.list_files(pid, [file_entry(f"missing {number:02}", 1) for number in range(25)])
    with pytest.raises(UserError) as raised:
        facility.archive(pid)

    report_archiving_failure(facility.tools.catalogue, facility.tools.ledger, pid, raised.value, timedelta(minutes=5))

    lifecycle = facility.lifecycle(pid)
    assert lifecycle["archivable"] is True
    assert lifecycle["archiveStatusMessage"] == "missingFilesError"
    assert lifecycle["archiveReturnMessage"] == str(raised.value)
    assert "'missing 19' and 5 more" in str(raised.value)


def test_leftovers_of_a_killed_run_are_removed_by_the_next(facility: Facility) -> None:
    pid = facility.ingest({"f": b"1"})
    folder = facility.bag(pid) / "data/datablocks"
    folder.mkdir(parents=True)
    (folder / "x_0.tar.part-0123456789abcdef").write_bytes(b"half")

    facility.archive(pid)

    assert [file.name for file in facility.bag(pid).rglob("*.part-*")] == []
    assert inspect_bag(lambda _: None, facility.tools.share, pid).published
