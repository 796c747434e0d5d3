"""A running API for the browser, with the parts of the API's own tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from archiver.local.identity.testing import run_identity
from archiver.local.postgres import PostgresServer
from archiver.local.scicat.testing import run_scicat
from archiver.local.seaweedfs import run_seaweedfs
from support.backend_api import Api, Parts, RecordingQueue, run_api, scicat_config, serve


@pytest.fixture(scope="module")
def api(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose status page wants operators to log in."""
    queue = RecordingQueue()
    ledger = postgres.copy_database("ledger", "browser").replace("postgresql://", "postgresql+psycopg://", 1)
    folder: Path = tmp_path_factory.mktemp("seaweedfs")
    with (
        run_seaweedfs(folder, volume_mib=64) as s3,
        run_scicat(scicat_config()) as scicat_url,
        run_identity() as identity_url,
        serve(queue.application()) as queue.url,
    ):
        parts = Parts(s3, scicat_url, identity_url, queue, ledger)
        with run_api(
            parts,
            api={"status_page_login": True},
            identity={"operator_groups": ("archiver-operators",)},
            landing={"s3_total_landing_space_tb": 100, "upload_edge_key": SecretStr("edge-key")},
            catalogue={"scicat_frontend_url": "https://scicat.example"},
        ) as running:
            yield running
