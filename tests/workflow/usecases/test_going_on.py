"""A new run goes on with what an earlier one left, and proves it again; what does not prove is written anew."""

import errno
import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from archiver.workflow.archiving import Archiving
from archiver.workflow.bags import inspect_bag
from archiver.workflow.errors import LedgerDisagreesError, VerificationError
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.records import Stage
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.storage import lts
from archiver.workflow.transfer import ProveOrder, prove_datablock
from support.facility import Facility

T = TypeVar("T")
TIMEOUT = timedelta(minutes=5)
FILES = {"a": b"first", "sub/b": bytes(9000)}


class _Ending(Monitor):
    """Ends the run at the step whose name begins so, as a crash would."""

    def __init__(self, pid: str, at: str) -> None:
        super().__init__(pid)
        self._at = at

    def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
        if name.startswith(self._at):
            raise ConnectionAbortedError
        return super().step(name, work, limit)


def _in_this_process(_: ChildProcess, function: Any, on_progress: Any, /, *arguments: Any, **named: Any) -> Any:
    return function(on_progress or _ignore, *arguments, **named)


def _ignore(_: int, /) -> None:
    pass


def _written(facility: Facility) -> str:
    """A data set whose datablock was written and not read back."""
    pid = facility.ingest(FILES)
    with pytest.raises(ConnectionAbortedError):
        Archiving(facility.tools, _Ending(pid, "read back")).archive(pid, "first run")
    return pid


def _tar(facility: Facility, pid: str) -> Path:
    (tar,) = facility.bag(pid).rglob("*.tar")
    return tar


def test_a_datablock_that_was_written_is_verified_and_not_written_again(facility: Facility) -> None:
    pid = _written(facility)
    inode = _tar(facility, pid).stat().st_ino

    assert facility.archive(pid, "next job").files == 2
    assert _tar(facility, pid).stat().st_ino == inode


def test_a_datablock_that_cannot_be_read_back_is_told_as_not_proven_so_that_it_is_written_anew(
    facility: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = _written(facility)
    (totals,) = inspect_bag(_ignore, facility.tools.share, pid).datablocks
    order = ProveOrder(facility.tools.share, totals.archive_id, totals.packed_size, "sha256", totals.sha256, 1)

    def bad_sector(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", bad_sector)
    with pytest.raises(VerificationError, match="cannot be read back"):
        prove_datablock(_ignore, order)


def test_a_datablock_of_an_earlier_run_that_is_not_as_it_was_written_is_written_anew(facility: Facility) -> None:
    pid = _written(facility)
    tar = _tar(facility, pid)
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)

    outcome = facility.archive(pid, "next job")

    assert outcome.datablocks[0].sha256 == hashlib.sha256(tar.read_bytes()).hexdigest()
    assert bytes(content) != tar.read_bytes()


def test_names_that_an_earlier_run_put_in_place_are_durable_before_the_bag_is_published(
    facility: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed between a rename and making it durable; only a loss of power would show that."""
    pid = _written(facility)
    durable: list[str] = []

    class Watching(Monitor):
        def note(self, message: str) -> None:
            super().note(message)
            durable.append(message)

    sync = lts._sync_folder

    def sync_and_note(folder: Path) -> None:
        sync(folder)
        durable.append(str(folder))

    monkeypatch.setattr(lts, "_sync_folder", sync_and_note)
    monkeypatch.setattr(ChildProcess, "call", _in_this_process)

    Archiving(facility.tools, Watching(pid)).archive(pid, "next job")

    published = durable.index("publishing the bag")
    emptied = durable.index("emptying the landing zone")
    bag = facility.bag(pid)
    folders = {
        str(each) for each in (bag / "data" / "datablocks", bag / "archiver", bag, bag.parent, facility.lts_root)
    }
    assert folders <= set(durable[published:emptied])


def test_what_the_ledger_has_as_withdrawn_is_not_archived_again_where_its_retirement_is_lost(
    facility: Facility,
) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    claim = facility.tools.ledger.claim_dataset(pid, "retirement", TIMEOUT)
    facility.tools.ledger.record_stage(claim, Stage.RETIRED)
    facility.tools.ledger.release_claim(claim)
    before = facility.lifecycle(pid)

    with pytest.raises(LedgerDisagreesError, match="was withdrawn, and nothing on the share says so"):
        facility.archive(pid, "second job")

    assert facility.lifecycle(pid) == before
    record = facility.tools.ledger.dataset(pid)
    assert record is not None
    assert record.stage is Stage.RETIRED
