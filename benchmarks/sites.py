"""A place to measure at: S3 server, catalogue, ledger and share, all on one disk."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from archiver.config.settings import (
    CatalogueSettings,
    LedgerSettings,
    LtsSettings,
    ObjectStoreSettings,
)
from archiver.config.sources import EnvironmentSettings
from archiver.local.postgres import start_postgres
from archiver.local.scicat.defaults import ARCHIVER, stack_config
from archiver.local.scicat.testing import run_scicat
from archiver.local.seaweedfs import run_seaweedfs
from archiver.local.stack import Stack
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import initialise_share
from archiver.workflow.storage.object_store import ObjectStore
from support.s3_servers import MINIO_BINARY, run_minio

SERVERS = ("seaweedfs", *(["minio"] if MINIO_BINARY else []))
_LEDGER = "ledger"

Settings = TypeVar("Settings", bound=EnvironmentSettings)


@dataclass(frozen=True)
class Site:
    """What a benchmark needs of a place."""

    server: str
    """Name of the S3 server."""
    folder: Path
    """For copies made by others than the archive; on the disk of the share."""
    environment: Mapping[str, str]
    """Every setting of the service, secrets included, by its environment variable."""
    store: ObjectStore
    catalogue: Catalogue

    def settings(self, kind: type[Settings]) -> Settings:
        """Settings as the service has them here."""
        own = {name: self.environment[name.upper()] for name in kind.model_fields if name.upper() in self.environment}
        return kind.model_validate(own)

    @property
    def store_settings(self) -> ObjectStoreSettings:
        return self.settings(ObjectStoreSettings)

    @property
    def share(self) -> Path:
        """Root of the long-term storage."""
        return self.settings(LtsSettings).lts_root_folder


@contextmanager
def open_site(folder: Path, server: str) -> Iterator[Site]:
    """A site of its own below `folder` for the time of the block: no Prefect, no API."""
    for name in ("s3", "share", "work"):
        (folder / name).mkdir(parents=True)
    with ExitStack() as opened:
        run = run_minio if server == "minio" else run_seaweedfs
        store = opened.enter_context(run(folder / "s3"))
        database = opened.enter_context(start_postgres(folder / "postgres", databases=(_LEDGER,)))
        scicat = opened.enter_context(run_scicat(stack_config()))
        initialise_share(folder / "share")
        environment = {
            "ENVIRONMENT": "development",
            "S3_ENDPOINT": store.s3_endpoint,
            "S3_USER": store.s3_user.get_secret_value(),
            "S3_PASSWORD": store.s3_password.get_secret_value(),
            "SCICAT_ENDPOINT": scicat,
            "SCICAT_USER": ARCHIVER,
            "SCICAT_PASSWORD": ARCHIVER,
            "LEDGER_URL": database.url(_LEDGER).replace("postgresql://", "postgresql+psycopg://", 1),
            "LTS_ROOT_FOLDER": str(folder / "share"),
            "ARCHIVER_SCRATCH_FOLDER": str(folder / "scratch"),
        }
        with _opened(server, folder / "work", environment) as site:
            with Ledger.open(site.settings(LedgerSettings)) as ledger:
                ledger.migrate()
            for bucket in (store.s3_landingzone_bucket, store.s3_retrieval_bucket):
                site.store.ensure_bucket(bucket)
            yield site


@contextmanager
def site_of_stack(stack: Stack, folder: Path) -> Iterator[Site]:
    """The embedded stack as a site."""
    folder.mkdir(parents=True, exist_ok=True)
    with _opened("seaweedfs", folder, stack.environment) as site:
        yield site


@contextmanager
def _opened(server: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Site]:
    closed = Site(server, folder, environment, store=None, catalogue=None)  # type: ignore[arg-type]
    with (
        ObjectStore.open(closed.store_settings) as store,
        Catalogue.open(closed.settings(CatalogueSettings)) as catalogue,
    ):
        yield Site(server, folder, environment, store, catalogue)


def minio_version() -> str:
    """What MinIO's program says of itself."""
    said = subprocess.run([MINIO_BINARY, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return said.split()[2]
