"""One facility for each test of a use case."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from archiver.config.settings import (
    ArchivingSettings,
    CatalogueSettings,
    LedgerSettings,
    LtsSettings,
    ObjectStoreSettings,
)
from archiver.local.scicat.defaults import ARCHIVER, stack_config
from archiver.local.scicat.testing import run_scicat
from archiver.local.seaweedfs import run_seaweedfs
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import ShareAddress, initialise_share
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.tools import Tools
from support.facility import Facility


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreSettings]:
    """A server with the buckets; data sets of different tests have different pids."""
    with run_seaweedfs(tmp_path_factory.mktemp("seaweedfs"), volume_mib=64) as settings:
        with ObjectStore.open(settings) as store:
            store.ensure_bucket(settings.s3_landingzone_bucket)
            store.ensure_bucket(settings.s3_retrieval_bucket)
        yield settings


@pytest.fixture(scope="session")
def scicat_url() -> Iterator[str]:
    with run_scicat(stack_config()) as url:
        yield url


@pytest.fixture
def facility(s3_server: ObjectStoreSettings, scicat_url: str, ledger_url: str, tmp_path: Path) -> Iterator[Facility]:
    """A facility with a ledger and a share of the test's own; buckets and catalogue are shared."""
    root = tmp_path / "lts"
    root.mkdir()
    catalogue_settings = CatalogueSettings(
        scicat_endpoint=scicat_url,
        scicat_user=SecretStr(ARCHIVER),
        scicat_password=SecretStr(ARCHIVER),
        scicat_retry_s=5,
    )
    ledger_settings = LedgerSettings(ledger_url=SecretStr(ledger_url))
    with (
        ObjectStore.open(s3_server) as store,
        Catalogue.open(catalogue_settings) as catalogue,
        Ledger.open(ledger_settings) as ledger,
    ):
        tools = Tools(
            store=store,
            catalogue=catalogue,
            ledger=ledger,
            share=ShareAddress(root, initialise_share(root)),
            store_settings=s3_server,
            lts=LtsSettings(lts_root_folder=root, lts_stall_timeout_s=60, archiver_lts_file_timeout_s=2),
            settings=ArchivingSettings(archiver_scratch_folder=tmp_path / "scratch", claim_wait_s=0.5),
            storage_location="ETHZ",
        )
        yield Facility(tools, scicat_url, ledger_settings, catalogue_settings, root)
