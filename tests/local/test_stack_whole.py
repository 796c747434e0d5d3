"""The whole service on this machine: real parts, wired together."""

import json
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from typer.testing import CliRunner

from archiver.cli.main import app
from archiver.config.settings import LedgerSettings, LtsSettings, ObjectStoreSettings
from archiver.local.blueprint import ARCHIVAL_POOL, RETRIEVAL_POOL
from archiver.local.stack import Stack, current_stack, leftovers_of
from archiver.local.state import PartState
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import PosixShare
from archiver.workflow.storage.object_store import ObjectStore

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

_LISTENING = "0A"
_FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

Found = TypeVar("Found")


def _until(look: Callable[[], Found | None], within_s: float = 120) -> Found:
    deadline = time.monotonic() + within_s
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def _prefect(stack: Stack) -> httpx.Client:
    user, _, password = stack.credentials.prefect_auth.partition(":")
    return httpx.Client(base_url=f"{stack.urls.prefect_api}/", auth=(user, password), timeout=30, trust_env=False)


def _get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=30, trust_env=False)


def test_every_part_is_ready(stack: Stack) -> None:
    states = {part.name: part.state for part in stack.state().parts}

    assert set(states.values()) == {PartState.READY, PartState.DONE}
    assert {"postgres", "s3", "scicat", "identity", "prefect-server", "api", "reconciliation"} <= set(states)


def test_the_service_finds_everything_it_depends_on(stack: Stack) -> None:
    answer = _get(f"{stack.urls.api}/health/readyz")

    assert (answer.status_code, answer.json().get("status")) == (httpx.codes.OK, "ready"), answer.text


def test_nothing_listens_on_another_interface(stack: Stack) -> None:
    sockets = set()
    for pid in leftovers_of(stack.folder):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                sockets.add(target.removeprefix("socket:[").rstrip("]"))
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and fields[9] in sockets:
                addresses.add(fields[1].partition(":")[0])
    assert addresses == {"0100007F"}  # 127.0.0.1


def test_prefect_answers_only_to_its_credential(stack: Stack) -> None:
    question: dict[str, Any] = {"json": {}, "timeout": 30, "trust_env": False}
    url = f"{stack.urls.prefect_api}/flows/filter"

    assert httpx.post(url, **question).status_code == httpx.codes.UNAUTHORIZED
    with _prefect(stack) as client:
        assert client.post("flows/filter", json={}).status_code == httpx.codes.OK


def test_the_user_interface_of_prefect_knows_its_server(stack: Stack) -> None:
    assert _get(f"{stack.urls.prefect_ui}/ui-settings").json()["api_url"] == stack.urls.prefect_api
    assert "<html" in _get(stack.urls.prefect_ui).text


@pytest.mark.parametrize(
    ("deployment", "pool"),
    [
        ("archive_datasetlist/datasets_archival", ARCHIVAL_POOL),
        ("retrieve_datasetlist/datasets_retrieval", RETRIEVAL_POOL),
    ],
)
def test_the_flows_are_deployed_and_a_worker_waits_for_them(stack: Stack, deployment: str, pool: str) -> None:
    with _prefect(stack) as client:
        found = client.get(f"deployments/name/{deployment}").raise_for_status().json()
        workers = client.post(f"work_pools/{pool}/workers/filter", json={}).raise_for_status().json()

    assert found["work_pool_name"] == pool
    assert [worker["status"] for worker in workers] == ["ONLINE"]


def test_buckets_share_and_ledger_are_there(stack: Stack) -> None:
    settings = stack.settings(ObjectStoreSettings)
    with ObjectStore.open(settings) as store:
        assert list(store.list(settings.s3_landingzone_bucket, "no-such-prefix/")) == []
        assert list(store.list(settings.s3_retrieval_bucket, "no-such-prefix/")) == []
    with Ledger.open(stack.settings(LedgerSettings)) as ledger:
        assert ledger.find_upload("no/such") is None
    PosixShare(stack.settings(LtsSettings).lts_root_folder).identity()


def test_a_job_from_the_catalogue_becomes_a_run_that_a_worker_works_on(stack: Stack) -> None:
    job = str(uuid.uuid4())
    credentials = stack.credentials
    answer = httpx.post(
        f"{stack.urls.api}/archiver/jobs",
        json={"id": job, "type": "archive"},
        auth=(credentials.job_endpoint_username, credentials.job_endpoint_password),
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == httpx.codes.CREATED, answer.text

    with _prefect(stack) as client:

        def ended() -> dict[str, Any] | None:
            question = {"flow_runs": {"name": {"like_": job}}}
            runs: list[dict[str, Any]] = client.post("flow_runs/filter", json=question).raise_for_status().json()
            return next((run for run in runs if run["state_type"] in _FINAL), None)

        run = _until(ended)
    # No such job in the catalogue: the run says so, hence it reached S3, ledger, share and catalogue.
    assert run["state_type"] == "FAILED"
    assert job in run["state"]["message"]


def test_a_part_that_is_killed_is_started_again(stack: Stack) -> None:
    killed = stack.kill("scicat", signal.SIGKILL)

    part = stack.wait_for_restart("scicat", killed)

    assert part.restarts >= 1
    assert _get(f"{stack.urls.scicat}/api/v3/health").status_code == httpx.codes.OK


def test_the_command_shows_the_parts_and_no_secret(stack: Stack) -> None:
    done = CliRunner().invoke(app, ["status", "--json", "--folder", str(stack.folder)])

    assert done.exit_code == 0
    assert {"pid", "state", "url", "log"} <= set(json.loads(done.stdout)["parts"][0])
    secrets = stack.credentials.model_dump(include={"s3_password", "prefect_auth", "idp_password"})
    assert not [secret for secret in secrets.values() if secret in done.stdout]


def test_starting_a_stack_that_runs_says_so(stack: Stack) -> None:
    done = CliRunner().invoke(app, ["up", "--json", "--folder", str(stack.folder)])

    assert done.exit_code == 0
    assert json.loads(done.stdout)["started"] is False
    assert current_stack(stack.folder) is not None
