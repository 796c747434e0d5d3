"""A real Prefect server for the tests of what is registered with it."""

from collections.abc import Iterator

import pytest

from archiver.local.postgres import PostgresServer
from support.prefect_server import PrefectServer, run_prefect_server


@pytest.fixture(scope="session")
def prefect_server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One server for the session. Tests share it: what they compare is the change they make themselves."""
    with run_prefect_server(postgres, tmp_path_factory.mktemp("prefect")) as server:
        yield server
