"""Statements on tasks and their images."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    Select,
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
from app.db.schema import images, tasks, webhook_deliveries
from app.domain.image import Image
from app.domain.models import Model, TaskType
from app.domain.task import Status, Task, TaskFilter, id_at
from app.domain.verdict import ErrorCode, TaskError

_COLUMNS = [column.name for column in tasks.c]
_ERROR_COLUMNS = ("error_code", "error_message", "error_upstream_code")
# An id is made a moment after its task's time was read.
_ID_MARGIN = 60_000
_IS_QUEUED = tasks.c.status == literal(Status.QUEUED.value, literal_execute=True)
_IS_SUBMITTING = tasks.c.status == literal(Status.SUBMITTING.value, literal_execute=True)
_AT_MOST = bindparam("at_most", type_=Integer)
_NOW = bindparam("now", type_=BigInteger)

_GET_ALL = sql.load("get_tasks")
_LOCK_ON_POSTGRESQL = sql.load("lock_tasks")
_GET_IMAGES = sql.load("get_images")
_decode_tasks = msgspec.json.Decoder(list[Task]).decode
_decode_images = msgspec.json.Decoder(list[Image]).decode
_GET = select(tasks).where(tasks.c.id == bindparam("task_id"))
_EXISTING = select(tasks.c.id).where(tasks.c.id.in_(bindparam("task_ids", expanding=True)))
_REMOVE = delete(tasks).where(tasks.c.id.in_(bindparam("task_ids", expanding=True)))
_CLAIMABLE = (
    select(tasks)
    .where(
        _IS_QUEUED,
        tasks.c.project == bindparam("in_project"),
        tasks.c.not_before <= _NOW,
        # Written so that no index fits: PostgreSQL would read the whole queue through the one on deadlines.
        tasks.c.deadline_at - _NOW > 0,
    )
    .order_by(tasks.c.id)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True)
)
_CLAIMED_BY = select(tasks.c.id).where(
    _IS_SUBMITTING, tasks.c.claimed_by == bindparam("name"), tasks.c.claimed_at < bindparam("before")
)
_TO_POLL = (
    select(tasks)
    .where(tasks.c.ask_at <= _NOW)
    .order_by(tasks.c.ask_at)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True)
)
_OVERDUE = (
    select(tasks)
    .where(
        tasks.c.deadline_at <= _NOW,
        tasks.c.upstream_task_id.is_(None) | (tasks.c.asked_at >= tasks.c.deadline_at) | tasks.c.ask_at.is_(None),
    )
    .order_by(tasks.c.deadline_at)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True)
)
# A guess that is still asked about may yet become a success.
_IS_OVER = tasks.c.completed_at.is_not(None) & tasks.c.ask_at.is_(None)
_MADE_BEFORE = (
    select(tasks.c.id, tasks.c.completed_at, _IS_OVER.label("is_over"))
    .where(tasks.c.id > bindparam("after"), tasks.c.id < bindparam("bound"))
    .order_by(tasks.c.id)
    .limit(_AT_MOST)
)
_REMOVABLE = (
    select(tasks.c.id)
    .where(
        tasks.c.id.in_(bindparam("task_ids", expanding=True)),
        _IS_OVER,
        tasks.c.completed_at <= bindparam("before", type_=BigInteger),
        ~exists().where(webhook_deliveries.c.task_id == tasks.c.id, webhook_deliveries.c.state == "pending"),
        ~exists().where(images.c.task_id == tasks.c.id, images.c.state == "pending"),
    )
    .order_by(tasks.c.id)
    .with_for_update(skip_locked=True)
)


def _hop_through_projects() -> Select[tuple[str]]:
    # Ordered by both columns of the queue's index: for a mere minimum SQLite reads another index, of all tasks.
    least = select(tasks.c.project).where(_IS_QUEUED).order_by(tasks.c.project, tasks.c.id).limit(1)
    first = select(least.scalar_subquery().label("project")).cte("hop", recursive=True)
    following = least.where(tasks.c.project > first.c.project).correlate(first).scalar_subquery()
    hop = first.union_all(select(following).where(first.c.project.is_not(None)))
    return select(hop.c.project).where(hop.c.project.is_not(None))


def _number_the_queue() -> Select[tuple[str, int]]:
    position = func.row_number().over(order_by=tasks.c.id).label("position")
    line = select(tasks.c.id, position).where(_IS_QUEUED).subquery()
    is_mark = (line.c.position - 1) % bindparam("step", type_=Integer) == 0
    return select(line.c.id, line.c.position).where(is_mark).order_by(line.c.position)


_QUEUED_PROJECTS = _hop_through_projects()
_MARKS = _number_the_queue()
# The condition on the id leads SQLite to the queue's index; it would count through one of all tasks.
_DEPTH = select(func.count()).select_from(tasks).where(_IS_QUEUED, tasks.c.id > literal_column("''"))


def to_task(row: Row[Any]) -> Task:
    """Turn a row of `tasks` into a `Task`."""
    values = dict(zip(_COLUMNS, row, strict=True))
    code, message, upstream_code = (values.pop(name) for name in _ERROR_COLUMNS)
    values["error"] = TaskError(ErrorCode(code), message, upstream_code) if code else None
    values["model"] = Model(values["model"])
    values["type"] = TaskType(values["type"])
    values["status"] = Status(values["status"])
    return Task(**values)


def get(connection: Connection, task_id: str) -> Task | None:
    """Read one task."""
    row = connection.execute(_GET, {"task_id": task_id}).one_or_none()
    return to_task(row) if row else None


def get_all(connection: Connection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Read tasks by their ids; those that don't exist are left out."""
    document = connection.execute(_GET_ALL(connection), {"ids": sql.as_json(list(task_ids))}).scalar_one()
    return {task.id: task for task in _decode_tasks(document or "[]")}


def missing(connection: Connection, task_ids: Iterable[str]) -> set[str]:
    """Tell which of these ids no task has (any more)."""
    wanted = set(task_ids)
    return wanted - {row.id for row in connection.execute(_EXISTING, {"task_ids": sorted(wanted)})}


def lock(connection: Connection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Read tasks and lock them until the transaction ends, in one order for everybody, so that none deadlock."""
    # SQLite has one writer at a time: whoever reads in a transaction for writing has locked everything.
    statement = _LOCK_ON_POSTGRESQL if connection.dialect.name == "postgresql" else _GET_ALL
    document = connection.execute(statement(connection), {"ids": sql.as_json(list(task_ids))}).scalar_one()
    return {task.id: task for task in _decode_tasks(document or "[]")}


def created_before(connection: Connection, moment: int, *, after: str, limit: int) -> list[Row[Any]]:
    """Read up to `limit` tasks made before a moment, oldest first, above an id: `id`, `completed_at`, `is_over`.

    Over is what nothing may change any more.
    """
    rows = connection.execute(_MADE_BEFORE, {"after": after, "bound": id_at(moment), "at_most": limit})
    return list(rows.all())


def lock_removable(connection: Connection, task_ids: Sequence[str], *, before: int) -> list[str]:
    """Lock those of these tasks that ended before then and have nothing more to tell, unless others have them."""
    rows = connection.execute(_REMOVABLE, {"task_ids": list(task_ids), "before": before})
    return [row.id for row in rows]


def remove(connection: Connection, task_ids: Iterable[str]) -> None:
    """Delete tasks with all that hangs on them."""
    connection.execute(_REMOVE, {"task_ids": sorted(task_ids)})


def page(
    connection: Connection,
    project: str,
    subject: str | None,
    wanted: TaskFilter,
    *,
    before_id: str | None,
    limit: int,
) -> list[Task]:
    """Read up to `limit` of a project's (and, if given, subject's) tasks, newest first, below `before_id`."""
    conditions: list[ColumnElement[bool] | None] = [
        tasks.c.project == project,
        tasks.c.subject == subject if subject is not None else None,
        tasks.c.status == wanted.status.value if wanted.status else None,
        tasks.c.model == wanted.model.value if wanted.model else None,
        tasks.c.type == wanted.type.value if wanted.type else None,
        tasks.c.created_at >= wanted.created_after if wanted.created_after is not None else None,
        tasks.c.created_at < wanted.created_before if wanted.created_before is not None else None,
        # Ids tell the time too, nearly: they bound what is read, the exact time decides.
        tasks.c.id >= id_at(wanted.created_after - _ID_MARGIN) if wanted.created_after is not None else None,
        tasks.c.id < id_at(wanted.created_before + _ID_MARGIN) if wanted.created_before is not None else None,
        tasks.c.id < before_id if before_id is not None else None,
    ]
    given = [condition for condition in conditions if condition is not None]
    statement = select(tasks).where(*given).order_by(tasks.c.id.desc()).limit(limit)
    return [to_task(row) for row in connection.execute(statement)]


def queued_projects(connection: Connection) -> list[str]:
    """List the projects that have queued tasks, by hopping through the index, not by reading the queue."""
    return [row.project for row in connection.execute(_QUEUED_PROJECTS)]


def claimable(connection: Connection, project: str, *, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` of a project's queued tasks that are due, oldest first, passing over those locked by others."""
    rows = connection.execute(_CLAIMABLE, {"in_project": project, "now": now, "at_most": limit})
    return [to_task(row) for row in rows]


def claimed_by(connection: Connection, name: str, *, before: int) -> list[str]:
    """List the ids of tasks still being submitted that this process claimed before then."""
    return [row.id for row in connection.execute(_CLAIMED_BY, {"name": name, "before": before})]


def to_poll(connection: Connection, *, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` tasks that are due to be polled about, the most overdue first."""
    return [to_task(row) for row in connection.execute(_TO_POLL, {"now": now, "at_most": limit})]


def lease_poll(connection: Connection, task_ids: Sequence[str], *, now: int, until: int) -> None:
    """Keep others from polling about these tasks until then; no transition, so no version and no event.

    Expedited polls keep their distance to this one from now on, not only from its reply. Past the deadline only a reply
    counts as a poll (see `overdue`).
    """
    asked_at = case((tasks.c.deadline_at <= now, tasks.c.asked_at), else_=now)
    connection.execute(update(tasks).where(tasks.c.id.in_(task_ids)).values(ask_at=until, asked_at=asked_at))


def overdue(connection: Connection, *, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` tasks past their deadline, except those still waiting for their last poll."""
    return [to_task(row) for row in connection.execute(_OVERDUE, {"now": now, "at_most": limit})]


def queue_marks(connection: Connection, at_most: int) -> list[tuple[str, int]]:
    """Read ids of queued tasks with their positions, oldest first: all, or evenly spread ones if there are more."""
    depth = int(connection.execute(_DEPTH).scalar_one())
    rows = connection.execute(_MARKS, {"step": depth // at_most + 1})
    return [(row.id, row.position) for row in rows]


def images_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Image]]:
    """Read the images of tasks, each task's in the upstream's order, without what only copying needs to know."""
    found: dict[str, list[Image]] = {task_id: [] for task_id in task_ids}
    if task_ids:
        document = connection.execute(_GET_IMAGES(connection), {"task_ids": sql.as_json(list(task_ids))}).scalar_one()
        for image in sorted(_decode_images(document or "[]"), key=lambda image: image.position):
            found[image.task_id].append(image)
    return found
