"""The operators' smoke test with real parts: that it passes, that it finds what is wrong, that nothing is left."""

import errno
import hashlib
import io
import os
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.errors import (
    CatalogueRefusedError,
    DatasetBusyError,
    OtherContentError,
    PermanentError,
    UnsafeNameError,
    WrongShareError,
)
from archiver.workflow.ledger.records import UploadState
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import SMOKE_PREFIX, dataset_prefix
from archiver.workflow.smoke_comparison import Comparison, DifferenceError
from archiver.workflow.smoke_files import SmokeFile, SmokeFiles
from archiver.workflow.smoke_share import SMOKE_FOLDER, make_smoke_share, remove_smoke_share
from archiver.workflow.smoke_test import SmokeTest, SmokeTestError, create_dataset
from archiver.workflow.storage.lts import PosixShare, ShareAddress
from support.facility import Facility

Fault = Callable[..., None]
MEGABYTE = 1000**2


@pytest.fixture
def fault(facility: Facility) -> Iterator[Fault]:
    """Arms faults of the catalogue, which end with the test."""

    def arm(**fields: Any) -> None:
        httpx.post(f"{facility.scicat_url}/_sim/faults", json=fields).raise_for_status()

    yield arm
    httpx.delete(f"{facility.scicat_url}/_sim/faults").raise_for_status()


def monitors(pid: str, _: str) -> Monitor:
    return Monitor(pid)


def smoke_test(facility: Facility) -> SmokeTest:
    return SmokeTest(facility.tools, monitors)


def no_progress(_: int, /) -> None:
    """Nobody looks."""


def traces(facility: Facility) -> list[str]:
    """All that smoke tests left behind."""
    tools, store = facility.tools, facility.tools.store_settings
    catalogued = httpx.get(f"{facility.scicat_url}/_sim/state").raise_for_status().json()
    return [
        *(f"share {each}" for each in facility.lts_root.rglob("*") if SMOKE_FOLDER in str(each) and each.is_file()),
        *(
            f"landed {each.key}"
            for each in tools.store.list(store.s3_landingzone_bucket, "")
            if SMOKE_PREFIX in each.key
        ),
        *(f"copy {each.key}" for each in tools.store.list(store.s3_retrieval_bucket, "") if SMOKE_PREFIX in each.key),
        *(f"ledger {each.pid}" for each in tools.ledger.datasets() if SMOKE_PREFIX in each.pid),
        *(f"upload {each.pid}" for each in tools.ledger.uploads() if SMOKE_PREFIX in each.pid),
        *(f"{count} {kind} in the catalogue" for kind, count in catalogued.items() if kind != "jobs" and count),
    ]


@pytest.fixture(autouse=True)
def empty_catalogue(facility: Facility) -> None:
    """The catalogue holds what the test puts in."""
    httpx.post(f"{facility.scicat_url}/_sim/reset").raise_for_status()


def test_everything_comes_back_and_nothing_is_left_behind(facility: Facility) -> None:
    outcome = smoke_test(facility).run(12, 50_000, "test")

    assert (outcome.files, outcome.payload_bytes, outcome.datablocks) == (12, 600_000, 1)
    assert outcome.pid.startswith(f"{SMOKE_PREFIX}/")
    assert [stage.name for stage in outcome.stages] == ["uploading", "archiving", "retrieving", "comparing"]
    assert all(f"{stage.name} " in outcome.message for stage in outcome.stages)
    assert "12 files, 0.6 MB in 1 datablocks came back" in outcome.message
    assert traces(facility) == []


def test_files_that_are_uploaded_in_parts_and_several_datablocks_come_back(facility: Facility) -> None:
    facility = facility.with_settings(archiver_target_size_gb=0.05)

    outcome = smoke_test(facility).run(2, 40 * MEGABYTE, "test")

    assert outcome.datablocks == 2
    assert traces(facility) == []


def test_empty_files_come_back(facility: Facility) -> None:
    assert smoke_test(facility).run(3, 0, "test").files == 3


def test_the_archive_itself_is_not_touched(facility: Facility) -> None:
    pid = facility.ingest({"kept": b"content"})
    facility.archive(pid)
    before, lifecycle = facility.share_contents(), facility.lifecycle(pid)

    smoke_test(facility).run(2, 1000, "test")

    assert facility.share_contents() == before
    assert facility.lifecycle(pid) == lifecycle
    assert facility.tools.ledger.dataset(pid) is not None
    assert len(facility.registered(pid)) == 1


def test_a_failure_names_its_stage_and_leaves_nothing_behind(facility: Facility, fault: Fault) -> None:
    # The bag is published, and sealed, by then.
    fault(method="POST", path_regex="^/api/v3/datablocks$", times=None, status=403)

    with pytest.raises(SmokeTestError, match=r"failed while archiving: SciCat refused to register"):
        smoke_test(facility).run(2, 1000, "test")

    assert traces(facility) == []


def test_a_catalogue_that_refuses_the_data_set_fails_the_test(facility: Facility, fault: Fault) -> None:
    fault(method="POST", path_regex="^/api/v3/datasets$", times=None, status=403)

    with pytest.raises(SmokeTestError, match="failed while uploading: SciCat refused to create"):
        smoke_test(facility).run(2, 1000, "test")

    assert traces(facility) == []


def test_a_test_that_is_cancelled_leaves_nothing_behind(facility: Facility) -> None:
    class Cancelled(Monitor):
        def expect(self, total_bytes: int, what: str = "") -> None:
            raise KeyboardInterrupt

    def cancel_the_retrieval(pid: str, doing: str) -> Monitor:
        return Cancelled(pid) if doing == "retrieving" else Monitor(pid)

    with pytest.raises(KeyboardInterrupt):
        SmokeTest(facility.tools, cancel_the_retrieval).run(2, 1000, "test")

    assert traces(facility) == []


def test_what_could_not_be_removed_is_told_and_removed_by_a_later_test(facility: Facility, fault: Fault) -> None:
    fault(method="DELETE", path_regex="^/api/v3/datasets/[^/]*$", times=None, status=403)
    with pytest.raises(SmokeTestError, match=r"not everything could be removed.*the data set in the catalogue"):
        smoke_test(facility).run(2, 1000, "test")
    assert "1 datasets in the catalogue" in traces(facility)
    (left,) = (facility.lts_root / SMOKE_FOLDER).iterdir()
    httpx.delete(f"{facility.scicat_url}/_sim/faults").raise_for_status()

    smoke_test(facility).run(2, 1000, "soon after")
    assert left.exists()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(left, (two_days_ago, two_days_ago))
    smoke_test(facility).run(2, 1000, "much later")

    assert not left.exists()
    assert traces(facility) == []


def test_without_the_archives_share_nothing_is_made(facility: Facility) -> None:
    other = replace(facility.tools, share=ShareAddress(facility.lts_root, uuid.uuid4()))

    with pytest.raises(SmokeTestError, match="Mount the right one"):
        SmokeTest(other, monitors).run(1, 1, "test")

    assert traces(facility) == []


def test_the_archives_own_root_is_never_removed(facility: Facility) -> None:
    pid = facility.ingest({"kept": b"content"})
    facility.archive(pid)
    before = facility.share_contents()
    test = uuid.uuid4()
    (facility.lts_root / SMOKE_FOLDER).mkdir()
    (facility.lts_root / SMOKE_FOLDER / str(test)).symlink_to(facility.lts_root)

    with pytest.raises(WrongShareError, match="is the archive itself"):
        remove_smoke_share(no_progress, facility.tools.share, test)

    assert facility.share_contents() == before


def test_links_out_of_a_smoke_share_are_removed_and_not_followed(facility: Facility) -> None:
    test = uuid.uuid4()
    own = make_smoke_share(no_progress, facility.tools.share, test)
    outside = facility.lts_root.parent / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (own.root / "link").symlink_to(outside)

    remove_smoke_share(no_progress, facility.tools.share, test)

    assert not own.root.exists()
    assert (outside / "kept").exists()


def test_a_smoke_share_that_cannot_be_listed_keeps_its_identity(
    facility: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_smoke_share(no_progress, facility.tools.share, test := uuid.uuid4())
    (own.root / "file").touch()
    scandir = os.scandir

    def refusing(path: str | Path) -> Any:
        if Path(path) == own.root:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing)
        with pytest.raises(PermanentError, match="by hand"):
            remove_smoke_share(no_progress, facility.tools.share, test)
    assert PosixShare(own.root).identity() == own.identity

    remove_smoke_share(no_progress, facility.tools.share, test)
    assert not own.root.exists()


# ---------------------------------------------------------------------------------------------- the comparison

GIVEN = SmokeFiles("comparison", 6, 3_000_000)


def tar_of(given: SmokeFiles, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar as the archive makes it, each member first changed."""
    written = io.BytesIO()
    with tarfile.open(mode="w|", fileobj=written, format=tarfile.PAX_FORMAT) as tar:
        for folder in given.folders():
            _add(tar, folder, tarfile.DIRTYPE, b"", change)
        for file in given.files():
            _add(tar, file, tarfile.REGTYPE, b"".join(given.content(file)), change)
    return written.getvalue()


def _add(tar: tarfile.TarFile, file: SmokeFile, kind: bytes, content: bytes, change: Callable[..., Any]) -> None:
    info = tarfile.TarInfo(file.path)
    info.type, info.mtime, info.mode = kind, file.mtime, file.mode
    info, content = change(info, content)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def unchanged(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return info, content


def compare(facility: Facility, tar: bytes, sha256: str | None = None) -> int:
    """Compares a tar that lies in the retrieval bucket; how many bytes were found equal."""
    store, bucket = facility.tools.store, facility.tools.store_settings.s3_retrieval_bucket
    stored = store.put(bucket, f"comparison/{uuid.uuid4()}", tar)
    equal: list[int] = []
    comparison = Comparison(GIVEN)
    comparison.take(equal.append, store, bucket, stored.key, sha256 or _sha256(tar))
    comparison.finish()
    return sum(equal)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_comes_back_as_it_was_given_is_equal(facility: Facility) -> None:
    assert compare(facility, tar_of(GIVEN, unchanged)) == GIVEN.total_bytes


def changed(what: str) -> Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]:
    """Changes one member."""
    victim = list(GIVEN.files())[4].path

    def change(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if info.name != victim:
            return info, content
        match what:
            case "byte":
                content = content[:2_500_000] + bytes([content[2_500_000] ^ 1]) + content[2_500_001:]
            case "length":
                content = content[:-1]
            case "time":
                info.mtime += 1
            case "mode":
                info.mode ^= 0o001
            case "name":
                info.name += "x"
        return info, content

    return change


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("byte", r"other bytes, from byte 2,097,152 on"),
        ("length", "another size: 2999999 instead of 3000000"),
        ("time", "another modification time"),
        ("mode", "another mode"),
        ("name", "was not given"),
    ],
)
def test_whatever_is_different_is_found_and_named(facility: Facility, what: str, told: str) -> None:
    with pytest.raises(DifferenceError, match=told) as found:
        compare(facility, tar_of(GIVEN, changed(what)))
    assert "frame_000004" in str(found.value)


def test_what_did_not_come_back_is_named(facility: Facility) -> None:
    with pytest.raises(DifferenceError, match=r"Missing: .*frame_000005"):
        compare(facility, tar_of(replace(GIVEN, count=5), unchanged))


def test_a_tar_with_another_checksum_than_recorded_is_found(facility: Facility) -> None:
    with pytest.raises(DifferenceError, match="another SHA-256"):
        compare(facility, tar_of(GIVEN, unchanged) + bytes(512), _sha256(tar_of(GIVEN, unchanged)))


def test_a_tar_that_is_cut_off_is_found(facility: Facility) -> None:
    with pytest.raises(DifferenceError):
        compare(facility, tar_of(GIVEN, unchanged)[:5_000_000])


def test_a_copy_that_is_not_there_is_found(facility: Facility) -> None:
    bucket = facility.tools.store_settings.s3_retrieval_bucket
    with pytest.raises(DifferenceError, match="is not in the bucket"):
        Comparison(GIVEN).take(no_progress, facility.tools.store, bucket, "no/such.tar", "0" * 64)


# ---------------------------------------------------------------------------------------------- a data set to play with


def test_a_created_data_set_can_be_archived_with_its_origin_proven(facility: Facility) -> None:
    pid = f"archiver-test-data/{uuid.uuid4()}"
    given = SmokeFiles(pid, 7, 20_000)

    create_dataset(facility.tools, Monitor(pid), pid, given)

    assert facility.landed(pid) == {file.path for file in given.files()}
    assert facility.lifecycle(pid)["archivable"] is True
    upload = facility.tools.ledger.find_upload(pid)
    assert upload is not None
    assert (upload.state, upload.landed_bytes) == (UploadState.FINALIZED, 140_000)
    group = facility.tools.catalogue.dataset(pid).owner_group
    job = {"type": "archive", "ownerGroup": group, "jobParams": {"datasetList": [{"pid": pid, "files": []}]}}
    assert facility.call("POST", "v4/jobs", job, user=ARCHIVER)["id"]
    outcome = facility.archive(pid)
    assert (outcome.files, outcome.payload_bytes, outcome.unproven, outcome.extra) == (7, 140_000, 0, ())
    emptied = facility.tools.ledger.find_upload(pid)
    assert emptied is not None
    assert emptied.state is UploadState.EMPTIED


def test_a_data_set_that_is_there_already_is_left_as_it_is(facility: Facility) -> None:
    pid = facility.ingest({"theirs": b"content"})
    with pytest.raises(OtherContentError, match="Choose another pid"):
        create_dataset(facility.tools, Monitor(pid), pid, SmokeFiles(pid, 1, 1))
    assert facility.landed(pid) == {"theirs"}

    known = facility.new_dataset()
    with pytest.raises(CatalogueRefusedError, match="already"):
        create_dataset(facility.tools, Monitor(known), known, SmokeFiles(known, 1, 1))
    assert facility.lifecycle(known)
    assert facility.landed(known) == set()
    assert facility.tools.ledger.uploads() == []


def test_an_upload_of_somebody_else_is_left_as_it_is(facility: Facility) -> None:
    pid = f"archiver-test-data/{uuid.uuid4()}"
    create_dataset(facility.tools, Monitor(pid), pid, SmokeFiles(pid, 1, 1))
    bucket, prefix = facility.bucket, dataset_prefix(pid)
    facility.tools.store.delete(bucket, facility.tools.store.list(bucket, prefix))

    with pytest.raises(DatasetBusyError, match="an upload"):
        create_dataset(facility.tools, Monitor(pid), pid, SmokeFiles(pid, 1, 1))

    upload = facility.tools.ledger.find_upload(pid)
    assert upload is not None
    assert upload.state is UploadState.FINALIZED


def test_a_data_set_that_could_not_be_made_whole_is_removed_again(facility: Facility, fault: Fault) -> None:
    pid = f"archiver-test-data/{uuid.uuid4()}"
    fault(method="POST", path_regex="^/api/v3/origdatablocks$", times=None, status=403)

    with pytest.raises(CatalogueRefusedError):
        create_dataset(facility.tools, Monitor(pid), pid, SmokeFiles(pid, 2, 100))

    assert facility.landed(pid) == set()
    assert facility.tools.ledger.uploads() == []
    assert httpx.get(f"{facility.scicat_url}/_sim/state").json()["datasets"] == 0


def test_a_pid_that_leaves_the_archive_is_refused(facility: Facility) -> None:
    with pytest.raises(UnsafeNameError):
        create_dataset(facility.tools, Monitor(".."), "../outside", SmokeFiles("", 1, 1))


def test_the_same_seed_gives_the_same_files_and_another_seed_others() -> None:
    one, again, other = SmokeFiles("a", 11, 2_000_001), SmokeFiles("a", 11, 2_000_001), SmokeFiles("b", 11, 2_000_001)

    contents = [b"".join(one.content(file)) for file in one.files()]
    assert list(one.files()) == list(again.files())
    assert contents == [b"".join(again.content(file)) for file in again.files()]
    assert {len(content) for content in contents} == {2_000_001}
    chunks = [chunk for given in (one, other) for file in given.files() for chunk in given.content(file)]
    assert len(set(chunks)) == len(chunks)
