"""Query plans of statements on SQLite."""

from typing import Any

from sqlalchemy import event

from app.db.engine import Connection


def plans_of(connection: Connection) -> list[str]:
    """Return a list that collects plans of SELECTs and DELETEs."""
    plans: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def _explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "DELETE")):
            plans.extend(row[-1] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    return plans
