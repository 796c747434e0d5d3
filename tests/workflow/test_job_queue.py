"""The queue of jobs against a real Prefect server."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Pending, Running
from pydantic import SecretStr

from archiver.config.settings import QueueSettings
from archiver.workflow.errors import BadJobError, QueueError
from archiver.workflow.job_queue import (
    DEPLOYMENTS,
    DeploymentMissingError,
    JobQueue,
    QueuedRun,
    QueueRefusedError,
    Waiting,
)

AUTH = "operator:a-long-password"
START_S = 240


def eventually(condition: Callable[[], bool], within_s: float = 20) -> bool:
    """Whether `condition` comes true in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.2)
    return True


def answers(url: str) -> bool:
    """Whether a Prefect server is up."""
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server on SQLite that wants credentials."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": AUTH,
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=home) as server,
    ):
        try:
            assert eventually(lambda: answers(url), START_S), log.read_text()
            yield url
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def prefect(prefect_url: str) -> Iterator[SyncPrefectClient]:
    """Prefect's own client, as an administrator."""
    with (
        temporary_settings({PREFECT_API_URL: prefect_url, PREFECT_API_AUTH_STRING: AUTH}),
        get_client(sync_client=True) as client,
    ):
        yield client


def deploy(prefect: SyncPrefectClient, job_type: str) -> UUID:
    """A deployment as the service registers it."""
    flow, name = DEPLOYMENTS[job_type]
    schema = {"type": "object", "properties": {"job_id": {"type": "string"}}, "required": ["job_id"]}
    return prefect.create_deployment(
        flow_id=prefect.create_flow_from_name(flow),
        name=name,
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
    )


@pytest.fixture
def deployments(prefect: SyncPrefectClient) -> Iterator[dict[str, UUID]]:
    """Everything deployed, and no runs."""
    deployed = {job_type: deploy(prefect, job_type) for job_type in DEPLOYMENTS}
    yield deployed
    for run in prefect.read_flow_runs():
        prefect.delete_flow_run(run.id)


def queue_at(url: str, *, auth: str = AUTH, patience_s: float = 30) -> JobQueue:
    """The queue under test."""
    settings = QueueSettings(prefect_api_url=url, prefect_api_auth_string=SecretStr(auth), prefect_timeout_s=10)
    return JobQueue.open(settings, patience_s=patience_s)


@pytest.fixture
def queue(prefect_url: str, deployments: dict[str, UUID]) -> Iterator[JobQueue]:
    """The queue under test, with everything deployed."""
    assert deployments
    with queue_at(prefect_url) as opened:
        yield opened


def enter(prefect: SyncPrefectClient, run: QueuedRun, *states: State) -> None:
    """Takes a run through states, as a worker does."""
    for state in states:
        answer = prefect.set_flow_run_state(run.id, state, force=True)
        assert answer.status.value == "ACCEPT"


@pytest.mark.parametrize("job_type", ["archive", "retrieve"])
def test_a_job_becomes_a_run_of_its_deployment(
    queue: JobQueue, prefect: SyncPrefectClient, deployments: dict[str, UUID], job_type: str
) -> None:
    job_id = str(uuid4())
    queued = queue.submit(job_id, job_type)

    run = prefect.read_flow_run(queued.id)
    assert queued.name == run.name == f"{job_type}-{job_id}"
    assert run.deployment_id == deployments[job_type]
    assert run.parameters == {"job_id": job_id}
    assert {"archiver", job_type, f"job-{job_id}", "attempt-1"} <= set(run.tags)
    assert run.state_type == StateType.SCHEDULED


def test_a_repeated_job_is_one_run_and_another_attempt_is_another(queue: JobQueue) -> None:
    job_id = str(uuid4())
    first = queue.submit(job_id, "archive")

    assert queue.submit(job_id, "archive") == first
    second = queue.submit(job_id, "archive", attempt=2)
    assert second.id != first.id
    assert queue.submit(job_id, "archive", attempt=2) == second
    assert [run.id for run in queue.runs_of_job(job_id)] == [first.id, second.id]
    assert {run.job_id for run in queue.runs_of_job(job_id)} == {job_id}


def test_a_job_submitted_from_many_threads_at_once_is_one_run(queue: JobQueue) -> None:
    job_id = str(uuid4())
    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda _: queue.submit(job_id, "archive"), range(16)))

    assert len(set(runs)) == 1
    assert len(queue.runs_of_job(job_id)) == 1


def test_many_jobs_submitted_at_once_all_get_a_run(queue: JobQueue) -> None:
    jobs = [str(uuid4()) for _ in range(12)]
    with ThreadPoolExecutor(6) as threads:
        runs = list(threads.map(lambda job_id: queue.submit(job_id, "retrieve"), jobs))
    assert len({run.id for run in runs}) == len(jobs)
    assert {run.job_id for run in queue.unfinished_runs()} == set(jobs)


def test_a_lost_answer_leaves_one_run(
    prefect_url: str, prefect: SyncPrefectClient, deployments: dict[str, UUID]
) -> None:
    assert deployments
    lost: list[str] = []

    class LosesTheFirstRun(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Authorization": self.headers["Authorization"], "Content-Type": "application/json"}
            target = prefect_url.removesuffix("/api") + self.path
            reply = httpx.request(self.command, target, headers=headers, content=body, timeout=30)
            if self.path.endswith("/create_flow_run") and not lost:
                assert reply.is_success
                lost.append(reply.json()["id"])
                return
            self.send_response(reply.status_code)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), LosesTheFirstRun) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        with queue_at(f"http://127.0.0.1:{proxy.server_address[1]}/api") as queue:
            queued = queue.submit(str(uuid4()), "archive")
        proxy.shutdown()
        thread.join()

    assert lost == [str(queued.id)]
    assert len(prefect.read_flow_runs()) == 1


def test_a_deployment_made_anew_is_found_again(queue: JobQueue, prefect: SyncPrefectClient) -> None:
    queue.submit(str(uuid4()), "archive")
    flow, name = DEPLOYMENTS["archive"]
    prefect.delete_deployment(prefect.read_deployment_by_name(f"{flow}/{name}").id)
    anew = deploy(prefect, "archive")

    queued = queue.submit(str(uuid4()), "archive")

    assert prefect.read_flow_run(queued.id).deployment_id == anew


def test_a_missing_deployment_is_named(queue: JobQueue, prefect: SyncPrefectClient) -> None:
    flow, name = DEPLOYMENTS["retrieve"]
    queue.submit(str(uuid4()), "retrieve")
    prefect.delete_deployment(prefect.read_deployment_by_name(f"{flow}/{name}").id)

    for _ in range(2):
        with pytest.raises(DeploymentMissingError, match="retrieve_datasetlist/datasets_retrieval"):
            queue.submit(str(uuid4()), "retrieve")


def test_a_job_of_an_unknown_type_is_a_bad_job(queue: JobQueue) -> None:
    with pytest.raises(BadJobError, match="'public'"):
        queue.submit(str(uuid4()), "public")


def test_a_run_is_followed_through_its_states(queue: JobQueue, prefect: SyncPrefectClient) -> None:
    queued = queue.submit(str(uuid4()), "archive")
    waiting = queue.run(queued.id)
    assert waiting is not None
    assert (waiting.state_type, waiting.is_finished) == ("SCHEDULED", False)

    enter(prefect, queued, Pending(), Running())
    working = queue.run(queued.id)
    assert working is not None
    assert (working.state_type, working.state_name, working.is_finished) == ("RUNNING", "Running", False)
    assert working.last_sign >= waiting.last_sign
    assert [run.id for run in queue.unfinished_runs()] == [queued.id]

    enter(prefect, queued, Completed(message="Archived 3 files."))
    done = queue.run(queued.id)
    assert done is not None
    assert (done.state_type, done.message, done.is_finished) == ("COMPLETED", "Archived 3 files.", True)
    assert queue.unfinished_runs() == []


def test_a_heartbeat_is_a_sign_of_life(queue: JobQueue, prefect: SyncPrefectClient, prefect_url: str) -> None:
    queued, other = queue.submit(str(uuid4()), "archive"), queue.submit(str(uuid4()), "archive")
    enter(prefect, queued, Pending(), Running())
    enter(prefect, other, Pending(), Running())
    beaten_at = datetime.now(UTC) + timedelta(seconds=45)
    event = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": beaten_at.isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{queued.id}"},
    }
    httpx.post(f"{prefect_url}/events", json=[event], auth=httpx.BasicAuth(*AUTH.split(":"))).raise_for_status()

    def seen() -> bool:
        found = queue.run(queued.id)
        return found is not None and found.last_sign == beaten_at

    assert eventually(seen)
    silent = queue.run(other.id)
    assert silent is not None
    assert silent.last_sign < beaten_at


def test_an_unknown_run_is_none(queue: JobQueue) -> None:
    assert queue.run(uuid4()) is None
    assert queue.runs_of_job("no such job") == []


def test_a_dead_run_gives_back_its_place(queue: JobQueue, prefect: SyncPrefectClient) -> None:
    queued = queue.submit(str(uuid4()), "archive")
    enter(prefect, queued, Pending(), Running())

    assert queue.declare_crashed(queued.id, "No sign of life for 200 s.")

    found = queue.run(queued.id)
    assert found is not None
    assert (found.state_type, found.message) == ("CRASHED", "No sign of life for 200 s.")
    assert queue.unfinished_runs() == []


def test_a_run_that_has_ended_stays_as_it_ended(queue: JobQueue, prefect: SyncPrefectClient) -> None:
    queued = queue.submit(str(uuid4()), "archive")
    enter(prefect, queued, Pending(), Running(), Completed())

    assert not queue.declare_crashed(queued.id, "Thought dead.")

    found = queue.run(queued.id)
    assert found is not None
    assert found.state_type == "COMPLETED"
    with pytest.raises(QueueRefusedError):
        queue.declare_crashed(uuid4(), "Never was.")


def test_the_queue_is_counted_by_type_and_state(queue: JobQueue, prefect: SyncPrefectClient) -> None:
    empty = dict.fromkeys(("scheduled", "pending", "running", "paused", "cancelling"), Waiting(0, None))
    assert queue.waiting() == {"archive": empty, "retrieve": empty}
    began = datetime.now(UTC)

    first, second, running = (queue.submit(str(uuid4()), "archive") for _ in range(3))
    enter(prefect, running, Pending(), Running())
    done = queue.submit(str(uuid4()), "retrieve")
    enter(prefect, done, Pending(), Running(), Completed())

    found = queue.waiting()
    assert found["retrieve"] == empty
    assert {state: waiting.count for state, waiting in found["archive"].items() if waiting.count} == {
        "scheduled": 2,
        "running": 1,
    }
    oldest = [prefect.read_flow_run(run.id).created for run in (first, running)]
    assert [found["archive"][state].oldest for state in ("scheduled", "running")] == oldest
    assert all(began - timedelta(seconds=5) < created for created in oldest if created)
    assert second.id != first.id


def test_more_runs_than_a_page_are_all_listed(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.workflow.job_queue._PAGE", 3)
    runs = [queue.submit(str(uuid4()), "archive").id for _ in range(7)]
    assert [run.id for run in queue.unfinished_runs()] == runs


def test_the_check_passes_with_a_server_and_fails_without(queue: JobQueue) -> None:
    queue.check()
    with queue_at("http://127.0.0.1:9/api") as nowhere, pytest.raises(QueueError, match="PREFECT_API_URL"):
        nowhere.check()


def test_a_server_that_is_down_is_an_error_that_can_pass() -> None:
    with queue_at("http://127.0.0.1:9/api", patience_s=0.3) as nowhere, pytest.raises(QueueError):
        nowhere.submit(str(uuid4()), "archive")


def test_wrong_credentials_are_refused(prefect_url: str) -> None:
    with (
        queue_at(prefect_url, auth="operator:wrong") as queue,
        pytest.raises(QueueRefusedError, match="PREFECT_API_AUTH_STRING"),
    ):
        queue.submit(str(uuid4()), "archive")


def test_a_server_that_is_not_prefects_is_refused(tmp_path: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(b"<!doctype html>")

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with (
            queue_at(f"http://127.0.0.1:{server.server_address[1]}/api") as queue,
            pytest.raises(QueueRefusedError, match="ends in /api"),
        ):
            queue.check()
        server.shutdown()
        thread.join()
