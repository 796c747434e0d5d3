"""The share fails, hangs, is gone or holds other bytes while a data set is retrieved."""

import errno
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from archiver.workflow.storage.lts import initialise_share
from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_mounts import mount_again, unmount
from support.faults_points import CHILD, Blow, Fault, Point
from support.faults_trials import Archived, retrieve_after_the_crash, some, try_all

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)


def _share_calls(archived: Archived, pattern: str, every: int) -> Sequence[Point]:
    calls = archived.calls_of_a_retrieval()
    found = [each for each in calls if each.process.startswith(CHILD) and re.fullmatch(pattern, each.call)]
    return some(found, every)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT], ids=errno.errorcode.get)
def test_a_share_that_cannot_be_read_shows_nothing_wrong(
    code: int, archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        outcome = runner.run(facility, "retrieve", witness.pid, Fault(point, Blow.FAIL, code))
        expected = {"PermanentError", "DamagedError"} if code == errno.ENOENT else {"PermanentError"}
        assert outcome.error in expected, outcome.message
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"{outcome.error}; next run: retrieved"
        matrix.add(f"share says {errno.errorcode[code]}", f"retrieving, at {point.call}", seen, went)

    assert try_all(_share_calls(archived, "share: (open|read)", 2), archived.for_each(trial)) > 0


def test_a_stale_handle_is_waited_for_or_ends_the_run(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        outcome = runner.run(facility, "retrieve", witness.pid, Fault(point, Blow.FAIL, errno.ESTALE))
        assert outcome.error in {"", "TransientError"}, outcome.message
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"{outcome.error}; next run: retrieved" if outcome.error else "waited; retrieved"
        matrix.add("share says ESTALE", f"retrieving, at {point.call}", seen, went)

    assert try_all(_share_calls(archived, "share: (open|read)", 2), archived.for_each(trial)) > 0


def test_a_call_that_hangs_is_given_up_and_the_next_run_retrieves(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    lts = facility.tools.lts.model_copy(update={"lts_stall_timeout_s": 1.0})
    impatient = replace(facility, tools=replace(facility.tools, lts=lts))

    def trial(point: Point, witness: Witness) -> None:
        outcome = runner.run(impatient, "retrieve", witness.pid, Fault(point, Blow.HANG))
        assert outcome.error == "StalledError", outcome.message
        seen = retrieve_after_the_crash(facility, runner, witness)
        matrix.add("share hangs", f"retrieving, at {point.call}", seen, "StalledError; next run: retrieved")

    # The first child only asks whose share it is.
    assert try_all(_share_calls(archived, "share: .*", 4), archived.for_each(trial)) > 0


def _while_stopped(
    facility: Facility, runner: Runner, witness: Witness, point: Point, event: Callable[[], object]
) -> str:
    with runner.start(facility, "retrieve", witness.pid, Fault(point, Blow.STOP)) as run:
        run.wait_until_stopped()
        event()
        run.go_on()
        return run.outcome().error


@pytest.mark.parametrize("other", [False, True], ids=["no share", "another share"])
def test_a_share_that_goes_away_in_mid_run_is_noticed(
    other: bool, archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def go_away() -> None:
        unmount(facility.lts_root)
        if other:
            initialise_share(facility.lts_root)

    def trial(_: None, witness: Witness) -> None:
        point = Point("run", "ledger: claim_retrieval", 1)
        error = _while_stopped(facility, runner, witness, point, go_away)
        mount_again(facility.lts_root)
        assert error == "WrongShareError"
        seen = retrieve_after_the_crash(facility, runner, witness)
        fault = "another share mounted in mid-run" if other else "share unmounted in mid-run"
        matrix.add(fault, f"retrieving, before {point.call}", seen, f"{error}; next run: retrieved")

    archived.for_each(trial)(None)


def test_a_bag_with_a_flipped_bit_is_never_handed_out(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(_: None, witness: Witness) -> None:
        tar = witness.tars()[0]
        good = tar.read_bytes()
        mode = stat.S_IMODE(tar.stat().st_mode)
        tar.chmod(0o644)
        tar.write_bytes(good[:700] + bytes([good[700] ^ 4]) + good[701:])
        tar.chmod(mode)

        outcome = runner.run(facility, "retrieve", witness.pid)

        assert outcome.error == "DamagedError", outcome.message
        assert tar.name in outcome.message
        assert facility.lifecycle(witness.pid)["retrieveStatusMessage"] == "scheduleRetrieveJobFailed"
        assert witness.check_no_wrong_copy() == 0
        tar.chmod(0o644)
        tar.write_bytes(good)  # healed by hand, from its backup
        tar.chmod(mode)
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"{outcome.error}, named and told; healed: retrieved"
        matrix.add("bit flipped on the share", "in a published bag, when it is retrieved", seen, went)

    archived.for_each(trial)(None)
