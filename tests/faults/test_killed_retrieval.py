"""The process that retrieves is killed at every call to the share, S3, the catalogue and the ledger."""

from collections.abc import Callable
from queue import SimpleQueue

import pytest

from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import Fault, Point
from support.faults_trials import (
    AT_ONCE,
    forget_retrieved,
    ingest,
    must_be_killed,
    points_of,
    retrieve_after_the_crash,
    try_all,
)

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 120)


def _archived(facility: Facility, runner: Runner) -> Witness:
    witness = ingest(facility)
    assert runner.run(facility, "archive", witness.pid).error == ""
    return witness


def _with_one_of(witnesses: "SimpleQueue[Witness]", trial: Callable[[Point, Witness], None]) -> Callable[[Point], None]:
    """A trial that has a data set for itself, as if it had never been retrieved."""

    def alone(point: Point) -> None:
        witness = witnesses.get()
        try:
            forget_retrieved(witness.facility, witness)
            trial(point, witness)
        finally:
            witnesses.put(witness)

    return alone


def test_killed_at_any_call_nothing_wrong_is_seen_and_the_next_run_retrieves(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        with runner.start(facility, "retrieve", witness.pid, Fault(point)) as run:
            must_be_killed(run.ended(), point)
        seen = retrieve_after_the_crash(facility, runner, witness)
        matrix.add("retrieval killed (SIGKILL)", f"{point.moment} {point.call}", seen, "next run: retrieved")

    witnesses: SimpleQueue[Witness] = SimpleQueue()
    for _ in range(AT_ONCE):
        witnesses.put(_archived(facility, runner))
    witness = witnesses.get()
    with runner.start(facility, "retrieve", witness.pid) as run:
        assert run.outcome().error == ""
        witness.check_retrieved()
        calls = run.calls
    witnesses.put(witness)
    assert try_all(points_of(calls, ""), _with_one_of(witnesses, trial)) > 0
