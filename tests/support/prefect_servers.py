"""Several Prefect servers with Redis and PostgreSQL behind one address, set up as docker-compose.scaled.yml does."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from archiver.local.ports import choose_free
from archiver.local.postgres import start_postgres
from support.compose_program import compose_program
from support.proxy import traefik

ROOT = Path(__file__).parents[2]
_AUTH = "archiver:of-several-servers"
_REDIS_PASSWORD = "of-redis"  # of a server that ends with the test
_START_WITHIN_S = 300.0
_OF_SEVERAL = (
    "PREFECT_MESSAGING",
    "PREFECT_REDIS",
    "PREFECT_SERVER_EVENTS",
    "PREFECT_SERVER_CONCURRENCY",
    "PREFECT_SERVER_DOCKET",
    "PREFECT_SERVER_DATABASE_MIGRATE",
)
"""Beginnings of the settings that make several servers one."""


@functools.cache
def shipped() -> Mapping[str, Any]:
    """Every service of docker-compose.scaled.yml on docker-compose.yml, as Compose understands them."""
    files = ("--file", "docker-compose.yml", "--file", "docker-compose.scaled.yml")
    said = subprocess.run(
        [str(compose_program()), "--env-file", ".env", *files, "--profile", "minio", "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    services: dict[str, Any] = json.loads(said.stdout)["services"]
    return services


def _shipped_settings(redis: str) -> dict[str, str]:
    """What every server is told of the others, with the address of Redis for that in the stack."""
    theirs = shipped()["prefect-server"]["environment"]
    return {
        name.removesuffix("_FILE"): redis if value == "/run/secrets/redis_url" else value
        for name, value in theirs.items()
        if name.startswith(_OF_SEVERAL)
    }


@dataclass
class Servers:
    """The servers, and where all of them answer."""

    address: str
    """Of this host, for others."""
    ports: Mapping[str, int]
    folder: Path
    environment: Mapping[str, str]
    """Of every process."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        """Answered by one of them."""
        return f"http://{self.address}:{self.ports['proxy']}/api"

    @property
    def client_environment(self) -> dict[str, str]:
        """Of programs that use them."""
        return {
            **_plain_environment(),
            "PREFECT_HOME": str(self.folder / "client"),
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": _AUTH,
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def client(self, server: str = "proxy") -> httpx.Client:
        """Of the REST API: of whichever answers, or of one server."""
        user, _, password = _AUTH.partition(":")
        url = f"http://{self.address}:{self.ports[server]}/api/"
        return httpx.Client(base_url=url, auth=(user, password), timeout=60, trust_env=False)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A process that is ended with the others, in a session of its own; what it prints is in NAME.log."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                list(command), env=dict(environment), cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
        return self.processes[name]

    def start_server(self, name: str) -> None:
        """One that answers requests, and waits until it does."""
        command = _as_here(shipped()["prefect-server"]["command"], self.address, self.ports[name])
        self.start(name, command, {**self.environment, "PREFECT_HOME": str(self.folder / name)})
        self.wait_until_healthy(name)

    def wait_until_healthy(self, name: str) -> None:
        """Until it, or the proxy, answers."""
        deadline = time.monotonic() + _START_WITHIN_S
        url = f"http://{self.address}:{self.ports[name]}/api/health"
        while not _answers(url):
            assert self.processes[name].poll() is None, (self.folder / f"{name}.log").read_text()
            assert time.monotonic() < deadline, (self.folder / f"{name}.log").read_text()
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        """As a failure would; with all that it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def end(self) -> None:
        """All of them, the last started first."""
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill(name)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def _as_here(command: Sequence[str], address: str, port: int) -> list[str]:
    """The command of a container, for a process on this host."""
    there = {"prefect": (sys.executable, "-m", "prefect"), "0.0.0.0": (address,), "4200": (str(port),)}
    return [word for each in command for word in there.get(each, (each,))]


def _proxy_configuration(folder: Path, address: str, ports: Mapping[str, int], servers: Sequence[str]) -> Path:
    """One address for all servers, as Docker's own name service gives in the stack; a dead one is left out."""
    balanced = {
        "servers": [{"url": f"http://{address}:{ports[name]}"} for name in servers],
        "healthCheck": {"path": "/api/health", "interval": "1s", "timeout": "3s"},
    }
    routes = {
        "http": {
            "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "servers", "middlewares": ["again"]}},
            "middlewares": {"again": {"retry": {"attempts": 3, "initialInterval": "100ms"}}},
            "services": {"servers": {"loadBalancer": balanced}},
        }
    }
    # JSON is YAML.
    (folder / "routes.yml").write_text(json.dumps(routes))
    static = {
        "entryPoints": {"all": {"address": f"{address}:{ports['proxy']}"}},
        "providers": {"file": {"filename": str(folder / "routes.yml")}},
    }
    file = folder / "traefik.yml"
    file.write_text(json.dumps(static))
    return file


@contextmanager
def running_servers(folder: Path, address: str, count: int) -> Iterator[Servers]:
    """So many servers on `address`, their services, Redis and PostgreSQL, for the time of the block."""
    names = [f"server-{number}" for number in range(count)]
    ports = choose_free([*names, "proxy", "redis"], {})
    with ExitStack() as stack:
        postgres = stack.enter_context(start_postgres(folder / "postgres", databases=("prefect",), durable=False))
        redis = f"redis://:{_REDIS_PASSWORD}@127.0.0.1:{ports['redis']}/0"
        environment = {
            **_plain_environment(),
            **_shipped_settings(redis),
            "PREFECT_SERVER_API_AUTH_STRING": _AUTH,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url("prefect", scheme="postgresql+asyncpg"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        servers = Servers(address, ports, folder, environment)
        stack.callback(servers.end)
        servers.start(
            "redis",
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(ports["redis"])),
                *("--requirepass", _REDIS_PASSWORD, "--appendonly", "yes", "--save", ""),
            ],
            _plain_environment(),
        )
        subprocess.run(
            _as_here(shipped()["prefect-database"]["command"], address, 0),
            env={**environment, "PREFECT_HOME": str(folder)},
            cwd=folder,
            check=True,
            timeout=_START_WITHIN_S,
            capture_output=True,
        )
        services = {**environment, "PREFECT_HOME": str(folder / "services")}
        servers.start("services", _as_here(shipped()["prefect-services"]["command"], address, 0), services)
        for name in names:
            servers.start_server(name)
        configuration = _proxy_configuration(folder, address, ports, names)
        servers.start("proxy", [str(traefik()), f"--configFile={configuration}"], _plain_environment())
        servers.wait_until_healthy("proxy")
        yield servers
