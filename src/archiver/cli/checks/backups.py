"""Check of the backups of PostgreSQL."""

from collections.abc import Iterator
from datetime import timedelta

from archiver.cli.checks.findings import Finding, Group
from archiver.config.settings import BackupSettings, LedgerSettings
from archiver.workflow.errors import ArchiverError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.runs import BACKED_UP
from archiver.workflow.overview import BACKUP_SLACK

_LOOK = "Look at the log of postgres-backup, and at the room in POSTGRES_BACKUP_FOLDER."


def check_backups() -> Iterator[Finding]:
    """The newest backup of each database: as young as it must be. What makes them notes it in the ledger."""
    group = Group("backup")
    every = BackupSettings().interval
    if every is None:
        told = "POSTGRES_BACKUP_HOURS is not set here, so nothing is known: whoever runs the database backs it up."
        yield group.skipped("age", told)
        return
    try:
        with Ledger.open(LedgerSettings()) as ledger:
            made, now = ledger.backups(), ledger.now()
    except ArchiverError as error:
        yield group.bad("age", str(error))
        return
    for database in BACKED_UP:
        yield _age(group, database, now - made[database] if database in made else None, every)


def _age(group: Group, database: str, age: timedelta | None, every: timedelta) -> Finding:
    name = f"of {database}"
    if age is None:
        return group.bad(name, f"No backup was ever noted. {_LOOK}")
    told = (
        f"the newest was made {age / timedelta(hours=1):,.1f} h ago, one is due every {every / timedelta(hours=1):g} h"
    )
    if age > every + BACKUP_SLACK:
        return group.bad(name, f"{told}. {_LOOK}")
    return group.good(name, told)
