"""Reserved space in the landing zone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock, fields, lock_until_commit
from archiver.workflow.ledger.errors import (
    LargerThanLandingZoneError,
    NoLandingSpaceError,
    NoOpenUploadError,
    UploadFinalizedError,
    UploadOpenError,
)
from archiver.workflow.ledger.records import LandingUsage, UploadRecord, UploadState
from archiver.workflow.ledger.tables import upload_objects, uploads

RESERVATION_LOCK = 0x61_72_63_68_01
"""Advisory lock under which space is granted, one request after the other."""

LIVE = (UploadState.OPEN, UploadState.FINALIZED)
"""States in which an upload takes space."""

_is_live = uploads.c.state.in_(LIVE)
_is_open = uploads.c.state == UploadState.OPEN
_committed: ColumnElement[int] = func.greatest(uploads.c.reserved_bytes, uploads.c.landed_bytes, uploads.c.held_bytes)
_is_left_behind = ~_is_live & (uploads.c.landed_bytes > 0)
"""Of a closed upload nothing is reserved any more, but what it uploaded still lies there: it expired, its abort was
broken off, or a URL was used after its end."""
_is_newest = uploads.c.id.in_(select(func.max(uploads.c.id)).group_by(uploads.c.pid))
"""The last upload of its data set."""
_takes_space = or_(_is_live, _is_left_behind)
_taken: ColumnElement[int] = case((_is_live, _committed), else_=uploads.c.landed_bytes)


def _total(expression: ColumnElement[int], *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    counted = func.sum(expression).filter(*conditions) if conditions else func.sum(expression)
    return func.coalesce(counted, 0)


def _record(row: Row[Any]) -> UploadRecord:
    found = fields(row)
    del found["id"], found["idle_time"]
    return UploadRecord(**{**found, "state": UploadState(found["state"])})


def _live_upload(connection: Connection, pid: str) -> UploadRecord | None:
    """The open or finalized upload of `pid`, locked."""
    row = connection.execute(select(uploads).where(uploads.c.pid == pid, _is_live).with_for_update()).one_or_none()
    return None if row is None else _record(row)


def _close(
    connection: Connection, state: UploadState, *conditions: ColumnElement[bool], **changes: ColumnElement[int]
) -> list[UploadRecord]:
    """Ends open uploads."""
    values = {"state": state, "held_bytes": 0, "touched_at": clock, **changes}
    rows = connection.execute(update(uploads).where(_is_open, *conditions).values(values).returning(uploads)).all()
    return [_record(row) for row in rows]


class Uploads(Database):
    """Uploads and the space they may take: at most one open or finalized upload per data set."""

    def reserve_upload(
        self,
        pid: str,
        holder: str,
        owner_group: str,
        announced_bytes: int,
        reserved_bytes: int,
        capacity_bytes: int,
        expires_at: datetime,
    ) -> UploadRecord:
        """Sets `reserved_bytes` of the landing zone aside, if all uploads together stay within the capacity.

        The same holder asking again replaces the reservation; what is held for objects stays held. The time
        from now to `expires_at` is the idle time: each object held moves the expiry on to that far ahead.

        Raises:
            LargerThanLandingZoneError: more than the whole capacity is asked for.
            NoLandingSpaceError: there is no room now.
            UploadOpenError: somebody else has an open upload of the data set.
            UploadFinalizedError: the data set's upload is finished and not yet archived.
        """
        if min(announced_bytes, reserved_bytes) < 0:
            raise ValueError("Sizes must not be negative.")
        if reserved_bytes > capacity_bytes:
            raise LargerThanLandingZoneError(capacity_bytes, reserved_bytes)
        values = {
            "holder": holder,
            "owner_group": owner_group,
            "announced_bytes": announced_bytes,
            "reserved_bytes": reserved_bytes,
            "expires_at": expires_at,
            "idle_time": func.greatest(literal(expires_at, uploads.c.expires_at.type) - clock, func.make_interval()),
            "touched_at": clock,
        }
        with self._transaction() as connection:
            lock_until_commit(connection, RESERVATION_LOCK)
            present = _live_upload(connection, pid)
            if present is not None and present.state is UploadState.FINALIZED:
                raise UploadFinalizedError(
                    f"The upload of {pid} is finished and waits to be archived. To upload it again, "
                    "take that upload back first (abortDatasetUpload)."
                )
            if present is not None and present.holder != holder:
                raise UploadOpenError(
                    f"{pid} is being uploaded by {present.holder}. Wait until that upload is finished or aborted."
                )
            others = connection.execute(select(_total(_taken)).where(_takes_space, uploads.c.pid != pid)).scalar_one()
            left = connection.execute(
                select(_total(uploads.c.landed_bytes)).where(_is_left_behind, uploads.c.pid == pid)
            ).scalar_one()
            needed = max(reserved_bytes, present.landed_bytes, present.held_bytes) if present else reserved_bytes
            if others + max(needed, int(left)) > capacity_bytes:
                raise NoLandingSpaceError(max(capacity_bytes - int(others), 0), reserved_bytes)
            if present is None:
                # What a closed upload of the data set left behind is this one's from now on.
                connection.execute(update(uploads).where(_is_left_behind, uploads.c.pid == pid).values(landed_bytes=0))
                statement = (
                    insert(uploads)
                    .values(pid=pid, state=UploadState.OPEN, landed_bytes=int(left), **values)
                    .returning(uploads)
                )
                return _record(connection.execute(statement).one())
            replaced = update(uploads).where(uploads.c.pid == pid, _is_open).values(values).returning(uploads)
            return _record(connection.execute(replaced).one())

    def adopt_upload(
        self, pid: str, holder: str, owner_group: str, landed_bytes: int, expires_at: datetime
    ) -> UploadRecord | None:
        """Opens an upload for data in the landing zone that the ledger does not know, whatever the capacity.

        None when the data set has an open or finalized upload already.
        """
        statement = (
            insert(uploads)
            .values(
                pid=pid,
                state=UploadState.OPEN,
                holder=holder,
                owner_group=owner_group,
                announced_bytes=landed_bytes,
                reserved_bytes=landed_bytes,
                landed_bytes=landed_bytes,
                expires_at=expires_at,
                idle_time=func.greatest(literal(expires_at, uploads.c.expires_at.type) - clock, func.make_interval()),
            )
            .on_conflict_do_nothing(index_elements=[uploads.c.pid], index_where=_is_live)
            .returning(uploads)
        )
        with self._transaction() as connection:
            lock_until_commit(connection, RESERVATION_LOCK)
            row = connection.execute(statement).one_or_none()
        return None if row is None else _record(row)

    def find_upload(self, pid: str) -> UploadRecord | None:
        """The open or finalized upload of the data set, else its newest one, else None."""
        with self._transaction() as connection:
            row = connection.execute(
                select(uploads).where(uploads.c.pid == pid).order_by(_is_live.desc(), uploads.c.id.desc()).limit(1)
            ).one_or_none()
        return None if row is None else _record(row)

    def uploads(self, states: Sequence[UploadState] = LIVE) -> list[UploadRecord]:
        """All uploads in one of `states`, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(select(uploads).where(uploads.c.state.in_(states)).order_by(uploads.c.id)).all()
        return [_record(row) for row in rows]

    def touch_upload(self, pid: str) -> None:
        """Counts as activity of the open upload, if there is one: its expiry moves on by the idle time."""
        with self._transaction() as connection:
            connection.execute(
                update(uploads)
                .where(uploads.c.pid == pid, _is_open)
                .values(touched_at=clock, expires_at=func.greatest(uploads.c.expires_at, clock + uploads.c.idle_time))
            )

    def finalize_upload(self, pid: str, landed_bytes: int) -> UploadRecord:
        """Ends an open upload: nothing more may be held for it, and what it reserved and did not use comes free.

        Finalizing again only notes `landed_bytes`.

        Raises:
            NoOpenUploadError: there is neither an open nor a finalized upload.
        """
        with self._transaction() as connection:
            if _live_upload(connection, pid) is None:
                raise NoOpenUploadError(f"There is no open upload of {pid}. Request an upload first.")
            _close(connection, UploadState.FINALIZED, uploads.c.pid == pid)
            row = connection.execute(
                update(uploads)
                .where(uploads.c.pid == pid, _is_live)
                .values(landed_bytes=landed_bytes, reserved_bytes=landed_bytes)
                .returning(uploads)
            ).one()
        self._forget_objects(upload_objects.c.upload_id == row.id)
        return _record(row)

    def abort_upload(self, pid: str, *, emptied: bool = True) -> UploadRecord | None:
        """Gives an open upload up and its space free; None when there is none.

        Where its objects are still to be deleted (not `emptied`), the space counts on as left behind until
        `record_left_behind` says what is there.

        Raises:
            UploadFinalizedError: the upload is finished; its data is on its way into the archive.
        """
        with self._transaction() as connection:
            present = _live_upload(connection, pid)
            if present is None:
                return None
            if present.state is UploadState.FINALIZED:
                raise UploadFinalizedError(f"The upload of {pid} is finished and can no longer be aborted.")
            left = literal(0, BigInteger) if emptied else _committed
            (closed,) = _close(connection, UploadState.ABORTED, uploads.c.pid == pid, landed_bytes=left)
        self._forget_objects(
            upload_objects.c.upload_id.in_(select(uploads.c.id).where(uploads.c.pid == pid, ~_is_open))
        )
        return closed

    def landing_emptied(self, pid: str) -> bool:
        """Gives the space of a finalized upload free; False when there is none."""
        with self._transaction() as connection:
            return (
                connection.execute(
                    update(uploads)
                    .where(uploads.c.pid == pid, uploads.c.state == UploadState.FINALIZED)
                    .values(state=UploadState.EMPTIED, landed_bytes=0, touched_at=clock)
                ).rowcount
                == 1
            )

    def expire_uploads(self, now: datetime) -> list[UploadRecord]:
        """Ends the open uploads that expired up to `now`; those."""
        with self._transaction() as connection:
            expired = _close(connection, UploadState.EXPIRED, uploads.c.expires_at <= now)
        self._forget_objects(upload_objects.c.upload_id.not_in(select(uploads.c.id).where(_is_open)))
        return expired

    def _forget_objects(self, which: ColumnElement[bool]) -> None:
        """Removes the grants of closed uploads, in a transaction of its own.

        Grants under way lock their object first and the upload then, see they are too late and undo
        themselves: removing them together with the closing would wait for them while they wait for it.
        """
        with self._transaction() as connection:
            connection.execute(delete(upload_objects).where(which))

    def record_landed(self, pid: str, landed_bytes: int) -> None:
        """Notes how many bytes lie in the landing zone for the open or finalized upload, if there is one."""
        with self._transaction() as connection:
            connection.execute(update(uploads).where(uploads.c.pid == pid, _is_live).values(landed_bytes=landed_bytes))

    def closed_since(self, since: datetime) -> list[UploadRecord]:
        """Uploads that ended since then in any way, where the data set has no newer one; oldest first."""
        statement = select(uploads).where(_is_newest, ~_is_live, uploads.c.touched_at >= since).order_by(uploads.c.id)
        with self._transaction() as connection:
            return [_record(row) for row in connection.execute(statement)]

    def left_behind(self) -> list[UploadRecord]:
        """Closed uploads of which something still lies in the landing zone, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(select(uploads).where(_is_left_behind).order_by(uploads.c.id)).all()
        return [_record(row) for row in rows]

    def record_left_behind(self, pid: str, landed_bytes: int) -> None:
        """Notes how many bytes of the data set lie in the landing zone without an upload: its newest one is closed.

        Where it is not, they are those of that one.
        """
        landed = case((_is_newest, literal(landed_bytes, BigInteger)), else_=literal(0, BigInteger))
        with self._transaction() as connection:
            connection.execute(update(uploads).where(uploads.c.pid == pid, ~_is_live).values(landed_bytes=landed))

    def landing_usage(self) -> LandingUsage:
        """What the open and finalized uploads take of the landing zone, and what closed ones left there."""
        statement = select(
            _total(uploads.c.reserved_bytes, _is_live),
            _total(uploads.c.landed_bytes),
            _total(_taken),
            func.count().filter(_is_open),
            func.count().filter(uploads.c.state == UploadState.FINALIZED),
            _total(uploads.c.landed_bytes, _is_left_behind),
        ).where(_takes_space)
        with self._transaction() as connection:
            row = connection.execute(statement).one()
        return LandingUsage(*(int(value) for value in row))
