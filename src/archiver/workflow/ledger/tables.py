"""The ledger's tables as the code works with them. `migrations/` makes them; a test keeps the two equal."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    text,
)

from archiver.workflow.ledger.records import FixityOutcome, RetirementState, RetrievalState, Stage, UploadState


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time. Refuses times without a zone, gives back UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """`value` as it is.

        Raises:
            ValueError: it has no zone.
        """
        if value is not None and value.tzinfo is None:
            raise ValueError(f"A time in the ledger must have a zone: {value!r}.")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """`value` in UTC."""
        return None if value is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: Iterable[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _moment(name: str, **options: Any) -> Column[datetime]:
    return Column(name, UtcDateTime, **options)


def _now(name: str) -> Column[datetime]:
    return _moment(name, nullable=False, server_default=text("clock_timestamp()"))


sessions = Table(
    "sessions",
    metadata,
    Column("sid", Text, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("groups", ARRAY(Text), nullable=False),
    _now("recorded_at"),
    Index(None, "recorded_at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("pid", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("owner_group", Text, nullable=False),
    Column("announced_bytes", BigInteger, nullable=False),
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("landed_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("held_bytes", BigInteger, nullable=False, server_default=text("0")),
    _now("created_at"),
    _now("touched_at"),
    Column("idle_time", Interval, nullable=False),
    _moment("expires_at", nullable=False),
    _one_of("state", UploadState),
    CheckConstraint(
        "announced_bytes >= 0 AND reserved_bytes >= 0 AND landed_bytes >= 0 AND held_bytes >= 0",
        name="bytes_not_negative",
    ),
    Index("uq_uploads_live_pid", "pid", unique=True, postgresql_where=text("state IN ('open', 'finalized')")),
    Index(None, "pid"),
)

upload_objects = Table(
    "upload_objects",
    metadata,
    # No foreign key: its check would lock the upload's row, on which all concurrent grants meet.
    Column("upload_id", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("size_before", BigInteger, nullable=False),
    PrimaryKeyConstraint("upload_id", "key", "part"),
    CheckConstraint("part >= 0 AND size >= 0", name="not_negative"),
)

# Named by pid, not by upload: leftovers have to be aborted also when the upload itself is long over.
multipart_uploads = Table(
    "multipart_uploads",
    metadata,
    Column("pid", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("upload_id", Text, nullable=False),
    _now("opened_at"),
    PrimaryKeyConstraint("pid", "key", "upload_id"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("pid", Text, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("holder", Text),
    _moment("heartbeat_at"),
    Column("files", BigInteger),
    Column("payload_bytes", BigInteger),
    Column("message", Text, nullable=False, server_default=text("''")),
    _now("updated_at"),
    _moment("archived_at"),
    _one_of("stage", Stage),
    Index(None, "stage"),
)

# Made by a request, before anything happens to the data set.
retirements = Table(
    "retirements",
    metadata,
    Column("pid", Text, ForeignKey("datasets.pid"), primary_key=True),
    Column("state", Text, nullable=False),
    _moment("at", nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("restorable_until"),
    Column("message", Text, nullable=False, server_default=text("''")),
    Column("word", Text, nullable=False, server_default=text("''")),
    _moment("word_until"),
    Column("stage_before", Text),
    Column("told", Boolean, nullable=False, server_default=text("false")),
    _one_of("state", RetirementState),
)

datablocks = Table(
    "datablocks",
    metadata,
    Column("archive_id", Text, primary_key=True),
    Column("pid", Text, ForeignKey("datasets.pid"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("packed_size", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("proof", Text, nullable=False),
    _moment("verified_at"),
    _moment("checked_at"),
    Index(None, "pid", "index"),
    Index(
        "ix_datablocks_checked_at",
        text("checked_at NULLS FIRST"),
        "archive_id",
    ),
)

retrieval_fences = Sequence("retrieval_fences", metadata=metadata, data_type=BigInteger)
"""One sequence for all: a fence never comes again, not even after a copy was forgotten and made anew."""

retrievals = Table(
    "retrievals",
    metadata,
    Column("archive_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("holder", Text),
    _moment("heartbeat_at"),
    Column("size", BigInteger),
    Column("sha256", Text),
    _moment("expires_at"),
    _now("updated_at"),
    Column("reserved_bytes", BigInteger, nullable=False, server_default=text("0")),
    _moment("expiry_told"),
    _one_of("state", RetrievalState),
    CheckConstraint(
        "state <> 'ready' OR (size IS NOT NULL AND sha256 IS NOT NULL AND expires_at IS NOT NULL)",
        name="ready_complete",
    ),
    CheckConstraint("reserved_bytes >= 0", name="reserved_not_negative"),
    Index(None, "expires_at"),
)

fixity_checks = Table(
    "fixity_checks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("archive_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("proof", Text, nullable=False),
    Column("detail", Text, nullable=False),
    _now("checked_at"),
    Column("copy", Text, nullable=False, server_default=""),
    _one_of("outcome", FixityOutcome),
    Index(None, "archive_id", "id"),
)

disagreements = Table(
    "disagreements",
    metadata,
    Column("pid", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("detail", Text, nullable=False),
    _now("since"),
    _now("seen_at"),
)

runs = Table(
    "runs",
    metadata,
    Column("job_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("job_type", Text, nullable=False),
    _now("created_at"),
    PrimaryKeyConstraint("job_id", "attempt", "run_id"),
)

services = Table(
    "services",
    metadata,
    Column("service", Text, primary_key=True),
    _moment("beat_at", nullable=False),
)

facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("total", Double, nullable=False),
    PrimaryKeyConstraint("name", "label"),
)

share_space = Table(
    "share_space",
    metadata,
    Column("share", Text, primary_key=True),
    Column("free_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    _now("measured_at"),
)
