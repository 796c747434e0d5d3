"""The main job, as a facility's user sees it: upload, archive, get back, all through the proxy."""

import random
from pathlib import Path

import pytest

from archiver.config.settings import MEBIBYTE
from archiver.local.demo.comparison import compare
from archiver.local.demo.downloads import download_by_links, links_of, script_of
from archiver.local.ingestor.listing import list_folder
from archiver.workflow.download_script import folder_of
from stack.archive import datablocks_of_whole_bag, first_byte_at
from stack.figures import Note
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.visitor import Visitor

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run 1"
    (folder / "raw").mkdir(parents=True)
    noise = random.Random(1)
    (folder / "raw" / "large.bin").write_bytes(noise.randbytes(24 * MEBIBYTE))  # sent in parts
    for number in range(60):
        (folder / "raw" / f"frame {number:03}.tif").write_bytes(noise.randbytes(noise.randrange(0, 50_000)))
    (folder / "notes ünïcode.txt").write_text("taken at night")
    (folder / "empty").write_bytes(b"")
    (folder / "notes ünïcode.txt").chmod(0o640)
    return folder


def test_a_data_set_goes_into_the_archive_and_comes_back_by_links_and_by_the_script(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, folder: Path, tmp_path: Path, note: Note
) -> None:
    pid = visitor.ingest(folder)
    job = visitor.archived(pid)
    waited = first_byte_at(stack, pid) - prefect.runs_of_job(job.id)[0].created_at
    note("job asked for, until its first byte on the share", f"{waited.total_seconds():.0f} s (whole seconds)")

    assert len(datablocks_of_whole_bag(stack, pid)) == 1
    assert visitor.lifecycle(pid)["archiveStatusMessage"] == "datasetOnArchiveDisk"
    assert visitor.lifecycle(pid)["retrievable"] is True

    back = visitor.retrieved(pid)
    by_links = download_by_links(links_of(back.result, pid), tmp_path / "links", lambda count, files: None)
    assert compare(list_folder(folder), by_links) == []

    script = tmp_path / "script"
    script.mkdir()
    (script / "download.sh").write_text(script_of(back.result), encoding="utf-8")
    stack.run_beside(script, "umask 0 && bash /here/download.sh /here/data")
    assert compare(list_folder(folder), script / "data" / folder_of(pid)) == []
    assert prefect.taken_slots() == {}


def test_the_smoke_test_of_operators_passes_when_it_is_started_in_prefect(prefect: PrefectView) -> None:
    run = prefect.start("end_to_end_test", "end_to_end_test", {"file_size_MB": 3, "num_files": 4})
    ended = prefect.ended(run)
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
