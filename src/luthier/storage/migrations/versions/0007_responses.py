"""Stored responses, and the items that each was made from and answered with."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables."""
    op.create_table(
        "responses",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_responses_created_at", "responses", ["created_at"])
    op.create_table(
        "response_items",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("response_id", sa.Text, sa.ForeignKey("responses.id"), nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("is_output", sa.Boolean, nullable=False),
        sa.Column("item", sa.JSON, nullable=False),
        sa.UniqueConstraint("response_id", "item_id", name="uq_response_items_response_id_item_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_response_items_item_id", "response_items", ["item_id"])


def downgrade() -> None:
    """Drop the two tables."""
    op.drop_table("response_items")
    op.drop_table("responses")
