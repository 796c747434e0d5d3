"""Two runs for one data set, at once or one after the other."""

import pytest

from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import RUN, Blow, Fault, Point
from support.faults_trials import Archived, ingest, some, try_all

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)

PATIENT = {"claim_wait_s": 60}


def test_a_run_beside_one_at_work_changes_nothing(facility: Facility, runner: Runner, matrix: Matrix) -> None:
    with runner.start(facility, "archive", ingest(facility).pid) as run:
        assert run.outcome().error == ""
        calls = [point for point in run.calls if point.process == RUN and point.has_effect]
    (claimed,) = (at for at, point in enumerate(calls) if point.call == "ledger: claim_dataset")
    (released,) = (at for at, point in enumerate(calls) if point.call == "ledger: release_claim")

    def trial(point: Point) -> None:
        witness = ingest(facility)
        with runner.start(facility, "archive", witness.pid, Fault(point, Blow.STOP)) as first:
            first.wait_until_stopped()
            before = witness.state()
            other = runner.run(facility, "archive", witness.pid, holder="another run")
            assert other.error == "DatasetBusyError", other.message
            assert witness.state() == before
            copies = witness.check_nothing_lost()
            first.go_on()
            assert first.outcome().error == ""
        witness.check_archived_once()
        where = f"archiving, the first at {point.call}"
        matrix.add("two runs for one data set at once", where, " and ".join(copies), f"{other.error}; archived once")

    assert try_all(some(calls[claimed + 1 : released + 1], 6), trial) > 0


def test_two_runs_at_full_speed_archive_once(facility: Facility, runner: Runner, matrix: Matrix) -> None:
    """The one that comes second waits for the first, and finds nothing left to do."""
    patient = facility.with_settings(**PATIENT)
    witness = ingest(facility)
    with (
        runner.start(patient, "archive", witness.pid) as one,
        runner.start(patient, "archive", witness.pid, holder="another run") as other,
    ):
        outcomes = [one.outcome(), other.outcome()]

    assert [outcome.error for outcome in outcomes] == ["", ""], outcomes
    assert sorted(outcome.was_archived for outcome in outcomes) == [False, True]
    witness.check_archived_once()
    matrix.add("two runs for one data set at once", "archiving, both at full speed", "", "both end well; archived once")


def test_a_run_after_success_changes_nothing(facility: Facility, runner: Runner, matrix: Matrix) -> None:
    witness = ingest(facility)
    assert runner.run(facility, "archive", witness.pid).error == ""
    bag, registered = witness.published(), facility.registered(witness.pid)

    outcome = runner.run(facility, "archive", witness.pid, holder="another run")

    assert (outcome.error, outcome.was_archived) == ("", True)
    assert (witness.published(), facility.registered(witness.pid)) == (bag, registered)
    witness.check_archived_once()
    matrix.add("second run after success", "archiving", "bag published", "ends well; nothing changed")


def test_two_runs_at_full_speed_share_the_copies(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    patient = facility.with_settings(**PATIENT)

    def trial(_: None, witness: Witness) -> None:
        with (
            runner.start(patient, "retrieve", witness.pid) as one,
            runner.start(patient, "retrieve", witness.pid, holder="another run") as other,
        ):
            assert [one.outcome().error, other.outcome().error] == ["", ""]
        witness.check_retrieved()
        matrix.add(
            "two runs for one data set at once", "retrieving, both at full speed", "bag published", "both end well"
        )

    archived.for_each(trial)(None)
