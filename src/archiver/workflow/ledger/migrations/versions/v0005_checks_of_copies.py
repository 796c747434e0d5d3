"""Checks of datablocks tell on which share they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column: empty for the first share."""
    op.add_column("fixity_checks", sa.Column("copy", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Removes it, and the checks of copies, which would count as those of the first share."""
    op.execute("DELETE FROM fixity_checks WHERE copy <> ''")
    op.drop_column("fixity_checks", "copy")
