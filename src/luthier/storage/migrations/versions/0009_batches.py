"""Batches."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    times = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at")
    counts = ("num_total", "num_completed", "num_failed", "input_tokens", "output_tokens")
    op.create_table(
        "batches",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file_id", sa.Text, nullable=False),
        sa.Column("input_sha256", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("metadata", sa.JSON(none_as_null=True)),
        sa.Column("file_seconds", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Integer) for name in times),
        *(sa.Column(name, sa.Integer, nullable=False) for name in counts),
        sa.Column("output_file_id", sa.Text),
        sa.Column("error_file_id", sa.Text),
        sa.Column("errors", sa.JSON, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False, server_default="proj_default"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batches_project_id_seq", "batches", ["project_id", "seq"])
    op.create_index("ix_batches_status", "batches", ["status"])


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("batches")
