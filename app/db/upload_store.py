"""Statements on uploads."""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Integer, bindparam, case, delete, insert, select, update

from app.db import blob_store
from app.db.engine import Connection
from app.db.schema import uploads
from app.domain.upload import Upload

_NOW = bindparam("now", type_=BigInteger)
_UNTIL = bindparam("until", type_=BigInteger)
_IDS: Any = bindparam("ids", expanding=True)
_INSERT = insert(uploads)
_GET = select(uploads).where(uploads.c.id == bindparam("upload_id"))
_EXTEND_EXPIRY = (
    update(uploads)
    .where(uploads.c.id.in_(_IDS), uploads.c.hash.is_not(None), uploads.c.expires_at > _NOW)
    .values(expires_at=case((uploads.c.expires_at > _UNTIL, uploads.c.expires_at), else_=_UNTIL))
    .returning(uploads.c.id)
)
_EXPIRED = (
    select(uploads.c.id, uploads.c.hash)
    .where(uploads.c.hash.is_not(None), uploads.c.expires_at <= _NOW)
    .order_by(uploads.c.expires_at)
    .limit(bindparam("at_most", type_=Integer))
    .with_for_update(skip_locked=True)
)
_EMPTY = update(uploads).where(uploads.c.id.in_(_IDS)).values(hash=None)
_FORGOTTEN = (
    select(uploads.c.id)
    .where(uploads.c.hash.is_(None), uploads.c.expires_at <= bindparam("before", type_=BigInteger))
    .limit(bindparam("at_most", type_=Integer))
)
_REMOVE = delete(uploads).where(uploads.c.id.in_(_IDS), uploads.c.hash.is_(None))


def add(connection: Connection, upload: Upload) -> None:
    """Insert an upload; this transaction must have locked its blob."""
    connection.execute(_INSERT, msgspec.structs.asdict(upload))


def get(connection: Connection, upload_id: str) -> Upload | None:
    """Read one upload."""
    row = connection.execute(_GET, {"upload_id": upload_id}).one_or_none()
    return Upload(**row._mapping) if row else None  # noqa: SLF001 -- SQLAlchemy's public name for it


def extend_expiry(connection: Connection, upload_ids: Iterable[str], *, now: int, until: int) -> set[str]:
    """See that uploads do not expire before then; returns those that were not too late."""
    # In one order for everybody, so that requests that name the same ones don't wait for each other in a ring.
    held = set()
    for upload_id in sorted(set(upload_ids)):
        held |= {row.id for row in connection.execute(_EXTEND_EXPIRY, {"ids": [upload_id], "now": now, "until": until})}
    return held


def release_expired(connection: Connection, *, now: int, limit: int) -> int:
    """Take the bytes from up to `limit` uploads that expired; returns how many."""
    expired = connection.execute(_EXPIRED, {"now": now, "at_most": limit}).all()
    if expired:
        blob_store.release(connection, [row.hash for row in expired], now=now)
        connection.execute(_EMPTY, {"ids": [row.id for row in expired]})
    return len(expired)


def remove_expired(connection: Connection, *, before: int, limit: int) -> int:
    """Delete up to `limit` uploads that expired before then; returns how many."""
    found = [row.id for row in connection.execute(_FORGOTTEN, {"before": before, "at_most": limit})]
    if found:
        connection.execute(_REMOVE, {"ids": found})
    return len(found)
