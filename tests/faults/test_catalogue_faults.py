"""SciCat is down, loses replies, or is written to by others while a data set is archived or retrieved."""

from dataclasses import replace
from urllib.parse import quote

import pytest

from archiver.local.scicat.defaults import ARCHIVER
from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_behind import scicat_behind_proxy
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import Blow, Fault, Moment, Point
from support.faults_trials import (
    Archived,
    archive_after_the_crash,
    ingest,
    retrieve_after_the_crash,
    some,
    try_all,
)
from support.faulty_proxy import Trouble

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)

LIFECYCLE = "scicat: PATCH"
NO_ANSWER = "FailedCallError"
"""A kind of CatalogueError."""


def _calls(facility: Facility, runner: Runner, use_case: str, pid: str) -> list[Point]:
    """What a run without trouble asks of SciCat."""
    with runner.start(facility, use_case, pid) as run:
        assert run.outcome().error == ""
        return [point for point in run.calls if point.call.startswith("scicat: ")]


def _calls_of_retrieval(archived: Archived) -> list[Point]:
    return [point for point in archived.calls_of_a_retrieval() if point.call.startswith("scicat: ")]


def _spoiled_from(
    facility: Facility, runner: Runner, use_case: str, pid: str, point: Point, trouble: Trouble, times: int | None
) -> tuple[str, str]:
    """Let trouble come over a run's calls to SciCat from a point on: what it ends with, class and message."""
    patience_s = 1 if times is None else 20
    with scicat_behind_proxy(facility, scicat_retry_s=patience_s) as behind:
        with runner.start(behind.facility, use_case, pid, Fault(point, Blow.STOP)) as run:
            run.wait_until_stopped()
            behind.proxy.spoil(trouble, times=times)
            run.go_on()
            outcome = run.outcome()
        assert behind.proxy.spoiled() > 0
    return outcome.error, outcome.message


def test_scicat_that_is_down_for_longer_than_a_run_that_archives_is_told_by_the_next(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        error, message = _spoiled_from(facility, runner, "archive", witness.pid, point, Trouble.RESET, None)
        assert error == NO_ANSWER, message
        copies = archive_after_the_crash(facility, runner, witness)
        went = f"{error}; next run: archived once, and told"
        matrix.add("SciCat down for longer than the run", f"archiving, from {point.call} on", copies, went)

    assert try_all(some(_calls(facility, runner, "archive", ingest(facility).pid), 4), trial) > 0


def test_scicat_that_is_down_for_longer_than_a_run_that_retrieves_is_told_by_the_next(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        error, message = _spoiled_from(facility, runner, "retrieve", witness.pid, point, Trouble.RESET, None)
        assert error == NO_ANSWER, message
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"{error}; next run: retrieved, and told"
        matrix.add("SciCat down for longer than the run", f"retrieving, from {point.call} on", seen, went)

    assert try_all(some(_calls_of_retrieval(archived), 2), archived.for_each(trial)) > 0


def test_a_reply_of_scicat_that_is_lost_is_settled_by_looking(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        error, message = _spoiled_from(facility, runner, "archive", witness.pid, point, Trouble.REPLY_LOST, 1)
        assert error == "", message
        witness.check_archived_once()
        matrix.add("SciCat's reply lost", f"archiving, to {point.call}", "", "archived once")

    calls = _calls(facility, runner, "archive", ingest(facility).pid)
    assert try_all([point for point in calls if point.has_effect], trial) > 0


def _overwritten_at(facility: Facility, runner: Runner, use_case: str, witness: Witness, point: Point) -> int:
    """Let another writer, who read the lifecycle before ours was written, put its own back; writes of the run."""
    pid = witness.pid
    before, after = Fault(point, Blow.STOP), Fault(replace(point, moment=Moment.AFTER), Blow.STOP)
    with runner.start(facility, use_case, pid, before, after) as run:
        run.wait_until_stopped()
        read = facility.lifecycle(pid)
        run.go_on()
        run.wait_until_stopped()
        kept = {name: value for name, value in read.items() if not name.startswith("_") and name != "id"}
        facility.call("PATCH", f"v3/datasets/{quote(pid, safe='')}", {"datasetlifecycle": kept}, user=ARCHIVER)
        run.go_on()
        outcome = run.outcome()
        assert outcome.error == "", outcome.message
        return sum(each.call.startswith(LIFECYCLE) for each in run.calls)


def test_what_another_writer_of_scicat_overwrites_while_archiving_is_written_again(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    calls = [
        each for each in _calls(facility, runner, "archive", ingest(facility).pid) if each.call.startswith(LIFECYCLE)
    ]

    def trial(point: Point) -> None:
        witness = ingest(facility)
        assert _overwritten_at(facility, runner, "archive", witness, point) == len(calls) + 1
        witness.check_archived_once()
        matrix.add(
            "SciCat: written by another at once", f"archiving, after {point}", "", "written again; archived once"
        )

    assert try_all(calls, trial) > 0


def test_what_another_writer_of_scicat_overwrites_while_retrieving_is_written_again(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    calls = [each for each in _calls_of_retrieval(archived) if each.call.startswith(LIFECYCLE)]

    def trial(point: Point, witness: Witness) -> None:
        assert _overwritten_at(facility, runner, "retrieve", witness, point) == len(calls) + 1
        witness.check_retrieved()
        where = f"retrieving, after its write no. {point.number}"
        matrix.add("SciCat: overwritten by another", where, "", "written again; retrieved")

    assert try_all(calls, archived.for_each(trial)) > 0
