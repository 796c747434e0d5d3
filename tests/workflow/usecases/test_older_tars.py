"""Data sets that the older service archived: tars without a bag, MD5 of their files in the catalogue."""

import hashlib
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.download_script import download_script
from archiver.workflow.errors import DamagedError, UnknownFilesError
from archiver.workflow.monitor import Monitor
from archiver.workflow.older_tars import FindOlderOrder, OlderTar, find_older_files
from archiver.workflow.retrieval import Retrieval, RetrievalOutcome
from archiver.workflow.storage import lts
from support.facility import Facility

FILES = {
    "a.txt": b"alpha",
    "sub dir/ü 'quoted'.bin": b"\x00\x01" * 5000,
    "sub dir/deeper/" + "long" * 40: b"\x02" * 3000,
    "-leading": b"dash",
    "empty": b"",
}
LARGE = {"big/image": b"\x03" * 200_000, "big/other": b"\x04" * 100_000}
MTIME = 1_700_000_000.25


def _archive_with_the_older_service(
    facility: Facility, folder: Path, datablocks: Sequence[Mapping[str, bytes]], **spoilt: bytes
) -> str:
    """A data set as the older service left it.

    Its tars are those of Python's `tarfile` (pax, times with fractions), made of files in the order in which their
    folders list them; in the catalogue stand the decimal mode, the time of archiving and an MD5 for each file.
    `spoilt`: other bytes for a file.
    """
    pid = facility.new_dataset()
    for index, files in enumerate(datablocks):
        raw = folder / str(index)
        raw.mkdir()
        for path, content in files.items():
            (raw / path).parent.mkdir(parents=True, exist_ok=True)
            (raw / path).write_bytes(spoilt.get(path.partition(".")[0], content))
            os.utime(raw / path, (MTIME, MTIME))
        archive_id = f"openem-network/datasets/{pid}/datablocks/{pid.replace('/', '-')}_{index}.tar"
        target = facility.lts_root / archive_id
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w") as tar:
            for above, _, names in os.walk(raw):
                for name in names:
                    file = Path(above, name)
                    tar.add(file, file.relative_to(raw), recursive=False)
        facility.call(
            "POST",
            "v3/datablocks",
            {
                "datasetId": pid,
                "archiveId": archive_id,
                "size": sum(map(len, files.values())),
                "packedSize": target.stat().st_size,
                "chkAlg": "md5",
                "version": "1.0",
                "dataFileList": [
                    {
                        "path": path,
                        "size": len(content),
                        "time": "2025-01-02T03:04:05.678Z",
                        "chk": hashlib.md5(content).hexdigest(),
                        "uid": "0",
                        "gid": "0",
                        "perm": "420",
                    }
                    for path, content in files.items()
                ],
            },
            user=ARCHIVER,
        )
    return pid


def _tar(facility: Facility, pid: str, index: int) -> Path:
    name = f"{pid.replace('/', '-')}_{index}.tar"
    return facility.lts_root / "openem-network/datasets" / pid / "datablocks" / name


def _copies(facility: Facility, pid: str) -> list[str]:
    bucket = facility.tools.store_settings.s3_retrieval_bucket
    return [each.key for each in facility.tools.store.list(bucket, f"openem-network/datasets/{pid}/")]


def _downloaded(facility: Facility, outcome: RetrievalOutcome, target: Path) -> Path:
    """The folder into which the download script unpacks."""
    downloads = Retrieval(facility.tools, Monitor(outcome.pid)).downloads(outcome)
    script = download_script(downloads, outcome.expires_at)
    command = ["bash", "-s", "--", str(target)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / outcome.pid.replace("/", "-")


def test_its_tars_come_back_as_they_are_checked_by_their_files(facility: Facility, tmp_path: Path) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [LARGE, FILES])

    outcome = facility.retrieve(pid)

    assert [tar.archive_id for tar in outcome.tars] == _copies(facility, pid)
    assert [tar.sha256 for tar in outcome.tars] == [
        hashlib.sha256(_tar(facility, pid, index).read_bytes()).hexdigest() for index in range(2)
    ]
    unpacked = _downloaded(facility, outcome, tmp_path / "target")
    assert {
        str(file.relative_to(unpacked)): file.read_bytes() for file in unpacked.rglob("*") if file.is_file()
    } == FILES | LARGE
    assert int((unpacked / "a.txt").stat().st_mtime) == int(MTIME)
    assert facility.lifecycle(pid)["retrieveStatusMessage"] == "datasetRetrieved"


def test_what_is_still_there_is_not_read_again(facility: Facility, tmp_path: Path) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [FILES])

    outcomes = [facility.retrieve(pid), facility.retrieve(pid, "another job")]

    assert [outcome.tars[0].shared for outcome in outcomes] == [False, True]
    assert outcomes[0].tars[0].sha256 == outcomes[1].tars[0].sha256


@pytest.mark.parametrize("files", [(), ("a.txt",)])
def test_other_bytes_are_named_and_not_handed_out(facility: Facility, tmp_path: Path, files: tuple[str, ...]) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [FILES], a=b"ALPHA")

    with pytest.raises(DamagedError, match=r"not what was archived.*'a\.txt'"):
        facility.retrieve(pid, files=files)

    assert _copies(facility, pid) == []


@pytest.mark.parametrize("files", [(), ("a.txt",)])
def test_a_file_of_another_length_is_named(facility: Facility, tmp_path: Path, files: tuple[str, ...]) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [FILES], a=b"alph")

    with pytest.raises(DamagedError, match=r"not what was archived.*'a\.txt'"):
        facility.retrieve(pid, files=files)


@pytest.mark.parametrize("files", [(), ("big/other", "big/image")])
def test_a_tar_that_was_cut_off_is_damage(facility: Facility, tmp_path: Path, files: tuple[str, ...]) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [LARGE])
    with _tar(facility, pid, 0).open("r+b") as tar:
        tar.truncate(150_000)

    with pytest.raises(DamagedError, match=r"no readable tar|missing or not what was archived"):
        facility.retrieve(pid, files=files)

    assert _copies(facility, pid) == []


@pytest.mark.parametrize("files", [(), ("a.txt",)])
def test_a_missing_tar_is_damage(facility: Facility, tmp_path: Path, files: tuple[str, ...]) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [FILES])
    _tar(facility, pid, 0).unlink()

    with pytest.raises(DamagedError, match="not on the long-term storage"):
        facility.retrieve(pid, files=files)


def test_single_files_come_back_with_their_times(facility: Facility, tmp_path: Path) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [LARGE, FILES])
    wanted = ["sub dir", "big/image"]

    outcome = facility.retrieve(pid, files=wanted)

    expected = {path: content for path, content in (FILES | LARGE).items() if path.startswith(("sub dir/", "big/im"))}
    assert facility.retrieved(outcome) == expected
    assert outcome.files == len(expected)
    image = _downloaded(facility, outcome, tmp_path / "target") / "big/image"
    assert int(image.stat().st_mtime) == int(MTIME)
    assert facility.retrieve(pid, files=wanted).tars[0].shared


def test_files_that_the_catalogue_does_not_list_are_named(facility: Facility, tmp_path: Path) -> None:
    pid = _archive_with_the_older_service(facility, tmp_path, [FILES])

    with pytest.raises(UnknownFilesError, match=r"Unknown: 'b\.txt'"):
        facility.retrieve(pid, files=["a.txt", "b.txt"])


def test_finding_files_reads_headers_only(facility: Facility, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {f"frame {number}": bytes(1_000_000) for number in range(8)}
    pid = _archive_with_the_older_service(facility, tmp_path, [large])
    read = []
    original = lts._PosixReader.readinto

    def counted(self: lts._PosixReader, buffer: memoryview, offset: int) -> int:
        read.append(original(self, buffer, offset))
        return read[-1]

    monkeypatch.setattr(lts._PosixReader, "readinto", counted)
    archive_id = str(_tar(facility, pid, 0).relative_to(facility.lts_root))
    tar = OlderTar(archive_id, "md5", {path: (len(content), "") for path, content in large.items()})
    found = find_older_files(
        lambda _: None, FindOlderOrder(facility.tools.share, (tar,), tmp_path / "found", patience_s=1)
    )

    assert (found.files, found.size) == (8, 8_000_000)
    assert sum(read) < 200_000


def test_memory_does_not_grow_with_the_members_that_are_passed_over(facility: Facility, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        target = facility.lts_root / f"openem-network/datasets/{count}.tar"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w") as tar:
            for number in range(count):
                tar.addfile(tarfile.TarInfo(f"file {number}"))
                tar.members.clear()  # type: ignore[attr-defined]
            tar.addfile(tarfile.TarInfo("last"))
        wanted = OlderTar(str(target.relative_to(facility.lts_root)), "md5", {"last": (0, "")})
        order = FindOlderOrder(facility.tools.share, (wanted,), tmp_path / "found", patience_s=1)
        tracemalloc.start()
        try:
            assert find_older_files(lambda _: None, order).files == 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is made once
    # A member that is kept takes more than 500 bytes; what other threads of this process do meanwhile counts, too.
    assert peak(5000) < peak(500) + 4500 * 100
