"""Data sets that are withdrawn, and the stages they are at."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BEFORE = "'claimed', 'planned', 'written', 'verified', 'published', 'registered', 'emptied', 'failed'"


def _allow(stages: str) -> None:
    name = op.f("ck_datasets_stage_known")
    op.drop_constraint(name, "datasets", type_="check")
    op.create_check_constraint(name, "datasets", f"stage IN ({stages})")


def upgrade() -> None:
    """Makes the table, and allows the stages."""
    _allow(f"{_BEFORE}, 'retired', 'removing', 'removed'")
    op.create_table(
        "retirements",
        sa.Column("pid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("restorable_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("message", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("word", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("word_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stage_before", sa.Text(), nullable=True),
        sa.Column("told", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'retired', 'restored', 'removing', 'removed')",
            name=op.f("ck_retirements_state_known"),
        ),
        sa.ForeignKeyConstraint(["pid"], ["datasets.pid"], name=op.f("fk_retirements_pid")),
        sa.PrimaryKeyConstraint("pid", name=op.f("pk_retirements")),
    )


def downgrade() -> None:
    """Removes it; fails where a data set is at such a stage, for an older version would give it out."""
    op.drop_table("retirements")
    _allow(_BEFORE)
