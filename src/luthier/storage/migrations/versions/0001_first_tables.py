"""The first tables: files, models, jobs with events and checkpoints, job creations, workers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table of the first schema."""
    _files_and_models()
    _jobs()
    _about_jobs()
    op.create_table(
        "workers",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("beat_at", sa.Float, nullable=False),
    )


def _files_and_models() -> None:
    op.create_table(
        "files",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Integer),
        sa.Column("deleted_at", sa.Float),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "models",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("owned_by", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("step", sa.Integer),
        sa.Column("row_format", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("deleted_at", sa.Float),
        sqlite_autoincrement=True,
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("parent_model", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("training_file", sa.Text, nullable=False),
        sa.Column("validation_file", sa.Text),
        sa.Column("training_sha256", sa.Text, nullable=False),
        sa.Column("validation_sha256", sa.Text),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("legacy_hyperparameters", sa.Boolean, nullable=False),
        sa.Column("hyperparameters", sa.JSON, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("suffix", sa.Text),
        sa.Column("metadata", sa.JSON),
        sa.Column("integrations", sa.JSON),
        sa.Column("fine_tuned_model", sa.Text),
        sa.Column("finished_at", sa.Integer),
        sa.Column("estimated_finish", sa.Integer),
        sa.Column("trained_tokens", sa.Integer),
        sa.Column("result_files", sa.JSON, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_expires_at", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("progress_step", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_status_seq", "jobs", ["status", "seq"])


def _about_jobs() -> None:
    op.create_table(
        "job_events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.JSON),
        sa.UniqueConstraint("job_id", "sequence", name="uq_job_events_job_id_sequence"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "checkpoints",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("step_number", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.UniqueConstraint("job_id", "step_number", name="uq_checkpoints_job_id_step_number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "creations",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("api_key_id", sa.Text, nullable=False),
        sa.Column("body_sha256", sa.Text, nullable=False),
        sa.Column("retry_count", sa.Integer, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("consumed", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_creations_api_key_id_body_sha256", "creations", ["api_key_id", "body_sha256"])
    op.create_index("ix_creations_received_at", "creations", ["received_at"])


def downgrade() -> None:
    """There is nothing older: drop every table."""
    for table in ("workers", "creations", "checkpoints", "job_events", "jobs", "models", "files"):
        op.drop_table(table)
