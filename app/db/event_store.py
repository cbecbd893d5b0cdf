"""Statements on task events: append-only, numbered in the order in which they are committed."""

from typing import Any

from sqlalchemy import BigInteger, Integer, String, bindparam, func, select

from app.db.engine import Connection
from app.db.schema import events
from app.domain.event import StoredEvent

_NEWEST = select(func.max(events.c.id))
_AFTER = (
    select(events)
    .where(events.c.id > bindparam("after", type_=BigInteger))
    .order_by(events.c.id)
    .limit(bindparam("at_most", type_=Integer))
)
_OF_PROJECT = _AFTER.where(events.c.project == bindparam("in_project", type_=String))
_OF_SUBJECT = _OF_PROJECT.where(events.c.subject == bindparam("of_subject", type_=String))
_OF_TASK = _AFTER.where(events.c.task_id == bindparam("of_task", type_=String))


def of_task(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """Read a task's events in order, as mappings of the table's columns."""
    result = connection.execute(select(events).where(events.c.task_id == task_id).order_by(events.c.id))
    return [dict(row) for row in result.mappings()]


def newest_id(connection: Connection) -> int:
    """Read the highest id there is; 0 without events."""
    return connection.execute(_NEWEST).scalar_one() or 0


def after(connection: Connection, last: int, *, limit: int) -> list[StoredEvent]:
    """Read up to `limit` events with ids above `last`, in order."""
    rows = connection.execute(_AFTER, {"after": last, "at_most": limit})
    return [StoredEvent(**row) for row in rows.mappings()]


def of_project_after(
    connection: Connection, project: str, last: int, *, subject: str | None = None, limit: int
) -> list[StoredEvent]:
    """Read up to `limit` of a project's (and, if given, subject's) events with ids above `last`, in order."""
    values = {"in_project": project, "after": last, "at_most": limit}
    if subject is None:
        rows = connection.execute(_OF_PROJECT, values)
    else:
        rows = connection.execute(_OF_SUBJECT, {**values, "of_subject": subject})
    return [StoredEvent(**row) for row in rows.mappings()]


def of_task_after(connection: Connection, task_id: str, last: int, *, limit: int) -> list[StoredEvent]:
    """Read up to `limit` of a task's events with ids above `last`, in order."""
    rows = connection.execute(_OF_TASK, {"of_task": task_id, "after": last, "at_most": limit})
    return [StoredEvent(**row) for row in rows.mappings()]
