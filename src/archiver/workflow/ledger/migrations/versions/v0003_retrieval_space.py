"""Space in the retrieval bucket."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Copies reserve the space they will take."""
    op.add_column(
        "retrievals", sa.Column("reserved_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.create_check_constraint(op.f("ck_retrievals_reserved_not_negative"), "retrievals", "reserved_bytes >= 0")


def downgrade() -> None:
    """Forgets what was reserved."""
    op.drop_column("retrievals", "reserved_bytes")
