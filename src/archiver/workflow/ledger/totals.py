"""Sums over the ledger: what operators and Prometheus want to know at a glance. Never asks the share."""

from uuid import UUID

from sqlalchemy import BigInteger, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.counters import ERRORS, STUCK_TASKS, add_to_counter
from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.datasets import GONE, dataset_record
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.records import (
    ArchiveTotals,
    CopyTotals,
    Counter,
    DatasetRecord,
    RetrievalState,
    ShareSpace,
    Stage,
    StageCount,
)
from archiver.workflow.ledger.runs import STUCK_ON, note_now
from archiver.workflow.ledger.tables import (
    counters,
    datablocks,
    datasets,
    facts,
    retrievals,
    share_space,
)


class Totals(Database):
    """How much there is of everything, and how old."""

    def count_error(self, code: str) -> None:
        """Counts an error that ended the work on a data set."""
        with self._transaction() as connection:
            add_to_counter(connection, ERRORS, code, 1)

    def count_stuck_task(self, code: str) -> None:
        """Counts a task of the reconciliation that fails, in this pass, until somebody acts."""
        with self._transaction() as connection:
            add_to_counter(connection, STUCK_TASKS, code, 1)
            note_now(connection, f"{STUCK_ON}{code}")

    def counters(self) -> list[Counter]:
        """Everything counted so far."""
        with self._transaction() as connection:
            rows = connection.execute(select(counters).order_by(counters.c.name, counters.c.label)).all()
        return [Counter(**fields(row)) for row in rows]

    def record_share_space(self, share: UUID, free_bytes: int, total_bytes: int) -> None:
        """Notes how much room the archive's share has now; nothing of another share, as smoke tests have."""
        is_ours = select(facts.c.value).where(facts.c.name == LTS_IDENTITY, facts.c.value == str(share))
        room = [literal(number, BigInteger) for number in (free_bytes, total_bytes)]
        space = insert(share_space).from_select(
            ["share", "free_bytes", "total_bytes", "measured_at"],
            select(is_ours.scalar_subquery(), *room, clock).where(is_ours.exists()),
        )
        newer = {name: space.excluded[name] for name in ("free_bytes", "total_bytes", "measured_at")}
        with self._transaction() as connection:
            connection.execute(space.on_conflict_do_update(index_elements=[share_space.c.share], set_=newer))

    def share_space(self) -> ShareSpace | None:
        """Room on the archive's share when it was last used; None when it never was."""
        ours = select(share_space).join(facts, facts.c.value == share_space.c.share).where(facts.c.name == LTS_IDENTITY)
        with self._transaction() as connection:
            row = connection.execute(ours).one_or_none()
        return None if row is None else ShareSpace(**fields(row))

    def archive_totals(self) -> ArchiveTotals:
        """What is archived."""
        archived = datasets.c.archived_at.is_not(None) & datasets.c.stage.not_in(GONE)
        held = select(
            func.count(),
            func.coalesce(func.sum(datasets.c.files), 0),
            func.coalesce(func.sum(datasets.c.payload_bytes), 0),
        ).where(archived)
        packed = (
            select(func.count(), func.coalesce(func.sum(datablocks.c.packed_size), 0))
            .join(datasets, datasets.c.pid == datablocks.c.pid)
            .where(archived)
        )
        with self._transaction() as connection:
            count, files, payload = connection.execute(held).one()
            blocks, length = connection.execute(packed).one()
        return ArchiveTotals(count, int(files), int(payload), blocks, int(length))

    def planned_bytes(self) -> int:
        """Payload of the data sets on their way to the share that is not recorded as written yet."""
        is_on_its_way = datasets.c.stage == Stage.PLANNED
        payload = select(func.coalesce(func.sum(datasets.c.payload_bytes), 0)).where(is_on_its_way)
        written = (
            select(func.coalesce(func.sum(datablocks.c.size), 0))
            .join(datasets, datasets.c.pid == datablocks.c.pid)
            .where(is_on_its_way)
        )
        with self._transaction() as connection:
            planned = connection.execute(payload).scalar_one() - connection.execute(written).scalar_one()
        return max(0, int(planned))

    def stage_counts(self) -> list[StageCount]:
        """Data sets by the stage they are at; stages without any are left out."""
        by_stage = (
            select(
                datasets.c.stage,
                func.count().label("count"),
                func.count(datasets.c.holder).label("held"),
                func.min(datasets.c.updated_at).label("oldest"),
            )
            .group_by(datasets.c.stage)
            .order_by(datasets.c.stage)
        )
        with self._transaction() as connection:
            rows = connection.execute(by_stage).all()
        return [StageCount(**{**fields(row), "stage": Stage(row.stage)}) for row in rows]

    def unfinished_datasets(self, limit: int) -> list[DatasetRecord]:
        """Up to `limit` data sets that failed or are on their way, the newest change first."""
        newest = (
            select(datasets)
            .where(datasets.c.stage.not_in([stage for stage in Stage if stage.is_settled]))
            .order_by(datasets.c.updated_at.desc())
            .limit(limit)
        )
        with self._transaction() as connection:
            return [dataset_record(row) for row in connection.execute(newest)]

    def copy_totals(self) -> CopyTotals:
        """Copies that are ready to be downloaded."""
        copies = select(
            func.count(), func.coalesce(func.sum(retrievals.c.size), 0), func.min(retrievals.c.expires_at)
        ).where(retrievals.c.state == RetrievalState.READY)
        with self._transaction() as connection:
            count, size, expiry = connection.execute(copies).one()
        return CopyTotals(count, int(size), expiry)
