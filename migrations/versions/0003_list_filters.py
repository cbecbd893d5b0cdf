"""Indexes for list filters by model, type and subject.

Revision: 0003, after 0002. Created 2026-11-22.
"""

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = text("subject IS NOT NULL")
    op.create_index(
        "ix_tasks_project_subject_id",
        "tasks",
        ["project", "subject", "id"],
        postgresql_where=where,
        sqlite_where=where,
    )
    op.create_index("ix_tasks_project_model_id", "tasks", ["project", "model", "id"])
    op.create_index("ix_tasks_project_type_id", "tasks", ["project", "type", "id"])


def downgrade() -> None:
    op.drop_index("ix_tasks_project_type_id", table_name="tasks")
    op.drop_index("ix_tasks_project_model_id", table_name="tasks")
    op.drop_index("ix_tasks_project_subject_id", table_name="tasks")
