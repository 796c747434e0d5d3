"""Each part of the stack, killed in the middle of archiving: the data set is archived all the same, and once."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.archive import datablocks_of_whole_bag
from stack.figures import Note
from stack.midway import held_in_mid_archive
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.payload import LARGE_FILES
from stack.visitor import Visitor
from stack.waiting import wait_for

pytestmark = pytest.mark.timeout(7200)


def _runtime_container(stack: OperatedStack) -> None:
    (container,) = stack.runs()
    stack.kill(container)


def _service(name: str) -> Callable[[OperatedStack], None]:
    return lambda stack: stack.strike(name)


@pytest.mark.parametrize(
    "strike",
    [
        pytest.param(_runtime_container, id="runtime container"),
        pytest.param(_service("archiver-service-api"), id="API"),
        pytest.param(_service("postgres"), id="PostgreSQL"),
        pytest.param(_service("minio"), id="MinIO"),
        pytest.param(_service("prefect-server"), id="Prefect server"),
        pytest.param(_service("prefect-archival-worker"), id="archival worker"),
    ],
)
def test_a_data_set_is_archived_once_when_it_is_killed_in_mid_archive(
    strike: Callable[[OperatedStack], None],
    stack: OperatedStack,
    visitor: Visitor,
    prefect: PrefectView,
    large: Path,
    note: Note,
    request: pytest.FixtureRequest,
) -> None:
    with held_in_mid_archive(stack, visitor, large) as pid:
        assert visitor.lifecycle(pid)["archiveStatusMessage"] != "datasetOnArchiveDisk"
        strike(stack)
        began = time.monotonic()
    job = visitor.archived(pid, within_s=900)
    runs = len(prefect.runs_of_job(job.id))
    note(f"killed: {request.node.callspec.id}", f"archived {time.monotonic() - began:.0f} s later, by {runs} run(s)")

    stack.wait_until_ready()
    assert visitor.datablocks(pid) == datablocks_of_whole_bag(stack, pid)
    assert len(visitor.datablocks(pid)) == LARGE_FILES
    wait_for("no place is taken any more", lambda: not prefect.taken_slots(), 400)
    wait_for("no run is unfinished any more", lambda: all(run.is_finished for run in prefect.runs_of_job(job.id)), 400)
    assert stack.landed(pid) == []


def test_a_data_set_is_retrieved_when_the_retrieval_worker_is_killed(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, large: Path
) -> None:
    pid = visitor.ingest(large)
    visitor.archived(pid)
    job = visitor.catalogue.create_retrieve_job(pid, "p12345")
    wait_for("a container that retrieves", lambda: stack.runs("retrieve-"), 300, 0.1)
    stack.strike("prefect-retrieval-worker")
    ended = visitor.finished(job, within_s=900)
    assert ended.is_successful, ended.message
    wait_for("no place is taken any more", lambda: not prefect.taken_slots(), 400)
    stack.wait_until_ready()
