"""Statements on the copies of images: which are to be fetched, what came of it, and one to be shown."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Integer, Row, bindparam, func, literal, select, update

from app.db.engine import Connection
from app.db.schema import images
from app.domain.image import Image, ImageState

_NAMES = Image.__struct_fields__
_MUTABLE = "state reason hash content_type bytes width height tries tried_at next_try_at claimed_by".split()
_ALL = select(*(images.c[name] for name in _NAMES))
_IS_PENDING = images.c.state == literal(ImageState.PENDING.value, literal_execute=True)
_GET = _ALL.where(images.c.id == bindparam("row_id"))
_LOCK = _GET.with_for_update()
_LOCK_UNLESS_LOCKED = _GET.with_for_update(skip_locked=True)
_DUE = (
    _ALL.where(_IS_PENDING, images.c.next_try_at <= bindparam("now", type_=BigInteger))
    .order_by(images.c.next_try_at)
    .limit(bindparam("at_most", type_=Integer))
    .with_for_update(skip_locked=True)
)
_NEXT = select(func.min(images.c.next_try_at)).where(_IS_PENDING)
_PENDING_OF_TASK = select(func.count()).select_from(images).where(images.c.task_id == bindparam("of_task"), _IS_PENDING)
_UPDATE = update(images).where(images.c.id == bindparam("row_id")).values({name: bindparam(name) for name in _MUTABLE})
_RELEASE_ALL = (
    update(images)
    .where(_IS_PENDING, images.c.claimed_by.is_not(None))
    .values(claimed_by=None, next_try_at=bindparam("now", type_=BigInteger))
)
_HASHES = select(images.c.hash).where(
    images.c.task_id.in_(bindparam("task_ids", expanding=True)), images.c.hash.is_not(None)
)


def to_image(row: Row[Any]) -> Image:
    """Turn a row of `images` into an `Image`."""
    values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
    values["state"] = ImageState(values["state"])
    return Image(**values)


def get(connection: Connection, image_id: str) -> Image | None:
    """Read one image."""
    row = connection.execute(_GET, {"row_id": image_id}).one_or_none()
    return to_image(row) if row else None


def lock(connection: Connection, image_id: str, *, skip_locked: bool = False) -> Image | None:
    """Read one and keep others from changing it until the transaction ends; None as well if one is to be skipped."""
    statement = _LOCK_UNLESS_LOCKED if skip_locked else _LOCK
    row = connection.execute(statement, {"row_id": image_id}).one_or_none()
    return to_image(row) if row else None


def due(connection: Connection, *, now: int, limit: int) -> list[Image]:
    """Lock up to `limit` pending images that are due, the most overdue first, passing over those locked by others."""
    rows = connection.execute(_DUE, {"now": now, "at_most": limit})
    return [to_image(row) for row in rows]


def release_all(connection: Connection, *, now: int) -> None:
    """End all leases."""
    connection.execute(_RELEASE_ALL, {"now": now})


def next_due(connection: Connection) -> int | None:
    """Tell when the next pending image is due; None without any."""
    moment: int | None = connection.execute(_NEXT).scalar_one()
    return moment


def save(connection: Connection, changed: Sequence[Image]) -> None:
    """Write what may change of images that this transaction has locked."""
    rows = [{**{name: getattr(i, name) for name in _MUTABLE}, "state": i.state.value, "row_id": i.id} for i in changed]
    connection.execute(_UPDATE, rows)


def count_pending(connection: Connection, task_id: str) -> int:
    """Count a task's images that are neither stored nor given up."""
    return int(connection.execute(_PENDING_OF_TASK, {"of_task": task_id}).scalar_one())


def hashes_of(connection: Connection, task_ids: Iterable[str]) -> list[str]:
    """List the files that the images of tasks refer to."""
    return [row.hash for row in connection.execute(_HASHES, {"task_ids": sorted(task_ids)})]
