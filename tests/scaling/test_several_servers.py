"""Larger than one host: several Prefect servers, and workers elsewhere. The data path needs neither to know."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.network_namespace import OtherHost, other_host
from support.prefect_servers import Servers, running_servers

pytestmark = pytest.mark.timeout(1200)

POOL = "elsewhere"
LIMIT = "places"
_WITHIN_S = 600.0
_RUNS = 8
_PLACES = 2
_FLOWS = Path(__file__).parent / "flows"


@pytest.fixture(scope="module")
def host() -> Iterator[OtherHost]:
    with other_host() as host:
        yield host


@pytest.fixture(scope="module")
def servers(host: OtherHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running_servers(tmp_path_factory.mktemp("servers"), host.here, 2) as servers:
        _register(servers)
        yield servers


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def _register(servers: Servers) -> None:
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with servers.client() as client:
        _post(client, "work_pools/", {"name": POOL, "type": "process", "base_job_template": template})
        _post(client, "v2/concurrency_limits/", {"name": LIMIT, "limit": _PLACES})
        flow = _post(client, "flows/", {"name": "hold-a-place"})
        _post(
            client,
            "deployments/",
            {
                "name": "here",
                "flow_id": flow["id"],
                "work_pool_name": POOL,
                "entrypoint": "held_place.py:hold_a_place",
                "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(_FLOWS)}}],
            },
        )


def _begin(servers: Servers, names: list[str], seconds: float, record: Path) -> list[str]:
    """Asks for a run of each name, all at once; their ids."""
    with servers.client() as client:
        answer = client.get("deployments/name/hold-a-place/here")
        answer.raise_for_status()
        deployment = answer.json()["id"]

        def ask(name: str) -> str:
            wanted = {"limit": LIMIT, "name": name, "seconds": seconds, "record": str(record)}
            body = {"parameters": wanted, "state": {"type": "SCHEDULED"}, "idempotency_key": f"{record}-{name}"}
            return str(_post(client, f"deployments/{deployment}/create_flow_run", body)["id"])

        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(ask, names))


def _worker(servers: Servers, name: str, command: list[str]) -> None:
    arguments = ["worker", "start", "--pool", POOL, "--type", "process", "--name", name, "--limit", "2"]
    environment = {**servers.client_environment, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    servers.start(name, [*command, sys.executable, "-m", "prefect", *arguments], environment)


def _states(servers: Servers, runs: list[str]) -> list[str]:
    with servers.client() as client:
        found = _post(client, "flow_runs/filter", {"flow_runs": {"id": {"any_": runs}}})
    return [run["state_type"] for run in found]


def _wait(servers: Servers, runs: list[str], done: int) -> list[str]:
    """Until so many of the runs are over; the states of all."""
    deadline = time.monotonic() + _WITHIN_S
    while True:
        states = _states(servers, runs)
        if sum(state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") for state in states) >= done:
            return states
        assert time.monotonic() < deadline, states
        time.sleep(0.5)


def _held(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def _most_at_once(held: list[dict[str, Any]]) -> int:
    changes = sorted([(each["from"], 1) for each in held] + [(each["to"], -1) for each in held])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def test_each_server_knows_at_once_what_another_was_told(servers: Servers) -> None:
    with servers.client("server-0") as one, servers.client("server-1") as other:
        flow = _post(one, "flows/", {"name": "told-to-one"})
        assert other.get(f"flows/{flow['id']}").json() == flow


def test_workers_on_two_hosts_do_every_run_once_though_a_server_dies(
    servers: Servers, host: OtherHost, tmp_path: Path
) -> None:
    record = tmp_path / "held"
    _worker(servers, "worker-here", [])
    _worker(servers, "worker-there", host.command([]))
    names = [f"run-{number}" for number in range(_RUNS)]
    runs = _begin(servers, names, 3, record)
    _wait(servers, runs, 1)

    servers.kill("server-0")

    assert set(_wait(servers, runs, len(runs))) == {"COMPLETED"}
    held = _held(record)
    assert sorted(each["name"] for each in held) == names
    assert len({each["network"] for each in held}) == 2
    assert _most_at_once(held) <= _PLACES
    with servers.client() as client:
        limit = client.get(f"v2/concurrency_limits/{LIMIT}").json()
    assert (limit["limit"], limit["active_slots"]) == (_PLACES, 0)

    servers.start_server("server-0")
    more = _begin(servers, ["after"], 0, record)
    assert _wait(servers, more, 1) == ["COMPLETED"]


def test_the_same_request_sent_to_both_servers_makes_one_run(servers: Servers, tmp_path: Path) -> None:
    record = tmp_path / "held"
    with servers.client("server-0") as one, servers.client("server-1") as other:
        deployment = one.get("deployments/name/hold-a-place/here").json()["id"]
        body = {
            "parameters": {"limit": LIMIT, "name": "twice", "seconds": 0, "record": str(record)},
            "idempotency_key": "twice",
            "state": {"type": "SCHEDULED"},
        }
        path = f"deployments/{deployment}/create_flow_run"
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(_post, client, path, body) for client in (one, other) * 5]
            assert len({each.result()["id"] for each in asked}) == 1
