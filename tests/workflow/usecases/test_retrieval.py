"""Retrieval with real parts: what comes back, and how often it is copied."""

import subprocess
import tarfile
import threading
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from archiver.workflow.download_script import download_script
from archiver.workflow.errors import DamagedError, NotRetrievableError, PermanentError
from archiver.workflow.ledger.records import FixityOutcome
from archiver.workflow.monitor import Monitor
from archiver.workflow.retrieval import Retrieval, RetrievalOutcome
from archiver.workflow.retrieval_sources import RetrievalSources
from support.facility import Facility

FILES = {"a.txt": b"alpha", "sub dir/b 'quoted'.bin": b"\x00\x01" * 5000, "-leading": b"dash"}


def _script(facility: Facility, outcome: RetrievalOutcome) -> str:
    downloads = Retrieval(facility.tools, Monitor(outcome.pid)).downloads(outcome)
    return download_script(downloads, outcome.expires_at)


def _run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(["bash", "-s", "--", str(folder)], input=script, capture_output=True, text=True, check=False)


def test_links_give_the_archived_tars_back(facility: Facility, tmp_path: Path) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)

    outcome = facility.retrieve(pid)

    (download,) = Retrieval(facility.tools, Monitor(pid)).downloads(outcome)
    tar = tmp_path / download.name
    tar.write_bytes(httpx.get(download.url).content)
    with tarfile.open(tar) as opened:
        assert sorted(opened.getnames()) == sorted(FILES)
    assert facility.lifecycle(pid)["retrieveStatusMessage"] == "datasetRetrieved"


def test_a_part_is_never_given_out_as_the_whole(facility: Facility) -> None:
    pid = facility.ingest({f"{number}.bin": bytes(1000) for number in range(3)})
    facility.with_settings(archiver_target_size_gb=1e-6).archive(pid)
    first, *others = facility.tools.catalogue.datablocks(pid, with_files=False)
    assert len(others) == 2
    facility.tools.catalogue.remove_datablock(pid, first)

    with pytest.raises(PermanentError, match="lacks 1 of the 3 datablocks"):
        facility.retrieve(pid)


def test_the_download_script_unpacks_what_was_archived(facility: Facility, tmp_path: Path) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    script = _script(facility, facility.retrieve(pid))

    done = _run(script, tmp_path / "down loads")

    assert done.returncode == 0, done.stderr
    unpacked = tmp_path / "down loads" / pid.replace("/", "-")
    assert {
        str(each.relative_to(unpacked)): each.read_bytes() for each in unpacked.rglob("*") if each.is_file()
    } == FILES
    assert sorted(each.name for each in (tmp_path / "down loads").iterdir()) == [unpacked.name]


def test_the_download_script_goes_on_with_a_file_that_was_cut_off(facility: Facility, tmp_path: Path) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    outcome = facility.retrieve(pid)
    name = outcome.tars[0].name
    partial = tmp_path / "target" / f"{pid.replace('/', '-')}.download"
    partial.mkdir(parents=True)
    with (facility.lts_root / outcome.tars[0].archive_id).open("rb") as tar:
        (partial / name).write_bytes(tar.read(1000))

    done = _run(_script(facility, outcome), tmp_path / "target")

    assert done.returncode == 0, done.stderr


def test_the_download_script_stops_at_bytes_that_are_not_the_archived_ones(facility: Facility, tmp_path: Path) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    outcome = facility.retrieve(pid)
    partial = tmp_path / "target" / f"{pid.replace('/', '-')}.download"
    partial.mkdir(parents=True)
    (partial / outcome.tars[0].name).write_bytes(b"x" * 1000)

    done = _run(_script(facility, outcome), tmp_path / "target")

    assert done.returncode == 1
    assert "SHA-256 differs" in done.stderr
    assert not (tmp_path / "target" / pid.replace("/", "-") / "a.txt").exists()


def test_a_datablock_that_is_still_there_is_not_copied_again(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    first = facility.retrieve(pid)

    second = facility.retrieve(pid, "another job")

    assert [tar.shared for tar in first.tars] == [False]
    assert [tar.shared for tar in second.tars] == [True]


def test_two_requests_at_once_share_one_copy(facility: Facility) -> None:
    facility = facility.with_settings(claim_wait_s=60)
    pid = facility.ingest({"large": bytes(40_000_000)})
    facility.archive(pid)
    outcomes: list[RetrievalOutcome] = []
    threads = [
        threading.Thread(target=lambda name=name: outcomes.append(facility.retrieve(pid, name)))
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(tar.shared for outcome in outcomes for tar in outcome.tars) == [False, True]


def test_a_flipped_bit_on_the_share_is_found_and_nothing_is_handed_out(facility: Facility) -> None:
    pid = facility.ingest(FILES)
    outcome = facility.archive(pid)
    tar = facility.lts_root / outcome.datablocks[0].archive_id
    tar.chmod(0o644)
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)

    with pytest.raises(DamagedError, match="not what was archived"):
        facility.retrieve(pid)

    bucket = facility.tools.store_settings.s3_retrieval_bucket
    assert facility.tools.store.head(bucket, outcome.datablocks[0].archive_id) is None
    assert tar.read_bytes() == content
    ((damaged, noted),) = facility.tools.ledger.damaged_datablocks()
    assert (damaged, noted.archive_id) == (pid, outcome.datablocks[0].archive_id)
    assert (noted.outcome, noted.copy) == (FixityOutcome.DAMAGED, "")
    assert "not what was archived" in noted.detail
    assert facility.tools.ledger.fixity_summary(timedelta(days=1)).damaged == 1


def test_a_datablock_that_is_gone_from_the_share_is_noted_and_is_the_next_to_be_audited(facility: Facility) -> None:
    pid, other = facility.ingest(FILES), facility.ingest(FILES)
    facility.archive(other)
    tar = facility.lts_root / facility.archive(pid).datablocks[0].archive_id
    tar.unlink()

    with pytest.raises(DamagedError, match="not on the long-term storage"):
        RetrievalSources(facility.tools, Monitor(pid)).first_good(
            pid, lambda tools: Retrieval(tools, Monitor(pid)).retrieve(pid, "test")
        )

    ((_, noted),) = facility.tools.ledger.damaged_datablocks()
    assert noted.outcome is FixityOutcome.MISSING
    for block in facility.tools.ledger.datablocks(other):
        facility.tools.ledger.record_fixity(block.archive_id, FixityOutcome.OK, "", "")
    (due,) = facility.tools.ledger.oldest_checked(1)
    assert due.pid == pid


def test_a_data_set_that_was_never_archived_cannot_be_retrieved(facility: Facility) -> None:
    pid = facility.ingest(FILES)

    with pytest.raises(NotRetrievableError, match="Archive it first"):
        facility.retrieve(pid)
