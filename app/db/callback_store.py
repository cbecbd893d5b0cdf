"""SQL statements for raw callbacks, kept for diagnosis."""

from sqlalchemy import delete, select

from app.db.engine import Connection
from app.db.rows import read_all
from app.db.schema import callbacks
from app.domain.callback import ReceivedCallback

# The sender decides how many callbacks arrive.
KEPT_PER_TASK = 20


def trim(connection: Connection, task_id: str) -> None:
    """Delete all but a task's newest `KEPT_PER_TASK` callbacks."""
    of_task = callbacks.c.task_id == task_id
    kept = select(callbacks.c.id).where(of_task).order_by(callbacks.c.id.desc()).limit(KEPT_PER_TASK)
    connection.execute(delete(callbacks).where(of_task, callbacks.c.id.not_in(kept.scalar_subquery())))


def of_task(connection: Connection, task_id: str) -> list[ReceivedCallback]:
    """Read the callbacks kept for a task, newest first."""
    statement = select(callbacks).where(callbacks.c.task_id == task_id).order_by(callbacks.c.id.desc())
    return read_all(connection, ReceivedCallback, statement.limit(KEPT_PER_TASK))
