"""Shares of copies that were away when a data set was withdrawn or restored learn of it from the first share."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from archiver.config.settings import ReconciliationSettings
from archiver.workflow.dry_run import DryLedger
from archiver.workflow.healing import Healing, HealOutcome
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.counters import STUCK_TASKS
from archiver.workflow.names import bag_folder
from archiver.workflow.retirement import Outcome, Retiring
from archiver.workflow.second_copies import copy_address
from archiver.workflow.share_comparison import ShareComparison, ShareFinding
from archiver.workflow.storage.lts import ShareAddress
from support.bags import new_share
from support.facility import Facility

TIMEOUT = timedelta(minutes=5)
FILES = {"a.txt": b"alpha", "sub/b.bin": b"\x00\x01" * 500}


@dataclass(frozen=True)
class Desk:
    """A facility whose data sets have a copy on a further share, and operators who withdraw them."""

    facility: Facility
    child: ChildProcess
    copy: ShareAddress

    def archived(self) -> str:
        pid = self.facility.ingest(FILES)
        self.facility.archive(pid)
        healing = Healing([self.facility.tools.share, self.copy], 60, 0)
        assert healing.heal(pid, self.facility.tools.ledger, "heal", TIMEOUT).outcome is HealOutcome.HEALED
        return pid

    def retiring(self, *copies: ShareAddress) -> Retiring:
        tools = self.facility.tools
        return Retiring(
            tools.catalogue, tools.ledger, tools.share, copies, self.child, "ETHZ", timedelta(), TIMEOUT, "ada@desk"
        )

    def withdraw(self, pid: str, *copies: ShareAddress) -> Outcome:
        at_work = self.retiring(*copies)
        _, word = at_work.request(pid, "wrong sample", dry_run=False)
        return at_work.confirm(pid, word, dry_run=False)

    def remove(self, pid: str, *copies: ShareAddress) -> Outcome:
        at_work = self.retiring(*copies)
        _, word = at_work.request_removal(pid, dry_run=False)
        return at_work.remove(pid, word, dry_run=False)

    def compare(self, *, dry_run: bool = False) -> list[ShareFinding]:
        """What a whole walk of the reconciliation finds."""
        tools = self.facility.tools
        lts, settings = tools.lts.model_copy(update={"lts_copies": (self.copy.root,)}), ReconciliationSettings()
        with ExitStack() as stack:
            ledger = stack.enter_context(DryLedger.open(self.facility.ledger_settings)) if dry_run else tools.ledger
            comparison = ShareComparison(ledger, lts, settings, TIMEOUT, "reconciliation", dry_run=dry_run)
            return list(stack.enter_context(comparison).go_on(to_the_end=True))

    def learnt(self, pid: str, what: str) -> ShareFinding:
        return ShareFinding(f"the copies at {self.copy.root} learnt that {pid} was {what}")

    @contextmanager
    def away(self) -> Iterator[None]:
        """The share of the copies is not mounted while the block runs."""
        elsewhere = self.copy.root.with_name("elsewhere")
        self.copy.root.rename(elsewhere)
        try:
            yield
        finally:
            elsewhere.rename(self.copy.root)

    def events(self, pid: str) -> list[str]:
        """Those on the share of the copies."""
        folder = self.copy.root / bag_folder(pid) / "archiver-retirement"
        return sorted(each.name for each in folder.iterdir()) if folder.exists() else []

    def copied(self, pid: str) -> dict[str, bytes]:
        """The files of the copy of the bag."""
        folder = self.copy.root / bag_folder(pid)
        files = (each for each in folder.rglob("*") if each.is_file() and each.parent.name != "archiver-retirement")
        return {str(each.relative_to(folder)): each.read_bytes() for each in files}


@pytest.fixture
def desk(facility: Facility, tmp_path: Path) -> Iterator[Desk]:
    copy = new_share(tmp_path / "copy")
    with ChildProcess(60) as child:
        tools = facility.tools
        assert copy_address(tools.ledger, child, tools.share, 1, copy.root) == copy
        yield Desk(facility, child, copy)


def test_a_share_that_was_away_learns_what_was_withdrawn_and_then_restored_and_its_bag_stays_as_it_is(
    desk: Desk,
) -> None:
    pid = desk.archived()
    before = desk.copied(pid)
    with desk.away():
        assert str(desk.copy.root) in desk.withdraw(pid, desk.copy).left[0]
    assert desk.events(pid) == []

    assert desk.compare() == [desk.learnt(pid, "retired")]

    assert desk.events(pid) == ["0001-retired.json"]
    tombstone = desk.copy.root / bag_folder(pid) / "archiver-retirement/0001-retired.json"
    assert tombstone.read_bytes() == (desk.facility.bag(pid) / "archiver-retirement/0001-retired.json").read_bytes()
    assert tombstone.stat().st_mode & 0o222 == 0
    assert desk.compare() == []

    with desk.away():
        restored = desk.retiring(desk.copy).restore(pid, dry_run=False)
        assert restored is not None
        assert str(desk.copy.root) in restored.left[0]
    assert desk.facility.tools.ledger.retirement(pid) is None  # nothing but the first share knows

    assert desk.compare() == [desk.learnt(pid, "restored")]

    assert desk.events(pid) == ["0001-retired.json", "0002-restored.json"]
    assert desk.copied(pid) == before
    assert desk.compare() == []


def test_a_dry_run_says_what_a_share_that_was_away_would_learn_and_leaves_it_as_it_is(desk: Desk) -> None:
    pid = desk.archived()
    with desk.away():
        desk.withdraw(pid, desk.copy)

    assert desk.compare(dry_run=True) == [desk.learnt(pid, "retired")]

    assert desk.events(pid) == []
    assert desk.compare() == [desk.learnt(pid, "retired")]


def test_a_removal_is_only_made_known_to_a_share_that_was_away_and_done_there_by_the_command(desk: Desk) -> None:
    pid = desk.archived()
    desk.withdraw(pid, desk.copy)
    before = desk.copied(pid)
    with desk.away():
        assert desk.remove(pid, desk.copy).left

    assert desk.compare() == [desk.learnt(pid, "removing")]

    assert desk.copied(pid) == before
    assert desk.compare() == []
    assert desk.retiring(desk.copy).remove(pid, "", dry_run=False).left == ()
    assert desk.copied(pid) == {}


def test_a_data_set_that_a_run_works_on_is_left_to_the_next_walk(desk: Desk) -> None:
    pid = desk.archived()
    with desk.away():
        desk.withdraw(pid, desk.copy)
    ledger = desk.facility.tools.ledger
    claim = ledger.claim_dataset(pid, "a run", TIMEOUT)

    assert desk.compare() == []

    assert desk.events(pid) == []
    ledger.check_claim(claim)
    ledger.release_claim(claim)
    assert desk.compare() == [desk.learnt(pid, "retired")]


def test_a_copy_that_knows_more_than_the_first_share_is_told_and_left_as_it_is(desk: Desk) -> None:
    """As after the first share was restored from an older state."""
    pid = desk.archived()
    desk.withdraw(pid, desk.copy)
    desk.retiring(desk.copy).restore(pid, dry_run=False)
    (desk.facility.bag(pid) / "archiver-retirement/0002-restored.json").unlink()

    (alarm,) = [each for each in desk.compare() if each.is_alarm]

    assert "restored (event 2); the first share says: retired (event 1)" in alarm.text
    assert [(each.pid, each.kind) for each in desk.facility.tools.ledger.disagreements()] == [(pid, "copies differ")]
    assert desk.events(pid) == ["0001-retired.json", "0002-restored.json"]


def test_a_share_that_is_still_away_is_told_once_and_stops_nothing(desk: Desk) -> None:
    first, second = desk.archived(), desk.archived()
    with desk.away():
        for pid in (first, second):
            desk.withdraw(pid, desk.copy)

        (alarm,) = desk.compare()

    assert alarm.is_alarm
    assert f"could not be compared with the copies at {desk.copy.root}" in alarm.text
    counted = {each.label: each.count for each in desk.facility.tools.ledger.counters() if each.name == STUCK_TASKS}
    assert counted == {"copies-away": 1}
    found = desk.compare()
    assert {each.text for each in found} == {desk.learnt(pid, "retired").text for pid in (first, second)}


def test_a_share_that_comes_back_with_a_bag_that_was_removed_elsewhere_never_says_it_is_gone_before_it_is(
    desk: Desk,
) -> None:
    pid = desk.archived()
    desk.withdraw(pid)
    assert desk.remove(pid).left == ()
    before = desk.copied(pid)
    assert desk.compare(dry_run=True) == [desk.learnt(pid, "removing")]

    assert desk.compare() == [desk.learnt(pid, "removing")]

    assert desk.copied(pid) == before
    (alarm,) = desk.compare()
    assert desk.compare(dry_run=True) == [alarm]
    assert alarm.is_alarm
    assert f"archiver retire remove {pid}" in alarm.text
    assert desk.retiring(desk.copy).remove(pid, "", dry_run=False).left == ()
    assert desk.copied(pid) == {}
    assert desk.events(pid) == ["0001-removing.json", "0002-removed.json"]
    assert desk.compare() == [ShareFinding(f"ledger and share agree on {pid} again")]
