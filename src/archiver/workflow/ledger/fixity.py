"""Checks of datablocks on the share, and which is due."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Subquery, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.datasets import GONE, datablock_record
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, FixityRecord, FixitySummary
from archiver.workflow.ledger.tables import datablocks, datasets, fixity_checks

_DAMAGE = tuple(outcome for outcome in FixityOutcome if outcome.is_damage)
_READ = (FixityOutcome.OK, FixityOutcome.DAMAGED)
"""Outcomes for which all bytes were read."""

_is_to_be_read = datasets.c.archived_at.is_not(None) & datasets.c.stage.not_in(GONE)
"""Also of data sets that are withdrawn and can be restored: what is kept must stay good."""


def _record(row: Row[Any]) -> FixityRecord:
    found = fields(row)
    del found["id"]
    return FixityRecord(**{**found, "outcome": FixityOutcome(found["outcome"])})


class Fixity(Database):
    """The history of fixity checks."""

    def record_fixity(
        self, archive_id: str, outcome: FixityOutcome, proof: str, detail: str, copy: str = ""
    ) -> FixityRecord:
        """Notes a check made now. `proof` is the level that was proven, `detail` what operators must know.

        `copy` is the identity of the share, where it is that of a copy; the datablock is due again as before then.
        """
        noted = (
            insert(fixity_checks)
            .values(
                archive_id=archive_id,
                outcome=FixityOutcome(outcome),
                proof=proof,
                detail=detail,
                copy=copy,
                checked_at=clock,
            )
            .returning(fixity_checks)
        )
        with self._transaction() as connection:
            record = _record(connection.execute(noted).one())
            if not copy:
                connection.execute(
                    update(datablocks).where(datablocks.c.archive_id == archive_id).values(checked_at=record.checked_at)
                )
        return record

    def last_fixity(self, archive_id: str, copy: str = "") -> FixityRecord | None:
        """The newest check of the datablock on the first share, or on that of a copy; None when there was none."""
        newest = (
            select(fixity_checks)
            .where(fixity_checks.c.archive_id == archive_id, fixity_checks.c.copy == copy)
            .order_by(fixity_checks.c.id.desc())
            .limit(1)
        )
        with self._transaction() as connection:
            row = connection.execute(newest).one_or_none()
        return None if row is None else _record(row)

    def oldest_checked(self, limit: int, *, not_below: str = "") -> list[DatablockRecord]:
        """Up to `limit` datablocks of archived data sets: those never checked first, then the longest ago.

        A check of any outcome counts, else stubs, always skipped, would keep the others from their turn. Data sets
        whose pids begin with `not_below` and a slash are left out.
        """
        due = (
            select(datablocks)
            .join(datasets, datasets.c.pid == datablocks.c.pid)
            .where(_is_to_be_read, ~datablocks.c.pid.startswith(f"{not_below}/", autoescape=True))
            .order_by(datablocks.c.checked_at.asc().nulls_first(), datablocks.c.archive_id)
            .limit(limit)
        )
        with self._transaction() as connection:
            return [datablock_record(row) for row in connection.execute(due)]

    def expedite_checks(self, pid: str) -> None:
        """Makes the next audit read the datablocks of a data set first."""
        with self._transaction() as connection:
            connection.execute(update(datablocks).where(datablocks.c.pid == pid).values(checked_at=None))

    def forget_damage_of_copies(self, *, except_on: Sequence[str]) -> set[str]:
        """Removes the checks that found damage on shares that hold copies no more: nobody will mend it there.

        The datablocks are due at once, should such a share come back. The pids of the data sets.
        """
        gone = fixity_checks.c.copy.not_in(["", *except_on])
        forgotten = delete(fixity_checks).where(gone, fixity_checks.c.outcome.in_(_DAMAGE))
        with self._transaction() as connection:
            names = connection.execute(forgotten.returning(fixity_checks.c.archive_id)).scalars().all()
            due = update(datablocks).where(datablocks.c.archive_id.in_(names)).values(checked_at=None)
            return set(connection.execute(due.returning(datablocks.c.pid)).scalars())

    def copies_on(self, copy: str) -> int:
        """How many datablocks had a copy on the share of this identity when that was read, or written, last."""
        newest = _newest_checks()
        there = (
            select(func.count())
            .select_from(newest)
            .join(datablocks, datablocks.c.archive_id == newest.c.archive_id)
            .where(newest.c.copy == copy, newest.c.outcome != FixityOutcome.MISSING)
        )
        with self._transaction() as connection:
            return int(connection.execute(there).scalar_one())

    def damaged_datablocks(self) -> list[tuple[str, FixityRecord]]:
        """Checks that found damage and are the newest of a datablock on a share, each with the pid of its data set.

        By pid, archive id and share.
        """
        newest = _newest_checks()
        damaged = (
            select(datablocks.c.pid, newest)
            .join(newest, newest.c.archive_id == datablocks.c.archive_id)
            .join(datasets, datasets.c.pid == datablocks.c.pid)
            .where(newest.c.outcome.in_(_DAMAGE), datasets.c.stage.not_in(GONE))
            .order_by(datablocks.c.pid, datablocks.c.archive_id, newest.c.copy)
        )
        found = []
        with self._transaction() as connection:
            for row in connection.execute(damaged):
                values = fields(row)
                del values["id"]
                pid = values.pop("pid")
                found.append((pid, FixityRecord(**{**values, "outcome": FixityOutcome(values["outcome"])})))
        return found

    def fixity_summary(self, period: timedelta, *, not_below: str = "") -> FixitySummary:
        """How well the datablocks of archived data sets are looked after, each to be read once in `period`.

        Data sets whose pids begin with `not_below` and a slash are left out.
        """
        newest = _newest_checks()
        found = (
            select(
                newest.c.archive_id,
                func.bool_or(newest.c.outcome.in_(_DAMAGE)).label("damaged"),
                func.bool_or((newest.c.outcome == FixityOutcome.SKIPPED) & (newest.c.copy == "")).label("on_tape"),
            )
            .group_by(newest.c.archive_id)
            .subquery()
        )
        read = (
            select(fixity_checks.c.archive_id, func.max(fixity_checks.c.checked_at).label("read_at"))
            .where(fixity_checks.c.outcome.in_(_READ), fixity_checks.c.copy == "")
            .group_by(fixity_checks.c.archive_id)
            .subquery()
        )
        read_at = func.greatest(datablocks.c.verified_at, read.c.read_at)  # which ignores NULL
        summary = (
            select(
                func.count(),
                func.coalesce(func.sum(datablocks.c.packed_size), 0),
                func.count().filter(or_(read_at.is_(None), read_at < clock - literal(period))),
                func.count().filter(found.c.damaged),
                func.count().filter(found.c.on_tape),
                func.min(read_at),
            )
            .select_from(datablocks)
            .join(datasets, datasets.c.pid == datablocks.c.pid)
            .outerjoin(found, found.c.archive_id == datablocks.c.archive_id)
            .outerjoin(read, read.c.archive_id == datablocks.c.archive_id)
            .where(_is_to_be_read, ~datablocks.c.pid.startswith(f"{not_below}/", autoescape=True))
        )
        with self._transaction() as connection:
            count, packed, overdue, damaged, on_tape, oldest = connection.execute(summary).one()
        return FixitySummary(count, int(packed), overdue, damaged, on_tape, oldest)


def _newest_checks() -> Subquery:
    """The newest check of each datablock on each share."""
    newest = select(func.max(fixity_checks.c.id)).group_by(fixity_checks.c.archive_id, fixity_checks.c.copy)
    return select(fixity_checks).where(fixity_checks.c.id.in_(newest)).subquery()
