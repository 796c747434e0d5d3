"""Copies of datablocks in the retrieval bucket."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.errors import ClaimLostError, DatasetBusyError
from archiver.workflow.ledger.counters import (
    RETRIEVED,
    RETRIEVED_BYTES,
    RETRIEVED_FILES,
    STAGE_SECONDS,
    add_to_counter,
)
from archiver.workflow.ledger.database import Database, clock, fields, lock_until_commit
from archiver.workflow.ledger.datasets import WITHDRAWN
from archiver.workflow.ledger.errors import NoRetrievalSpaceError
from archiver.workflow.ledger.records import RetrievalClaim, RetrievalRecord, RetrievalState
from archiver.workflow.ledger.tables import UtcDateTime, datablocks, datasets, retrieval_fences, retrievals
from archiver.workflow.names import DATASETS_FOLDER, parent_folders

RETRIEVAL_SPACE_LOCK = 0x61_72_63_68_03
"""Advisory lock under which space in the retrieval bucket is granted, one request after the other."""


def _held_by(claim: RetrievalClaim) -> ColumnElement[bool]:
    return (
        (retrievals.c.archive_id == claim.archive_id)
        & (retrievals.c.fence == claim.fence)
        & (retrievals.c.holder == claim.holder)
    )


def _lost(claim: RetrievalClaim) -> ClaimLostError:
    return ClaimLostError(
        f"The claim {claim.fence} of {claim.holder} on the copy of {claim.archive_id} is gone: another run "
        "has it, or it was released. This run must stop; the other one goes on."
    )


def _record(row: Row[Any]) -> RetrievalRecord:
    found = fields(row)
    del found["fence"], found["expiry_told"]
    return RetrievalRecord(**{**found, "state": RetrievalState(found["state"])})


def _later(expires_at: datetime) -> ColumnElement[datetime]:
    # GREATEST ignores NULL.
    return func.greatest(retrievals.c.expires_at, literal(expires_at, UtcDateTime))


def _is_withdrawn(connection: Connection, archive_id: str) -> bool:
    """Whether nothing of the data set is to be given out; which then stays so until the transaction ends.

    A withdrawal that is noted afterwards finds what this transaction did, and lets it expire.
    """
    above = parent_folders(archive_id.removeprefix(f"{DATASETS_FOLDER}/"))
    stages = select(datasets.c.stage).where(datasets.c.pid.in_(above)).with_for_update(read=True)
    return any(stage in WITHDRAWN for stage in connection.execute(stages).scalars())


def _taken(timeout: timedelta) -> ColumnElement[int]:
    """What a copy takes of the bucket: its size, and what is reserved for it while its holder lives."""
    is_alive = retrievals.c.heartbeat_at > clock - literal(timeout)
    reserved = case((is_alive, retrievals.c.reserved_bytes), else_=0)
    return func.greatest(func.coalesce(retrievals.c.size, 0), reserved)


def _check_space(connection: Connection, archive_id: str, timeout: timedelta, reserve: int, capacity: int) -> None:
    """Whether there is room for a claim just made; else what was done in the transaction is to be undone."""
    others = retrievals.c.archive_id != archive_id
    taken, next_free = connection.execute(
        select(
            func.coalesce(func.sum(_taken(timeout)).filter(others), 0),
            func.min(retrievals.c.expires_at).filter(others),
        )
    ).one()
    if taken + reserve > capacity:
        raise NoRetrievalSpaceError(capacity, max(0, capacity - int(taken)), reserve, next_free)


class Retrievals(Database):
    """Who copies which datablock, until when the copies are kept, and what they take of the bucket.

    Whoever copies or removes an object of the retrieval bucket holds the claim on it meanwhile.
    """

    def claim_retrieval(
        self, archive_id: str, holder: str, timeout: timedelta, *, reserve: int = 0, capacity: int | None = None
    ) -> RetrievalClaim:
        """The right to copy or remove the copy of `archive_id`, with a fence higher than all before.

        A copy that is ready stays so. `reserve` bytes of the bucket are set aside until the claim ends, if all
        copies together stay within the `capacity`; without one they always are.

        Raises:
            DatasetBusyError: another holder gave a sign of life less than `timeout` ago.
            NoRetrievalSpaceError: there is no room at the moment; nothing was claimed.
        """
        fence = retrieval_fences.next_value()
        statement = (
            insert(retrievals)
            .values(
                archive_id=archive_id,
                state=RetrievalState.COPYING,
                fence=fence,
                holder=holder,
                heartbeat_at=clock,
                reserved_bytes=reserve,
            )
            .on_conflict_do_update(
                index_elements=[retrievals.c.archive_id],
                set_={
                    "fence": fence,
                    "holder": holder,
                    "heartbeat_at": clock,
                    "updated_at": clock,
                    "reserved_bytes": reserve,
                },
                where=or_(
                    retrievals.c.holder.is_(None),
                    retrievals.c.holder == holder,
                    retrievals.c.heartbeat_at <= clock - literal(timeout),
                ),
            )
            .returning(retrievals.c.fence)
        )
        with self._transaction() as connection:
            if capacity is not None:
                lock_until_commit(connection, RETRIEVAL_SPACE_LOCK)
            granted = connection.execute(statement).scalar_one_or_none()
            if granted is None:
                raise DatasetBusyError(
                    f"{archive_id} is being copied by another run. Try again when that run has ended, "
                    f"or {timeout.total_seconds():g} s after it died."
                )
            if capacity is not None:
                _check_space(connection, archive_id, timeout, reserve, capacity)
        return RetrievalClaim(archive_id, granted, holder)

    def retrieval_bytes(self, timeout: timedelta) -> int:
        """What the copies take of the bucket; reservations of holders silent for `timeout` do not count."""
        with self._transaction() as connection:
            total = connection.execute(select(func.coalesce(func.sum(_taken(timeout)), 0))).scalar_one()
        return int(total)

    def heartbeat_retrieval(self, claim: RetrievalClaim) -> None:
        """Shows that the holder is alive.

        Raises:
            ClaimLostError: it no longer holds the copy.
        """
        with self._transaction() as connection:
            alive = update(retrievals).where(_held_by(claim)).values(heartbeat_at=clock)
            if connection.execute(alive).rowcount == 0:
                raise _lost(claim)

    def record_retrieved(self, claim: RetrievalClaim, size: int, sha256: str, expires_at: datetime) -> None:
        """Notes that the copy is complete and to be kept until `expires_at`, or longer where that was noted.

        One of a data set that was withdrawn meanwhile expires at once.

        Raises:
            ClaimLostError: nothing was noted.
        """
        ready = (
            update(retrievals)
            .where(_held_by(claim))
            .values(
                state=RetrievalState.READY,
                size=size,
                sha256=sha256,
                heartbeat_at=clock,
                updated_at=clock,
                reserved_bytes=0,
            )
        )
        with self._transaction() as connection:
            before = select(clock - retrievals.c.updated_at).where(_held_by(claim)).with_for_update()
            took = connection.execute(before).scalar_one_or_none()
            if took is None:
                raise _lost(claim)
            is_withdrawn = _is_withdrawn(connection, claim.archive_id)
            connection.execute(ready.values(expires_at=clock if is_withdrawn else _later(expires_at)))
            files = select(datablocks.c.files).where(datablocks.c.archive_id == claim.archive_id)
            add_to_counter(connection, STAGE_SECONDS, RETRIEVED, took.total_seconds())
            add_to_counter(connection, RETRIEVED_BYTES, "", size)
            # The older service's datablocks are not in the ledger: their files are not counted.
            add_to_counter(connection, RETRIEVED_FILES, "", connection.execute(files).scalar_one_or_none() or 0)

    def release_retrieval(self, claim: RetrievalClaim) -> None:
        """Ends the claim; nothing happens when it is lost already."""
        with self._transaction() as connection:
            connection.execute(
                update(retrievals)
                .where(_held_by(claim))
                .values(holder=None, heartbeat_at=None, updated_at=clock, reserved_bytes=0)
            )

    def retrieval(self, archive_id: str) -> RetrievalRecord | None:
        """What is noted of the copy; None when there is none."""
        with self._transaction() as connection:
            row = connection.execute(select(retrievals).where(retrievals.c.archive_id == archive_id)).one_or_none()
        return None if row is None else _record(row)

    def retrievals_at_work(self, timeout: timedelta) -> int:
        """How many copies somebody holds who gave a sign of life less than `timeout` ago."""
        held = select(func.count()).where(
            retrievals.c.holder.is_not(None), retrievals.c.heartbeat_at > clock - literal(timeout)
        )
        with self._transaction() as connection:
            return int(connection.execute(held).scalar_one())

    def extend_retrieval(self, archive_id: str, expires_at: datetime) -> bool:
        """Keeps a copy that is ready at least until `expires_at`; False when there is none to be given out."""
        longer = (
            update(retrievals)
            .where(retrievals.c.archive_id == archive_id, retrievals.c.state == RetrievalState.READY)
            .values(expires_at=_later(expires_at), updated_at=clock)
        )
        with self._transaction() as connection:
            return not _is_withdrawn(connection, archive_id) and connection.execute(longer).rowcount == 1

    def begin_removal(self, claim: RetrievalClaim, now: datetime) -> bool:
        """From here on nobody counts on the copy: it can no longer be extended. False when it is not expired.

        One statement, so that an extension comes either before it and keeps the copy, or after it and fails. A copy
        that was never completed has no expiry: whoever has the claim on it may remove it.
        """
        ending = (
            update(retrievals)
            .where(_held_by(claim), or_(retrievals.c.expires_at <= now, retrievals.c.expires_at.is_(None)))
            .values(state=RetrievalState.COPYING, updated_at=clock)
        )
        with self._transaction() as connection:
            return connection.execute(ending).rowcount == 1

    def expired_retrievals(self, now: datetime, abandoned_for: timedelta = timedelta(days=1)) -> list[RetrievalRecord]:
        """The copies that may be removed at `now`, longest expired first; then those begun and never completed.

        The latter when nobody gave a sign of life, nor began again, for `abandoned_for`. Claim each and look at it
        again before removing it: it may have been extended meanwhile.
        """
        last_sign = func.coalesce(retrievals.c.heartbeat_at, retrievals.c.updated_at)
        abandoned = retrievals.c.expires_at.is_(None) & (last_sign <= literal(now - abandoned_for, UtcDateTime))
        with self._transaction() as connection:
            rows = connection.execute(
                select(retrievals)
                .where(or_(retrievals.c.expires_at <= now, abandoned))
                .order_by(retrievals.c.expires_at, retrievals.c.archive_id)
            ).all()
        return [_record(row) for row in rows]

    def expiring_untold(self, before: datetime) -> list[RetrievalRecord]:
        """The copies that are ready, expire by then, and of whose expiry nobody was told; soonest first."""
        soon = (
            select(retrievals)
            .where(
                retrievals.c.state == RetrievalState.READY,
                retrievals.c.expires_at <= before,
                retrievals.c.expiry_told.is_distinct_from(retrievals.c.expires_at),
            )
            .order_by(retrievals.c.expires_at)
        )
        with self._transaction() as connection:
            return [_record(row) for row in connection.execute(soon)]

    def mark_expiry_told(self, record: RetrievalRecord) -> None:
        """Notes that somebody was told when this copy expires; one that was extended since is to be told again."""
        told = (
            update(retrievals)
            .where(retrievals.c.archive_id == record.archive_id)
            .values(expiry_told=literal(record.expires_at, UtcDateTime))
        )
        with self._transaction() as connection:
            connection.execute(told)

    def forget_retrieval(self, archive_id: str, claim: RetrievalClaim | None = None) -> bool:
        """Removes what is noted of a copy that is gone from the bucket; False when nothing was noted.

        Raises:
            ClaimLostError: a claim was given and is lost; nothing was removed.
        """
        gone = delete(retrievals).where(retrievals.c.archive_id == archive_id)
        if claim is not None:
            gone = gone.where(_held_by(claim))
        with self._transaction() as connection:
            removed = connection.execute(gone).rowcount == 1
        if claim is not None and not removed:
            raise _lost(claim)
        return removed
