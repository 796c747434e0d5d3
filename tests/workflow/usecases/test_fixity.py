"""Audits with real parts: what is read, what is found, who is told, and that nothing is altered."""

import os
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.config.settings import FixitySettings
from archiver.workflow.errors import StalledError, WrongShareError
from archiver.workflow.fixity import AuditOutcome, FixityAudit
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.holdings.rebuilding import LedgerRebuilding
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, Stage
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import SMOKE_PREFIX, archive_id
from archiver.workflow.storage.lts import IDENTITY_FILE
from support.bags import make_bag, tamper
from support.facility import Facility

LARGE = bytes(range(256)) * 40_000
"""Ten megabytes: more than one chunk of reading."""
MEDIUM = LARGE[:2_000_000]
"""More than the smallest stub."""
TIMEOUT = timedelta(minutes=5)


class Notes(Monitor):
    """A monitor that keeps what it was told; `when` is called before each step."""

    def __init__(self, when: "Sequence[Any]" = ()) -> None:
        super().__init__("audit")
        self.notes: list[str] = []
        self.steps = 0
        self._when = list(when)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def step(self, name: str, work: Any, limit: Any = None) -> Any:
        self.steps += 1
        done = super().step(name, work, limit)
        if self._when:
            self._when.pop(0)()
        return done


def audit(facility: Facility, monitor: Monitor | None = None, **settings: Any) -> AuditOutcome:
    """One audit."""
    own = {name: settings.pop(name) for name in ("recall", "stretch_s") if name in settings}
    return FixityAudit(facility.tools, FixitySettings(**settings), monitor or Notes(), **own).run()


def tar_of(facility: Facility, pid: str) -> Path:
    return facility.lts_root / archive_id(pid, 0)


def archived(facility: Facility, *contents: bytes) -> list[str]:
    """Data sets of one file each, on the share and in the ledger, but not in the catalogue; their pids."""
    tools = facility.tools
    pids = [f"20.500.11935/{uuid.uuid4()}" for _ in contents]
    for pid, content in zip(pids, contents, strict=True):
        make_bag(tools.share, pid, {"f": content})
    with ChildProcess(60) as child:
        rebuilding = LedgerRebuilding(tools.ledger, child, tools.share, TIMEOUT, verify=False, dry_run=False)
        assert {adoption.pid for adoption in rebuilding.rebuild()} >= set(pids)
    return pids


def archived_by_the_service(facility: Facility, content: bytes) -> str:
    """A data set of one file, archived and registered; its pid."""
    pid = facility.ingest({"f": content})
    facility.archive(pid)
    return pid


def last(facility: Facility, pid: str) -> Any:
    found = facility.tools.ledger.last_fixity(archive_id(pid, 0))
    return None if found is None else (found.outcome, found.detail)


def make_stub(facility: Facility, pid: str) -> bytes:
    """Take the blocks of a tar away, as a tape system does; its content."""
    tar = tar_of(facility, pid)
    content = tar.read_bytes()
    tar.chmod(0o644)
    with tar.open("r+b") as opened:
        opened.truncate(0)
        opened.truncate(len(content))
    tar.chmod(0o444)
    assert tar.stat().st_blocks == 0
    return content


def come_back(facility: Facility, pid: str, content: bytes) -> None:
    """The tape system puts the blocks back."""
    with tar_of(facility, pid).open("r+b") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def test_everything_that_is_due_is_read_and_noted_and_nothing_is_altered(facility: Facility) -> None:
    pids = archived(facility, b"one", LARGE)
    before = facility.share_contents()
    packed = sum(tar_of(facility, pid).stat().st_size for pid in pids)

    outcome = audit(facility)

    assert (outcome.checked, outcome.read_bytes, outcome.findings) == (2, packed, [])
    assert [last(facility, pid) for pid in pids] == [(FixityOutcome.OK, "")] * 2
    found = facility.tools.ledger.last_fixity(archive_id(pids[0], 0))
    assert found is not None
    assert found.proof == PROOF_READ
    assert facility.share_contents() == before
    assert outcome.message == f"2 datablocks read, {packed} bytes; all datablocks were checked"


def test_bits_that_flipped_are_found_told_and_left_as_they_are(facility: Facility) -> None:
    good, bad = archived_by_the_service(facility, b"one"), archived_by_the_service(facility, LARGE)
    tamper(tar_of(facility, bad), b"\xff", 5_000_000)
    before = facility.share_contents()

    outcome = audit(facility)

    assert facility.share_contents() == before
    (finding,) = outcome.findings
    assert (finding.pid, finding.outcome) == (bad, FixityOutcome.DAMAGED)
    assert "SHA-256 is" in finding.detail
    assert "DAMAGE FOUND" in outcome.message
    told = facility.lifecycle(bad)
    assert told["archiveReturnMessage"].startswith("Damaged on the long-term storage: " + archive_id(bad, 0))
    assert (told["archivable"], told["retrievable"]) == (False, True)
    assert not facility.lifecycle(good).get("archiveReturnMessage")
    summary = facility.tools.ledger.fixity_summary(timedelta(days=365))
    assert (summary.datablocks, summary.damaged, summary.overdue) == (2, 1, 0)


def test_a_datablock_that_is_good_again_is_told_too(facility: Facility) -> None:
    pid = archived_by_the_service(facility, b"one")
    content = tar_of(facility, pid).read_bytes()
    tamper(tar_of(facility, pid), b"\xff", 600)
    audit(facility)
    tamper(tar_of(facility, pid), content)

    outcome = audit(facility)

    assert outcome.mended == [archive_id(pid, 0)]
    assert not facility.lifecycle(pid).get("archiveReturnMessage")
    assert facility.tools.ledger.fixity_summary(timedelta(days=1)).damaged == 0


def test_tars_that_are_missing_or_cut_off_are_damage(facility: Facility) -> None:
    missing, cut = archived(facility, b"one", b"two")
    tar_of(facility, missing).rename(facility.lts_root / "elsewhere")
    tar_of(facility, cut).chmod(0o644)
    os.truncate(tar_of(facility, cut), 100)

    outcome = audit(facility)

    assert {finding.pid: finding.outcome for finding in outcome.findings} == {
        missing: FixityOutcome.MISSING,
        cut: FixityOutcome.DAMAGED,
    }


def test_a_share_that_is_not_mounted_is_no_damage(facility: Facility) -> None:
    (pid,) = archived(facility, b"one")
    (facility.lts_root / IDENTITY_FILE).rename(facility.lts_root / "hidden")

    with pytest.raises(WrongShareError):
        audit(facility)

    assert last(facility, pid) is None


def test_the_budget_of_bytes_ends_an_audit_and_the_next_one_goes_on_with_what_is_due(facility: Facility) -> None:
    pids = archived(facility, MEDIUM, MEDIUM, MEDIUM)
    two = 2.5 * len(MEDIUM) / 1e12

    first = audit(facility, fixity_terabytes=two)
    checked = [pid for pid in pids if last(facility, pid)]
    second = audit(facility, fixity_terabytes=two)

    assert (first.checked, len(checked)) == (2, 2)
    assert "the budget of bytes" in first.message
    assert second.checked == 2
    assert all(last(facility, pid) for pid in pids)


def test_one_datablock_is_read_however_small_the_budget(facility: Facility) -> None:
    archived(facility, MEDIUM, MEDIUM)

    assert audit(facility, fixity_terabytes=1e-9).checked == 1
    outcome = audit(facility, fixity_hours=1e-9)

    assert outcome.checked == 1
    assert "no time left" in outcome.message
    assert "WARNING: the archive has" in outcome.message


def test_stubs_are_skipped_and_counted_and_do_not_come_first_again(facility: Facility) -> None:
    stub, other = archived(facility, MEDIUM, MEDIUM)
    make_stub(facility, stub)

    outcome = audit(facility)

    assert (outcome.checked, outcome.on_tape, outcome.findings) == (1, 1, [])
    assert outcome.on_tape_bytes == tar_of(facility, stub).stat().st_size
    assert last(facility, stub) == (FixityOutcome.SKIPPED, "a stub, its content on tape")
    assert last(facility, other) == (FixityOutcome.OK, "")
    assert facility.tools.ledger.fixity_summary(timedelta(days=1)).on_tape == 1
    assert tar_of(facility, stub).stat().st_blocks == 0


def test_where_the_file_system_compresses_nothing_is_taken_for_a_stub(facility: Facility) -> None:
    (pid,) = archived(facility, MEDIUM)
    make_stub(facility, pid)

    outcome = audit(facility, fixity_stub_percent=0)

    assert [finding.outcome for finding in outcome.findings] == [FixityOutcome.DAMAGED]


def test_stubs_are_recalled_in_batches_where_that_is_asked_for(facility: Facility) -> None:
    pids = archived(facility, MEDIUM, MEDIUM, MEDIUM)
    contents = {pid: make_stub(facility, pid) for pid in pids}
    monitor = Notes()
    tape = threading.Event()

    def bring_back() -> None:
        """The tape system: brings back whatever was asked for, which it does here for all."""
        tape.wait(60)
        for pid, content in contents.items():
            come_back(facility, pid, content)

    thread = threading.Thread(target=bring_back)
    thread.start()
    monitor_note = monitor.note

    def noted(message: str) -> None:
        monitor_note(message)
        tape.set()

    monitor.note = noted  # type: ignore[method-assign]
    outcome = audit(facility, monitor, recall=2, fixity_recall_batch=2)
    thread.join()

    assert monitor.notes == ["recalling 2 datablocks from tape"]
    assert outcome.findings == []
    assert outcome.checked >= 2
    proofs = [facility.tools.ledger.last_fixity(archive_id(pid, 0)) for pid in pids]
    assert sum(found is not None and found.proof.startswith("recalled from tape") for found in proofs) == 2


def test_a_stub_that_does_not_come_in_time_is_skipped_with_the_reason(facility: Facility) -> None:
    (pid,) = archived(facility, MEDIUM)
    make_stub(facility, pid)

    outcome = audit(facility, recall=5, fixity_recall_hours=1 / 3600)

    assert (outcome.checked, outcome.on_tape) == (0, 1)
    assert last(facility, pid) == (FixityOutcome.SKIPPED, "asked for, and did not come from tape in 1 s")


def test_an_audit_waits_while_a_retrieval_runs_and_goes_on_where_it_was(facility: Facility) -> None:
    (pid,) = archived(facility, LARGE)
    ledger = facility.tools.ledger
    claims = []

    def begin_retrieval() -> None:
        claims.append(ledger.claim_retrieval("x.tar", "retrieval", TIMEOUT))
        threading.Timer(1, lambda: ledger.release_retrieval(claims[0])).start()

    monitor = Notes([begin_retrieval])
    outcome = audit(facility, monitor, stretch_s=1e-6)

    assert monitor.notes == ["waiting for 1 retrievals that run"]
    assert monitor.steps == 3  # each of two chunks, and the end
    assert outcome.read_bytes == tar_of(facility, pid).stat().st_size
    assert last(facility, pid) == (FixityOutcome.OK, "")


def test_an_audit_whose_time_is_over_while_retrievals_run_ends_and_says_so(facility: Facility) -> None:
    (pid,) = archived(facility, b"one")
    facility.tools.ledger.claim_retrieval("x.tar", "retrieval", TIMEOUT)

    outcome = audit(facility, fixity_hours=1 / 3600)

    assert outcome.checked == 0
    assert "its time was over while retrievals ran" in outcome.message
    assert last(facility, pid) is None


def test_a_retrieval_that_died_stops_no_audit(facility: Facility) -> None:
    ledger = facility.tools.ledger
    ledger.claim_retrieval("x.tar", "retrieval", TIMEOUT)

    assert ledger.retrievals_at_work(TIMEOUT) == 1
    assert ledger.retrievals_at_work(timedelta(0)) == 0


def test_data_sets_of_smoke_tests_are_left_out(facility: Facility) -> None:
    pid = f"{SMOKE_PREFIX}/x"
    claim = facility.tools.ledger.claim_dataset(pid, "smoke", TIMEOUT)
    record = DatablockRecord(archive_id(pid, 0), pid, 0, 1, 2, 1, "ab", "", None)
    facility.tools.ledger.adopt_dataset(claim, Stage.PUBLISHED, [record], 1, 1)

    outcome = audit(facility)

    assert (outcome.checked, outcome.findings) == (0, [])
    assert facility.tools.ledger.fixity_summary(timedelta(days=1), not_below=SMOKE_PREFIX).datablocks == 0


def test_what_the_catalogue_cannot_be_told_is_said(facility: Facility) -> None:
    (pid,) = archived(facility, b"one")
    tamper(tar_of(facility, pid), b"\xff", 600)

    outcome = audit(facility)

    assert len(outcome.findings) == 1
    (untold,) = outcome.untold
    assert untold.startswith(f"{pid}: ")
    assert untold in outcome.message


def test_a_datablock_whose_reading_hangs_is_unreadable_and_the_others_are_read(facility: Facility) -> None:
    hanging, other = archived(facility, b"one", b"two")
    tar_of(facility, hanging).rename(facility.lts_root / "elsewhere")
    size = (facility.lts_root / "elsewhere").stat().st_size
    _replace_by_hanging(facility, hanging, size)

    outcome = audit(_impatient(facility))

    assert last(facility, other) == (FixityOutcome.OK, "")
    (finding,) = outcome.findings
    assert (finding.pid, finding.outcome) == (hanging, FixityOutcome.UNREADABLE)
    assert "no progress" in finding.detail


def test_a_share_that_hangs_ends_the_audit_and_is_no_damage(facility: Facility) -> None:
    (pid,) = archived(facility, b"one")
    size = tar_of(facility, pid).stat().st_size
    tar_of(facility, pid).rename(facility.lts_root / "elsewhere")
    _replace_by_hanging(facility, pid, size)

    with pytest.raises(StalledError):
        audit(_impatient(facility))

    assert last(facility, pid) is None


def _impatient(facility: Facility) -> Facility:
    lts = facility.tools.lts.model_copy(update={"lts_stall_timeout_s": 15})
    return replace(facility, tools=replace(facility.tools, lts=lts))


def _replace_by_hanging(facility: Facility, pid: str, size: int) -> None:
    """A named pipe whose reader waits for good; the ledger's size is made to fit it."""
    os.mkfifo(tar_of(facility, pid))
    ledger = facility.tools.ledger
    claim = ledger.claim_dataset(pid, "test", TIMEOUT)
    (record,) = ledger.datablocks(pid)
    assert record.packed_size == size
    ledger.record_datablock(claim, replace(record, packed_size=0))
    ledger.release_claim(claim)


def test_the_summary_counts_what_was_never_read_as_overdue(facility: Facility) -> None:
    pid = archived_by_the_service(facility, b"one")
    ledger = facility.tools.ledger
    day = timedelta(days=1)
    assert ledger.fixity_summary(day).overdue == 0  # read back when it was archived

    claim = ledger.claim_dataset(pid, "test", TIMEOUT)
    (record,) = ledger.datablocks(pid)
    ledger.record_datablock(claim, replace(record, verified_at=None))
    assert ledger.fixity_summary(day).overdue == 1
    ledger.record_datablock(claim, replace(record, verified_at=datetime.now(UTC) - 2 * day))
    assert ledger.fixity_summary(day).overdue == 1
    ledger.record_fixity(record.archive_id, FixityOutcome.SKIPPED, "", "")
    assert ledger.fixity_summary(day).overdue == 1
    ledger.record_fixity(record.archive_id, FixityOutcome.OK, PROOF_READ, "")
    assert ledger.fixity_summary(day).overdue == 0
