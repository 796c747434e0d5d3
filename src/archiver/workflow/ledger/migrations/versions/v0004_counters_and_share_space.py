"""What is counted for operators, the room on the share, and whose expiry was told."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_counters")),
    )
    op.create_table(
        "share_space",
        sa.Column("share", sa.Text(), nullable=False),
        sa.Column("free_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "measured_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("share", name=op.f("pk_share_space")),
    )
    op.add_column("retrievals", sa.Column("expiry_told", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Removes them."""
    op.drop_column("retrievals", "expiry_told")
    op.drop_table("share_space")
    op.drop_table("counters")
