"""Many data sets at once, and limits that hold."""

import random
from pathlib import Path

import pytest

from stack.archive import datablocks_of_whole_bag
from stack.events import run_containers
from stack.figures import Note
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.visitor import Visitor

pytestmark = pytest.mark.timeout(7200)

_DATA_SETS = 10


def test_ten_data_sets_go_through_two_containers_and_one_that_fails_stops_no_other(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, tmp_path: Path, note: Note
) -> None:
    noise = random.Random(2)
    pids = []
    with run_containers() as counted:
        for number in range(_DATA_SETS):
            folder = tmp_path / f"set {number}"
            folder.mkdir()
            for name in ("a", "b", "never sent"):
                (folder / name).write_bytes(noise.randbytes(100_000))
            pids.append(visitor.ingest(folder, never_sent="never sent" if number == 3 else ""))
        failing = pids.pop(3)
        for pid in pids:
            visitor.archived(pid)
        failed = visitor.finished(visitor.job_of(failing).id)
    note("containers at once, with limits of 2", f"{counted.most_at_once} ({counted.started} in all)")

    assert failed.status == "finishedWithDatasetErrors"
    assert visitor.lifecycle(failing)["archiveStatusMessage"] == "missingFilesError"
    assert "never sent" in str(visitor.lifecycle(failing)["archiveReturnMessage"])
    assert all(len(datablocks_of_whole_bag(stack, pid)) == 1 for pid in pids)
    assert counted.started == _DATA_SETS
    assert counted.most_at_once == 2
    assert prefect.taken_slots() == {}
