"""The API on a real port, its users, and a small server that stands for Prefect's."""

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, SecretStr

from archiver.backend.app import create_app
from archiver.config.settings import (
    ApiConfiguration,
    ApiSettings,
    ArchivingSettings,
    BackupSettings,
    CatalogueSettings,
    Environment,
    IdentitySettings,
    LandingZoneSettings,
    LedgerSettings,
    LtsSettings,
    ObjectStoreSettings,
    QueueSettings,
    ServiceSettings,
    UploadMode,
)
from archiver.local.ports import choose_free
from archiver.local.scicat.config import Account, ScicatConfig
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, OTHER_GROUP, OWNER_GROUP, stack_config
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.object_store import ObjectStore

COLLEAGUE = "colleague"
"""An ingestor of the same group."""
FOREIGNER = "foreigner"
"""An ingestor of another group."""
OPERATOR = "operator"
OPERATORS = "operators"
JOB_ACCOUNT = ("jobs", "hook-password")
TIME = "2026-03-01T12:00:00.000Z"

Call = Callable[..., httpx.Response]


@contextmanager
def serve(app: Any, listener: socket.socket | None = None) -> Iterator[str]:
    """Serve an ASGI application from a thread, as the service is served; its base URL."""
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=2)
    )
    with listener or socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the server ended while starting; the log says why"
            assert time.monotonic() < deadline
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()


@dataclass
class RecordingQueue:
    """Speaks the Prefect routes that the API uses, and remembers the runs asked for."""

    url: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Answers by idempotency key."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    deployed: bool = True
    healthy: bool = True
    paused: bool = False
    worker: str = "ONLINE"

    def reset(self) -> None:
        """Forget everything; be well again."""
        self.runs, self.asked, self.deployed, self.healthy, self.paused = {}, [], True, True, False
        self.worker = "ONLINE"

    def application(self) -> FastAPI:
        app = FastAPI()

        @app.get("/health")
        def health() -> bool:
            return self.healthy

        @app.get("/deployments/name/{flow}/{deployment}")
        def by_name(flow: str, deployment: str) -> dict[str, Any]:
            if not self.deployed:
                raise HTTPException(404)
            return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{flow}/{deployment}"))}

        @app.post("/deployments/{deployment_id}/create_flow_run", status_code=201)
        def create(deployment_id: uuid.UUID, body: dict[str, Any]) -> dict[str, Any]:
            if not self.deployed:
                raise HTTPException(404)
            self.asked.append({"deployment_id": str(deployment_id), **body})
            run = {"id": str(uuid.uuid4()), "name": body["name"]}
            return self.runs.setdefault(body["idempotency_key"], run)

        @app.post("/flow_runs/count")
        def count() -> int:
            return 3

        @app.post("/flow_runs/filter")
        def oldest() -> list[dict[str, str]]:
            return [{"created": "2026-03-01T12:00:00+00:00"}]

        @app.post("/deployments/filter")
        def deployments() -> list[dict[str, str]]:
            return [{"work_pool_name": "archival", "entrypoint": "archiver.workflow.flows.archive:archive_datasetlist"}]

        @app.get("/work_pools/{pool}")
        def pool(pool: str) -> dict[str, Any]:
            return {"name": pool, "is_paused": self.paused}

        @app.post("/work_pools/{pool}/workers/filter")
        def workers(pool: str) -> list[dict[str, str]]:
            return [{"name": "w1", "status": self.worker, "last_heartbeat_time": "2026-03-01T12:00:00+00:00"}]

        return app


def scicat_config(**hook: str) -> ScicatConfig:
    """The stack's accounts and a few more."""
    config = stack_config(**hook)  # type: ignore[arg-type]
    more = {
        COLLEAGUE: ("ingestor", OWNER_GROUP),
        FOREIGNER: ("ingestor", OTHER_GROUP),
        OPERATOR: (OPERATORS,),
    }
    accounts = tuple(
        Account(username=name, password=name, email=f"{name}@facility.test", groups=groups)
        for name, groups in more.items()
    )
    return config.model_copy(update={"accounts": (*config.accounts, *accounts)})


@dataclass
class Catalogue:
    """The users' side of SciCat."""

    url: str

    def call(self, user: str, method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(
            method,
            f"{self.url}/api/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token(user)}"},
            timeout=20,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def token(self, user: str = INGESTOR) -> str:
        answer = httpx.post(f"{self.url}/api/v3/auth/login", json={"username": user, "password": user})
        return str(answer.raise_for_status().json()["access_token"])

    def new_dataset(self, owner_group: str = OWNER_GROUP) -> str:
        """A data set of that group; its pid."""
        body = {
            "type": "raw",
            "pid": f"20.500.11935/{uuid.uuid4()}",
            "owner": "Ada",
            "ownerGroup": owner_group,
            "contactEmail": "ada@facility.test",
            "sourceFolder": "/data/run1",
            "creationTime": TIME,
            "creationLocation": "microscope 1",
            "principalInvestigator": "Ada",
            "datasetName": "run 1",
        }
        user = INGESTOR if owner_group == OWNER_GROUP else FOREIGNER
        return str(self.call(user, "POST", "v3/datasets", body)["pid"])

    def lifecycle(self, pid: str) -> dict[str, Any]:
        path = f"v3/datasets/{pid.replace('/', '%2F')}/datasetlifecycle"
        found: dict[str, Any] = self.call(ARCHIVER, "GET", path)
        return found

    def set_lifecycle(self, pid: str, changes: dict[str, Any]) -> None:
        self.call(ARCHIVER, "PATCH", f"v3/datasets/{pid.replace('/', '%2F')}/datasetlifecycle", changes)

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(ARCHIVER, "GET", "v4/jobs")
        return found


@dataclass
class Client:
    """A client of the API, with the token of one user or none."""

    base: str
    token: str | None = None

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        if body is not None:
            options["json"] = body
        return httpx.post(self.base + path, headers=headers, timeout=60, trust_env=False, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.base + path, timeout=60, trust_env=False, **options)

    def request_upload(self, pid: str, gib: int = 0) -> httpx.Response:
        return self.post("/s3/requestDatasetUpload", {"dataset_id": pid, "dataset_size_gib": gib})

    def urls(self, pid: str, path: str, parts: int = 1) -> tuple[str, list[str]]:
        """Upload id and decoded URLs."""
        body = {"dataset_id": pid, "object_name": dataset_prefix(pid) + path, "parts": parts}
        answer = self.post("/s3/presignedUrls", body)
        assert answer.status_code == 201, answer.text
        found = answer.json()
        return found["upload_id"], [base64.b64decode(url, validate=True).decode() for url in found["urls"]]


@dataclass
class Api:
    """A running API and what stands around it."""

    base: str
    config: ApiConfiguration
    ledger: Ledger
    store: ObjectStore
    catalogue: Catalogue
    queue: RecordingQueue

    @property
    def bucket(self) -> str:
        return self.config.store.s3_landingzone_bucket

    def anonymous(self) -> Client:
        return Client(self.base)

    def client(self, user: str = INGESTOR) -> Client:
        """A client with the service token of a SciCat user."""
        answer = Client(self.base, self.catalogue.token(user)).post("/token")
        assert answer.status_code == 201, answer.text
        return Client(self.base, answer.json()["access_token"])

    def landed(self, pid: str) -> dict[str, int]:
        """Paths and sizes of what lies in the landing zone."""
        prefix = dataset_prefix(pid)
        return {found.key.removeprefix(prefix): found.size for found in self.store.list(self.bucket, prefix)}


@dataclass(frozen=True)
class Parts:
    """What a configuration is made of."""

    s3: ObjectStoreSettings
    scicat_url: str
    identity_url: str
    queue: RecordingQueue
    ledger_url: str

    def config(self, **changes: Any) -> ApiConfiguration:
        """The settings of a development deployment; `changes` are settings of the named concern."""
        concerns: dict[str, Any] = {
            "service": ServiceSettings(environment=Environment.DEVELOPMENT),
            "api": ApiSettings(
                job_endpoint_username=SecretStr(JOB_ACCOUNT[0]), job_endpoint_password=SecretStr(JOB_ACCOUNT[1])
            ),
            "store": self.s3.model_copy(update={"s3_landingzone_bucket": f"landing-{uuid.uuid4().hex[:12]}"}),
            "landing": LandingZoneSettings(
                upload_mode=UploadMode.AUTO,
                upload_edge_key=SecretStr("edge-key"),
            ),
            "catalogue": CatalogueSettings(
                scicat_endpoint=self.scicat_url,
                scicat_user=SecretStr(ARCHIVER),
                scicat_password=SecretStr(ARCHIVER),
                scicat_retry_s=2,
            ),
            "identity": IdentitySettings(
                idp_url=self.identity_url,
                idp_password=SecretStr("archiver-service-local"),
                scicat_ingestor_groups=("ingestor",),
                operator_groups=(OPERATORS,),
            ),
            "queue": QueueSettings(prefect_api_url=self.queue.url),
            "ledger": LedgerSettings(ledger_url=SecretStr(self.ledger_url)),
            "lts": LtsSettings(),
            "backup": BackupSettings(postgres_backup_hours=24),
            "archiving": ArchivingSettings(),
        }
        for concern, values in changes.items():
            concerns[concern] = concerns[concern].model_copy(update=values)
        return ApiConfiguration(**concerns)


@contextmanager
def run_api(parts: Parts, *, listener: socket.socket | None = None, **changes: Any) -> Iterator[Api]:
    """The API on a port, reachable under its public prefix, with a landing bucket of its own."""
    with ExitStack() as stack:
        listener = listener or stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        landing = {"upload_edge_url": f"http://127.0.0.1:{port}/archiver/api/v1", **changes.pop("landing", {})}
        config = parts.config(landing=landing, **changes)
        bucket = config.store.s3_landingzone_bucket
        own_store = parts.s3.model_copy(update={"s3_landingzone_bucket": bucket})
        store = stack.enter_context(ObjectStore.open(own_store))
        store.ensure_bucket(bucket)
        ledger = stack.enter_context(Ledger.open(config.ledger))
        url = stack.enter_context(serve(create_app(config), listener))
        yield Api(
            base=f"{url}/archiver/api/v1",
            config=config,
            ledger=ledger,
            store=store,
            catalogue=Catalogue(config.catalogue.scicat_endpoint),
            queue=parts.queue,
        )


@contextmanager
def run_api_process(parts: Parts, log: Path, **changes: Any) -> Iterator[Api]:
    """The API as a process of its own, as `python -m archiver.backend` starts it, with a landing bucket of its own."""
    with ExitStack() as stack:
        (port,) = choose_free(["api"], {}).values()
        base = f"http://127.0.0.1:{port}/archiver/api/v1"
        landing = {"upload_edge_url": base, **changes.pop("landing", {})}
        api = {"uvicorn_host": "127.0.0.1", "uvicorn_port": port, **changes.pop("api", {})}
        config = parts.config(landing=landing, api=api, **changes)
        store = stack.enter_context(ObjectStore.open(config.store))
        store.ensure_bucket(config.store.s3_landingzone_bucket)
        ledger = stack.enter_context(Ledger.open(config.ledger))
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "archiver.backend"],
            env=os.environ | _environment(config),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            _wait_until_alive(base, process, log)
            yield Api(base, config, ledger, store, Catalogue(config.catalogue.scicat_endpoint), parts.queue)
        finally:
            process.terminate()
            process.wait(60)


def _environment(config: ApiConfiguration) -> dict[str, str]:
    """The settings by their environment variables."""
    found = {}
    for concern in ApiConfiguration.model_fields:
        settings: BaseModel = getattr(config, concern)
        for name, value in settings:
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if text is not None:
                found[name.upper()] = ";".join(text) if isinstance(text, tuple) else str(text)
    return found


def _wait_until_alive(base: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{base}/health/livez", timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


RunApi = Callable[..., AbstractContextManager[Api]]


def sha256_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put(url: str, data: bytes, **headers: str) -> httpx.Response:
    """Send as the client in the field does: checksum, storage class and an empty content type, none of them signed."""
    sent = {
        "x-amz-checksum-sha256": sha256_base64(data),
        "x-amz-storage-class": "GLACIER",
        "Content-Type": "",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return httpx.put(url, content=data, headers=sent, timeout=60, trust_env=False)


def send_in_parts(client: Client, pid: str, path: str, chunks: list[bytes]) -> dict[str, Any]:
    """Send an object in parts; the body that completes it."""
    upload_id, urls = client.urls(pid, path, len(chunks))
    parts, digests = [], b""
    for number, (url, chunk) in enumerate(zip(urls, chunks, strict=True), 1):
        answer = put(url, chunk)
        assert answer.status_code == 200, answer.text
        digests += hashlib.sha256(chunk).digest()
        parts.append(
            {
                "part_number": number,
                "etag": answer.headers["ETag"].strip('"'),
                "checksum_sha256": sha256_base64(chunk),
            }
        )
    return {
        "dataset_id": pid,
        "object_name": dataset_prefix(pid) + path,
        "upload_id": upload_id,
        "parts": parts,
        "checksum_sha256": sha256_base64(digests),
    }
