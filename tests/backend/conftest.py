"""A running API for each test, with real parts around it; the servers are shared."""

import uuid
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from archiver.config.settings import ObjectStoreSettings
from archiver.local.identity.testing import run_identity
from archiver.local.postgres import PostgresServer
from archiver.local.scicat.testing import run_scicat
from archiver.local.seaweedfs import run_seaweedfs
from support.backend_api import Api, Parts, RecordingQueue, RunApi, run_api, scicat_config, serve


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreSettings]:
    with run_seaweedfs(tmp_path_factory.mktemp("seaweedfs"), volume_mib=64) as settings:
        yield settings


@pytest.fixture(scope="session")
def scicat_url() -> Iterator[str]:
    with run_scicat(scicat_config()) as url:
        yield url


@pytest.fixture(scope="session")
def identity_url() -> Iterator[str]:
    with run_identity() as url:
        yield url


@pytest.fixture(scope="session")
def queue_server() -> Iterator[RecordingQueue]:
    recording = RecordingQueue()
    with serve(recording.application()) as recording.url:
        yield recording


@pytest.fixture(autouse=True)
def queue(queue_server: RecordingQueue) -> RecordingQueue:
    """The queue as each test finds it: empty and well."""
    queue_server.reset()
    return queue_server


@pytest.fixture(scope="session")
def backend_ledger_url(postgres: PostgresServer) -> str:
    """A database that the tests share; data sets and jobs are each test's own."""
    return postgres.copy_database("ledger", "backend").replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def parts(
    s3_server: ObjectStoreSettings,
    scicat_url: str,
    identity_url: str,
    queue_server: RecordingQueue,
    backend_ledger_url: str,
) -> Parts:
    return Parts(s3_server, scicat_url, identity_url, queue_server, backend_ledger_url)


@pytest.fixture(scope="session")
def start_api(parts: Parts) -> RunApi:
    """Start an API with other settings; use it in `with`."""
    return lambda **changes: run_api(parts, **changes)


@pytest.fixture(scope="session")
def api(parts: Parts) -> Iterator[Api]:
    """An API that the tests share."""
    with run_api(parts) as running:
        yield running


@pytest.fixture
def fresh_api(parts: Parts, ledger_url: str) -> Iterator[Api]:
    """An API with an empty ledger of the test's own and a landing zone of 90 GB."""
    ledger = {"ledger_url": SecretStr(ledger_url)}
    with run_api(parts, ledger=ledger, landing={"s3_total_landing_space_tb": 0.1}) as running:
        yield running


@pytest.fixture
def job_id() -> str:
    return str(uuid.uuid4())
