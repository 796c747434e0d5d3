"""One facility for each test of a use case."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.config.settings import ObjectStoreSettings
from archiver.local.scicat.defaults import stack_config
from archiver.local.scicat.testing import run_scicat
from support.facility import Facility, open_facility, s3_with_buckets


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreSettings]:
    with s3_with_buckets(tmp_path_factory.mktemp("seaweedfs")) as settings:
        yield settings


@pytest.fixture(scope="session")
def scicat_url() -> Iterator[str]:
    with run_scicat(stack_config()) as url:
        yield url


@pytest.fixture
def facility(s3_server: ObjectStoreSettings, scicat_url: str, ledger_url: str, tmp_path: Path) -> Iterator[Facility]:
    """A facility with a ledger and a share of the test's own; buckets and catalogue are shared."""
    with open_facility(s3_server, scicat_url, ledger_url, tmp_path) as opened:
        yield opened
