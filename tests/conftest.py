"""A real PostgreSQL for all tests: one server, a fresh migrated database for each test that asks."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.local.postgres import PostgresServer, start_postgres
from archiver.workflow.ledger.ledger import Ledger

_TEMPLATE = "ledger"
_numbers = count(1)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a costly server go to the same process when tests run in several (`pytest -n 2`)."""
    for item in items:
        group = "stack" if "stack" in getattr(item, "fixturenames", ()) else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))


def _sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Commands quieten the logs of their process, which here goes on with the next test."""
    before = structlog.get_config()
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="archiver-postgres-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_folder() -> Iterator[Path]:
    """A folder for a PostgreSQL of the test's own.

    Not `tmp_path`: run by root, PostgreSQL is another user, and each start of pytest shuts others out of the
    folder that all `tmp_path` lie in, also those of a test run that goes on beside it.
    """
    with _temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for the whole session, with a migrated database `ledger` that is only copied from."""
    with _temporary_folder() as folder, start_postgres(folder, databases=(_TEMPLATE,), durable=False) as server:
        with open_ledger(_sqlalchemy(server.url(_TEMPLATE))) as template:
            template.migrate()
        yield server


@pytest.fixture
def ledger_url(postgres: PostgresServer) -> Iterator[str]:
    """Address (as LEDGER_URL) of a migrated, empty database of the test's own."""
    name = f"ledger_{next(_numbers)}"
    url = postgres.copy_database(_TEMPLATE, name)
    yield _sqlalchemy(url)
    postgres.drop_database(name)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger of the test's own."""
    with open_ledger(ledger_url) as opened:
        yield opened


def open_ledger(url: str) -> Ledger:
    """The ledger at `url`."""
    return Ledger.open(LedgerSettings(ledger_url=SecretStr(url)))
