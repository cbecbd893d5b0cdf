"""Uploads: input images from clients.

Revision: 0006, after 0005. Created 2026-11-22.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=True),
        sa.Column("content_type", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    where = sa.text("hash IS NULL")
    op.create_index("ix_uploads_remembered", "uploads", ["expires_at"], postgresql_where=where, sqlite_where=where)
    where = sa.text("hash IS NOT NULL")
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"], postgresql_where=where, sqlite_where=where)
    op.create_index("ix_uploads_hash", "uploads", ["hash"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_table("uploads")
