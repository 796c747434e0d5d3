"""Ledger against share: what is adopted, what is cleared away, and what is an alarm and is left as it is."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from archiver.config.settings import LtsSettings, ReconciliationSettings
from archiver.workflow.bags import turn_path, unfinished_files
from archiver.workflow.errors import WrongShareError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import DatablockRecord, Stage
from archiver.workflow.names import DATASETS_FOLDER, SMOKE_PREFIX, archive_id, bag_folder
from archiver.workflow.notifications import open_channel
from archiver.workflow.share_comparison import ShareComparison, ShareFinding
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from archiver.workflow.tombstones import Event, EventKind, note_event
from support.bags import ignore, make_bag, new_share
from support.facility import Facility
from support.operators_channel import run_receiver

# A plugin of apprise imports it where it still exists.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

TIMEOUT = timedelta(minutes=5)


@pytest.fixture
def share(facility: Facility) -> ShareAddress:
    return facility.tools.share


@pytest.fixture
def ledger(facility: Facility) -> Ledger:
    return facility.tools.ledger


@pytest.fixture
def comparison(facility: Facility) -> Iterator[ShareComparison]:
    settings = ReconciliationSettings(reconciliation_share_hours=1, reconciliation_share_stretch_s=60)
    with ShareComparison(facility.tools.ledger, facility.tools.lts, settings, TIMEOUT, "reconciliation") as made:
        yield made


def compare(comparison: ShareComparison) -> list[ShareFinding]:
    return list(comparison.go_on(to_the_end=True))


def texts(comparison: ShareComparison) -> list[str]:
    return [finding.text for finding in compare(comparison)]


def test_a_bag_the_ledger_does_not_know_is_adopted_as_unproven(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    (totals,) = make_bag(share, "20.500/a")

    (finding,) = compare(comparison)

    assert not finding.is_alarm
    assert "20.500/a is on the share and the ledger did not know all of it: adopted, 1 datablocks" in finding.text
    record = ledger.dataset("20.500/a")
    assert record is not None
    assert (record.stage, record.holder) == (Stage.PUBLISHED, None)
    (datablock,) = ledger.datablocks("20.500/a")
    assert (datablock.sha256, datablock.verified_at) == (totals.sha256, None)
    assert [each.archive_id for each in ledger.oldest_checked(1)] == [totals.archive_id]
    assert compare(comparison) == []


def test_a_bag_that_is_gone_is_an_alarm_until_it_is_back_and_nothing_is_changed(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    make_bag(share, "20.500/a")
    compare(comparison)
    before = ledger.dataset("20.500/a")
    folder = share.root / bag_folder("20.500/a")
    folder.rename(share.root / "moved")

    (first,) = compare(comparison)
    (second,) = compare(comparison)

    assert first == second
    assert first.is_alarm
    assert "ledger and share disagree on 20.500/a (missing)" in first.text
    (noted,) = ledger.disagreements()
    assert (noted.pid, noted.kind) == ("20.500/a", "missing")
    assert noted.since < noted.seen_at
    assert ledger.dataset("20.500/a") == before

    (share.root / "moved").rename(folder)
    assert texts(comparison) == ["ledger and share agree on 20.500/a again"]
    assert ledger.disagreements() == []


def test_operators_are_told_of_disagreements_when_they_appear_and_not_again(
    facility: Facility, share: ShareAddress, ledger: Ledger
) -> None:
    pids = [f"20.500/{number:02}" for number in range(22)]
    for pid in pids:
        make_bag(share, pid)
    folders = {pid: share.root / bag_folder(pid) for pid in pids}
    with (
        run_receiver() as receiver,
        ShareComparison(
            ledger,
            facility.tools.lts,
            ReconciliationSettings(reconciliation_share_hours=1, reconciliation_share_stretch_s=60),
            TIMEOUT,
            "reconciliation",
            open_channel(receiver.settings),
        ) as comparison,
    ):
        compare(comparison)
        assert receiver.titles == []
        for pid in pids:
            folders[pid].rename(share.root / f"moved {pid[-2:]}")
        receiver.status = 500
        assert len(compare(comparison)) == len(pids)
        receiver.status = 200
        assert list(comparison.go_on()) == []  # no walk is due; what was not told is
        compare(comparison)
        list(comparison.go_on())
        assert receiver.titles == ["Archiver: ledger and share disagree on 22 data sets"] * 2  # one did not arrive
        assert pids[0] in receiver.got[-1]["message"]
        assert receiver.got[-1]["message"].endswith("and 2 more")

        (share.root / f"moved {pids[3][-2:]}").rename(folders[pids[3]])
        compare(comparison)
        assert len(receiver.got) == 2
        folders[pids[3]].rename(share.root / "moved again")
        compare(comparison)
        assert receiver.titles[2:] == ["Archiver: ledger and share disagree on 1 data sets"]
        assert f"{pids[3]} (missing)" in receiver.got[-1]["message"]


def test_a_folder_whose_name_is_no_unicode_is_an_alarm_and_those_behind_it_are_compared(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    make_bag(share, "20.500/a")
    make_bag(share, "20.500/z")
    (share.root / DATASETS_FOLDER / "20.500" / "M\udcfcller").mkdir()

    found = compare(comparison)

    assert [finding.text.split()[0] for finding in found if not finding.is_alarm] == ["20.500/a", "20.500/z"]
    (alarm,) = [finding.text for finding in found if finding.is_alarm]
    assert alarm.startswith(r"ledger and share disagree on 20.500/M\udcfcller (unreadable)")
    assert [each.pid for each in ledger.disagreements()] == [r"20.500/M\udcfcller"]
    assert [finding.text for finding in compare(comparison)] == [alarm]


def test_what_the_ledger_cannot_hold_of_one_data_set_does_not_keep_the_others_from_being_compared(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    make_bag(share, "20.500/a")
    make_bag(share, "20.500/z")
    now = datetime.now(UTC)
    retired = Event("20.500/a", EventKind.RETIRED, now, "ada", "a NUL \0 of somebody's hand", now, 1, 1, ())
    note_event(ignore, share, retired, "test")

    alarm, adopted = compare(comparison)

    assert alarm.is_alarm
    assert "ledger and share disagree on 20.500/a (unreadable): Unexpected DataError" in alarm.text
    assert adopted.text.startswith("20.500/z is on the share")


def test_a_tar_of_another_length_is_an_alarm(comparison: ShareComparison, share: ShareAddress, ledger: Ledger) -> None:
    (totals,) = make_bag(share, "20.500/a")
    compare(comparison)
    (share.root / totals.archive_id).chmod(0o644)
    with (share.root / totals.archive_id).open("ab") as tar:
        tar.write(b"x")

    (finding,) = compare(comparison)

    assert finding.is_alarm
    assert f"{totals.packed_size} were written" in finding.text


def test_other_datablocks_than_the_ledger_records_are_an_alarm(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    make_bag(share, "20.500/a")
    claim = ledger.claim_dataset("20.500/a", "test", TIMEOUT)
    other = DatablockRecord(archive_id("20.500/a", 0), "20.500/a", 0, 1, 2, 1, "ab" * 32, "", None)
    ledger.adopt_dataset(claim, Stage.EMPTIED, [other], 1, 1)
    ledger.release_claim(claim)

    (finding,) = compare(comparison)

    assert finding.is_alarm
    assert "disagrees" in finding.text
    assert ledger.datablocks("20.500/a") == [other]


def test_unfinished_files_of_dead_attempts_are_removed_and_the_finished_stay(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    (totals,) = make_bag(share, "20.500/a", publish=False)
    tar = share.root / totals.archive_id
    (tar.parent / f"{tar.name}.part-dead").write_bytes(b"half")
    assert unfinished_files(ignore, share, "20.500/a") == [f"{totals.archive_id}.part-dead"]

    found = texts(comparison)

    assert found == ["1 unfinished files of dead attempts at 20.500/a removed from the share"]
    assert sorted(each.name for each in tar.parent.iterdir()) == [tar.name]
    assert (share.root / turn_path("20.500/a")).exists()
    assert ledger.dataset("20.500/a") is None
    assert compare(comparison) == []


def test_files_that_a_run_is_writing_stay(comparison: ShareComparison, share: ShareAddress, ledger: Ledger) -> None:
    (totals,) = make_bag(share, "20.500/a", publish=False)
    unfinished = (share.root / totals.archive_id).with_suffix(".tar.part-alive")
    unfinished.write_bytes(b"half")
    claim = ledger.claim_dataset("20.500/a", "a run", TIMEOUT)

    assert compare(comparison) == []

    assert unfinished.exists()
    ledger.check_claim(claim)


def test_a_walk_goes_on_where_the_last_stretch_ended(facility: Facility, share: ShareAddress) -> None:
    for number in range(3):
        make_bag(share, f"20.500/{number}")
    settings = ReconciliationSettings(reconciliation_share_hours=1, reconciliation_share_stretch_s=1e-6)

    with ShareComparison(facility.tools.ledger, facility.tools.lts, settings, TIMEOUT, "reconciliation") as made:
        stretches = [[finding.text[:8] for finding in made.go_on()] for _ in range(5)]

    assert stretches == [["20.500/0"], ["20.500/1"], ["20.500/2"], [], []]


def test_another_share_is_no_missing_bag_and_is_said_until_it_is_mended(
    comparison: ShareComparison, share: ShareAddress, ledger: Ledger
) -> None:
    make_bag(share, "20.500/a")
    compare(comparison)
    (share.root / IDENTITY_FILE).chmod(0o644)
    (share.root / IDENTITY_FILE).write_text(f"{uuid.uuid4()}\n", encoding="ascii")

    with pytest.raises(WrongShareError):
        compare(comparison)
    with pytest.raises(WrongShareError):  # it is not looked at again so soon
        list(comparison.go_on())

    assert ledger.disagreements() == []
    (share.root / IDENTITY_FILE).write_text(f"{share.identity}\n", encoding="ascii")
    assert compare(comparison) == []
    assert list(comparison.go_on()) == []


def test_data_sets_of_smoke_tests_lie_elsewhere_and_are_not_missed(comparison: ShareComparison, ledger: Ledger) -> None:
    claim = ledger.claim_dataset(f"{SMOKE_PREFIX}/x", "smoke", TIMEOUT)
    ledger.adopt_dataset(claim, Stage.PUBLISHED, [], 1, 1)

    assert compare(comparison) == []


def test_an_unmounted_share_is_an_error_and_no_alarm(facility: Facility, ledger: Ledger) -> None:
    empty = new_share(facility.lts_root.parent / "other").root
    (empty / IDENTITY_FILE).unlink()
    lts = LtsSettings(lts_root_folder=empty)

    with (
        ShareComparison(ledger, lts, ReconciliationSettings(), TIMEOUT, "reconciliation") as made,
        pytest.raises(WrongShareError),
    ):
        list(made.go_on())

    assert ledger.disagreements() == []
