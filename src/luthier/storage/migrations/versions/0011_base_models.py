"""Where a base model came from, how large it is, and which path computes it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add three columns to the models."""
    op.add_column("models", sa.Column("source", sa.Text))
    op.add_column("models", sa.Column("num_bytes", sa.Integer))
    op.add_column("models", sa.Column("runs_on", sa.Text))


def downgrade() -> None:
    """Take them away again."""
    for name in ("runs_on", "num_bytes", "source"):
        op.drop_column("models", name)
