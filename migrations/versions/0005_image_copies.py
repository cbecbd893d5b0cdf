"""Image copies: stored files and retry times.

Revision: 0005, after 0004. Created 2026-11-22.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Existing images get one attempt each, as most sources are gone, spread over time to limit the rate.
_LAST_TRY = 7
_MILLISECONDS_EACH = 50


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("content_type", sa.String(length=64), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("check_at", sa.BigInteger(), nullable=True),
        sa.Column("is_going", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_blobs"),
    )
    where = sa.text("check_at IS NOT NULL")
    op.create_index("ix_blobs_check_at", "blobs", ["check_at"], postgresql_where=where, sqlite_where=where)
    op.add_column("images", sa.Column("hash", sa.String(length=64), nullable=True))
    op.add_column("images", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("images", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("images", sa.Column("tried_at", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("next_try_at", sa.BigInteger(), nullable=True, server_default="0"))
    op.add_column("images", sa.Column("claimed_by", sa.String(length=32), nullable=True))
    _plan_old_images()
    where = sa.text("state = 'pending'")
    op.create_index("ix_images_due", "images", ["next_try_at"], postgresql_where=where, sqlite_where=where)
    where = sa.text("hash IS NOT NULL")
    op.create_index("ix_images_hash", "images", ["hash"], postgresql_where=where, sqlite_where=where)


def _plan_old_images() -> None:
    connection = op.get_bind()
    count = connection.execute(sa.text("SELECT count(*) FROM images")).scalar_one()
    draw = "floor(random() * :spread)::bigint" if connection.dialect.name == "postgresql" else "abs(random() % :spread)"
    connection.execute(
        sa.text(f"UPDATE images SET tries = :tries, next_try_at = :now + {draw} WHERE state = 'pending'"),  # noqa: S608 -- ours
        {"tries": _LAST_TRY, "now": round(time.time() * 1000), "spread": max(count, 1) * _MILLISECONDS_EACH},
    )


def downgrade() -> None:
    op.drop_index("ix_images_hash", table_name="images")
    op.drop_index("ix_images_due", table_name="images")
    for name in ("claimed_by", "next_try_at", "tried_at", "tries", "reason", "hash"):
        op.drop_column("images", name)
    op.drop_index("ix_blobs_check_at", table_name="blobs")
    op.drop_table("blobs")
