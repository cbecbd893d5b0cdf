"""SQL statements for uploads."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import BigInteger, bindparam, case, delete, insert, select, update

from app.db import blob_store
from app.db.engine import Connection
from app.db.rows import NOW, read_one
from app.db.schema import uploads
from app.domain.upload import Upload

_UNTIL = bindparam("until", type_=BigInteger)
_GET = select(uploads).where(uploads.c.id == bindparam("upload_id"))
_EXTEND_EXPIRY = (
    update(uploads)
    .where(uploads.c.id == bindparam("upload_id"), uploads.c.hash.is_not(None), uploads.c.expires_at > NOW)
    .values(expires_at=case((uploads.c.expires_at > _UNTIL, uploads.c.expires_at), else_=_UNTIL))
)


def add(connection: Connection, upload: Upload) -> None:
    """Insert an upload; this transaction must have locked its blob."""
    connection.execute(insert(uploads), msgspec.structs.asdict(upload))


def get(connection: Connection, upload_id: str) -> Upload | None:
    """Read one upload."""
    return read_one(connection, Upload, _GET, {"upload_id": upload_id})


def extend_expiry(connection: Connection, upload_ids: Iterable[str], *, now: int, until: int) -> set[str]:
    """Extend uploads' expiry; return the ids that had not expired."""
    # Sorted, so that two transactions never deadlock.
    return {
        upload_id
        for upload_id in sorted(set(upload_ids))
        if connection.execute(_EXTEND_EXPIRY, {"upload_id": upload_id, "now": now, "until": until}).rowcount
    }


def release_expired(connection: Connection, *, now: int, limit: int) -> int:
    """Release up to `limit` expired uploads' files; return how many."""
    is_expired = select(uploads.c.id, uploads.c.hash).where(uploads.c.hash.is_not(None), uploads.c.expires_at <= now)
    expired = connection.execute(
        is_expired.order_by(uploads.c.expires_at).limit(limit).with_for_update(skip_locked=True)
    ).all()
    blob_store.release(connection, [row.hash for row in expired], now=now)
    connection.execute(update(uploads).where(uploads.c.id.in_([row.id for row in expired])).values(hash=None))
    return len(expired)


def remove_expired(connection: Connection, *, before: int, limit: int) -> int:
    """Delete up to `limit` long-expired uploads; return how many."""
    is_old = select(uploads.c.id).where(uploads.c.hash.is_(None), uploads.c.expires_at <= before).limit(limit)
    return connection.execute(delete(uploads).where(uploads.c.id.in_(is_old), uploads.c.hash.is_(None))).rowcount
