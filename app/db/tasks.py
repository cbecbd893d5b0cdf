"""Statements on tasks and their images."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.schema import images, tasks
from app.domain.image import Image, ImageState
from app.domain.models import Model, TaskType
from app.domain.task import Status, Task, TaskFilter
from app.domain.verdict import ErrorCode, TaskError

_PLAIN_FIELDS = tuple(f.name for f in fields(Task) if f.name not in {"error", "model", "type", "status"})
_CONSTANT = set("id project subject model type input metadata webhook_url retry_of created_at".split())
# What a movement may change. All of it is written each time, so that many movements are one prepared statement.
_MUTABLE = [column.name for column in tasks.c if column.name not in _CONSTANT]
_IS_QUEUED = tasks.c.status == literal(Status.QUEUED.value, literal_execute=True)
_IS_SUBMITTING = tasks.c.status == literal(Status.SUBMITTING.value, literal_execute=True)
_THESE = tasks.c.id.in_(bindparam("task_ids", expanding=True))
_AT_MOST = bindparam("at_most", type_=Integer)
_NOW = bindparam("now", type_=BigInteger)

# Statements are built once: building one takes longer than running it.
_INSERT = insert(tasks)
_GET = select(tasks).where(tasks.c.id == bindparam("task_id"))
_GET_MANY = select(tasks).where(_THESE)
_EXISTING = select(tasks.c.id).where(_THESE)
_LOCK = select(tasks).where(_THESE).order_by(tasks.c.id).with_for_update()
_UPDATE = (
    update(tasks)
    .where(tasks.c.id == bindparam("row_id"), tasks.c.version == bindparam("row_version"))
    .values({name: bindparam(name) for name in _MUTABLE})
)
_CLAIMABLE = (
    select(tasks)
    .where(
        _IS_QUEUED,
        tasks.c.project == bindparam("in_project"),
        tasks.c.not_before <= _NOW,
        tasks.c.deadline_at > _NOW,
    )
    .order_by(tasks.c.id)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True)
)
_CLAIMED_BY = select(tasks.c.id).where(
    _IS_SUBMITTING, tasks.c.claimed_by == bindparam("name"), tasks.c.claimed_at < bindparam("before")
)
_TO_ASK = (
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
_INSERT_IMAGES = insert(images)
_IMAGES = (
    select(images)
    .where(images.c.task_id.in_(bindparam("task_ids", expanding=True)))
    .order_by(images.c.task_id, images.c.position)
)


def _hop_through_projects() -> Select[tuple[str]]:
    first = select(func.min(tasks.c.project).label("project")).where(_IS_QUEUED).cte("hop", recursive=True)
    following = (
        select(func.min(tasks.c.project))
        .where(_IS_QUEUED, tasks.c.project > first.c.project)
        .correlate(first)
        .scalar_subquery()
    )
    hop = first.union_all(select(following).where(first.c.project.is_not(None)))
    return select(hop.c.project).where(hop.c.project.is_not(None))


def _number_the_queue() -> Select[tuple[str, int]]:
    position = func.row_number().over(order_by=tasks.c.id).label("position")
    line = select(tasks.c.id, position).where(_IS_QUEUED).subquery()
    is_mark = (line.c.position - 1) % bindparam("step", type_=Integer) == 0
    return select(line.c.id, line.c.position).where(is_mark).order_by(line.c.position)


_QUEUED_PROJECTS = _hop_through_projects()
_MARKS = _number_the_queue()
_DEPTH = select(func.count()).select_from(tasks).where(_IS_QUEUED)


def to_task(row: Row[Any]) -> Task:
    """Turn a row of `tasks` into a `Task`."""
    values = row._mapping  # noqa: SLF001 -- SQLAlchemy's public name for it
    plain = {name: values[name] for name in _PLAIN_FIELDS}
    code = values["error_code"]
    return Task(
        **plain,
        model=Model(values["model"]),
        type=TaskType(values["type"]),
        status=Status(values["status"]),
        error=TaskError(ErrorCode(code), values["error_message"], values["error_upstream_code"]) if code else None,
    )


def _to_values(task: Task) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in _PLAIN_FIELDS}
    error = task.error
    values.update(
        model=task.model.value,
        type=task.type.value,
        status=task.status.value,
        error_code=error.code.value if error else None,
        error_message=error.message if error else None,
        error_upstream_code=error.upstream_code if error else None,
    )
    return values


async def add(connection: AsyncConnection, new: Sequence[Task]) -> None:
    """Insert new tasks."""
    await connection.execute(_INSERT, [_to_values(task) for task in new])


async def get(connection: AsyncConnection, task_id: str) -> Task | None:
    """Read one task."""
    row = (await connection.execute(_GET, {"task_id": task_id})).one_or_none()
    return to_task(row) if row else None


async def get_many(connection: AsyncConnection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Read tasks by their ids; those that don't exist are left out."""
    rows = await connection.execute(_GET_MANY, {"task_ids": sorted(task_ids)})
    return {task.id: task for task in map(to_task, rows)}


async def missing(connection: AsyncConnection, task_ids: Iterable[str]) -> set[str]:
    """Tell which of these ids no task has (any more)."""
    wanted = set(task_ids)
    return wanted - set(await connection.scalars(_EXISTING, {"task_ids": sorted(wanted)}))


async def lock(connection: AsyncConnection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Read tasks and lock them until the transaction ends, in one order for everybody, so that none deadlock."""
    rows = await connection.execute(_LOCK, {"task_ids": sorted(task_ids)})
    return {task.id: task for task in map(to_task, rows)}


async def save(connection: AsyncConnection, changed: Sequence[Task]) -> None:
    """Write changed tasks by compare-and-set: each must still have the version it was read with.

    Raises `StaleTask` if one has not, where the driver tells (their rows are locked, so none should).
    """
    parameters = []
    for task in changed:
        values = _to_values(task)
        row = {name: values[name] for name in _MUTABLE}
        row.update(row_id=task.id, row_version=task.version, version=task.version + 1)
        parameters.append(row)
    result = await connection.execute(_UPDATE, parameters)
    if 0 <= result.rowcount < len(changed):
        raise StaleTask(f"{len(changed) - result.rowcount} of {len(changed)} tasks changed under their lock")


class StaleTask(Exception):
    """A task was not as it had been read, although its row was locked."""


async def remove(connection: AsyncConnection, task_id: str) -> None:
    """Delete a task with all that hangs on it."""
    await connection.execute(delete(tasks).where(tasks.c.id == task_id))


async def page(
    connection: AsyncConnection,
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
        tasks.c.id < before_id if before_id is not None else None,
    ]
    given = [condition for condition in conditions if condition is not None]
    statement = select(tasks).where(*given).order_by(tasks.c.id.desc()).limit(limit)
    return [to_task(row) for row in await connection.execute(statement)]


async def queued_projects(connection: AsyncConnection) -> list[str]:
    """List the projects that have queued tasks, by hopping through the index, not by reading the queue."""
    return [row.project for row in await connection.execute(_QUEUED_PROJECTS)]


async def claimable(connection: AsyncConnection, project: str, *, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` of a project's queued tasks that are due, oldest first, passing over those locked by others."""
    rows = await connection.execute(_CLAIMABLE, {"in_project": project, "now": now, "at_most": limit})
    return [to_task(row) for row in rows]


async def claimed_by(connection: AsyncConnection, name: str, *, before: int) -> list[str]:
    """List the ids of tasks still being submitted that this process claimed before then."""
    return [row.id for row in await connection.execute(_CLAIMED_BY, {"name": name, "before": before})]


async def to_ask(connection: AsyncConnection, *, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` tasks about which the upstream is to be asked now, the most overdue first."""
    return [to_task(row) for row in await connection.execute(_TO_ASK, {"now": now, "at_most": limit})]


async def lease_question(connection: AsyncConnection, task_ids: Sequence[str], *, now: int, until: int) -> None:
    """Keep others from asking about these tasks until then; no movement, so no version and no event.

    What hastens questions keeps its distance to this one from now on, not only from its answer. Past the deadline
    only an answer counts as asked (see `overdue`).
    """
    asked_at = case((tasks.c.deadline_at <= now, tasks.c.asked_at), else_=now)
    await connection.execute(update(tasks).where(tasks.c.id.in_(task_ids)).values(ask_at=until, asked_at=asked_at))


async def overdue(connection: AsyncConnection, *, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` tasks past their deadline, without those that still wait for their last question."""
    return [to_task(row) for row in await connection.execute(_OVERDUE, {"now": now, "at_most": limit})]


async def queue_marks(connection: AsyncConnection, at_most: int) -> list[tuple[str, int]]:
    """Read ids of queued tasks with their positions, oldest first: all, or evenly spread ones if there are more."""
    depth = int((await connection.execute(_DEPTH)).scalar_one())
    rows = await connection.execute(_MARKS, {"step": depth // at_most + 1})
    return [(row.id, row.position) for row in rows]


async def add_images(connection: AsyncConnection, new: Sequence[Image]) -> None:
    """Insert the images of tasks that succeeded."""
    rows = [
        {"id": i.id, "task_id": i.task_id, "position": i.position, "source_url": i.source_url, "state": i.state.value}
        for i in new
    ]
    await connection.execute(_INSERT_IMAGES, rows)


async def images_of(connection: AsyncConnection, task_ids: Sequence[str]) -> dict[str, list[Image]]:
    """Read the images of tasks, each task's in the upstream's order."""
    found: dict[str, list[Image]] = {task_id: [] for task_id in task_ids}
    if task_ids:
        for row in await connection.execute(_IMAGES, {"task_ids": list(task_ids)}):
            values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
            values["state"] = ImageState(values["state"])
            found[values["task_id"]].append(Image(**values))
    return found
