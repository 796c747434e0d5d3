"""Space granted to single objects and parts of an open upload."""

from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, Text, bindparam, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningUpdate

from archiver.workflow.ledger.database import Database, clock
from archiver.workflow.ledger.errors import NoOpenUploadError, OverReservationError
from archiver.workflow.ledger.records import UploadState
from archiver.workflow.ledger.tables import multipart_uploads, upload_objects, uploads

WHOLE_OBJECT = 0
"""Part number of an object that is not uploaded in parts."""


_is_open = uploads.c.state == UploadState.OPEN
_do_not_wait_for_the_disk = func.set_config("synchronous_commit", "off", True)
"""A hold lost with the server's last moments costs an inexact count, which reconciliation mends."""

# Order of locks, here and everywhere: rows of upload_objects first, then the row of uploads. So concurrent
# grants meet only in one short update of the running sum.


class Holds(Database):
    """Keeps the objects of an upload within its reservation."""

    def hold_object(self, pid: str, key: str, part: int, size: int) -> None:
        """Grants `size` bytes to an object (`part` 0) or to one of its parts, in place of an earlier grant.

        Counts as activity: the upload's expiry moves on.

        Raises:
            NoOpenUploadError: the data set has no open upload.
            OverReservationError: all grants together would be more than is reserved.
        """
        if part < 0 or size < 0:
            raise ValueError("Part numbers and sizes must not be negative.")
        with self._transaction() as connection:
            object_ = {"pid_now": pid, "key_now": key, "part_now": part, "size_now": size}
            if connection.execute(_GRANT, object_).one_or_none() is None:
                raise _refusal(connection, pid, key, size)

    def release_object(self, pid: str, key: str, part: int | None = None) -> None:
        """Takes back what was granted to a part, or with None to the object and all its parts.

        Nothing happens where nothing was granted or the upload is no longer open.
        """
        upload = select(uploads.c.id).where(uploads.c.pid == pid, _is_open).scalar_subquery()
        gone = delete(upload_objects).where(upload_objects.c.upload_id == upload, upload_objects.c.key == key)
        if part is not None:
            gone = gone.where(upload_objects.c.part == part)
        released = gone.returning(upload_objects.c.upload_id, upload_objects.c.size)
        with self._transaction() as connection:
            rows = connection.execute(released).all()
            if rows:
                connection.execute(
                    update(uploads)
                    .where(uploads.c.id == rows[0].upload_id, _is_open)
                    .values(held_bytes=uploads.c.held_bytes - sum(row.size for row in rows))
                )

    def held_objects(self, pid: str) -> list[tuple[str, int, int]]:
        """(key, part, size) of everything granted to the open upload, in order of key and part."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(upload_objects.c.key, upload_objects.c.part, upload_objects.c.size)
                .join(uploads, uploads.c.id == upload_objects.c.upload_id)
                .where(uploads.c.pid == pid, uploads.c.state == UploadState.OPEN)
                .order_by(upload_objects.c.key, upload_objects.c.part)
            ).all()
        return [(row.key, row.part, row.size) for row in rows]

    def open_multipart(self, pid: str, key: str, upload_id: str) -> None:
        """Remembers a multipart upload begun on S3, to be aborted when its client never ends it."""
        with self._transaction() as connection:
            connection.execute(
                insert(multipart_uploads).values(pid=pid, key=key, upload_id=upload_id).on_conflict_do_nothing()
            )

    def multiparts(self, pid: str) -> list[tuple[str, str]]:
        """(key, upload id) of the multipart uploads begun and not closed, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(multipart_uploads.c.key, multipart_uploads.c.upload_id)
                .where(multipart_uploads.c.pid == pid)
                .order_by(multipart_uploads.c.opened_at)
            ).all()
        return [(row.key, row.upload_id) for row in rows]

    def close_multipart(self, pid: str, key: str, upload_id: str) -> None:
        """Forgets a multipart upload that was completed or aborted."""
        with self._transaction() as connection:
            connection.execute(
                delete(multipart_uploads).where(
                    multipart_uploads.c.pid == pid,
                    multipart_uploads.c.key == key,
                    multipart_uploads.c.upload_id == upload_id,
                )
            )


def _grant_statement() -> ReturningUpdate[Any]:
    """Notes an object's size and adds the difference to the upload's sum; gives no row when it must not.

    Then what it noted has to be rolled back. One statement, so that the upload's row is locked briefly.
    """
    size = bindparam("size_now", type_=BigInteger)
    upload = select(
        uploads.c.id,
        bindparam("key_now", type_=Text),
        bindparam("part_now", type_=Integer),
        size,
        literal(0, BigInteger),
    ).where(uploads.c.pid == bindparam("pid_now", type_=Text), _is_open)
    noted = (
        insert(upload_objects)
        .from_select(["upload_id", "key", "part", "size", "size_before"], upload)
        .on_conflict_do_update(
            index_elements=list(upload_objects.primary_key),
            set_={"size": size, "size_before": upload_objects.c.size},
        )
        .returning(
            upload_objects.c.upload_id,
            (upload_objects.c.size - upload_objects.c.size_before).label("more"),
        )
        .cte("noted")
    )
    held = uploads.c.held_bytes + noted.c.more
    return (
        update(uploads)
        .where(
            uploads.c.id == noted.c.upload_id,
            _is_open,
            or_(held <= uploads.c.reserved_bytes, noted.c.more <= 0),
        )
        .values(
            held_bytes=held,
            touched_at=clock,
            expires_at=func.greatest(uploads.c.expires_at, clock + uploads.c.idle_time),
        )
        .returning(_do_not_wait_for_the_disk)
    )


_GRANT = _grant_statement()


def _refusal(connection: Connection, pid: str, key: str, size: int) -> NoOpenUploadError | OverReservationError:
    upload = connection.execute(select(uploads).where(uploads.c.pid == pid, _is_open)).one_or_none()
    if upload is None:
        return NoOpenUploadError(f"There is no open upload of {pid}. Request an upload first.")
    return OverReservationError(
        f"{size} bytes for {key!r} do not fit: {upload.reserved_bytes} bytes are reserved for {pid}, "
        f"{upload.held_bytes} are granted. Abort the upload and request it again with its full size."
    )
