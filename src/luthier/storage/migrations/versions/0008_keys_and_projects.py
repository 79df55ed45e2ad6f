"""Keys and projects; everything that was there belongs to the default project, bases to all."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Written out: what a migration does must not change with the code.
_DEFAULT = "proj_default"
_OWNED = ("files", "jobs", "uploads", "stored_completions", "responses")
_LISTED = ("files", "jobs", "stored_completions")


def upgrade() -> None:
    """Create the two tables, and say of every row whose it is."""
    projects = op.create_table(
        "projects",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("sha256", sa.Text, nullable=False, unique=True),
        sa.Column("redacted", sa.Text, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Integer),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.Integer),
        sa.Column("concurrent_generations", sa.Integer),
        sa.Column("jobs_per_day", sa.Integer),
        sqlite_autoincrement=True,
    )
    op.bulk_insert(projects, [{"id": _DEFAULT, "name": "Default project", "created_at": int(time.time())}])
    for table in _OWNED:
        op.add_column(table, sa.Column("project_id", sa.Text, nullable=False, server_default=_DEFAULT))
    for table in _LISTED:
        op.create_index(f"ix_{table}_project_id_seq", table, ["project_id", "seq"])
    op.add_column("models", sa.Column("project_id", sa.Text))
    models = sa.table("models", sa.column("kind"), sa.column("project_id"))
    op.execute(models.update().where(models.c.kind != "base").values(project_id=_DEFAULT))


def downgrade() -> None:
    """Take all of it away again."""
    op.drop_column("models", "project_id")
    for table in _LISTED:
        op.drop_index(f"ix_{table}_project_id_seq", table)
    for table in _OWNED:
        op.drop_column(table, "project_id")
    op.drop_table("api_keys")
    op.drop_table("projects")
