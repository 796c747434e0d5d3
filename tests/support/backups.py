"""Backups of PostgreSQL as the ledger knows them."""

from datetime import timedelta

from sqlalchemy import literal
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import clock
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.tables import services


def note_backup(ledger: Ledger, database: str, ago: timedelta) -> None:
    """Notes a backup as deployment/postgres/backup.sh does."""
    made = {"service": f"backup of {database}", "beat_at": clock - literal(ago)}
    with ledger._engine.begin() as connection:
        noted = insert(services).values(**made)
        connection.execute(noted.on_conflict_do_update(index_elements=[services.c.service], set_=made))
