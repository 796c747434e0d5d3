"""A run that stood still, was declared dead and replaced, and goes on: it must find out and change nothing."""

from contextlib import suppress

import pytest

from support.facility import Facility
from support.faults import EVERY_POINT, RunEndedError, Runner, let_claims_grow_old
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import RUN, Blow, Fault, Point
from support.faults_trials import (
    Archived,
    archive_after_the_crash,
    ingest,
    retrieve_after_the_crash,
    some,
    try_all,
)

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)

FAULT = "run stands still, is declared dead and replaced, goes on"
NOTHING_LEFT_TO_DO = {"ledger: landing_emptied", "ledger: release_claim"}


@pytest.fixture
def calls(facility: Facility, runner: Runner) -> list[Point]:
    """The calls that a run makes while it holds the claim."""
    with runner.start(facility, "archive", ingest(facility).pid) as run:
        assert run.outcome().error == ""
        calls = run.calls
    (claimed,) = (at for at, point in enumerate(calls) if point.call == "ledger: claim_dataset")
    return calls[claimed + 1 :]


def test_a_run_that_was_replaced_finds_out_and_changes_nothing(
    calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        with runner.start(facility, "archive", witness.pid, Fault(point, Blow.STOP)) as first:
            first.wait_until_stopped()
            let_claims_grow_old(facility, witness.pid)
            assert runner.run(facility, "archive", witness.pid, holder="next run").error == ""
            witness.check_archived_once()
            finished = witness.state()
            first.go_on()
            error = first.outcome().error
        assert error == ("" if point.call in NOTHING_LEFT_TO_DO else "ClaimLostError")
        assert witness.state() == finished
        witness.check_archived_once()
        matrix.add(FAULT, f"stands still {point.moment} {point.call}", "bag published", error or "nothing left to do")

    checks = [point for point in calls if point.call == "ledger: check_claim"]
    # Where it says on the share whose turn it is, just after it saw that nothing was published.
    turn = next(point for point in calls if point.call == "share: create")
    others = some([point for point in calls if point.has_effect and point != turn], 6)
    assert try_all([*checks, turn, *others], trial) > 0


NEXT_RUN_AT = (
    Point("child 2", "share: write", 2),
    Point("child 2", "share: rename", 2),
    Point(RUN, "scicat: GET v3/datasets/*", 4),
    Point("child 2", "share: seal", 1),
    Point(RUN, "s3: DeleteObjects", 1),
)
"""Where the run that replaced another is when that one wakes up. Those it does not come to are not reached."""


@pytest.mark.parametrize("changed", [False, True], ids=["same files", "files added meanwhile"])
def test_a_run_that_was_replaced_and_wakes_up_beside_the_other_costs_nothing(
    changed: bool, calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(case: tuple[Point, Point]) -> None:
        point, other_at = case
        witness = ingest(facility)
        with runner.start(facility, "archive", witness.pid, Fault(point, Blow.STOP)) as first:
            first.wait_until_stopped()
            if changed and not witness.published():
                more = {"sub/a.txt": b"added"}
                facility.upload(witness.pid, more)
                witness = Witness(facility, witness.pid, {**witness.files, **more})
            let_claims_grow_old(facility, witness.pid)
            with runner.start(facility, "archive", witness.pid, Fault(other_at, Blow.STOP), holder="next run") as other:
                with suppress(RunEndedError):
                    other.wait_until_stopped()
                first.go_on()
                first.ended()
                copies = witness.check_nothing_lost()
                other.go_on()
                error = other.outcome().error
        archive_after_the_crash(facility, runner, witness)
        went = f"the other run {'archived' if not error else 'failed, the next one archived'}; archived once"
        where = f"stands still {point.moment} {point.call}, wakes up {'(files added) ' if changed else ''}beside it"
        matrix.add(FAULT, where, " and ".join(copies), went)

    changing = [point for point in calls if point.has_effect and point.call not in NOTHING_LEFT_TO_DO]
    pairs = [(point, NEXT_RUN_AT[at % len(NEXT_RUN_AT)]) for at, point in enumerate(changing)]
    if EVERY_POINT:
        pairs = [(point, other) for point in changing for other in NEXT_RUN_AT]
    assert try_all(pairs if EVERY_POINT else pairs[::7], trial) > 0


def test_a_run_that_retrieves_and_was_replaced_shows_nothing_wrong(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        bag = witness.published()
        with runner.start(patient, "retrieve", witness.pid, Fault(point, Blow.STOP)) as first:
            first.wait_until_stopped()
            let_claims_grow_old(facility, witness.pid)
            assert runner.run(facility, "retrieve", witness.pid, holder="next run").error == ""
            witness.check_retrieved()
            first.go_on()
            error = first.outcome().error
        assert error == ""  # it finds the copies that the other one made
        witness.check_retrieved()
        assert witness.published() == bag
        matrix.add(FAULT, f"retrieving, stands still {point.moment} {point.call}", "bag published", "both retrieved")

    patient = facility.with_settings(claim_wait_s=60)
    calls = archived.calls_of_a_retrieval()
    assert try_all(some([point for point in calls if point.has_effect], 4), archived.for_each(trial)) > 0


def test_a_run_that_retrieves_and_wakes_up_beside_the_other_shows_nothing_wrong(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(case: tuple[Point, Point], witness: Witness) -> None:
        point, other_at = case
        with runner.start(facility, "retrieve", witness.pid, Fault(point, Blow.STOP)) as first:
            first.wait_until_stopped()
            let_claims_grow_old(facility, witness.pid)
            with runner.start(
                facility, "retrieve", witness.pid, Fault(other_at, Blow.STOP), holder="next run"
            ) as other:
                with suppress(RunEndedError):
                    other.wait_until_stopped()
                first.go_on()
                first.ended()
                witness.check_no_wrong_copy()
                other.go_on()
                error = other.outcome().error
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"the other run {'retrieved' if not error else 'failed, the next one retrieved'}"
        matrix.add(FAULT, f"retrieving, stands still {point.moment} {point.call}, wakes up beside it", seen, went)

    calls = [point for point in archived.calls_of_a_retrieval() if point.has_effect]
    pairs = [(point, other) for point in calls for other in calls]
    assert try_all(some(pairs, 16), archived.for_each(trial)) > 0
