"""Key usage, daily budgets, quota counts, and event subjects.

Revision: 0004, after 0003. Created 2026-11-22.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("last_used_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "project_budgets",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("daily_tasks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", name="pk_project_budgets"),
    )
    op.create_table(
        "quota_counts",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("kept_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_quota_counts"),
    )
    op.create_index("ix_quota_counts_kept_until", "quota_counts", ["kept_until"])
    # Existing tasks have no subject.
    op.add_column("events", sa.Column("subject", sa.String(length=255), nullable=True))
    has_subject = sa.text("subject IS NOT NULL")
    op.create_index(
        "ix_events_project_subject_id",
        "events",
        ["project", "subject", "id"],
        postgresql_where=has_subject,
        sqlite_where=has_subject,
    )


def downgrade() -> None:
    op.drop_index("ix_events_project_subject_id", table_name="events")
    op.drop_column("events", "subject")
    op.drop_index("ix_quota_counts_kept_until", table_name="quota_counts")
    op.drop_table("quota_counts")
    op.drop_table("project_budgets")
    op.drop_column("api_keys", "last_used_at")
