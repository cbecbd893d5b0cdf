"""SQL statements for stored files.

Lock a blob's row before adding or removing a reference, so that its file is never deleted while another transaction
starts to refer to it.
"""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import case, delete, exists, func, or_, select, update

from app.db.engine import Connection
from app.db.rows import IDS, NOW, insert
from app.db.schema import blobs, images, uploads

_REFERENCES = (images.c.hash, uploads.c.hash)


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file.

    `content_type`, `width` and `height` are None for files found without a row.
    """

    hash: str
    content_type: str | None
    bytes: int
    width: int | None
    height: int | None


_IS_ONE = blobs.c.hash.in_(IDS)
_LOCK = select(blobs.c.hash, blobs.c.is_going).where(_IS_ONE).order_by(blobs.c.hash).with_for_update()
# Changes the row although it is locked, so that a transaction waiting for the lock notices.
_RELEASE = update(blobs).where(_IS_ONE).values(check_at=func.coalesce(blobs.c.check_at + 1, NOW))


def reserve(connection: Connection, blob: Blob, *, now: int, until: int) -> bool:
    """Keep a blob, unless its file is being deleted."""
    new = insert(connection, blobs).values(
        **msgspec.structs.asdict(blob), created_at=now, check_at=until, is_going=False
    )
    described = {name: new.excluded[name] for name in ("content_type", "bytes", "width", "height")}
    later = case((blobs.c.check_at > until, blobs.c.check_at), else_=until)
    statement = new.on_conflict_do_update(
        index_elements=[blobs.c.hash], set_={**described, "check_at": later}, where=~blobs.c.is_going
    )
    return bool(connection.execute(statement).rowcount)


def adopt(connection: Connection, found: Sequence[Blob], *, now: int) -> None:
    """Insert rows for files without one, due for a check."""
    rows = [{**msgspec.structs.asdict(b), "created_at": now, "check_at": now, "is_going": False} for b in found]
    connection.execute(insert(connection, blobs).on_conflict_do_nothing(), rows)


def lock(connection: Connection, sha256: str) -> bool:
    """Lock a blob before referring to it.

    Returns False if it is deleted or being deleted.
    """
    row = connection.execute(_LOCK, {"ids": [sha256]}).one_or_none()
    return row is not None and not row.is_going


def release(connection: Connection, hashes: Iterable[str], *, now: int) -> None:
    """Lock blobs about to lose a reference and schedule checks."""
    wanted = sorted(set(hashes))
    if wanted:
        connection.execute(_LOCK, {"ids": wanted})
        connection.execute(_RELEASE, {"ids": wanted, "now": now})


def is_any_due(connection: Connection, *, now: int) -> bool:
    """Whether any blob is due for a check."""
    return connection.execute(select(blobs.c.hash).where(blobs.c.check_at <= now).limit(1)).first() is not None


def claim_unreferenced(connection: Connection, *, now: int, until: int, limit: int) -> tuple[int, list[str]]:
    """Claim unreferenced blobs for deletion, until a time.

    Checks up to `limit` due blobs. Returns how many were checked, and the claimed hashes.
    """
    is_due = select(blobs.c.hash).where(blobs.c.check_at <= now).order_by(blobs.c.check_at).limit(limit)
    due = list(connection.execute(is_due.with_for_update(skip_locked=True)).scalars())
    # A separate statement, because the locking one sees other tables as they were before the locks.
    is_referred_to = or_(*(exists().where(column == blobs.c.hash) for column in _REFERENCES))
    kept = connection.execute(select(blobs.c.hash).where(blobs.c.hash.in_(due), is_referred_to)).scalars().all()
    unreferenced = sorted(set(due).difference(kept))
    connection.execute(update(blobs).where(blobs.c.hash.in_(kept)).values(check_at=None))
    connection.execute(update(blobs).where(blobs.c.hash.in_(unreferenced)).values(check_at=until, is_going=True))
    return len(due), unreferenced


def remove(connection: Connection, hashes: Sequence[str], *, until: int) -> None:
    """Delete rows of deleted files claimed until `until`.

    Rows that another process has claimed since are kept.
    """
    is_ours = blobs.c.is_going & (blobs.c.check_at == until)
    connection.execute(delete(blobs).where(blobs.c.hash.in_(hashes), is_ours))


def missing(connection: Connection, hashes: Iterable[str]) -> set[str]:
    """Return the hashes that have no row."""
    wanted = set(hashes)
    return wanted.difference(connection.execute(select(blobs.c.hash).where(blobs.c.hash.in_(wanted))).scalars())
