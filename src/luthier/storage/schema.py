"""The tables, as SQLAlchemy sees them. The migrations make them; a test compares the two.

What it does: names columns and indexes. What it does not: create anything. Called by the stores and by the migrations'
environment. ``seq`` columns count insertions and are never reused: lists are ordered by them, not by clocks.
"""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

from luthier.core.keys import DEFAULT_PROJECT

HEAD = "0013"
"""Revision that this code works with: the newest migration."""

metadata = MetaData()


def owner_column() -> Column[str]:
    """The project that a row belongs to (0008). Rows from before there were projects belong to the default one."""
    return Column("project_id", Text, nullable=False, server_default=DEFAULT_PROJECT)


files = Table(
    "files",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("expires_at", Integer),
    Column("deleted_at", Float),
    owner_column(),
    Index("ix_files_project_id_seq", "project_id", "seq"),
    sqlite_autoincrement=True,
)

models = Table(
    "models",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("owned_by", Text, nullable=False),
    Column("job_id", Text),
    Column("step", Integer),
    Column("row_format", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("deleted_at", Float),
    Column("revision", Text),  # 0005
    Column("licence", Text),  # 0005
    Column("source", Text),  # 0011
    Column("num_bytes", Integer),  # 0011
    Column("runs_on", Text),  # 0011
    Column("project_id", Text),  # 0008; null: shared by all, as bases are
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("parent_model", Text),
    Column("status", Text, nullable=False),
    Column("training_file", Text, nullable=False),
    Column("validation_file", Text),
    Column("training_sha256", Text, nullable=False),
    Column("validation_sha256", Text),
    Column("method", Text, nullable=False),
    Column("legacy_hyperparameters", Boolean, nullable=False),
    Column("hyperparameters", JSON, nullable=False),
    Column("options", JSON, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("suffix", Text),
    Column("metadata", JSON(none_as_null=True)),
    Column("integrations", JSON(none_as_null=True)),
    Column("fine_tuned_model", Text),
    Column("finished_at", Integer),
    Column("estimated_finish", Integer),
    Column("trained_tokens", Integer),
    Column("result_files", JSON, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("cancel_requested", Boolean, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_owner", Text),
    Column("lease_expires_at", Float),
    Column("attempts", Integer, nullable=False),
    Column("progress_step", Integer, nullable=False),
    Column("paused_from", Text),
    # How far it is (0013); null: not told yet.
    *(Column(name, Integer) for name in ("started_at", "step", "total_steps", "epoch")),
    *(Column(name, Float) for name in ("train_loss", "valid_loss", "best_valid_loss")),
    # Grows with every change that a reader sees, over all jobs; triggers of the database count it (0013).
    Column("changed", Integer, nullable=False, server_default="0"),
    owner_column(),
    Index("ix_jobs_changed", "changed"),
    Index("ix_jobs_status_seq", "status", "seq"),
    Index("ix_jobs_project_id_seq", "project_id", "seq"),
    sqlite_autoincrement=True,
)

job_events = Table(
    "job_events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSON(none_as_null=True)),
    # Its index also answers "newest events of a job" and "largest sequence of a job" without reading the events.
    UniqueConstraint("job_id", "sequence", name="uq_job_events_job_id_sequence"),
    sqlite_autoincrement=True,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("step_number", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    UniqueConstraint("job_id", "step_number", name="uq_checkpoints_job_id_step_number"),
    sqlite_autoincrement=True,
)


def _creations(name: str, of: str, column: str) -> Table:
    """By which requests the rows of a table were made (storage/retries.py)."""
    return Table(
        name,
        metadata,
        Column("seq", Integer, primary_key=True),
        Column(column, Text, ForeignKey(f"{of}.id"), nullable=False, key="made_id"),
        Column("api_key_id", Text, nullable=False),
        Column("body_sha256", Text, nullable=False),
        Column("retry_count", Integer, nullable=False),
        Column("received_at", Float, nullable=False),
        Column("idempotency_key", Text),
        Column("consumed", Boolean, nullable=False),
        Index(f"ix_{name}_api_key_id_body_sha256", "api_key_id", "body_sha256"),
        Index(f"ix_{name}_received_at", "received_at"),
        sqlite_autoincrement=True,
    )


creations = _creations("creations", "jobs", "job_id")
task_creations = _creations("task_creations", "dataset_tasks", "task_id")

workers = Table(
    "workers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("beat_at", Float, nullable=False),
)

# The history is the table: an alias stands for what its newest row says, and no row is ever changed.
alias_changes = Table(
    "alias_changes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("from_target", Text),
    Column("to_target", Text),
    Column("changed_at", Integer, nullable=False),
    Column("changed_by", Text, nullable=False),
    Index("ix_alias_changes_name_seq", "name", "seq"),
    sqlite_autoincrement=True,
)

uploads = Table(
    "uploads",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("file_expires_after", Integer),
    Column("status", Text, nullable=False),
    Column("part_ids", JSON(none_as_null=True)),
    Column("md5", Text),
    Column("file_id", Text),
    owner_column(),
    sqlite_autoincrement=True,
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("upload_id", Text, ForeignKey("uploads.id"), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("created_at", Integer, nullable=False),
    Index("ix_upload_parts_upload_id", "upload_id"),
    sqlite_autoincrement=True,
)

stored_completions = Table(
    "stored_completions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("completion", JSON, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("tools", JSON, nullable=False),
    Column("deleted_at", Float),
    owner_column(),
    Index("ix_stored_completions_project_id_seq", "project_id", "seq"),
    sqlite_autoincrement=True,
)

checkpoint_permissions = Table(
    "checkpoint_permissions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("model_name", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    # Its index also lists the permissions of one checkpoint.
    UniqueConstraint("model_name", "project_id", name="uq_checkpoint_permissions_model_name_project_id"),
    sqlite_autoincrement=True,
)

# Stored responses (storage/responses.py): each with the whole context it was made from, so that none depends on another's life.

responses = Table(
    "responses",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    owner_column(),
    Index("ix_responses_created_at", "created_at"),
    sqlite_autoincrement=True,
)

response_items = Table(
    "response_items",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("response_id", Text, ForeignKey("responses.id"), nullable=False),
    Column("item_id", Text, nullable=False),
    Column("is_output", Boolean, nullable=False),
    Column("item", JSON, nullable=False),
    UniqueConstraint("response_id", "item_id", name="uq_response_items_response_id_item_id"),
    Index("ix_response_items_item_id", "item_id"),
    sqlite_autoincrement=True,
)

# Webhooks.

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", JSON, nullable=False),
    Column("secret", Text, nullable=False),
    Column("old_secrets", JSON, nullable=False),
    sqlite_autoincrement=True,
)

# What is still owed: a row goes when it was delivered or given up.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("endpoint_id", Text, ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("event_created_at", Integer, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("lease_expires_at", Float),
    Index("ix_webhook_deliveries_endpoint_id", "endpoint_id"),
    Index("ix_webhook_deliveries_next_attempt_at", "next_attempt_at"),
    sqlite_autoincrement=True,
)

# Keys and projects (storage/keys.py). A revoked key's row stays, so that histories can still be read.

projects = Table(
    "projects",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    sqlite_autoincrement=True,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("redacted", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", Integer),
    # A key's own limits; null: the server's setting.
    *(Column(name, Integer) for name in ("requests_per_minute", "tokens_per_minute", "concurrent_generations", "jobs_per_day")),
    sqlite_autoincrement=True,
)

# Batches (storage/batches.py). What is answered of one stands in files until it ends.

batches = Table(
    "batches",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("endpoint", Text, nullable=False),
    Column("input_file_id", Text, nullable=False),
    Column("input_sha256", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("model", Text),
    Column("metadata", JSON(none_as_null=True)),
    Column("file_seconds", Integer, nullable=False),
    *(Column(f"{status}_at", Integer) for status in ("in_progress", "finalizing", "completed", "failed", "expired")),
    *(Column(f"{status}_at", Integer) for status in ("cancelling", "cancelled")),
    *(Column(f"num_{which}", Integer, nullable=False) for which in ("total", "completed", "failed")),
    *(Column(f"{which}_tokens", Integer, nullable=False) for which in ("input", "output")),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("errors", JSON, nullable=False),
    owner_column(),
    Index("ix_batches_project_id_seq", "project_id", "seq"),
    Index("ix_batches_status", "status"),
    sqlite_autoincrement=True,
)

# Work on files of rows (storage/dataset_tasks.py). Findings stand in a file of the task's folder.

dataset_tasks = Table(
    "dataset_tasks",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("options", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("quick", Boolean, nullable=False),
    Column("finished_at", Integer),
    Column("progress", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("num_findings", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_owner", Text),
    Column("lease_expires_at", Float),
    Column("attempts", Integer, nullable=False),
    owner_column(),
    Index("ix_dataset_tasks_project_id_seq", "project_id", "seq"),
    Index("ix_dataset_tasks_status_seq", "status", "seq"),
    sqlite_autoincrement=True,
)

ended_sessions = Table("ended_sessions", metadata, Column("id", Text, primary_key=True), Column("expires_at", Integer, nullable=False))
