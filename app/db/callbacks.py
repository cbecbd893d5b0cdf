"""Statements on raw callbacks: what arrived for a task, kept for diagnosis."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.schema import callbacks
from app.domain.callback import ReceivedCallback

KEPT_PER_TASK = 20


async def add(connection: AsyncConnection, new: Sequence[ReceivedCallback]) -> None:
    """Keep callbacks as they arrived."""
    rows = [
        {"task_id": c.task_id, "received_at": c.received_at, "status": c.status, "answer": c.answer, "body": c.body}
        for c in new
    ]
    await connection.execute(insert(callbacks), rows)


async def trim(connection: AsyncConnection, task_id: str) -> None:
    """Drop all but the newest callbacks of a task: strangers decide how many come."""
    kept = (
        select(callbacks.c.id)
        .where(callbacks.c.task_id == task_id)
        .order_by(callbacks.c.id.desc())
        .limit(KEPT_PER_TASK)
        .scalar_subquery()
    )
    await connection.execute(delete(callbacks).where(callbacks.c.task_id == task_id, callbacks.c.id.not_in(kept)))


async def of_task(connection: AsyncConnection, task_id: str) -> list[ReceivedCallback]:
    """Read what was kept for a task, newest first."""
    statement = select(callbacks).where(callbacks.c.task_id == task_id).order_by(callbacks.c.id.desc())
    rows = (await connection.execute(statement.limit(KEPT_PER_TASK))).all()
    return [ReceivedCallback(r.task_id, r.received_at, r.status, r.answer, r.body) for r in rows]
