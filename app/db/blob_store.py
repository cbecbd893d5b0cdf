"""Statements on stored files.

Code that adds or removes a reference to a blob first locks its row, so that a file is never deleted while another
transaction starts to refer to it.
"""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import case, delete, exists, func, or_, select, update

from app.db.engine import Connection
from app.db.rows import IDS, NOW, insert
from app.db.schema import blobs, images, uploads

_REFERENCES = (images.c.hash, uploads.c.hash)


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file; type and size in pixels are None for one found without a row."""

    hash: str
    content_type: str | None
    bytes: int
    width: int | None
    height: int | None


_IS_ONE = blobs.c.hash.in_(IDS)
_LOCK = select(blobs.c.hash, blobs.c.is_going).where(_IS_ONE).order_by(blobs.c.hash).with_for_update()
# Changed although they are locked: a transaction that waits for the lock must notice.
_RELEASE = update(blobs).where(_IS_ONE).values(check_at=func.coalesce(blobs.c.check_at + 1, NOW))


def reserve(connection: Connection, blob: Blob, *, now: int, until: int) -> bool:
    """Keep a blob until a time; False if its file is being deleted."""
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
    """Insert rows, due to be checked now, for files without one."""
    rows = [{**msgspec.structs.asdict(b), "created_at": now, "check_at": now, "is_going": False} for b in found]
    connection.execute(insert(connection, blobs).on_conflict_do_nothing(), rows)


def lock(connection: Connection, sha256: str) -> bool:
    """Lock a blob that is about to be referred to; False if it is deleted or being deleted."""
    row = connection.execute(_LOCK, {"ids": [sha256]}).one_or_none()
    return row is not None and not row.is_going


def release(connection: Connection, hashes: Iterable[str], *, now: int) -> None:
    """Lock blobs about to lose a reference, and schedule a check for other references."""
    wanted = sorted(set(hashes))
    if wanted:
        connection.execute(_LOCK, {"ids": wanted})
        connection.execute(_RELEASE, {"ids": wanted, "now": now})


def is_any_due(connection: Connection, *, now: int) -> bool:
    """Whether any blob is due to be checked."""
    return connection.execute(select(blobs.c.hash).where(blobs.c.check_at <= now).limit(1)).first() is not None


def claim_unreferenced(connection: Connection, *, now: int, until: int, limit: int) -> tuple[int, list[str]]:
    """Check up to `limit` due blobs; those without references are claimed for deletion until a time.

    Returns how many were checked, and the hashes of those claimed.
    """
    is_due = select(blobs.c.hash).where(blobs.c.check_at <= now).order_by(blobs.c.check_at).limit(limit)
    due = list(connection.execute(is_due.with_for_update(skip_locked=True)).scalars())
    # A separate statement, begun with the rows locked: the one that locks sees other tables as they were before.
    is_referred_to = or_(*(exists().where(column == blobs.c.hash) for column in _REFERENCES))
    kept = connection.execute(select(blobs.c.hash).where(blobs.c.hash.in_(due), is_referred_to)).scalars().all()
    unreferenced = sorted(set(due).difference(kept))
    connection.execute(update(blobs).where(blobs.c.hash.in_(kept)).values(check_at=None))
    connection.execute(update(blobs).where(blobs.c.hash.in_(unreferenced)).values(check_at=until, is_going=True))
    return len(due), unreferenced


def remove(connection: Connection, hashes: Sequence[str], *, until: int) -> None:
    """Delete the rows of blobs whose files were deleted, except those that another process has claimed since."""
    is_ours = blobs.c.is_going & (blobs.c.check_at == until)
    connection.execute(delete(blobs).where(blobs.c.hash.in_(hashes), is_ours))


def missing(connection: Connection, hashes: Iterable[str]) -> set[str]:
    """Return those of the hashes that have no row."""
    wanted = set(hashes)
    return wanted.difference(connection.execute(select(blobs.c.hash).where(blobs.c.hash.in_(wanted))).scalars())
