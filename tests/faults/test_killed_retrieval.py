"""The process that retrieves is killed at every call to the share, S3, the catalogue and the ledger."""

import pytest

from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import Fault, Point
from support.faults_trials import (
    Archived,
    must_be_killed,
    points_of,
    retrieve_after_the_crash,
    try_all,
)

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)


def test_killed_at_any_call_nothing_wrong_is_seen_and_the_next_run_retrieves(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        with runner.start(facility, "retrieve", witness.pid, Fault(point)) as run:
            must_be_killed(run.ended(), point)
        seen = retrieve_after_the_crash(facility, runner, witness)
        matrix.add("retrieval killed (SIGKILL)", f"{point.moment} {point.call}", seen, "next run: retrieved")

    calls = archived.calls_of_a_retrieval()
    assert try_all(points_of(calls, ""), archived.for_each(trial)) > 0
