"""Checks of datablocks on the share, and which is due."""

from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.datasets import datablock_record
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, FixityRecord
from archiver.workflow.ledger.tables import datablocks, datasets, fixity_checks


def _record(row: Row[Any]) -> FixityRecord:
    found = fields(row)
    del found["id"]
    return FixityRecord(**{**found, "outcome": FixityOutcome(found["outcome"])})


class Fixity(Database):
    """The history of fixity checks."""

    def record_fixity(self, archive_id: str, outcome: FixityOutcome, proof: str, detail: str) -> FixityRecord:
        """Notes a check made now. `proof` is the level that was proven, `detail` what operators must know."""
        noted = (
            insert(fixity_checks)
            .values(
                archive_id=archive_id,
                outcome=FixityOutcome(outcome),
                proof=proof,
                detail=detail,
                checked_at=clock,
            )
            .returning(fixity_checks)
        )
        with self._transaction() as connection:
            record = _record(connection.execute(noted).one())
            connection.execute(
                update(datablocks).where(datablocks.c.archive_id == archive_id).values(checked_at=record.checked_at)
            )
        return record

    def last_fixity(self, archive_id: str) -> FixityRecord | None:
        """The newest check of the datablock; None when there was none."""
        newest = (
            select(fixity_checks)
            .where(fixity_checks.c.archive_id == archive_id)
            .order_by(fixity_checks.c.id.desc())
            .limit(1)
        )
        with self._transaction() as connection:
            row = connection.execute(newest).one_or_none()
        return None if row is None else _record(row)

    def oldest_checked(self, limit: int) -> list[DatablockRecord]:
        """Up to `limit` datablocks of archived data sets: those never checked first, then the longest ago.

        A check of any outcome counts, else stubs, always skipped, would keep the others from their turn.
        """
        due = (
            select(datablocks)
            .join(datasets, datasets.c.pid == datablocks.c.pid)
            .where(datasets.c.archived_at.is_not(None))
            .order_by(datablocks.c.checked_at.asc().nulls_first(), datablocks.c.archive_id)
            .limit(limit)
        )
        with self._transaction() as connection:
            return [datablock_record(row) for row in connection.execute(due)]
