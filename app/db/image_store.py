"""Statements on the copies of images."""

from collections.abc import Iterable, Sequence

from sqlalchemy import bindparam, func, literal, select, update

from app.db.engine import Connection
from app.db.rows import LIMIT, NOW, read_all, read_one
from app.db.schema import images
from app.domain.image import Image, ImageState

_MUTABLE = "state reason hash content_type bytes width height tries tried_at next_try_at claimed_by".split()
_IS_PENDING = images.c.state == literal(ImageState.PENDING.value, literal_execute=True)
_GET = select(images).where(images.c.id == bindparam("row_id"))
_LOCK = _GET.with_for_update()
_LOCK_UNLESS_LOCKED = _GET.with_for_update(skip_locked=True)
_DUE = (
    select(images)
    .where(_IS_PENDING, images.c.next_try_at <= NOW)
    .order_by(images.c.next_try_at)
    .limit(LIMIT)
    .with_for_update(skip_locked=True)
)
_UPDATE = update(images).where(images.c.id == bindparam("row_id")).values({name: bindparam(name) for name in _MUTABLE})


def get(connection: Connection, image_id: str) -> Image | None:
    """Read one image."""
    return read_one(connection, Image, _GET, {"row_id": image_id})


def lock(connection: Connection, image_id: str, *, skip_locked: bool = False) -> Image | None:
    """Read one image and lock it until the transaction ends.

    With `skip_locked`, returns None if another transaction has locked it.
    """
    return read_one(connection, Image, _LOCK_UNLESS_LOCKED if skip_locked else _LOCK, {"row_id": image_id})


def due(connection: Connection, *, now: int, limit: int) -> list[Image]:
    """Lock due images, most overdue first, skipping locked ones."""
    return read_all(connection, Image, _DUE, {"now": now, "limit": limit})


def release_all(connection: Connection, *, now: int) -> None:
    """End all leases."""
    leased = update(images).where(_IS_PENDING, images.c.claimed_by.is_not(None))
    connection.execute(leased.values(claimed_by=None, next_try_at=now))


def next_due(connection: Connection) -> int | None:
    """Return when the next pending image is due, if any."""
    moment: int | None = connection.execute(select(func.min(images.c.next_try_at)).where(_IS_PENDING)).scalar_one()
    return moment


def save(connection: Connection, changed: Sequence[Image]) -> None:
    """Write the mutable columns of images locked by this transaction."""
    rows = [{**{name: getattr(image, name) for name in _MUTABLE}, "row_id": image.id} for image in changed]
    connection.execute(_UPDATE, rows)


def count_pending(connection: Connection, task_id: str) -> int:
    """Count a task's images that are neither stored nor unavailable."""
    pending = select(func.count()).select_from(images).where(images.c.task_id == task_id, _IS_PENDING)
    return int(connection.execute(pending).scalar_one())


def hashes_of(connection: Connection, task_ids: Iterable[str]) -> list[str]:
    """List the hashes of the tasks' stored images."""
    stored = select(images.c.hash).where(images.c.task_id.in_(task_ids), images.c.hash.is_not(None))
    return [row.hash for row in connection.execute(stored)]
