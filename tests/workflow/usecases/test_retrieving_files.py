"""Retrieving single files: what comes back, what is read for it, and what is not handed out."""

import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from archiver.workflow.datablocks.selection import canonical
from archiver.workflow.download_script import download_script
from archiver.workflow.errors import DamagedError, UnknownFilesError
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import bag_folder
from archiver.workflow.retrieval import Retrieval, RetrievalOutcome
from archiver.workflow.selected_files import FilesCopyOrder, FindOrder, copy_files, find_files
from archiver.workflow.storage import lts
from support.facility import Facility, file_entry

FILES = {
    "a.txt": b"alpha",
    "odd/-leading ü 'quoted'\n.bin": b"\x00\x01" * 5000,
    "run/1/frame": b"\x02" * 70_000,
    "run/2/frame": b"\x03" * 70_000,
    "run/empty": b"",
}
WANTED = ["run/2/frame", "a.txt"]


@pytest.fixture
def archived(facility: Facility) -> str:
    """A data set in several datablocks, with folders that are listed."""
    facility = facility.with_settings(archiver_target_size_gb=100_000 / 1000**3)
    pid = facility.new_dataset()
    folders = [file_entry(path, 4096, perm="dr-xr-x---") for path in ("run", "run/1")]
    files = [file_entry(path, len(content), perm="-rw-r-----") for path, content in FILES.items()]
    facility.list_files(pid, [*folders, *files])
    facility.upload(pid, FILES)
    assert len(facility.archive(pid).datablocks) == 2
    return pid


def _tars(facility: Facility, pid: str) -> list[Path]:
    return sorted((facility.lts_root / bag_folder(pid) / "data/datablocks").iterdir())


def test_just_the_files_that_are_named_come_back_from_several_datablocks(facility: Facility, archived: str) -> None:
    outcome = facility.retrieve(archived, files=WANTED)

    assert facility.retrieved(outcome) == {path: FILES[path] for path in WANTED}
    assert (len(outcome.tars), outcome.files, outcome.tars[0].size) == (1, 2, 70_005)
    assert outcome.message.startswith("retrieved: 2 files that were asked for, ")


def test_a_folder_stands_for_all_that_lies_in_it(facility: Facility, archived: str) -> None:
    outcome = facility.retrieve(archived, files=["run/"])

    expected = {path: content for path, content in FILES.items() if path.startswith("run/")}
    assert facility.retrieved(outcome) == expected | {"run/": b"", "run/1/": b""}


def test_odd_names_times_and_modes_are_those_of_the_instrument(
    facility: Facility, archived: str, tmp_path: Path
) -> None:
    (odd,) = (path for path in FILES if path.startswith("odd/"))
    outcome = facility.retrieve(archived, files=[odd])

    script = download_script(Retrieval(facility.tools, Monitor(archived)).downloads(outcome), outcome.expires_at)
    command = ["bash", "-s", "--", str(tmp_path / "target")]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    unpacked = tmp_path / "target" / archived.replace("/", "-") / odd
    assert unpacked.read_bytes() == FILES[odd]
    assert (unpacked.stat().st_mode & 0o777, int(unpacked.stat().st_mtime)) == (0o640, 1714979289)


def test_files_that_are_not_there_are_named_and_nothing_is_retrieved(facility: Facility, archived: str) -> None:
    with pytest.raises(UnknownFilesError, match=r"no such files.*'A\.txt', 'run/3/frame'"):
        facility.retrieve(archived, files=["run/3/frame", "A.txt", "a.txt"])

    bucket = facility.tools.store_settings.s3_retrieval_bucket
    assert list(facility.tools.store.list(bucket, bag_folder(archived))) == []


def test_the_rest_of_the_datablock_is_not_needed(facility: Facility, archived: str) -> None:
    """Other bytes of the tars are spoilt: who reads more than the files cannot hand them out."""
    with tarfile.open(_tars(facility, archived)[1]) as tar:
        place = tar.getmember("run/2/frame").offset_data
    spoilt = _tars(facility, archived)[1]
    spoilt.chmod(0o644)
    content = FILES["run/2/frame"]
    spoilt.write_bytes(b"x" * place + content + b"x" * (spoilt.stat().st_size - place - len(content)))

    outcome = facility.retrieve(archived, files=["run/2/frame"])

    assert facility.retrieved(outcome) == {"run/2/frame": content}


def test_of_the_datablock_only_these_files_are_read(
    facility: Facility, archived: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, int] = {}
    original = lts._PosixReader.readinto

    def counted(self: lts._PosixReader, buffer: memoryview, offset: int) -> int:
        count = original(self, buffer, offset)
        read[self.path.suffix] = read.get(self.path.suffix, 0) + count
        return count

    monkeypatch.setattr(lts._PosixReader, "readinto", counted)
    tools = facility.tools
    found = find_files(lambda _: None, FindOrder(tools.share, archived, canonical(WANTED), tmp_path / "found"))
    order = FilesCopyOrder(
        store=tools.store_settings,
        bucket=tools.store_settings.s3_retrieval_bucket,
        key=f"{bag_folder(archived)}/counted.tar",
        share=tools.share,
        tars=found.tars,
        found_list=tmp_path / "found",
        packed_size=found.packed_size,
        workers=2,
        window_bytes=1,
        patience_s=1,
    )
    copy_files(lambda _: None, order)

    opening = 2  # the first byte of each tar, to see that it can be read
    assert read[".tar"] == 70_005 + opening


def test_a_file_that_is_not_what_was_archived_is_named_and_not_handed_out(facility: Facility, archived: str) -> None:
    tar = _tars(facility, archived)[1]
    tar.chmod(0o644)
    content = tar.read_bytes()
    place = content.index(FILES["run/2/frame"])
    tar.write_bytes(content[: place + 5] + b"!" + content[place + 6 :])

    with pytest.raises(DamagedError, match=r"not what was archived.*'run/2/frame'"):
        facility.retrieve(archived, files=WANTED)

    bucket = facility.tools.store_settings.s3_retrieval_bucket
    assert list(facility.tools.store.list(bucket, bag_folder(archived))) == []
    assert facility.retrieved(facility.retrieve(archived, files=["a.txt"])) == {"a.txt": b"alpha"}


def test_a_tar_that_ends_too_early_is_damage(facility: Facility, archived: str) -> None:
    tar = _tars(facility, archived)[1]
    tar.chmod(0o644)
    with tar.open("r+b") as file:
        file.truncate(tar.stat().st_size // 2)

    with pytest.raises(DamagedError, match="'run/2/frame'"):
        facility.retrieve(archived, files=["run/2/frame"])


def test_an_index_that_was_altered_is_not_gone_by(facility: Facility, archived: str) -> None:
    (index,) = (facility.lts_root / bag_folder(archived) / "archiver").glob("*_0.tar.jsonl")
    index.chmod(0o644)
    index.write_text(index.read_text().replace('"a.txt"', '"b.txt"'))

    with pytest.raises(DamagedError, match="single files cannot be found"):
        facility.retrieve(archived, files=["b.txt"])


def test_the_same_files_are_copied_once_whatever_their_order(facility: Facility, archived: str) -> None:
    first = facility.retrieve(archived, files=WANTED)
    second = facility.retrieve(archived, "another job", files=[*reversed(WANTED), WANTED[0]])
    other = facility.retrieve(archived, files=WANTED[:1])

    assert [outcome.tars[0].shared for outcome in (first, second, other)] == [False, True, False]
    assert first.tars[0].sha256 == second.tars[0].sha256
    assert "(they were there already)" in second.message


def test_two_requests_at_once_for_the_same_files_share_one_copy(facility: Facility) -> None:
    facility = facility.with_settings(claim_wait_s=60)
    pid = facility.ingest({"large": bytes(40_000_000), "other": b"1"})
    facility.archive(pid)
    outcomes: list[RetrievalOutcome] = []
    threads = [
        threading.Thread(target=lambda name=name: outcomes.append(facility.retrieve(pid, name, ["large"])))
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcome.tars[0].shared for outcome in outcomes) == [False, True]


def test_finding_and_copying_work_in_a_process_of_their_own(facility: Facility, archived: str, tmp_path: Path) -> None:
    with ChildProcess(60) as child:
        found = child.call(
            find_files, None, FindOrder(facility.tools.share, archived, ("run", "gone"), tmp_path / "found")
        )

    assert (found.files, found.folders, found.not_found) == (3, 2, ("gone",))
