"""Brings the ledger's database to the form that this version works with."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from archiver.workflow.ledger.database import ledger_errors, lock_until_commit
from archiver.workflow.ledger.errors import LedgerTooNewError

log = structlog.get_logger(__name__)

MIGRATION_LOCK = 0x61_72_63_68_02
LOCK_TIMEOUT_MS = 300_000
"""How long to wait for another process that migrates."""


def migration_config() -> Config:
    """Alembic's configuration: the packaged migrations, no file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(engine: Engine) -> None:
    """Applies the missing migrations, all or none, one process at a time.

    Raises:
        LedgerTooNewError: the database has a migration this version does not know.
        LedgerError: the database does not answer, or another process migrates for too long.
    """
    config = migration_config()
    known = ScriptDirectory.from_config(config)
    target = known.get_current_head()
    with ledger_errors(), engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout TO 0"))
        connection.execute(text(f"SET LOCAL lock_timeout TO {LOCK_TIMEOUT_MS}"))
        lock_until_commit(connection, MIGRATION_LOCK)
        current = MigrationContext.configure(connection).get_current_revision()
        if current == target:
            return
        if current not in (None, *(script.revision for script in known.walk_revisions())):
            raise LedgerTooNewError(
                f"The ledger's database has revision {current}, this version knows up to {target}. "
                "Install the version of the service that made it, or restore an older copy of the database."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    log.info("ledger_migrated", before=current, now=target)


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """The database's revision (None: it has no tables yet), and the one this version works with.

    Raises:
        LedgerError: the database does not answer.
    """
    target = ScriptDirectory.from_config(migration_config()).get_current_head()
    with ledger_errors(), engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), target
