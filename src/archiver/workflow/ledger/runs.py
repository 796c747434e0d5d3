"""Flow runs made for jobs, signs of life of services, and when databases were backed up."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.records import RunRecord
from archiver.workflow.ledger.tables import runs, services

BACKED_UP: Final = ("ledger", "prefect")
"""Databases that `deployment/postgres/backup.sh` backs up."""
_BACKUP_OF: Final = "backup of "
"""Begins the name under which that script notes when the newest backup of a database was made."""

STUCK_ON: Final = "stuck on "
"""Begins the name under which it is noted when a task of the reconciliation failed last in this way."""


class Runs(Database):
    """Which flow runs belong to which job."""

    def record_run(self, job_id: str, job_type: str, attempt: int, run_id: UUID) -> None:
        """Notes that `run_id` was made for an attempt of a job; noting it again changes nothing."""
        noted = insert(runs).values(job_id=job_id, job_type=job_type, attempt=attempt, run_id=run_id)
        with self._transaction() as connection:
            connection.execute(noted.on_conflict_do_nothing())

    def runs(self, job_id: str) -> list[RunRecord]:
        """The job's runs in order of attempt and age."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(runs).where(runs.c.job_id == job_id).order_by(runs.c.attempt, runs.c.created_at)
            ).all()
        return [RunRecord(**fields(row)) for row in rows]


def note_now(connection: Connection, service: str) -> None:
    """Notes that `service` gave a sign of life, with the transaction of `connection`."""
    connection.execute(
        insert(services)
        .values(service=service, beat_at=clock)
        .on_conflict_do_update(index_elements=[services.c.service], set_={"beat_at": clock})
    )


class Services(Database):
    """When services last gave a sign of life."""

    def beat(self, service: str) -> None:
        """Notes that `service` is alive now."""
        with self._transaction() as connection:
            note_now(connection, service)

    def last_beat(self, service: str) -> datetime | None:
        """When `service` was last alive; None when it never was."""
        with self._transaction() as connection:
            return connection.execute(
                select(services.c.beat_at).where(services.c.service == service)
            ).scalar_one_or_none()

    def stuck_on(self, within: timedelta) -> list[str]:
        """Codes of the errors that a task of the reconciliation failed with lately, until somebody acts."""
        lately = select(services.c.service).where(
            services.c.service.startswith(STUCK_ON, autoescape=True), services.c.beat_at > clock - within
        )
        with self._transaction() as connection:
            names = connection.execute(lately.order_by(services.c.service)).scalars().all()
        return [name.removeprefix(STUCK_ON) for name in names]

    def backups(self) -> dict[str, datetime]:
        """When the newest backup of each database was made; those of which none is known are left out."""
        names = [f"{_BACKUP_OF}{database}" for database in BACKED_UP]
        with self._transaction() as connection:
            rows = connection.execute(select(services).where(services.c.service.in_(names))).all()
        return {row.service.removeprefix(_BACKUP_OF): row.beat_at for row in rows}
