"""The share is full, read-only, gone, another one, slow or wrong while a data set is being archived."""

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from archiver.workflow.storage.lts import initialise_share
from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_checks import LANDING_ZONE, Witness
from support.faults_matrix import Matrix
from support.faults_mounts import (
    MAY_MAKE_THIN_DISKS,
    MAY_MOUNT,
    mount_again,
    small_disk,
    thin_disk,
    unmount,
)
from support.faults_points import RUN, Blow, Fault, Moment, Point
from support.faults_trials import FILES, archive_after_the_crash, ingest, some, try_all

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)

CHILD = "child 2"
FAILED_AT_ONCE = {
    errno.ENOSPC: "NoSpaceError",
    errno.EDQUOT: "NoSpaceError",
    errno.EIO: "PermanentError",
    errno.EROFS: "PermanentError",
    errno.ESTALE: "TransientError",
}


@pytest.fixture
def calls(facility: Facility, runner: Runner) -> list[Point]:
    """The share's calls in a run that archives without any fault."""
    with runner.start(facility, "archive", ingest(facility).pid) as run:
        assert run.outcome().error == ""
        return [point for point in run.calls if point.process == CHILD]


def _points(calls: list[Point], pattern: str, every: int = 1) -> Sequence[Point]:
    return some([point for point in calls if re.fullmatch(pattern, point.call)], every)


def _while_stopped(
    facility: Facility, runner: Runner, witness: Witness, point: Point, event: Callable[[], object]
) -> str:
    """Let something happen when a run comes to the point; what the run ends with."""
    with runner.start(facility, "archive", witness.pid, Fault(point, Blow.STOP)) as run:
        run.wait_until_stopped()
        event()
        run.go_on()
        return run.outcome().error


@pytest.mark.parametrize("code", FAILED_AT_ONCE, ids=errno.errorcode.get)
def test_a_share_that_takes_no_more_costs_nothing(
    code: int, calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        outcome = runner.run(facility, "archive", witness.pid, Fault(point, Blow.FAIL, code))
        assert outcome.error == FAILED_AT_ONCE[code], outcome.message
        copies = archive_after_the_crash(facility, runner, witness)
        matrix.add(
            f"share says {errno.errorcode[code]}",
            f"at {point.call}",
            copies,
            f"{outcome.error}; next run: archived once",
        )

    assert try_all(_points(calls, "share: (write|flush|fsync|rename)", every=11), trial) > 0


def test_a_share_that_takes_only_a_part_of_what_is_written_is_given_the_rest(
    calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        outcome = runner.run(facility, "archive", witness.pid, Fault(point, Blow.SHORT))
        assert outcome.error == "", outcome.message
        witness.check_archived_once()
        matrix.add("share takes half of a write", f"at {point.call}", "", "given the rest; archived once")

    assert try_all(_points(calls, "share: write", every=5), trial) > 0


def _first_reads(calls: list[Point]) -> set[Point]:
    """Those that follow the opening of a file in the same process."""
    found, opened = set(), set()
    for point in calls:
        if point.call == "share: open":
            opened.add(point.process)
        elif point.call == "share: read" and point.process in opened:
            opened.remove(point.process)
            found.add(point)
    return found


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_a_datablock_that_cannot_be_read_back_costs_nothing(
    code: int, calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        outcome = runner.run(facility, "archive", witness.pid, Fault(point, Blow.FAIL, code))
        copies = witness.check_nothing_lost()
        if outcome.error:
            assert outcome.error == FAILED_AT_ONCE[code], outcome.message
            archive_after_the_crash(facility, runner, witness)
        else:  # as the file was just written, it was waited for; or what cannot be read was written anew
            assert code == errno.EIO or point in firsts, outcome.message
            witness.check_archived_once()
        waited = "waited" if code == errno.ESTALE else "written anew"
        went = f"{outcome.error}; next run: archived once" if outcome.error else f"{waited}; archived once"
        matrix.add(f"share says {errno.errorcode[code]}", f"at {point.call}", " and ".join(copies), went)

    firsts = _first_reads(calls)
    assert try_all(_points(calls, "share: read", every=3), trial) > 0


if MAY_MAKE_THIN_DISKS:

    def test_a_disk_that_takes_what_is_written_and_cannot_store_it_costs_nothing(
        facility: Facility, runner: Runner, matrix: Matrix, tmp_path: Path
    ) -> None:
        """Every write succeeds; what was written is lost, and only flushing tells."""
        witness = ingest(facility, {**FILES, "big": bytes(3 * 1024**2)})
        payload = facility.bag(witness.pid) / "data"
        payload.mkdir(parents=True)
        below = tmp_path / "below"
        below.mkdir()
        with thin_disk(payload, below) as disk:
            disk.fill(left=1024**2)
            outcome = runner.run(facility, "archive", witness.pid)
            assert outcome.error == "NoSpaceError", outcome.message
            assert outcome.message.startswith("Flushing "), outcome.message
            disk.make_space()
            copies = archive_after_the_crash(facility, runner, witness)
        matrix.add(
            "share on a thin disk that is full (ext4): writing succeeds, flushing says ENOSPC",
            "when a datablock is flushed",
            copies,
            f"{outcome.error}; next run: archived once",
        )


if MAY_MOUNT:

    @pytest.mark.parametrize("option", ["size=32k", "ro"])
    def test_a_disk_that_takes_no_more_costs_nothing(
        option: str, facility: Facility, runner: Runner, matrix: Matrix
    ) -> None:
        """The first tar has room on the disk, the second has not."""
        witness = ingest(facility)
        payload = facility.bag(witness.pid) / "data"
        payload.mkdir(parents=True)
        with small_disk(payload, "1m") as disk:
            error = _while_stopped(
                facility, runner, witness, Point(CHILD, "share: create", 5), lambda: disk.change(option)
            )
            assert error == {"size=32k": "NoSpaceError", "ro": "PermanentError"}[option]
            disk.change("rw,size=1m")
            copies = archive_after_the_crash(facility, runner, witness)
        matrix.add(
            "share on a disk that is full" if "size" in option else "share mounted read-only in mid-run",
            "at the second datablock",
            copies,
            f"{error}; next run: archived once",
        )


MOUNT_POINTS = (
    Point(RUN, "ledger: check_claim", 2),
    Point(CHILD, "share: create", 1),
    Point(CHILD, "share: create", 3),
    Point(CHILD, "share: open", 1),
    Point(RUN, "ledger: check_claim", 6),
    Point(CHILD, "share: create", 11),
    Point(RUN, "ledger: check_claim", 7),
    Point(RUN, "ledger: check_claim", 8),
)


@pytest.mark.parametrize("other", [False, True], ids=["no share", "another share"])
@pytest.mark.parametrize("point", MOUNT_POINTS, ids=str)
def test_a_share_that_goes_away_in_mid_run_is_noticed_before_anything_is_lost(
    point: Point, other: bool, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def go_away() -> None:
        unmount(facility.lts_root)
        if other:
            initialise_share(facility.lts_root)

    witness = ingest(facility)

    error = _while_stopped(facility, runner, witness, point, go_away)

    assert error == "WrongShareError"
    assert witness.copies() == [LANDING_ZONE]
    assert not facility.is_published(witness.pid)
    mount_again(facility.lts_root)
    copies = archive_after_the_crash(facility, runner, witness)
    fault = "another share mounted in mid-run" if other else "share unmounted in mid-run"
    matrix.add(fault, f"before {point.call}", copies, f"{error}; next run: archived once")


def test_a_call_that_hangs_is_given_up_and_the_next_run_archives_once(
    calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    impatient = replace(
        facility,
        tools=replace(facility.tools, lts=facility.tools.lts.model_copy(update={"lts_stall_timeout_s": 1.0})),
    )

    def trial(point: Point) -> None:
        witness = ingest(facility)
        outcome = runner.run(impatient, "archive", witness.pid, Fault(point, Blow.HANG))
        assert outcome.error == "StalledError", outcome.message
        copies = archive_after_the_crash(facility, runner, witness)
        matrix.add("share hangs", f"at {point.call}", copies, "StalledError; next run: archived once")

    assert try_all(_points(calls, "share: .*", every=15), trial) > 0


def test_a_rename_whose_reply_is_lost_is_settled_by_looking(
    calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    """The server carried it out, and is asked again: there is no such file any more."""

    def trial(point: Point) -> None:
        witness = ingest(facility)
        fault = Fault(replace(point, moment=Moment.AFTER), Blow.FAIL, errno.ENOENT)
        outcome = runner.run(facility, "archive", witness.pid, fault)
        assert outcome.error == "", outcome.message
        witness.check_archived_once()
        matrix.add("reply to a rename lost", f"at {point.call}", "", "archived once")

    assert try_all(_points(calls, "share: rename", every=3), trial) > 0


def test_a_rename_that_was_carried_out_and_seems_to_have_failed_costs_nothing(
    calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        fault = Fault(replace(point, moment=Moment.AFTER), Blow.FAIL, errno.EIO)
        outcome = runner.run(facility, "archive", witness.pid, fault)
        assert outcome.error == "PermanentError", outcome.message
        copies = archive_after_the_crash(facility, runner, witness)
        matrix.add("error from a rename that took effect", f"at {point.call}", copies, "next run: archived once")

    assert try_all(_points(calls, "share: rename", every=3), trial) > 0


def _flip_a_bit(witness: Witness) -> None:
    newest = max(witness.tars(), key=lambda tar: tar.stat().st_mtime_ns)
    content = bytearray(newest.read_bytes())
    content[700] ^= 4
    newest.write_bytes(content)


@pytest.mark.parametrize("number", [1, 2])
def test_a_datablock_with_a_flipped_bit_is_written_again(
    number: int, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    witness = ingest(facility)
    point = Point(CHILD, "share: open", number)

    error = _while_stopped(facility, runner, witness, point, lambda: _flip_a_bit(witness))

    assert error == ""
    witness.check_archived_once()
    matrix.add("bit flipped on the share", "between writing and reading back", "", "written again; archived once")


def test_a_share_that_flips_bits_again_and_again_ends_the_run_and_costs_nothing(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    witness = ingest(facility)
    faults = [Fault(Point(CHILD, "share: open", number), Blow.STOP) for number in (1, 2)]
    with runner.start(facility, "archive", witness.pid, *faults) as run:
        for _ in faults:
            run.wait_until_stopped()
            _flip_a_bit(witness)
            run.go_on()
        error = run.outcome().error

    assert error == "VerificationError"
    copies = archive_after_the_crash(facility, runner, witness)
    matrix.add(
        "bits flipped each time", "between writing and reading back", copies, f"{error}; next run: archived once"
    )


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE], ids=errno.errorcode.get)
def test_a_file_that_cannot_be_read_at_once_is_waited_for(
    code: int, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    witness = ingest(facility)
    faults = Fault(Point(CHILD, "share: open", 1), Blow.FAIL, code, times=2)

    outcome = runner.run(facility, "archive", witness.pid, faults)

    assert outcome.error == "", outcome.message
    witness.check_archived_once()
    matrix.add(f"file not readable at once ({errno.errorcode[code]})", "when read back", "", "waited; archived once")


def test_a_file_that_stays_unreadable_ends_the_run_and_costs_nothing(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    witness = ingest(facility)
    fault = Fault(Point(CHILD, "share: open", 1), Blow.FAIL, errno.ENOENT, times=1000)

    outcome = runner.run(facility, "archive", witness.pid, fault)

    assert outcome.error == "DamagedError", outcome.message
    copies = archive_after_the_crash(facility, runner, witness)
    matrix.add("file stays unreadable", "when read back", copies, f"{outcome.error}; next run: archived once")
