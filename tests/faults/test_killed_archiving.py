"""The process that archives is killed at every call to the share, S3, the catalogue and the ledger."""

import os
import random
import re
import time

import pytest

from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_matrix import Matrix
from support.faults_points import RUN, Blow, Fault, Point
from support.faults_trials import (
    archive_after_the_crash,
    ingest,
    must_be_killed,
    points_of,
    try_all,
)

PARTS = {
    "ledger": "ledger: ",
    "catalogue": "scicat: ",
    "object store": "s3: ",
    "share, files begun": "share: (mkdir|create|write)",
    "share, files put in place": "share: (rename|seal|remove)",
    "share, the rest": "share: (?!mkdir|create|write|rename|seal|remove)",
}
RANDOM_MOMENTS = int(os.environ.get("ARCHIVER_RANDOM_KILLS", "4"))
pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)


@pytest.fixture
def calls(facility: Facility, runner: Runner) -> list[Point]:
    """The calls of a run that archives without any fault."""
    witness = ingest(facility)
    with runner.start(facility, "archive", witness.pid) as run:
        assert run.outcome().error == ""
        witness.check_archived_once()
        return run.calls


def test_each_call_is_struck_by_one_of_the_tests(calls: list[Point]) -> None:
    for point in calls:
        assert sum(re.match(part, point.call) is not None for part in PARTS.values()) == 1


@pytest.mark.parametrize("part", [part for part in PARTS if EVERY_POINT or part != "share, the rest"])
def test_killed_at_any_call_nothing_is_lost_and_the_next_run_archives_once(
    part: str, calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        with runner.start(facility, "archive", witness.pid, Fault(point)) as run:
            must_be_killed(run.ended(), point)
        copies = archive_after_the_crash(facility, runner, witness)
        matrix.add("archiving killed (SIGKILL)", f"{point.moment} {point.call}", copies, "next run: archived once")

    assert try_all(points_of(calls, PARTS[part]), trial) > 0


def test_a_child_for_the_share_does_not_outlive_its_run(
    calls: list[Point], facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        with runner.start(facility, "archive", witness.pid, Fault(point, Blow.KILL_ALONE)) as run:
            must_be_killed(run.ended(), point)  # and returns when the child is gone too
        copies = archive_after_the_crash(facility, runner, witness)
        matrix.add("archiving killed, its child not", f"{point.moment} {point.call}", copies, "next run: archived once")

    changing = [point for point in calls if point.process == RUN and point.has_effect]
    assert try_all(changing if EVERY_POINT else changing[::4], trial) > 0


def test_killed_at_a_random_moment_nothing_is_lost_and_the_next_run_archives_once(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(seed: int) -> None:
        witness = ingest(facility)
        with runner.start(facility, "archive", witness.pid, new_children=True) as run:
            time.sleep(random.Random(seed).uniform(0, duration))  # the fault itself, nothing is waited for
            run.kill()
            run.ended()
        copies = archive_after_the_crash(facility, runner, witness)
        matrix.add("archiving killed (SIGKILL)", "at a random moment", copies, "next run: archived once")

    witness = ingest(facility)
    began = time.monotonic()
    with runner.start(facility, "archive", witness.pid, new_children=True) as run:
        assert run.outcome().error == ""
    duration = time.monotonic() - began
    assert try_all(range(RANDOM_MOMENTS), trial) == RANDOM_MOMENTS
