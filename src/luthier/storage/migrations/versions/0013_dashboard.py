"""How far each job is, a number that grows with every change of a job, and the sessions of the dashboard that were ended."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_PROGRESS = {
    "started_at": sa.Integer,
    "step": sa.Integer,
    "total_steps": sa.Integer,
    "epoch": sa.Integer,
    "train_loss": sa.Float,
    "valid_loss": sa.Float,
    "best_valid_loss": sa.Float,
}
# What a reader of a job sees. A lease that is only made longer is no change.
_SEEN = (
    "status, fine_tuned_model, finished_at, estimated_finish, trained_tokens, result_files, error, lease_owner, attempts, paused_from, "
    "hyperparameters, metadata, " + ", ".join(_PROGRESS)
)
_MARK = "BEGIN UPDATE jobs SET changed = (SELECT coalesce(max(changed), 0) + 1 FROM jobs) WHERE seq = NEW.seq; END"
_LAST = "(SELECT json_extract(data, '$.{key}') FROM job_events WHERE job_id = jobs.id AND type = 'metrics' ORDER BY sequence DESC LIMIT 1)"
_HELD_OUT = "FROM job_events WHERE job_id = jobs.id AND json_extract(data, '$.full_valid_loss') IS NOT NULL"


def upgrade() -> None:
    """Add the columns, fill them from the metrics that were told, and let the database itself count changes."""
    for name, kind in _PROGRESS.items():
        op.add_column("jobs", sa.Column(name, kind))
    op.add_column("jobs", sa.Column("changed", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET changed = seq")
    for column, key in (("step", "step"), ("total_steps", "total_steps"), ("train_loss", "train_loss")):
        op.execute(f"UPDATE jobs SET {column} = {_LAST.format(key=key)}")  # noqa: S608 - our own words
    held_out = "json_extract(data, '$.full_valid_loss')"
    op.execute(f"UPDATE jobs SET valid_loss = (SELECT {held_out} {_HELD_OUT} ORDER BY sequence DESC LIMIT 1)")  # noqa: S608 - our own words
    op.execute(f"UPDATE jobs SET best_valid_loss = (SELECT min({held_out}) {_HELD_OUT})")  # noqa: S608 - our own words
    op.create_index("ix_jobs_changed", "jobs", ["changed"])
    op.execute(f"CREATE TRIGGER jobs_created AFTER INSERT ON jobs {_MARK}")
    op.execute(f"CREATE TRIGGER jobs_changed AFTER UPDATE OF {_SEEN} ON jobs {_MARK}")
    op.create_table(
        "ended_sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("ended_sessions")
    op.execute("DROP TRIGGER jobs_changed")
    op.execute("DROP TRIGGER jobs_created")
    op.drop_index("ix_jobs_changed", "jobs")
    for name in ("changed", *reversed(_PROGRESS)):
        op.drop_column("jobs", name)
