"""An empty simulated catalogue per test, clients that are logged in, and a hook that can be called."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from archiver.local.scicat.config import (
    Account,
    GroupLists,
    JobRule,
    JobType,
    ScicatConfig,
    UrlAction,
    ValidateAction,
)
from archiver.local.scicat.testing import run_scicat

ACCOUNTS = {
    "alice": ("p12345",),
    "bob": ("p54321",),
    "carol": ("p12345", "shared"),
    "admin": ("admin",),
    "deleter": ("deleter",),
    "archiver": ("archivemanager",),
    "privileged": ("privileged",),
    "withpid": ("withpid", "p12345"),
    "substring": ("archive",),
}


def _account(name: str, groups: tuple[str, ...]) -> Account:
    return Account(username=name, password=f"{name}-pw", email=f"{name}@facility.test", groups=groups)


@pytest.fixture(scope="module")
def hook_actions() -> tuple[UrlAction, ...]:
    """What happens when a job is created; overridden by tests that want something else."""
    return ()


@pytest.fixture(scope="module")
def config(hook_actions: tuple[UrlAction, ...]) -> ScicatConfig:
    """The accounts above, the rights their names say, the customary types of jobs."""

    def job(name: str, auth: str, needed: dict[str, dict[str, Any]]) -> JobType:
        return JobType(
            job_type=name,
            create=JobRule(auth=auth, actions=(ValidateAction(datasets=needed), *hook_actions)),
            update=JobRule(auth="@archivemanager"),
        )

    return ScicatConfig(
        accounts=tuple(_account(name, groups) for name, groups in ACCOUNTS.items()),
        groups=GroupLists(
            admin=("admin",),
            delete=("deleter", "archivemanager"),
            create_dataset_with_pid=("withpid",),
            create_dataset_privileged=("privileged", "archivemanager"),
            update_dataset_lifecycle=("archivemanager",),
            update_job_privileged=("archivemanager",),
            delete_job=("deleter",),
        ),
        jobs=(
            job("archive", "#datasetOwner", {"datasetlifecycle.archivable": {"const": True}}),
            job("retrieve", "#datasetAccess", {"datasetlifecycle.retrievable": {"const": True}}),
            job("public", "#datasetPublic", {"isPublished": {"const": True}}),
            JobType(job_type="note", create=JobRule(auth="#authenticated"), update=JobRule(auth="#jobOwnerUser")),
        ),
    )


@pytest.fixture(scope="module")
def running_scicat(config: ScicatConfig) -> Iterator[str]:
    """The base URL of the catalogue that the tests of a module use one after the other."""
    with run_scicat(config) as base_url:
        yield base_url


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """Shared by all clients, because making one takes longer than most tests."""
    return ssl.create_default_context()


@pytest.fixture
def scicat(running_scicat: str, tls: ssl.SSLContext) -> str:
    """The base URL of an empty catalogue."""
    httpx.post(f"{running_scicat}/_sim/reset", timeout=30, trust_env=False, verify=tls).raise_for_status()
    return running_scicat


@pytest.fixture
def sign_in(scicat: str, tls: ssl.SSLContext) -> Iterator[Callable[[str], httpx.Client]]:
    """Logs an account in and gives a client with its token; an empty name gives an anonymous one."""
    with ExitStack() as opened:

        def client(name: str) -> httpx.Client:
            made = opened.enter_context(httpx.Client(base_url=scicat, timeout=30, trust_env=False, verify=tls))
            if name:
                reply = made.post("/api/v3/auth/login", json={"username": name, "password": f"{name}-pw"})
                made.headers["authorization"] = f"Bearer {reply.json()['access_token']}"
            return made

        yield client


@pytest.fixture
def alice(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """An ordinary user, in group p12345."""
    return sign_in("alice")


@pytest.fixture
def bob(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """An ordinary user of another group."""
    return sign_in("bob")


@pytest.fixture
def admin(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """An admin that may not delete."""
    return sign_in("admin")


@pytest.fixture
def archiver(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """A service account that is no admin but has the lifecycle, delete, job and privileged groups."""
    return sign_in("archiver")


@pytest.fixture
def anonymous(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """Nobody."""
    return sign_in("")


@pytest.fixture
def dataset_body() -> Callable[..., dict[str, Any]]:
    """Makes a complete v4 create request; keywords overwrite fields."""

    def make(**fields: Any) -> dict[str, Any]:
        return {
            "type": "raw",
            "ownerGroup": "p12345",
            "owner": "Alice",
            "contactEmail": "alice@facility.test",
            "sourceFolder": "/instrument/run1",
            "creationTime": "2026-03-01T12:00:00Z",
            "datasetName": "run one",
            **fields,
        }

    return make


@pytest.fixture
def raw_body(dataset_body: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Makes a complete v3 create request for a raw data set; keywords overwrite fields."""

    def make(**fields: Any) -> dict[str, Any]:
        return dataset_body(**{"creationLocation": "/facility/instrument", "principalInvestigator": "Alice", **fields})

    return make


@pytest.fixture
def new_dataset(alice: httpx.Client, dataset_body: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """Creates a data set (of alice's unless ``client`` says otherwise) and gives its pid."""

    def create(client: httpx.Client = alice, **fields: Any) -> str:
        reply = client.post("/api/v4/datasets", json=dataset_body(**fields))
        assert reply.status_code == 201, reply.text
        return str(reply.json()["pid"])

    return create


@pytest.fixture
def path_of() -> Callable[..., str]:
    """Makes the path of a data set: ``path_of(pid, "datablocks", version=3)``."""

    def path(pid: str, *rest: str, version: int = 3) -> str:
        return "/".join([f"/api/v{version}/datasets", quote(pid, safe=""), *rest])

    return path


@pytest.fixture
def files() -> Callable[..., list[dict[str, Any]]]:
    """Makes a list of ``count`` files of 10 bytes each."""

    def make(count: int, prefix: str = "f") -> list[dict[str, Any]]:
        return [{"path": f"{prefix}{number}", "size": 10, "time": "2026-03-01T12:00:00Z"} for number in range(count)]

    return make


@pytest.fixture
def orig_body(files: Callable[..., list[dict[str, Any]]]) -> Callable[..., dict[str, Any]]:
    """Makes an origdatablock's create request; top-level with ``datasetId``."""

    def make(count: int = 2, prefix: str = "f", **fields: Any) -> dict[str, Any]:
        return {"size": 10 * count, "dataFileList": files(count, prefix), **fields}

    return make


@pytest.fixture
def block_body(files: Callable[..., list[dict[str, Any]]]) -> Callable[..., dict[str, Any]]:
    """Makes a datablock's create request; top-level with ``datasetId``."""

    def make(archive_id: str, count: int = 2, **fields: Any) -> dict[str, Any]:
        return {
            "archiveId": archive_id,
            "size": 10 * count,
            "packedSize": 100,
            "version": "1.0",
            "dataFileList": files(count),
            **fields,
        }

    return make


@pytest.fixture
def job_body() -> Callable[..., dict[str, Any]]:
    """Makes a v4 job request for data sets; ``kind`` is its type."""

    def make(*pids: str, kind: str = "archive", **fields: Any) -> dict[str, Any]:
        listed = [{"pid": pid, "files": []} for pid in pids]
        return {"type": kind, "ownerGroup": "p12345", "jobParams": {"datasetList": listed}, **fields}

    return make


@dataclass
class Delivery:
    """One call the hook got."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Hook:
    """An HTTP server that a job's URL action can call; ``during`` runs before it answers."""

    url: str
    status: int = 201
    answer: str = "thanks"
    during: Callable[[Delivery], None] = lambda delivery: None
    deliveries: list[Delivery] = field(default_factory=list)


@pytest.fixture
def hook(running_hook: Hook) -> Hook:
    """A hook that was not called yet and answers 201."""
    running_hook.status, running_hook.answer = 201, "thanks"
    running_hook.during = lambda delivery: None
    running_hook.deliveries.clear()
    return running_hook


@pytest.fixture(scope="module")
def running_hook() -> Iterator[Hook]:
    """A hook on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            delivery = Delivery(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length).decode(),
            )
            made.deliveries.append(delivery)
            made.during(delivery)
            content = made.answer.encode()
            self.send_response(made.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def arm(anonymous: httpx.Client) -> Callable[..., None]:
    """Arms a fault."""

    def post(**fault: Any) -> None:
        reply = anonymous.post("/_sim/faults", json=fault)
        assert reply.status_code == 201, reply.text

    return post


@pytest.fixture
def as_filter() -> Callable[[Any], dict[str, str]]:
    """Makes the query parameters of a filter."""
    return lambda value: {"filter": json.dumps(value)}
