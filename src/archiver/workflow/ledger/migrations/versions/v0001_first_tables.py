"""First tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateSequence, DropSequence

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_retrieval_fences = sa.Sequence("retrieval_fences", data_type=sa.BigInteger)


def upgrade() -> None:
    """Makes all tables of the first version."""
    op.execute(CreateSequence(_retrieval_fences))
    op.create_table(
        "datasets",
        sa.Column("pid", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=True),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "stage IN ('claimed', 'planned', 'written', 'verified', 'published', 'registered', 'emptied', 'failed')",
            name=op.f("ck_datasets_stage_known"),
        ),
        sa.PrimaryKeyConstraint("pid", name=op.f("pk_datasets")),
    )
    op.create_index("ix_datasets_stage", "datasets", ["stage"], unique=False)
    op.create_table(
        "fixity_checks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("archive_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column(
            "checked_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "outcome IN ('ok', 'damaged', 'missing', 'unreadable', 'skipped')",
            name=op.f("ck_fixity_checks_outcome_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fixity_checks")),
    )
    op.create_index("ix_fixity_checks_archive_id_id", "fixity_checks", ["archive_id", "id"], unique=False)
    op.create_table(
        "multipart_uploads",
        sa.Column("pid", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("pid", "key", "upload_id", name=op.f("pk_multipart_uploads")),
    )
    op.create_table(
        "retrievals",
        sa.Column("archive_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "state <> 'ready' OR (size IS NOT NULL AND sha256 IS NOT NULL AND expires_at IS NOT NULL)",
            name=op.f("ck_retrievals_ready_complete"),
        ),
        sa.CheckConstraint("state IN ('copying', 'ready')", name=op.f("ck_retrievals_state_known")),
        sa.PrimaryKeyConstraint("archive_id", name=op.f("pk_retrievals")),
    )
    op.create_index("ix_retrievals_expires_at", "retrievals", ["expires_at"], unique=False)
    op.create_table(
        "runs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "run_id", name=op.f("pk_runs")),
    )
    op.create_table(
        "services",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_services")),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "sessions",
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("groups", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "recorded_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("sid", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_recorded_at", "sessions", ["recorded_at"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("pid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("owner_group", sa.Text(), nullable=False),
        sa.Column("announced_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("landed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("held_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "touched_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("idle_time", sa.Interval(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('open', 'finalized', 'emptied', 'aborted', 'expired')", name=op.f("ck_uploads_state_known")
        ),
        sa.CheckConstraint(
            "announced_bytes >= 0 AND reserved_bytes >= 0 AND landed_bytes >= 0 AND held_bytes >= 0",
            name=op.f("ck_uploads_bytes_not_negative"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_pid", "uploads", ["pid"], unique=False)
    op.create_index(
        "uq_uploads_live_pid",
        "uploads",
        ["pid"],
        unique=True,
        postgresql_where=sa.text("state IN ('open', 'finalized')"),
    )
    op.create_table(
        "datablocks",
        sa.Column("archive_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("packed_size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["pid"], ["datasets.pid"], name=op.f("fk_datablocks_pid")),
        sa.PrimaryKeyConstraint("archive_id", name=op.f("pk_datablocks")),
    )
    op.create_index(
        "ix_datablocks_checked_at", "datablocks", [sa.text("checked_at NULLS FIRST"), "archive_id"], unique=False
    )
    op.create_index("ix_datablocks_pid_index", "datablocks", ["pid", "index"], unique=False)
    op.create_table(
        "upload_objects",
        sa.Column("upload_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("size_before", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("part >= 0 AND size >= 0", name=op.f("ck_upload_objects_not_negative")),
        sa.PrimaryKeyConstraint("upload_id", "key", "part", name=op.f("pk_upload_objects")),
    )


def downgrade() -> None:
    """Removes them all."""
    for table in (
        "upload_objects",
        "multipart_uploads",
        "uploads",
        "datablocks",
        "datasets",
        "retrievals",
        "fixity_checks",
        "runs",
        "services",
        "sessions",
        "facts",
    ):
        op.drop_table(table)
    op.execute(DropSequence(_retrieval_fences))
