"""SQL statements for tasks and their images."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Row,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    update,
)

from app.db import sql
from app.db.engine import Connection
from app.db.engine.json import dumps
from app.db.rows import LIMIT, NOW, as_struct
from app.db.schema import images, tasks, webhook_deliveries
from app.domain.image import Image
from app.domain.models import Model
from app.domain.task import Status, Task, TaskFilter, id_at
from app.domain.verdict import ErrorCode, TaskError

# A task's id is generated shortly after `created_at` is read.
_ID_MARGIN_MS = 60_000
_IS_QUEUED = tasks.c.status == literal(Status.QUEUED.value, literal_execute=True)
_IS_SUBMITTING = tasks.c.status == literal(Status.SUBMITTING.value, literal_execute=True)

_GET_ALL = sql.load("get_tasks")
_LOCK_ON_POSTGRESQL = sql.load("lock_tasks")
_GET_IMAGES = sql.load("get_images")
_decode_tasks = msgspec.json.Decoder(list[Task]).decode
_decode_images = msgspec.json.Decoder(list[Image]).decode
_GET = select(tasks).where(tasks.c.id == bindparam("task_id"))
_HAS_KNOWN_MODEL = tasks.c.model.in_([model.value for model in Model])
_CLAIMABLE = (
    select(tasks)
    .where(
        _IS_QUEUED,
        tasks.c.project == bindparam("project"),
        # A newer version may know more models; its own replicas send those tasks.
        _HAS_KNOWN_MODEL,
        # A new task is due, even if the clock was wrong when it was created.
        (tasks.c.not_before <= NOW) | (tasks.c.attempts == 0),
        # Written so that no index matches: PostgreSQL would read the whole queue through the index on deadlines.
        tasks.c.deadline_at - NOW > 0,
    )
    .order_by(tasks.c.id)
    .limit(LIMIT)
    .with_for_update(skip_locked=True)
)
_NEXT_QUEUED = (
    select(tasks)
    .where(_IS_QUEUED, _HAS_KNOWN_MODEL, tasks.c.id > bindparam("after"), tasks.c.deadline_at - NOW > 0)
    .order_by(tasks.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TO_POLL = (
    select(tasks).where(tasks.c.ask_at <= NOW).order_by(tasks.c.ask_at).limit(LIMIT).with_for_update(skip_locked=True)
)
_OVERDUE = (
    select(tasks)
    .where(
        tasks.c.deadline_at <= NOW,
        tasks.c.upstream_task_id.is_(None)
        | (tasks.c.asked_at >= tasks.c.deadline_at)
        | tasks.c.ask_at.is_(None)
        | (tasks.c.deadline_at <= bindparam("unpolled_before", type_=BigInteger)),
    )
    .order_by(tasks.c.deadline_at)
    .limit(LIMIT)
    .with_for_update(skip_locked=True)
)
# A failure that was guessed is still polled, and may become a success.
_IS_OVER = tasks.c.completed_at.is_not(None) & tasks.c.ask_at.is_(None)
_QUEUED_PROJECTS = sql.load("queued_projects")
_MARKS = sql.load("queue_marks")
# The condition on the id makes SQLite count in the queue's index instead of an index of all tasks.
_DEPTH = select(func.count()).select_from(tasks).where(_IS_QUEUED, tasks.c.id > literal_column("''"))


def get(connection: Connection, task_id: str) -> Task | None:
    """Read one task."""
    return next(iter(_read(connection, _GET, {"task_id": task_id})), None)


def get_all(connection: Connection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Read tasks by id, omitting missing ones."""
    document = connection.execute(_GET_ALL(connection), {"ids": dumps(list(task_ids))}).scalar_one()
    return {task.id: task for task in _decode_tasks(document or "[]")}


def missing(connection: Connection, task_ids: Iterable[str]) -> set[str]:
    """Return the ids that have no task."""
    wanted = set(task_ids)
    return wanted.difference(connection.execute(select(tasks.c.id).where(tasks.c.id.in_(wanted))).scalars())


def lock(connection: Connection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Read tasks and lock them until the transaction ends.

    Locks in id order, so that transactions never deadlock.
    """
    # SQLite has one writer at a time: a transaction for writing has everything locked.
    statement = _LOCK_ON_POSTGRESQL if connection.dialect.name == "postgresql" else _GET_ALL
    document = connection.execute(statement(connection), {"ids": dumps(list(task_ids))}).scalar_one()
    return {task.id: task for task in _decode_tasks(document or "[]")}


def created_before(connection: Connection, moment: int, *, after: str, limit: int) -> list[Row[Any]]:
    """Read tasks created before a time, oldest first.

    Up to `limit` rows with ids above `after`, of `id`, `completed_at` and `is_over` (nothing will change the task).
    """
    statement = select(tasks.c.id, tasks.c.completed_at, _IS_OVER.label("is_over"))
    created = statement.where(tasks.c.id > after, tasks.c.id < id_at(moment)).order_by(tasks.c.id)
    return list(connection.execute(created.limit(limit)).all())


def lock_removable(connection: Connection, task_ids: Sequence[str], *, before: int) -> list[str]:
    """Lock the given tasks that may be deleted; return ids.

    They ended by `before` and have no pending deliveries or images. Skips locked tasks.
    """
    statement = select(tasks.c.id).where(
        tasks.c.id.in_(task_ids),
        _IS_OVER,
        tasks.c.completed_at <= before,
        ~exists().where(webhook_deliveries.c.task_id == tasks.c.id, webhook_deliveries.c.state == "pending"),
        ~exists().where(images.c.task_id == tasks.c.id, images.c.state == "pending"),
    )
    return list(connection.execute(statement.order_by(tasks.c.id).with_for_update(skip_locked=True)).scalars())


def remove(connection: Connection, task_ids: Iterable[str]) -> None:
    """Delete tasks and everything that belongs to them."""
    connection.execute(delete(tasks).where(tasks.c.id.in_(sorted(task_ids))))


def page(
    connection: Connection,
    project: str,
    subject: str | None,
    wanted: TaskFilter,
    *,
    before_id: str | None,
    limit: int,
) -> list[Task]:
    """Read a page of a project's tasks, newest first.

    With `subject`, only that subject's.
    """
    conditions: list[ColumnElement[bool] | None] = [
        tasks.c.project == project,
        tasks.c.subject == subject if subject is not None else None,
        tasks.c.status == wanted.status.value if wanted.status else None,
        tasks.c.model == wanted.model.value if wanted.model else None,
        tasks.c.type == wanted.type.value if wanted.type else None,
        tasks.c.created_at >= wanted.created_after if wanted.created_after is not None else None,
        tasks.c.created_at < wanted.created_before if wanted.created_before is not None else None,
        # Ids begin with the approximate time: they limit the rows to read, and `created_at` decides.
        tasks.c.id >= id_at(wanted.created_after - _ID_MARGIN_MS) if wanted.created_after is not None else None,
        tasks.c.id < id_at(wanted.created_before + _ID_MARGIN_MS) if wanted.created_before is not None else None,
        tasks.c.id < before_id if before_id is not None else None,
    ]
    given = [condition for condition in conditions if condition is not None]
    statement = select(tasks).where(*given).order_by(tasks.c.id.desc()).limit(limit)
    return _read(connection, statement, {})


def queued_projects(connection: Connection) -> list[str]:
    """List the projects with queued tasks."""
    return [row.project for row in connection.execute(_QUEUED_PROJECTS(connection))]


def claimable(connection: Connection, project: str, *, now: int, limit: int) -> list[Task]:
    """Lock a project's due queued tasks, oldest first.

    Skips locked tasks.
    """
    return _read(connection, _CLAIMABLE, {"project": project, "now": now, "limit": limit})


def next_queued(connection: Connection, *, after: str, now: int) -> list[Task]:
    """Lock the next queued task after an id.

    Starts over at the first. The task need not be due. Empty if no task is queued.
    """
    found = _read(connection, _NEXT_QUEUED, {"after": after, "now": now})
    return found or _read(connection, _NEXT_QUEUED, {"after": "", "now": now})


def claimed_by(connection: Connection, name: str) -> list[tuple[str, int]]:
    """List a process's submitting tasks with their attempt numbers."""
    claimed = select(tasks.c.id, tasks.c.attempts).where(_IS_SUBMITTING, tasks.c.claimed_by == name)
    return [(row.id, row.attempts) for row in connection.execute(claimed)]


def to_poll(connection: Connection, *, now: int, limit: int) -> list[Task]:
    """Lock tasks to poll, most overdue first, skipping locked ones."""
    return _read(connection, _TO_POLL, {"now": now, "limit": limit})


def lease_poll(connection: Connection, task_ids: Sequence[str], *, now: int, until: int) -> None:
    """Keep other processes from polling tasks until a time.

    This is no transition: versions stay the same, and there is no event. Expedited polls keep their distance from now
    on, not only from the reply. Past the deadline, only a reply counts as a poll (see `overdue`).
    """
    asked_at = case((tasks.c.deadline_at <= now, tasks.c.asked_at), else_=now)
    connection.execute(update(tasks).where(tasks.c.id.in_(task_ids)).values(ask_at=until, asked_at=asked_at))


def overdue(connection: Connection, *, now: int, unpolled_before: int, limit: int) -> list[Task]:
    """Lock tasks past their deadline, most overdue first.

    Skips locked tasks. Those waiting for their last poll are left out, unless their deadline was up to
    `unpolled_before`.
    """
    return _read(connection, _OVERDUE, {"now": now, "unpolled_before": unpolled_before, "limit": limit})


def queue_marks(connection: Connection, limit: int) -> list[tuple[str, int]]:
    """Read queued ids with their positions, oldest first.

    Returns all, or up to `limit` evenly spread ones.
    """
    depth = int(connection.execute(_DEPTH).scalar_one())
    rows = connection.execute(_MARKS(connection), {"step": depth // limit + 1})
    return [(row.id, row.position) for row in rows]


def images_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Image]]:
    """Read images by task, in the upstream's order.

    The columns for copying are not read.
    """
    found: dict[str, list[Image]] = {task_id: [] for task_id in task_ids}
    if task_ids:
        document = connection.execute(_GET_IMAGES(connection), {"task_ids": dumps(list(task_ids))}).scalar_one()
        for image in sorted(_decode_images(document or "[]"), key=lambda image: image.position):
            found[image.task_id].append(image)
    return found


def _read(connection: Connection, statement: Executable, values: dict[str, Any]) -> list[Task]:
    return [_to_task(row) for row in connection.execute(statement, values)]


def _to_task(row: Row[Any]) -> Task:
    task = as_struct(row, Task)
    if row.error_code is None:
        return task
    return replace(task, error=TaskError(ErrorCode(row.error_code), row.error_message, row.error_upstream_code))
