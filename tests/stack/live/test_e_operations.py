"""What operators do with a stack that runs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from archiver.workflow.storage.object_store import ObjectStore
from stack.archive import datablocks_of_whole_bag
from stack.events import run_containers
from stack.figures import Note
from stack.midway import held_in_mid_archive
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.payload import LARGE_FILES, write_noise
from stack.visitor import Visitor
from stack.waiting import wait_for

pytestmark = [pytest.mark.timeout(7200), pytest.mark.long]

_ARCHIVAL, _RETRIEVAL = "prefect-archival-worker", "prefect-retrieval-worker"
_PIECE = b"slow" * 256
_PIECES = 75
"""One a second: longer than the 60 s after which a proxy breaks off requests if nobody told it otherwise."""


def test_configuration_and_deployment_once_more_change_nothing(stack: OperatedStack, prefect: PrefectView) -> None:
    before = prefect.registered()
    assert all(before.values())
    for service in ("prefect-config", "prefect-flows-deployment", "minio-config", "postgres-config"):
        stack.compose("up", "--force-recreate", "--no-deps", "--exit-code-from", service, service)
    assert prefect.registered() == before


def test_a_run_that_is_cancelled_loses_its_container_and_its_place_and_its_data_set_stays(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, large: Path
) -> None:
    minio = stack.container("minio")
    with held_in_mid_archive(stack, visitor, large) as pid:
        job = visitor.job_of(pid)
        (run,) = (run for run in prefect.runs_of_job(job.id) if not run.is_finished)
        (container,) = stack.runs()
        # So that it has not ended well before it is told to end.
        stack.engine.docker("pause", minio)
    try:
        prefect.cancel(str(run.id))
        wait_for("the container of the run is gone", lambda: container not in stack.runs(), 300)
    finally:
        stack.engine.docker("unpause", minio)

    assert prefect.ended(str(run.id))["state_type"] == "CANCELLED"
    wait_for("no place is taken any more", lambda: not prefect.taken_slots(), 400)
    ended = visitor.finished(job.id)
    assert ended.status == "finishedUnsuccessful"
    assert "cancelled" in ended.message
    assert len(stack.landed(pid)) == LARGE_FILES
    assert visitor.datablocks(pid) == []
    assert len(prefect.runs_of_job(job.id)) == 1


def _slowly() -> Iterator[bytes]:
    for _ in range(_PIECES):
        yield _PIECE
        time.sleep(1)


def test_an_upload_slower_than_a_minute_arrives_and_its_storage_class_is_dropped(
    stack: OperatedStack, note: Note
) -> None:
    key = "tests/slow upload.bin"
    with ObjectStore.open(stack.landing_storage("api")) as store:
        url = store.presign_put("landingzone", key, timedelta(minutes=30))
        headers = {"Content-Length": str(len(_PIECE) * _PIECES), "x-amz-storage-class": "GLACIER"}
        with httpx.Client(timeout=60) as http:
            answer = http.put(url, content=_slowly(), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.elapsed > timedelta(seconds=60)
        note("slowest upload through the proxy", f"{answer.elapsed.total_seconds():.0f} s")
        found = store.head("landingzone", key)
        assert found is not None
        assert found.size == len(_PIECE) * _PIECES
        assert store.delete("landingzone", list(store.list("landingzone", "tests/"))) == []


def test_a_worker_that_is_stopped_waits_for_its_run(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, large: Path
) -> None:
    began = datetime.now(UTC)
    with ThreadPoolExecutor(1) as beside:
        with held_in_mid_archive(stack, visitor, large) as pid:
            job = visitor.job_of(pid)
            stopping = beside.submit(stack.stop, _ARCHIVAL)
            wait_for("the worker heard it", lambda: "worker_told_to_end" in stack.said(_ARCHIVAL, began), 120)
        stopping.result()
    try:
        assert stack.runs() == []
        assert [run.state_type for run in prefect.runs_of_job(job.id)] == ["COMPLETED"]
        assert visitor.finished(job.id).is_successful
    finally:
        stack.up(_ARCHIVAL)
        stack.wait_until_ready()


def test_two_workers_of_a_pool_keep_to_its_limit_together(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, tmp_path: Path, note: Note
) -> None:
    # A pool's limit counts runs; a container ends a little after its run. The limits of the workers count containers.
    halved = stack.with_values({"PREFECT_WORKER_LIMIT": "1"})
    try:
        halved.up(_ARCHIVAL)
        halved.scale(_ARCHIVAL, 2)
        pool = stack.configuration()["services"][_ARCHIVAL]["environment"]["PREFECT_ARCHIVAL_WORKPOOL_NAME"]
        wait_for("both workers are known to the server", lambda: len(prefect.workers_online(pool)) >= 2, 120)
        with run_containers() as counted:
            pids = [visitor.ingest(write_noise(tmp_path / str(number), 2, 1000, number)) for number in range(6)]
            for pid in pids:
                visitor.archived(pid)
    finally:
        stack.scale(_ARCHIVAL, 1)
        stack.up(_ARCHIVAL)
        stack.wait_until_healthy(_ARCHIVAL)
    note("containers at once, with two workers", f"{counted.most_at_once} ({counted.started} in all)")
    assert all(len(datablocks_of_whole_bag(stack, pid)) == 1 for pid in pids)
    assert counted.started == len(pids)
    assert counted.most_at_once == 2
    assert prefect.taken_slots() == {}


def test_each_worker_starts_alone_and_everything_is_there_again_after_it(
    stack: OperatedStack, visitor: Visitor, tmp_path: Path
) -> None:
    pid = visitor.ingest(write_noise(tmp_path / "kept", 3, 5000, 7))
    visitor.archived(pid)
    for worker in (_ARCHIVAL, _RETRIEVAL):
        stack.down()
        stack.up(worker)
        stack.wait_until_healthy(worker)
        # With what its runs need, and neither the other worker nor the API.
        assert stack.running() == {worker, "prefect-server", "postgres", "minio", "scicat"}
    stack.down()
    stack.up()
    with Visitor(stack.addresses, stack.secret("scicatingestorpass")) as again:
        assert again.retrieved(pid).is_successful
