"""What several Prefect servers change: runs that are asked for in a second, through one server and through two."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measurements import Say
from benchmarks.report import Row
from support.prefect_servers import Servers, running_servers

REQUESTS = 400
AT_ONCE = 20
_HERE = "127.0.0.1"
_SERVER = "none"


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


def _asked_in_a_second(servers: Servers) -> float:
    with servers.client() as client:
        flow = _post(client, "flows/", {"name": "measured"})
        deployment = _post(client, "deployments/", {"name": "measured", "flow_id": flow["id"]})["id"]

        def ask(_: int) -> None:
            _post(client, f"deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(ask, range(AT_ONCE)))  # connections, caches
            began = time.monotonic()
            list(pool.map(ask, range(REQUESTS)))
            return REQUESTS / (time.monotonic() - began)


def _memory(servers: Servers, name: str) -> float:
    """Resident now, MB."""
    status = Path(f"/proc/{servers.processes[name].pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def measure_several_servers(folder: Path, counts: Sequence[int], say: Say) -> list[Row]:
    """Requests a second and memory; client, proxy, Redis and PostgreSQL are on the same machine.

    Needs `redis-server`.
    """
    rows: list[Row] = []
    for count in counts:
        own = folder / f"{count}-servers"
        own.mkdir()
        subject = f"{count} Prefect server{'s' * (count > 1)}"
        with running_servers(own, _HERE, count) as servers:
            asked = _asked_in_a_second(servers)
            say(f"{subject}: {asked:.1f} runs asked for in a second, {AT_ONCE} at once")
            rows.append(Row(_SERVER, subject, f"runs asked for in a second, {AT_ONCE} at once", "", (asked,)))
            memory = {name: _memory(servers, name) for name in ("server-0", "services", "redis")}
        rows += [Row(_SERVER, subject, f"memory of {name}", "MB", (taken,)) for name, taken in memory.items()]
    return rows
