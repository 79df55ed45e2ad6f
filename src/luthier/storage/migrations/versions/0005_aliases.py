"""Aliases with their history; a base model's revision and licence."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of alias changes, and two columns to the models."""
    op.add_column("models", sa.Column("revision", sa.Text))
    op.add_column("models", sa.Column("licence", sa.Text))
    op.create_table(
        "alias_changes",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("from_target", sa.Text),
        sa.Column("to_target", sa.Text),
        sa.Column("changed_at", sa.Integer, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alias_changes_name_seq", "alias_changes", ["name", "seq"])
