"""A real Prefect server on PostgreSQL."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from archiver.local.ports import HOST, choose_free
from archiver.local.postgres import PostgresServer

_AUTH = "archiver:test-of-registration"
_START_WITHIN_S = 240.0


@dataclass(frozen=True)
class PrefectServer:
    """Where it answers, and the environment of its clients."""

    url: str
    environment: dict[str, str]

    def client(self) -> httpx.Client:
        """A client of its REST API."""
        user, _, password = _AUTH.partition(":")
        return httpx.Client(base_url=f"{self.url}/", auth=(user, password), timeout=30, trust_env=False)


@contextmanager
def run_prefect_server(postgres: PostgresServer, home: Path) -> Iterator[PrefectServer]:
    """A server while the block runs, with its own folder `home` and the database `prefect`."""
    (port,) = choose_free(["prefect"], {}).values()
    url = f"http://{HOST}:{port}/api"
    database = postgres.ensure_database("prefect").replace("postgresql://", "postgresql+asyncpg://", 1)
    clients = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": _AUTH,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    server = clients | {
        "PREFECT_SERVER_API_AUTH_STRING": _AUTH,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
    }
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
            env=os.environ | server,
            cwd=home,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_healthy(url, process, home / "server.log")
        yield PrefectServer(url, clients)
    finally:
        process.terminate()
        process.wait(120)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_WITHIN_S
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
