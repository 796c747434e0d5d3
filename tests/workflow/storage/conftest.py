"""S3 servers that run as long as the tests do, and a fresh bucket for each test."""

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config  # type: ignore[import-untyped]

from archiver.local.seaweedfs import run_seaweedfs
from archiver.workflow.storage.object_store import ObjectStore
from support.s3_servers import SERVERS, Relay, S3Server, run_minio


@pytest.fixture(scope="session", params=SERVERS)
def s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS, and MinIO where MINIO_BINARY names it."""
    folder = tmp_path_factory.mktemp(request.param)
    running = run_minio(folder) if request.param == "minio" else run_seaweedfs(folder, volume_mib=256)
    with running as settings:
        yield S3Server(request.param, settings)


@pytest.fixture(scope="session")
def s3(s3_server: S3Server) -> Iterator[Any]:
    """A plain boto3 client, to look at the server from another side."""
    settings = s3_server.settings
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_user.get_secret_value(),
        aws_secret_access_key=settings.s3_password.get_secret_value(),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    yield client
    client.close()


@pytest.fixture(scope="session")
def store(s3_server: S3Server) -> Iterator[ObjectStore]:
    """A client of the server."""
    with ObjectStore.open(s3_server.settings) as opened:
        yield opened


@pytest.fixture
def bucket(store: ObjectStore, s3: Any) -> Iterator[str]:
    """A fresh bucket."""
    name = f"test-{uuid.uuid4()}"
    store.ensure_bucket(name)
    yield name
    for upload in store.list_multiparts(name, ""):
        store.abort_multipart(name, upload.key, upload.upload_id)
    store.delete(name, store.list(name, ""))
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def relay(s3_server: S3Server) -> Iterator[Relay]:
    """A relay before the server."""
    parts = urlsplit(s3_server.settings.s3_endpoint)
    running = Relay((parts.hostname or "", parts.port or 80))
    yield running
    running.close()


@pytest.fixture
def relayed_store(s3_server: S3Server, relay: Relay) -> Iterator[ObjectStore]:
    """A client that reaches the server through the relay."""
    with ObjectStore.open(s3_server.settings.model_copy(update={"s3_endpoint": relay.address})) as opened:
        yield opened
