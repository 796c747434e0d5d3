"""Who works on a data set, how far it has come, and its datablocks."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    delete,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.errors import ClaimLostError, DatasetBusyError
from archiver.workflow.ledger import tables
from archiver.workflow.ledger.counters import STAGE_SECONDS, add_to_counter
from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.records import Claim, DatablockRecord, DatasetRecord, Stage

ARCHIVED = (Stage.PUBLISHED, Stage.REGISTERED, Stage.EMPTIED)
"""Stages in which there is a bag on the share that is given out."""
GONE = (Stage.REMOVING, Stage.REMOVED)
"""Stages in which there is no bag any more."""
WITHDRAWN = (Stage.RETIRED, *GONE)
"""Stages in which nothing of a data set is given out, in the order in which they come."""


def held_by(claim: Claim) -> ColumnElement[bool]:
    """The row of the claimed data set, while the claim holds."""
    return (
        (tables.datasets.c.pid == claim.pid)
        & (tables.datasets.c.fence == claim.fence)
        & (tables.datasets.c.holder == claim.holder)
    )


def claim_lost(claim: Claim) -> ClaimLostError:
    """What is raised where it no longer holds."""
    return ClaimLostError(
        f"The claim {claim.fence} of {claim.holder} on {claim.pid} is gone: another run has it, or it was "
        "released. This run must stop; the other one goes on."
    )


def _progress(stage: Stage, files: int | None, payload_bytes: int | None, message: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "files": func.coalesce(literal(files, BigInteger), tables.datasets.c.files),
        "payload_bytes": func.coalesce(literal(payload_bytes, BigInteger), tables.datasets.c.payload_bytes),
        "message": message,
        "updated_at": clock,
        "archived_at": func.coalesce(tables.datasets.c.archived_at, clock if stage in ARCHIVED else null()),
    }


def dataset_record(row: Row[Any]) -> DatasetRecord:
    """A row of the table of data sets."""
    found = fields(row)
    return DatasetRecord(**{**found, "stage": Stage(found["stage"])})


def datablock_record(row: Row[Any]) -> DatablockRecord:
    """A row of the table of datablocks."""
    found = fields(row)
    del found["checked_at"]
    return DatablockRecord(**found)


class Datasets(Database):
    """Claims on data sets and what was done under them. Every write is refused when the claim is lost."""

    def claim_dataset(self, pid: str, holder: str, timeout: timedelta) -> Claim:
        """The right to work on `pid`, with a fence one higher than that of the claim before.

        The recorded stage stays: the run goes on from there. A holder may claim again what it holds; its
        earlier claim is lost by that.

        Raises:
            DatasetBusyError: another holder gave a sign of life less than `timeout` ago.
        """
        statement = (
            insert(tables.datasets)
            .values(pid=pid, stage=Stage.CLAIMED, fence=1, holder=holder, heartbeat_at=clock)
            .on_conflict_do_update(
                index_elements=[tables.datasets.c.pid],
                set_={
                    "fence": tables.datasets.c.fence + 1,
                    "holder": holder,
                    "heartbeat_at": clock,
                    "updated_at": clock,
                },
                where=or_(
                    tables.datasets.c.holder.is_(None),
                    tables.datasets.c.holder == holder,
                    tables.datasets.c.heartbeat_at <= clock - literal(timeout),
                ),
            )
            .returning(tables.datasets.c.fence)
        )
        with self._transaction() as connection:
            fence = connection.execute(statement).scalar_one_or_none()
            if fence is None:
                other = connection.execute(
                    select(tables.datasets.c.holder).where(tables.datasets.c.pid == pid)
                ).scalar_one()
                raise DatasetBusyError(
                    f"{pid} is being worked on by {other}. Try again when that run has ended, "
                    f"or {timeout.total_seconds():g} s after it died."
                )
        return Claim(pid, fence, holder)

    def heartbeat(self, claim: Claim) -> None:
        """Shows that the holder is alive.

        Raises:
            ClaimLostError: it no longer holds the data set.
        """
        with self._transaction() as connection:
            alive = update(tables.datasets).where(held_by(claim)).values(heartbeat_at=clock)
            if connection.execute(alive).rowcount == 0:
                raise claim_lost(claim)

    def check_claim(self, claim: Claim) -> None:
        """Returns when the claim holds.

        Raises:
            ClaimLostError: it does not.
        """
        with self._transaction() as connection:
            found = connection.execute(select(tables.datasets.c.pid).where(held_by(claim))).one_or_none()
        if found is None:
            raise claim_lost(claim)

    def release_claim(self, claim: Claim) -> None:
        """Ends the claim; nothing happens when it is lost already."""
        with self._transaction() as connection:
            connection.execute(
                update(tables.datasets).where(held_by(claim)).values(holder=None, heartbeat_at=None, updated_at=clock)
            )

    def record_stage(
        self,
        claim: Claim,
        stage: Stage,
        *,
        files: int | None = None,
        payload_bytes: int | None = None,
        message: str = "",
    ) -> None:
        """Notes the stage the run finished, or with `Stage.FAILED` and a message that it failed.

        Numbers left out stay as they are. A sign of life, too.

        Raises:
            ClaimLostError: nothing was noted.
        """
        progress = _progress(stage, files, payload_bytes, message)
        with self._transaction() as connection:
            before = select(clock - tables.datasets.c.updated_at).where(held_by(claim)).with_for_update()
            took = connection.execute(before).scalar_one_or_none()
            if took is None:
                raise claim_lost(claim)
            noted = update(tables.datasets).where(held_by(claim)).values(**progress, heartbeat_at=clock)
            connection.execute(noted)
            add_to_counter(connection, STAGE_SECONDS, stage, took.total_seconds())

    def record_datablock(self, claim: Claim, datablock: DatablockRecord) -> None:
        """Notes a datablock, in place of what was noted of the same `archive_id`.

        Raises:
            ClaimLostError: nothing was noted.
            ValueError: the datablock is of another data set.
        """
        with self._transaction() as connection:
            _write_datablock(connection, claim, datablock)

    def adopt_dataset(
        self,
        claim: Claim,
        stage: Stage,
        datablocks: Sequence[DatablockRecord],
        files: int,
        payload_bytes: int,
    ) -> None:
        """Notes what was found on the share and verified: the stage and exactly these datablocks, at once.

        Raises:
            ClaimLostError: nothing was noted.
            ValueError: a datablock is of another data set.
        """
        progress = _progress(stage, files, payload_bytes, "")
        with self._transaction() as connection:
            noted = update(tables.datasets).where(held_by(claim)).values(**progress, heartbeat_at=clock)
            if connection.execute(noted).rowcount == 0:
                raise claim_lost(claim)
            found = [datablock.archive_id for datablock in datablocks]
            connection.execute(
                delete(tables.datablocks).where(
                    tables.datablocks.c.pid == claim.pid, tables.datablocks.c.archive_id.not_in(found)
                )
            )
            for datablock in datablocks:
                _write_datablock(connection, claim, datablock)

    def dataset(self, pid: str) -> DatasetRecord | None:
        """What is noted of a data set; None when it was never claimed."""
        with self._transaction() as connection:
            row = connection.execute(select(tables.datasets).where(tables.datasets.c.pid == pid)).one_or_none()
        return None if row is None else dataset_record(row)

    def datasets(self, stage: Stage | None = None) -> list[DatasetRecord]:
        """All data sets, or those at `stage`, in order of pid."""
        statement = select(tables.datasets).order_by(tables.datasets.c.pid)
        if stage is not None:
            statement = statement.where(tables.datasets.c.stage == stage)
        with self._transaction() as connection:
            return [dataset_record(row) for row in connection.execute(statement)]

    def datablocks(self, pid: str) -> list[DatablockRecord]:
        """The data set's datablocks in order of their index."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(tables.datablocks).where(tables.datablocks.c.pid == pid).order_by(tables.datablocks.c.index)
            ).all()
        return [datablock_record(row) for row in rows]

    def forget_dataset(self, pid: str) -> bool:
        """Removes all that is noted of a data set and its datablocks; False when nothing was.

        The share is not touched: a bag that is there is adopted again by the next run.
        """
        with self._transaction() as connection:
            # Locked first: no run that still holds it can note another datablock meanwhile.
            connection.execute(select(tables.datasets.c.pid).where(tables.datasets.c.pid == pid).with_for_update())
            connection.execute(delete(tables.datablocks).where(tables.datablocks.c.pid == pid))
            connection.execute(delete(tables.retirements).where(tables.retirements.c.pid == pid))
            return connection.execute(delete(tables.datasets).where(tables.datasets.c.pid == pid)).rowcount == 1


def _write_datablock(connection: Connection, claim: Claim, datablock: DatablockRecord) -> None:
    if datablock.pid != claim.pid:
        raise ValueError(f"{datablock.archive_id} is of {datablock.pid}, the claim is for {claim.pid}.")
    values = asdict(datablock)
    # The lock makes a claim that is being taken over at this moment wait for us, or us for it.
    still_held = select(tables.datasets.c.pid).where(held_by(claim)).with_for_update(read=True).cte("still_held")
    row = [literal(value, tables.datablocks.c[name].type) for name, value in values.items()]
    statement = (
        insert(tables.datablocks)
        .from_select(list(values), select(*row).select_from(still_held))
        .on_conflict_do_update(index_elements=[tables.datablocks.c.archive_id], set_=values)
        .returning(tables.datablocks.c.archive_id)
    )
    if connection.execute(statement).one_or_none() is None:
        raise claim_lost(claim)
