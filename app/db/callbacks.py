"""Statements on raw callbacks: what arrived for a task, kept for diagnosis."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select

from app.db import bulk
from app.db.engine import Connection
from app.db.schema import callbacks
from app.domain.callback import ReceivedCallback

KEPT_PER_TASK = 20
_COLUMNS = ("task_id", "received_at", "status", "answer", "body")
_INSERT = insert(callbacks)
ADD_TEXTS = bulk.insert(callbacks, _COLUMNS)
"""Keeps callbacks whose bodies are text."""


def add_others(connection: Connection, new: Sequence[ReceivedCallback]) -> list[ReceivedCallback]:
    """Keep callbacks whose bodies are not text, as they arrived; returns those whose are."""
    texts: list[ReceivedCallback] = []
    others: list[ReceivedCallback] = []
    for callback in new:
        (texts if _is_text(callback.body) else others).append(callback)
    if others:
        connection.execute(_INSERT, [msgspec.structs.asdict(callback) for callback in others])
    return texts


def _is_text(body: bytes) -> bool:
    """Whether a body is text that databases can hold."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in body


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
