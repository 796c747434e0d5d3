"""A simulated SciCat, what a facility puts into it, and a proxy between it and the catalogue that meddles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from archiver.config.settings import CatalogueSettings
from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, OWNER_GROUP, stack_config
from archiver.local.scicat.testing import run_scicat
from archiver.workflow.catalogue.client import Catalogue

TIME = "2026-03-01T12:00:00.000Z"


@dataclass
class Facility:
    """What happens in SciCat besides the archive, and what can go wrong with it."""

    url: str
    http: httpx.Client
    tokens: dict[str, str] = field(default_factory=dict)

    def open(self, **settings: Any) -> Catalogue:
        """The catalogue under test, as the archive's service account and with little patience."""
        values: dict[str, Any] = {
            "scicat_endpoint": self.url,
            "scicat_user": SecretStr(ARCHIVER),
            "scicat_password": SecretStr(ARCHIVER),
            "scicat_timeout_s": 5,
            "scicat_retry_s": 10,
        }
        return Catalogue.open(CatalogueSettings(**(values | settings)))

    @contextmanager
    def behind(self, meddle: Meddler, **settings: Any) -> Iterator[tuple[Catalogue, Proxy]]:
        """The catalogue with a proxy between it and SciCat."""
        with run_proxy(self.url, meddle) as proxy, self.open(scicat_endpoint=proxy.url, **settings) as opened:
            yield opened, proxy

    @staticmethod
    def files(count: int, *, prefix: str = "raw", **fields: Any) -> list[dict[str, Any]]:
        """Entries of a file list, 10 bytes each."""
        names = (f"{prefix}/{number:06}.tif" for number in range(count))
        return [{"path": name, "size": 10, "time": TIME, **fields} for name in names]

    def token(self, user: str = INGESTOR) -> str:
        """A token of one of the simulator's accounts."""
        reply = self.http.post("/api/v3/auth/login", json={"username": user, "password": user})
        return str(reply.raise_for_status().json()["access_token"])

    def call(self, method: str, path: str, body: Any = None, user: str = INGESTOR) -> Any:
        """A call as `user` that must succeed."""
        if user not in self.tokens:
            self.tokens[user] = self.token(user)
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        reply = self.http.request(method, path, json=body, headers=headers)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

    def ingest(self, pid: str, *, source_folder: str = "/data/run", **fields: Any) -> str:
        """A data set without files."""
        body = {
            "pid": pid,
            "type": "raw",
            "datasetName": "run",
            "owner": "Alice",
            "ownerGroup": OWNER_GROUP,
            "contactEmail": "alice@facility.test",
            "sourceFolder": source_folder,
            "creationTime": TIME,
        }
        self.call("POST", "/api/v4/datasets", body | fields)
        return pid

    def list_files(self, pid: str, files: list[dict[str, Any]], *, chk_alg: str | None = None) -> None:
        """One origdatablock."""
        body: dict[str, Any] = {"size": sum(file["size"] for file in files), "dataFileList": files}
        if chk_alg:
            body["chkAlg"] = chk_alg
        self.call("POST", f"/api/v3/datasets/{quote(pid, safe='')}/origdatablocks", body)

    def lifecycle(self, pid: str) -> dict[str, Any]:
        """The lifecycle as it is."""
        found = self.call("GET", f"/api/v3/datasets/{quote(pid, safe='')}/datasetlifecycle", user=ARCHIVER)
        assert isinstance(found, dict)
        return found

    def fault(self, **fault: Any) -> int:
        """Arms a fault; see the simulator's `Fault`."""
        reply = self.http.post("/_sim/faults", json=fault)
        return int(reply.raise_for_status().json()["id"])

    def fired(self, fault_id: int) -> int:
        """How many calls a fault has spoilt."""
        faults = self.http.get("/_sim/faults").raise_for_status().json()
        return int(next(fault["fired"] for fault in faults if fault["id"] == fault_id))

    def count(self, kind: str) -> int:
        """How many documents of a kind there are."""
        return int(self.http.get("/_sim/state").raise_for_status().json()[kind])


@dataclass
class Exchange:
    """A request on its way through the proxy; what a meddler changes is what SciCat gets."""

    method: str
    url: httpx.URL
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path as it was sent, percent-encoded, without the query."""
        return self.url.raw_path.decode().partition("?")[0]


Reply = tuple[int, bytes]
Meddler = Callable[[Exchange, Callable[[], Reply]], Reply]


@dataclass
class Proxy:
    """Stands between the catalogue and SciCat."""

    url: str
    seen: list[Exchange] = field(default_factory=list)

    def paths(self, method: str) -> list[str]:
        """Paths of the calls of a method, in order."""
        return [exchange.path for exchange in self.seen if exchange.method == method]


@contextmanager
def run_proxy(target: str, meddle: Meddler) -> Iterator[Proxy]:
    """A proxy to `target`: `meddle` gets each exchange and what forwards it, and gives the reply."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept = {name.lower(): value for name, value in self.headers.items() if name.lower() != "host"}
            exchange = Exchange(self.command, httpx.URL(target + self.path), kept, body)
            proxy.seen.append(exchange)

            def forward() -> Reply:
                headers = {name: v for name, v in exchange.headers.items() if name != "content-length"}
                reply = http.request(exchange.method, exchange.url, headers=headers, content=exchange.body or None)
                return reply.status_code, reply.content

            status, content = meddle(exchange, forward)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with (
        httpx.Client(timeout=30) as http,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def scicat_url() -> Iterator[str]:
    """A running simulator."""
    with run_scicat(stack_config()) as url:
        yield url


@pytest.fixture
def facility(scicat_url: str) -> Iterator[Facility]:
    """The simulator, empty and without faults."""
    with httpx.Client(base_url=scicat_url, timeout=30) as http:
        http.post("/_sim/reset").raise_for_status()
        yield Facility(scicat_url, http)
        http.post("/_sim/reset").raise_for_status()


@pytest.fixture
def catalogue(facility: Facility) -> Iterator[Catalogue]:
    """The catalogue under test."""
    with facility.open() as opened:
        yield opened


@pytest.fixture
def facility_with() -> Callable[[ScicatConfig], AbstractContextManager[Facility]]:
    """Another SciCat, with a configuration of its own."""

    @contextmanager
    def run(config: ScicatConfig) -> Iterator[Facility]:
        with run_scicat(config) as url, httpx.Client(base_url=url, timeout=30) as http:
            yield Facility(url, http)

    return run
