"""Permissions of checkpoints, and where a paused job goes on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of permissions and the column of pauses."""
    op.create_table(
        "checkpoint_permissions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.UniqueConstraint("model_name", "project_id", name="uq_checkpoint_permissions_model_name_project_id"),
        sqlite_autoincrement=True,
    )
    op.add_column("jobs", sa.Column("paused_from", sa.Text))


def downgrade() -> None:
    """Take both away again."""
    op.drop_column("jobs", "paused_from")
    op.drop_table("checkpoint_permissions")
