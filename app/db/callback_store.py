"""Statements on raw callbacks: what arrived for a task, kept for diagnosis."""

from sqlalchemy import delete, select

from app.db.engine import Connection
from app.db.schema import callbacks
from app.domain.callback import ReceivedCallback

KEPT_PER_TASK = 20


def trim(connection: Connection, task_id: str) -> None:
    """Drop all but the newest callbacks of a task: strangers decide how many come."""
    kept = (
        select(callbacks.c.id)
        .where(callbacks.c.task_id == task_id)
        .order_by(callbacks.c.id.desc())
        .limit(KEPT_PER_TASK)
        .scalar_subquery()
    )
    connection.execute(delete(callbacks).where(callbacks.c.task_id == task_id, callbacks.c.id.not_in(kept)))


def of_task(connection: Connection, task_id: str) -> list[ReceivedCallback]:
    """Read what was kept for a task, newest first."""
    statement = select(callbacks).where(callbacks.c.task_id == task_id).order_by(callbacks.c.id.desc())
    rows = connection.execute(statement.limit(KEPT_PER_TASK)).all()
    return [ReceivedCallback(r.task_id, r.received_at, r.status, r.answer, r.body) for r in rows]
