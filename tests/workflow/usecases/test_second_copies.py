"""Copies on further shares: made before a data set is published, used when the first fails, healed on command."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import bagit  # type: ignore[import-untyped]
import httpx
import pytest

from archiver.config.settings import FixitySettings
from archiver.workflow.archiving import ArchiveOutcome, Archiving
from archiver.workflow.copies import CopyMissingError
from archiver.workflow.errors import DamagedError
from archiver.workflow.fixity import AuditOutcome, FixityAudit
from archiver.workflow.healing import CopyState, Healing, HealOutcome
from archiver.workflow.ledger.records import FixityOutcome
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import archive_id, bag_folder
from archiver.workflow.retrieval import Retrieval, RetrievalOutcome
from archiver.workflow.retrieval_sources import RetrievalSources
from archiver.workflow.second_copies import known_copies
from archiver.workflow.storage.lts import IDENTITY_FILE, SET_ASIDE_FOLDER, ShareAddress
from support.bags import new_share, tamper
from support.facility import Facility

FILES = {"a.txt": b"alpha", "sub/b.bin": b"\x00\x01" * 5000}
TIMEOUT = timedelta(minutes=5)


class Notes(Monitor):
    """Keeps what it was told, and acts on it."""

    def __init__(self, act: Callable[[str], object] = str) -> None:
        super().__init__("copies")
        self.notes: list[str] = []
        self._act = act

    def note(self, message: str) -> None:
        self.notes.append(message)
        self._act(message)


@dataclass
class TwoShares:
    """A facility with a second share for copies."""

    facility: Facility
    second: ShareAddress

    def archive(self, pid: str, monitor: Monitor | None = None) -> ArchiveOutcome:
        return Archiving(self.facility.tools, monitor or Notes()).archive(pid, "test")

    def retrieve(self, pid: str) -> tuple[RetrievalOutcome, RetrievalSources]:
        monitor = Notes()
        sources = RetrievalSources(self.facility.tools, monitor)
        outcome = sources.first_good(pid, lambda tools: Retrieval(tools, monitor).retrieve(pid, "test"))
        return outcome, sources

    def audit(self, **settings: Any) -> AuditOutcome:
        return FixityAudit(self.facility.tools, FixitySettings(**settings), Notes()).run()

    def archived(self) -> str:
        pid = self.facility.ingest(FILES)
        self.archive(pid)
        return pid

    def bags(self, pid: str) -> tuple[Path, Path]:
        return self.facility.bag(pid), self.second.root / bag_folder(pid)

    def healing(self) -> Healing:
        return Healing([self.facility.tools.share, self.second], 60, 1)


@pytest.fixture
def shares(facility: Facility, tmp_path: Path) -> TwoShares:
    second = new_share(tmp_path / "copy")
    lts = facility.tools.lts.model_copy(update={"lts_copies": (second.root,), "lts_copies_timeout_s": 60})
    return TwoShares(replace(facility, tools=replace(facility.tools, lts=lts)), second)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def hide(share: ShareAddress) -> Path:
    """Unmount a share; where its identity file is meanwhile."""
    hidden = share.root.parent / f"{share.root.name}.identity"
    (share.root / IDENTITY_FILE).rename(hidden)
    return hidden


def test_both_shares_hold_the_same_valid_read_only_bag(shares: TwoShares) -> None:
    pid = shares.archived()

    first, second = shares.bags(pid)
    assert contents(first) == contents(second)
    assert bagit.Bag(str(second)).is_valid()
    assert {each.stat().st_mode & 0o222 for each in second.rglob("*") if each.is_file()} == {0}
    assert shares.facility.landed(pid) == set()
    assert known_copies(shares.facility.tools.ledger, [shares.second.root]) == [shares.second]


def test_a_share_that_is_missing_holds_publishing_up_with_the_reason_until_it_comes(shares: TwoShares) -> None:
    facility = shares.facility
    pid = facility.ingest(FILES)
    hidden = hide(shares.second)
    published: list[bool] = []

    def mount(message: str) -> None:
        if "publishing waits for copy 1" in message and hidden.exists():
            published.append(facility.is_published(pid))
            hidden.rename(shares.second.root / IDENTITY_FILE)

    monitor = Notes(mount)
    shares.archive(pid, monitor)

    assert published == [False]
    assert any("not mounted" in note for note in monitor.notes)
    first, second = shares.bags(pid)
    assert contents(first) == contents(second)


def test_after_the_deadline_nothing_is_published_and_a_later_run_goes_on(shares: TwoShares) -> None:
    facility = shares.facility
    pid = facility.ingest(FILES)
    hidden = hide(shares.second)
    impatient = facility.tools.lts.model_copy(update={"lts_copies_timeout_s": 0.1})

    with pytest.raises(CopyMissingError, match="not published and stays in the landing zone"):
        Archiving(replace(facility.tools, lts=impatient), Notes()).archive(pid, "test")

    assert not facility.is_published(pid)
    assert facility.landed(pid) == set(FILES)
    hidden.rename(shares.second.root / IDENTITY_FILE)
    shares.archive(pid)
    first, second = shares.bags(pid)
    assert contents(first) == contents(second)
    assert facility.landed(pid) == set()


def test_another_share_in_the_place_of_a_copy_is_refused(shares: TwoShares) -> None:
    shares.archived()
    facility = shares.facility
    (shares.second.root / IDENTITY_FILE).chmod(0o644)
    (shares.second.root / IDENTITY_FILE).write_bytes((facility.lts_root / IDENTITY_FILE).read_bytes())
    pid = facility.ingest(FILES)
    impatient = facility.tools.lts.model_copy(update={"lts_copies_timeout_s": 0.1})

    with pytest.raises(CopyMissingError, match="this archive lives on"):
        Archiving(replace(facility.tools, lts=impatient), Notes()).archive(pid, "test")


def test_the_first_share_is_no_share_for_its_own_copy(shares: TwoShares) -> None:
    facility = shares.facility
    pid = facility.ingest(FILES)
    lts = facility.tools.lts.model_copy(update={"lts_copies": (facility.lts_root,), "lts_copies_timeout_s": 0.1})

    with pytest.raises(CopyMissingError, match="in use already"):
        Archiving(replace(facility.tools, lts=lts), Notes()).archive(pid, "test")


def test_a_run_that_died_between_the_copy_and_the_first_share_is_gone_on_with(
    shares: TwoShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag files of the next run differ (another day, another catalogue record): the copy follows."""
    facility = shares.facility
    pid = facility.ingest(FILES)
    with monkeypatch.context() as broken:
        broken.setattr("archiver.workflow.archiving._Run._still_ours", _die)
        with pytest.raises(KeyboardInterrupt):
            shares.archive(pid)
    first, second = shares.bags(pid)
    assert (second / "bagit.txt").exists()
    assert not (first / "bagit.txt").exists()
    facility.call("PATCH", f"v3/datasets/{pid.replace('/', '%2F')}", {"datasetName": "renamed meanwhile"})

    shares.archive(pid)

    assert contents(first) == contents(second)
    assert "renamed meanwhile" in (second / "bag-info.txt").read_text(encoding="utf-8")
    assert bagit.Bag(str(second)).is_valid()


def _die(_: object) -> None:
    raise KeyboardInterrupt


def test_retrieval_takes_the_copy_where_the_first_share_is_damaged_and_says_so(shares: TwoShares) -> None:
    pid = shares.archived()
    facility = shares.facility
    good = (shares.second.root / archive_id(pid, 0)).read_bytes()
    tamper(facility.lts_root / archive_id(pid, 0), b"\xff", 600)

    outcome, sources = shares.retrieve(pid)

    (download,) = Retrieval(facility.tools, Notes()).downloads(outcome)
    assert httpx.get(download.url).content == good
    assert "NOT from the first share" in sources.message
    assert str(facility.lts_root) in sources.message
    (due,) = facility.tools.ledger.oldest_checked(1)
    assert due.pid == pid


def test_retrieval_takes_the_copy_where_the_first_share_is_away(shares: TwoShares) -> None:
    pid = shares.archived()
    hide(shares.facility.tools.share)

    outcome, sources = shares.retrieve(pid)

    assert outcome.pid == pid
    assert "not mounted" in sources.message


def test_without_a_good_copy_the_error_is_that_of_the_first_share(shares: TwoShares) -> None:
    pid = shares.archived()
    for root in (shares.facility.lts_root, shares.second.root):
        tamper(root / archive_id(pid, 0), b"\xff", 600)

    with pytest.raises(DamagedError):
        shares.retrieve(pid)


@pytest.mark.parametrize("bad", ["first", "second"])
def test_a_damaged_copy_is_healed_on_command_and_what_was_wrong_is_kept(shares: TwoShares, bad: str) -> None:
    pid = shares.archived()
    ledger = shares.facility.tools.ledger
    root, number = (shares.facility.lts_root, 0) if bad == "first" else (shares.second.root, 1)
    tar = root / archive_id(pid, 0)
    good = tar.read_bytes()
    tamper(tar, b"\xff", 600)
    wrong = tar.read_bytes()

    seen = shares.healing().examine(pid)
    assert seen.outcome is HealOutcome.TO_HEAL
    assert [copy.state for copy in seen.copies].index(CopyState.DAMAGED) == number
    assert tar.read_bytes() == wrong

    done = shares.healing().heal(pid, ledger, "heal", TIMEOUT)

    assert done.outcome is HealOutcome.HEALED
    assert tar.read_bytes() == good
    assert tar.stat().st_mode & 0o222 == 0
    (aside,) = done.copies[number].set_aside
    assert aside.startswith(SET_ASIDE_FOLDER)
    assert (root / aside).read_bytes() == wrong
    assert shares.healing().examine(pid).outcome is HealOutcome.GOOD


def test_a_bag_that_lacks_a_copy_gets_one(shares: TwoShares) -> None:
    facility = shares.facility
    pid = facility.ingest(FILES)
    without = facility.tools.lts.model_copy(update={"lts_copies": ()})
    Archiving(replace(facility.tools, lts=without), Notes()).archive(pid, "test")
    first, second = shares.bags(pid)
    assert not second.exists()

    done = shares.healing().heal(pid, facility.tools.ledger, "heal", TIMEOUT)

    assert done.outcome is HealOutcome.HEALED
    assert contents(first) == contents(second)


def test_without_a_good_copy_nothing_is_changed(shares: TwoShares) -> None:
    pid = shares.archived()
    for root in (shares.facility.lts_root, shares.second.root):
        tamper(root / archive_id(pid, 0), b"\xff", 600)
    before = [contents(bag) for bag in shares.bags(pid)]

    done = shares.healing().heal(pid, shares.facility.tools.ledger, "heal", TIMEOUT)

    assert done.outcome is HealOutcome.LOST
    assert [contents(bag) for bag in shares.bags(pid)] == before


def test_operators_see_what_would_be_healed_before_they_do_it(shares: TwoShares) -> None:
    pid = shares.archived()
    tar = shares.facility.lts_root / archive_id(pid, 0)
    tamper(tar, b"\xff", 600)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        environment = {
            "PATH": os.environ["PATH"],
            "LTS_ROOT_FOLDER": str(shares.facility.lts_root),
            "LTS_COPIES": str(shares.second.root),
            "LEDGER_URL": shares.facility.ledger_settings.ledger_url.get_secret_value(),
        }
        command = [sys.executable, "-m", "archiver.cli", "lts", "heal", *arguments, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
        return done.returncode, json.loads(done.stdout)

    code, dry = run("--all", "--dry-run")
    assert (code, dry["dry_run"], dry["counts"]) == (3, True, {"to heal": 1})
    code, done = run(pid, "--apply")
    assert (code, done["counts"]) == (0, {"healed": 1})
    assert bagit.Bag(str(shares.facility.bag(pid))).is_valid()


# ------------------------------------------------------------------------------------------ a share is gone


@dataclass
class ThreeShares:
    """A facility whose data sets have copies on two further shares, and its operators."""

    facility: Facility
    second: ShareAddress
    third: ShareAddress

    def run(self, *arguments: str, copies: Sequence[ShareAddress]) -> "subprocess.CompletedProcess[str]":
        """A command where these shares are named."""
        catalogue = self.facility.catalogue_settings
        environment = {
            "PATH": os.environ["PATH"],
            "LTS_ROOT_FOLDER": str(self.facility.lts_root),
            "LTS_COPIES": ";".join(str(each.root) for each in copies),
            "LEDGER_URL": self.facility.ledger_settings.ledger_url.get_secret_value(),
            "SCICAT_ENDPOINT": self.facility.scicat_url,
            "SCICAT_USER": catalogue.scicat_user.get_secret_value(),
            "SCICAT_PASSWORD": catalogue.scicat_password.get_secret_value(),
        }
        command = [sys.executable, "-m", "archiver.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)

    def known(self) -> list[ShareAddress]:
        """The shares as the ledger has them, in their order."""
        roots = {each.identity: each.root for each in (self.second, self.third)}
        found = known_copies(self.facility.tools.ledger, [Path("1"), Path("2"), Path("3")])
        return [ShareAddress(roots[each.identity], each.identity) for each in found]


@pytest.fixture
def three(facility: Facility, tmp_path: Path) -> ThreeShares:
    second, third = new_share(tmp_path / "copy"), new_share(tmp_path / "other-copy")
    lts = facility.tools.lts.model_copy(update={"lts_copies": (second.root, third.root), "lts_copies_timeout_s": 60})
    return ThreeShares(replace(facility, tools=replace(facility.tools, lts=lts)), second, third)


def test_a_share_that_is_gone_for_good_is_told_and_then_forgotten_and_the_next_one_takes_its_place(
    three: ThreeShares,
) -> None:
    pid = three.facility.ingest(FILES)
    three.facility.archive(pid)
    shutil.rmtree(three.second.root)
    withdraw = ("retire", pid, "--reason", "wrong sample", "--dry-run")
    refused = three.run(*withdraw, copies=[three.third])
    assert (refused.returncode, "archiver lts forget-copy NUMBER" in refused.stderr) == (1, True)

    told = three.run("lts", "forget-copy", "1", "--dry-run", copies=[three.third])

    assert told.returncode == 0, told.stderr
    assert str(three.second.identity) in told.stdout
    assert "1 datablocks had a copy there" in told.stdout
    assert "archiver lts forget-copy 1 --yes" in told.stdout
    assert three.known() == [three.second, three.third]

    done = three.run("lts", "forget-copy", "1", "--yes", "--json", copies=[three.third])

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["remaining"] == [str(three.third.identity)]
    assert three.known() == [three.third]
    assert three.run(*withdraw, copies=[three.third]).returncode == 0
    other = three.facility.ingest(FILES)
    lts = three.facility.tools.lts.model_copy(update={"lts_copies": (three.third.root,)})
    replace(three.facility, tools=replace(three.facility.tools, lts=lts)).archive(other)
    assert (three.third.root / bag_folder(other) / "bagit.txt").exists()


def test_a_share_that_may_be_in_use_is_not_forgotten(three: ThreeShares) -> None:
    three.facility.archive(three.facility.ingest(FILES))

    def refused(number: str, reason: str, *copies: ShareAddress) -> None:
        done = three.run("lts", "forget-copy", number, "--yes", copies=copies)
        assert (done.returncode, reason in done.stderr) == (1, True), done.stderr

    refused("1", "while LTS_COPIES names it", three.second, three.third)
    refused("2", "while LTS_COPIES names it", three.third)
    refused("3", "none is number 3", three.second)
    new = new_share(three.second.root.with_name("new"))
    refused("1", "Mounted where LTS_COPIES says", new)
    (three.third.root / IDENTITY_FILE).unlink()
    refused("1", "not mounted", three.third)

    assert three.known() == [three.second, three.third]


# ------------------------------------------------------------------------------------------ audits


def test_an_audit_reads_every_copy(shares: TwoShares) -> None:
    pid = shares.archived()
    size = (shares.second.root / archive_id(pid, 0)).stat().st_size

    outcome = shares.audit()

    assert (outcome.checked, outcome.read_bytes, outcome.findings) == (2, 2 * size, [])
    ledger = shares.facility.tools.ledger
    for copy in ("", str(shares.second.identity)):
        found = ledger.last_fixity(archive_id(pid, 0), copy)
        assert found is not None
        assert (found.outcome, found.detail) == (FixityOutcome.OK, "")
    assert "on 2 shares" in outcome.coverage.message


def test_a_damaged_copy_is_reported_with_its_place_until_it_is_healed(shares: TwoShares) -> None:
    pid = shares.archived()
    facility = shares.facility
    first, second = shares.bags(pid)
    tamper(shares.second.root / archive_id(pid, 0), b"\xff", 600)
    before = contents(first), contents(second)

    outcome = shares.audit()

    (finding,) = outcome.findings
    assert (finding.outcome, finding.place) == (FixityOutcome.DAMAGED, str(shares.second.root))
    assert f"(copy at {shares.second.root}) is damaged" in outcome.message
    assert "(damaged, a copy)" in facility.lifecycle(pid)["archiveReturnMessage"]
    assert facility.tools.ledger.fixity_summary(timedelta(days=1)).damaged == 1
    assert (contents(first), contents(second)) == before, "an audit alters nothing"

    healed = shares.healing().heal(pid, facility.tools.ledger, "test", TIMEOUT)
    assert healed.outcome is HealOutcome.HEALED
    assert facility.tools.ledger.fixity_summary(timedelta(days=1)).damaged == 0
    assert shares.audit().findings == []


def test_damage_on_both_shares_is_one_datablock_and_two_findings(shares: TwoShares) -> None:
    pid = shares.archived()
    for root in (shares.facility.lts_root, shares.second.root):
        tamper(root / archive_id(pid, 0), b"\xff", 600)

    outcome = shares.audit()

    assert {finding.place for finding in outcome.findings} == {"", str(shares.second.root)}
    assert outcome.summary is not None
    assert (outcome.summary.datablocks, outcome.summary.damaged) == (1, 1)


def test_a_copy_that_is_gone_is_damage_and_one_that_never_was_is_counted(shares: TwoShares, facility: Facility) -> None:
    older = facility.ingest(FILES)
    facility.archive(older)  # before there were copies
    pid = shares.archived()
    shutil.rmtree(shares.second.root / bag_folder(pid))

    outcome = shares.audit()

    (finding,) = outcome.findings
    assert (finding.pid, finding.outcome) == (pid, FixityOutcome.MISSING)
    assert outcome.without_copy == {str(shares.second.root): 1}
    assert f"1 datablocks have no copy at {shares.second.root}" in outcome.message


def test_the_share_of_copies_that_is_away_does_not_stop_an_audit(shares: TwoShares) -> None:
    pids = [shares.archived(), shares.archived()]
    hide(shares.second)

    outcome = shares.audit()

    assert (outcome.checked, outcome.findings) == (2, [])
    assert f"WARNING: the copies at {shares.second.root} were not read" in outcome.message
    ledger = shares.facility.tools.ledger
    for pid in pids:
        found = ledger.last_fixity(archive_id(pid, 0), str(shares.second.identity))
        assert found is not None
        assert (found.outcome, found.detail) == (FixityOutcome.OK, "as made")


def test_a_small_budget_reads_a_datablock_on_every_share_before_the_next(shares: TwoShares) -> None:
    pids = sorted([shares.archived(), shares.archived()])
    size = (shares.second.root / archive_id(pids[0], 0)).stat().st_size

    first = shares.audit(fixity_terabytes=1.5 * size / 10**12)
    second = shares.audit(fixity_terabytes=1.5 * size / 10**12)

    assert [(each.checked, each.read_bytes) for each in (first, second)] == [(2, 2 * size)] * 2
    assert "the budget of bytes" in first.ended_by
    last = [shares.facility.tools.ledger.last_fixity(archive_id(pid, 0)) for pid in pids]
    assert all(last), "the second audit went on with the other data set"


def test_damage_on_a_share_that_holds_copies_no_more_is_forgotten(shares: TwoShares, facility: Facility) -> None:
    pid = shares.archived()
    tamper(shares.second.root / archive_id(pid, 0), b"\xff", 600)
    assert shares.audit().findings

    outcome = FixityAudit(facility.tools, FixitySettings(), Notes()).run()

    assert outcome.summary is not None
    assert outcome.summary.damaged == 0
    assert "archiveReturnMessage" not in facility.lifecycle(pid) or not facility.lifecycle(pid)["archiveReturnMessage"]
