"""By which requests dataset tasks were made, so that a repeated one finds its task."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "task_creations",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("task_id", sa.Text, sa.ForeignKey("dataset_tasks.id"), nullable=False),
        sa.Column("api_key_id", sa.Text, nullable=False),
        sa.Column("body_sha256", sa.Text, nullable=False),
        sa.Column("retry_count", sa.Integer, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("consumed", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_task_creations_api_key_id_body_sha256", "task_creations", ["api_key_id", "body_sha256"])
    op.create_index("ix_task_creations_received_at", "task_creations", ["received_at"])


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("task_creations")
