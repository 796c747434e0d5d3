"""The stack as an operator runs it: from a copy of the project, with its commands, its files and its secrets."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from archiver.config.settings import ObjectStoreSettings
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.object_store import ObjectStore
from stack.addresses import Addresses
from stack.commands import run
from stack.engine import Engine
from stack.waiting import wait_for
from support.compose_program import compose_program

PROJECT = "archiver-stack-test"
RUN_LABEL = "archiver.role=run"
_UP_S = 1800
_BUILD_S = 3600
_BUILT_OF_OURS = ("archiver-service-api", "prefect-flows-deployment", "prefect-config")
"""One service for each image of the service."""
_OVERRIDE = "docker-compose.override.yml"
_PROGRAMS = Path(sys.executable).parent


@dataclass
class OperatedStack:
    """A development stack under a project name of its own."""

    folder: Path
    """The copy of the project."""
    engine: Engine
    overrides: Mapping[str, str]
    """Values that win over those of the environment files."""
    addresses: Addresses = field(default_factory=lambda: Addresses("localhost"))

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every command."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "COMPOSE_"))}
        return {
            **inherited,
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_PROJECT_NAME": PROJECT,
            "COMPOSE_PROGRESS": "plain",
            # Services that share an image are built from one cache, which two builds at once would fill twice.
            "COMPOSE_PARALLEL_LIMIT": "1",
            "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
            **self.overrides,
        }

    def make(self, *words: str, timeout_s: float = 300) -> str:
        """A command of the Makefile."""
        return run(
            ["make", "--no-print-directory", f"VENV={_PROGRAMS.parent}", *words],
            folder=self.folder,
            environment=self.environment,
            timeout_s=timeout_s,
        )

    def compose(self, *words: str, timeout_s: float = _UP_S) -> str:
        """A command of Compose on the development stack."""
        return run(
            [
                *(compose_program(), "--env-file", ".env", "--env-file", ".development.env"),
                *words,
            ],
            folder=self.folder,
            environment=self.environment,
            timeout_s=timeout_s,
        )

    def configuration(self) -> dict[str, Any]:
        """The stack as Compose understands its files."""
        return dict(json.loads(self.compose("config", "--format", "json", timeout_s=60)))

    def build_on_network_of_host(self) -> None:
        """Let builds reach what this host reaches, also where it is not to be reached from a container's network."""
        built = [name for name, service in self.configuration()["services"].items() if "build" in service]
        override = {"services": {name: {"build": {"network": "host"}} for name in built}}
        (self.folder / _OVERRIDE).write_text(json.dumps(override))

    def build(self) -> None:
        """Build the images of the stack: first MinIO's beside the others, which wait for the network meanwhile."""
        with ThreadPoolExecutor(1) as beside:
            storage = beside.submit(self.compose, "--profile", "minio", "build", "minio", timeout_s=_BUILD_S)
            self.compose("build", *_BUILT_OF_OURS, timeout_s=_BUILD_S)
            storage.result()
        self.make("STACK=docker", "build", timeout_s=_BUILD_S)

    def up(self, *services: str) -> None:
        """Start, and wait until all is healthy."""
        self.compose("up", "--detach", "--no-build", "--quiet-pull", *services)
        if not services:
            self.wait_until_ready()

    def down(self, *, with_data: bool = False) -> None:
        """End, and leave nothing; volumes go too with `with_data`."""
        for container in self.runs():
            self.engine.docker("rm", "--force", container)
        self.compose("down", "--timeout", "20", "--remove-orphans", *(["--volumes"] if with_data else []))

    def stop(self, *services: str) -> None:
        """Stop services (all without a name) as an operator does; their containers stay. Waits for their runs."""
        self.compose("stop", *services)

    def scale(self, service: str, containers: int) -> None:
        """As many containers of a service, and no other service touched."""
        words = ("up", "--detach", "--no-build", "--no-deps", "--no-recreate", "--scale", f"{service}={containers}")
        self.compose(*words, service)
        wait_for(f"{containers} of {service}", lambda: self.health_of(service) == ["healthy"] * containers, 300, 1)

    def health_of(self, service: str) -> list[str]:
        """What the health checks of a service's running containers say."""
        return [each["Health"] for each in self.services() if each["Service"] == service and each["State"] == "running"]

    def wait_until_healthy(self, service: str) -> None:
        """The one container of a service is well."""
        wait_for(f"{service} is healthy", lambda: self.health_of(service) == ["healthy"], 300, 1)

    def running(self) -> set[str]:
        """Names of the services that run."""
        return {each["Service"] for each in self.services() if each["State"] == "running"}

    def as_of(self, folder: Path, image_tag: str) -> "OperatedStack":
        """The same stack, of the same operator, with the files of another version of the project."""
        for kept in (".secrets", ".certs", "own"):
            source = self.folder / kept
            if source.exists():
                # With their owners: the services read secrets as one of their own.
                run(["cp", "--recursive", "--preserve=all", "--no-target-directory", source, folder / kept])
        other = replace(self, folder=folder, overrides={**self.overrides, "OPENEM_IMAGE_TAG": image_tag})
        if (self.folder / _OVERRIDE).exists():
            other.build_on_network_of_host()  # its services are not those of this version
        return other

    # ------------------------------------------------------------------------------------------- what is there

    def services(self) -> list[dict[str, Any]]:
        """Each container of a service, as Compose lists it."""
        listed = self.compose("ps", "--all", "--format", "json", timeout_s=60)
        return [json.loads(line) for line in listed.splitlines() if line.strip()]

    def wait_until_ready(self, within_s: float = 1200) -> None:
        """Every service that stays is healthy, every other has done its work."""

        def unready() -> list[str]:
            return [
                f"{each['Service']} ({each['State']} {each['Health']} {each['ExitCode']})"
                for each in self.services()
                if not (
                    each["Health"] == "healthy"
                    or (each["State"] == "exited" and each["ExitCode"] == 0)
                    or (each["State"] == "running" and not each["Health"])
                )
            ]

        def look() -> bool:
            return not unready()

        wait_for("the stack is ready", look, within_s, 1)

    def container(self, service: str) -> str:
        """Id of the one container of a service."""
        (found,) = self.compose("ps", "--quiet", service, timeout_s=60).split()
        return found

    def runs(self, name: str = "") -> list[str]:
        """Ids of the containers in which flows run: all, or those of runs whose name begins so."""
        named = ("--filter", f"name=^{name}") if name else ()
        return self.engine.docker("ps", "--quiet", "--no-trunc", "--filter", f"label={RUN_LABEL}", *named).split()

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine says of a container."""
        (found,) = json.loads(self.engine.docker("inspect", container))
        return dict(found)

    def folder_of_volume(self, volume: str) -> Path:
        """Where a local volume lies on this host."""
        return Path(self.engine.docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip())

    def kill(self, container: str) -> None:
        """kill -9."""
        self.engine.docker("kill", "--signal", "KILL", container)

    def strike(self, service: str) -> None:
        """kill -9 of a service's main process. The engine starts it again, as after a crash: a `docker kill` would
        count as an operator's will, and it would stay away."""
        process = self.inspect(self.container(service))["State"]["Pid"]
        os.kill(int(process), 9)

    def secret(self, name: str) -> str:
        """What a file of `.secrets/` says."""
        return (self.folder / ".secrets" / f"{name}.txt").read_text().strip()

    @contextmanager
    def secret_changed(self, name: str, value: str) -> Iterator[None]:
        """Another value in a file of `.secrets/`, for the time of the block; who read it before is not told."""
        file = self.folder / ".secrets" / f"{name}.txt"
        before = file.read_text()
        # In place: containers see the file itself, with its owner.
        file.write_text(value)
        try:
            yield
        finally:
            file.write_text(before)

    def with_values(self, values: Mapping[str, str]) -> "OperatedStack":
        """The same stack, with other values for its next commands."""
        return replace(self, overrides={**self.overrides, **values})

    def landing_storage(self, user: str) -> ObjectStoreSettings:
        """The landing storage through the proxy, with the key of the `api` or of the `flows`."""
        return ObjectStoreSettings(
            s3_endpoint=f"https://{self.addresses.host}",
            s3_ca_file=self.certificate,
            s3_user=SecretStr(self.secret(f"s3{user}user")),
            s3_password=SecretStr(self.secret(f"s3{user}pass")),
        )

    @property
    def certificate(self) -> Path:
        """What clients of the proxy trust."""
        return self.folder / ".certs/ca.pem"

    def landed(self, pid: str) -> list[str]:
        """Keys in the landing zone."""
        with ObjectStore.open(self.landing_storage("flows")) as store:
            return [each.key for each in store.list("landingzone", dataset_prefix(pid))]

    def inside(self, service: str, *words: str, network: str = "inner") -> str:
        """What a command says in a new container of a service's image, on a network of the stack, without secrets."""
        networks = {"inner": self.configuration()["networks"]["inner"]["name"], "none": "none", "bridge": "bridge"}
        image = self.configuration()["services"][service]["image"]
        command = ["run", "--rm", "--network", networks[network], "--entrypoint", words[0], image, *words[1:]]
        return self.engine.docker(*command)

    def in_volume(self, volume: str, script: str, *, image: str | None = None) -> str:
        """What a shell script says that sees a volume at /there, and cannot write to it."""
        return self.engine.docker(
            *("run", "--rm", "--network", "none", "--volume", f"{volume}:/there:ro", "--entrypoint", "bash"),
            *(image or self.overrides.get("PYTHON_IMAGE", "python:3.13"), "-c", script),
            timeout_s=300,
        )

    def run_beside(self, folder: Path, script: str) -> None:
        """Run a shell script in a container on the network of the host, as a user would; it sees `folder` at /here."""
        self.engine.docker(
            *("run", "--rm", "--network", "host", "--volume", f"{folder}:/here", "--entrypoint", "bash"),
            *("--volume", f"{self.certificate}:/ca.pem:ro", "--env", "CURL_CA_BUNDLE=/ca.pem"),
            *(self.overrides.get("PYTHON_IMAGE", "python:3.13"), "-c", script),
            timeout_s=600,
        )

    def sql(self, database: str, statement: str) -> str:
        """What a statement gives, as PostgreSQL's superuser."""
        return self.compose(
            *("exec", "-T", "postgres", "psql", "--username", self.secret("postgresuser"), "--dbname", database),
            *("--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--command", statement),
            timeout_s=60,
        )

    def wait_for_backup(self, database: str) -> None:
        """Until a backup of the database lies there."""
        look = f"ls /backups/{database}-*.dump 2>/dev/null || true"
        listed = ("exec", "-T", "postgres-backup", "sh", "-c", look)
        wait_for(f"backup of {database}", lambda: self.compose(*listed, timeout_s=60).strip(), 120)

    def said(self, service: str, since: datetime) -> str:
        """What the one container of a service has said since then."""
        command = ["docker", "logs", "--since", since.isoformat(), self.container(service)]
        return run(command, timeout_s=60, with_errors=True)

    def keep_logs(self, folder: Path) -> None:
        """Write what the services said, one file for each, in place of those of before."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for each in self.services():
            said = run(["docker", "logs", "--timestamps", each["Name"]], timeout_s=60, with_errors=True)
            (folder / f"{each['Service']}.log").write_text(said)

    def memory(self) -> Iterable[tuple[str, str]]:
        """Name and memory of each running container."""
        listed = self.engine.docker("stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}")
        for line in sorted(listed.splitlines()):
            name, _, used = line.partition("\t")
            if name.startswith(PROJECT):
                yield name.removeprefix(f"{PROJECT}-"), used.split(" / ")[0]


def copy_of_project(project: Path, target: Path) -> Path:
    """The files of a project that are, or would be, in its history."""
    listed = run(["git", "-C", str(project), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for name in filter(None, listed.split("\0")):
        source = project / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def copy_of_commit(project: Path, commit: str, target: Path) -> Path:
    """The files of a project as of a commit."""
    target.mkdir(parents=True, exist_ok=True)
    packed = target.with_suffix(".tar")
    run(["git", "-C", str(project), "archive", "--format", "tar", "--output", str(packed), commit])
    run(["tar", "-xf", str(packed), "-C", str(target)])
    packed.unlink()
    return target


def last_commit_with_older_ledger(project: Path) -> str:
    """The newest commit whose ledger lacks a migration that this one has, so that an upgrade from it is one.

    Raises:
        LookupError: the history that is here has none.
    """
    now = _migrations(project, "HEAD")
    for commit in run(["git", "-C", str(project), "log", "--format=%H", "--max-count=500"]).split():
        then = _migrations(project, commit)
        if then and then < now and run(["git", "-C", str(project), "ls-tree", commit, "docker-compose.yml"]):
            return commit
    raise LookupError("No commit before this one has a docker-compose.yml and fewer migrations.")


def _migrations(project: Path, commit: str) -> set[str]:
    folder = "src/archiver/workflow/ledger/migrations/versions/"
    return set(run(["git", "-C", str(project), "ls-tree", "--name-only", commit, folder]).split())
