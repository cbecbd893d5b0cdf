"""Task events, numbered in commit order."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Row, String, bindparam, delete, false, func, select, text

from app.db.engine import Connection
from app.db.rows import LIMIT, read_all
from app.db.schema import events, tasks
from app.domain.event import StoredEvent

# The same number as in write_batch.postgresql.sql.
_LOCK_NUMBERS = text("SELECT pg_advisory_xact_lock(1851879023)")
_AFTER = select(events).where(events.c.id > bindparam("after", type_=BigInteger)).order_by(events.c.id).limit(LIMIT)
_OF_PROJECT = _AFTER.where(events.c.project == bindparam("project", type_=String))
_OF_SUBJECT = _OF_PROJECT.where(events.c.subject == bindparam("subject", type_=String))
_OF_TASK = _AFTER.where(events.c.task_id == bindparam("task_id", type_=String))


def of_task(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """Read a task's events in order, as column mappings."""
    result = connection.execute(select(events).where(events.c.task_id == task_id).order_by(events.c.id))
    return [dict(row) for row in result.mappings()]


def lock_numbers(connection: Connection) -> None:
    """Take the lock on event numbers until the transaction ends."""
    # SQLite has one writer at a time.
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_NUMBERS)


def newest_id(connection: Connection) -> int:
    """Read the highest id; 0 without events."""
    return connection.execute(select(func.max(events.c.id))).scalar_one() or 0


def after(connection: Connection, last: int, *, limit: int) -> list[StoredEvent]:
    """Read up to `limit` events after id `last`, in order."""
    return read_all(connection, StoredEvent, _AFTER, {"after": last, "limit": limit})


def of_project_after(
    connection: Connection, project: str, last: int, *, subject: str | None = None, limit: int
) -> list[StoredEvent]:
    """Read up to `limit` project events after id `last`.

    In order; with `subject`, only that subject's.
    """
    statement = _OF_PROJECT if subject is None else _OF_SUBJECT
    values = {"project": project, "subject": subject, "after": last, "limit": limit}
    return read_all(connection, StoredEvent, statement, values)


def oldest_after(connection: Connection, last: int, *, ended_before: int, limit: int) -> list[Row[Any]]:
    """Read up to `limit` events after id `last`, in order.

    Returns rows of `id`, `created_at` and `is_old`: whether the event's task ended before `ended_before` for good.
    """
    is_old = (tasks.c.completed_at <= ended_before) & tasks.c.ask_at.is_(None)
    statement = select(events.c.id, events.c.created_at, func.coalesce(is_old, false()).label("is_old"))
    following = statement.join(tasks, tasks.c.id == events.c.task_id).where(events.c.id > last)
    return list(connection.execute(following.order_by(events.c.id).limit(limit)).all())


def remove(connection: Connection, event_ids: Sequence[int]) -> int:
    """Delete events; returns how many."""
    return connection.execute(delete(events).where(events.c.id.in_(event_ids))).rowcount


def of_task_after(connection: Connection, task_id: str, last: int, *, limit: int) -> list[StoredEvent]:
    """Read a task's events after id `last`, in order."""
    return read_all(connection, StoredEvent, _OF_TASK, {"task_id": task_id, "after": last, "limit": limit})


def newest_at(connection: Connection) -> int:
    """Return when the newest event happened; 0 without any."""
    newest = select(events.c.created_at).order_by(events.c.id.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none() or 0
