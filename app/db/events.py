"""Statements on task events: append-only, numbered in the order in which they are committed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text

from app.db import bulk
from app.db.engine import Connection
from app.db.schema import events
from app.domain.event import TaskEvent

# Any constant that nothing else in this database uses.
_NUMBERING_LOCK = 0x6E616E6F
_INSERT = bulk.insert(events, ["task_id", "project", "type", "snapshot", "created_at"])


async def append(connection: Connection, new: Sequence[TaskEvent]) -> None:
    """Append events. To be called last in a transaction: until it ends, no other transaction can append.

    On PostgreSQL ids are given out when a row is inserted, but rows appear when their transaction commits; without
    the lock a lower id could appear after a higher one, and a reader that remembers the last id would miss it.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _NUMBERING_LOCK})
    await _INSERT.execute(connection, new)


async def of_task(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """Read a task's events in order, as mappings of the table's columns."""
    result = await connection.execute(select(events).where(events.c.task_id == task_id).order_by(events.c.id))
    return [dict(row) for row in result.mappings()]
