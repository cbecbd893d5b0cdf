"""An auditor's view of the database.

It uses plain SQL on its own connection, so that it shares no code with the service.
"""

import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_GUESSES = {"timeout", "submission_unknown", "result_unreadable"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A task as stored."""

    id: str
    status: str
    attempts: int
    error_code: str | None
    deadline_at: int | None
    upstream_task_id: str | None

    @property
    def is_terminal(self) -> bool:
        return self.status in {"succeeded", "failed", "canceled"}

    @property
    def is_final(self) -> bool:
        return self.is_terminal and not (self.status == "failed" and self.error_code in _GUESSES)


class Books:
    """Reads committed tasks, events and deliveries."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def tasks(self) -> dict[str, Entry]:
        rows = self._connection.execute(
            "SELECT id, status, attempts, error_code, deadline_at, upstream_task_id FROM tasks"
        )
        return {row[0]: Entry(*row) for row in rows}

    def events_after(self, number: int) -> list[tuple[int, str, str]]:
        """Events (id, task, state) after an id, in order."""
        rows = self._connection.execute("SELECT id, task_id, type FROM events WHERE id > ? ORDER BY id", (number,))
        return [(row[0], row[1], row[2].removeprefix("task.")) for row in rows]

    def deliveries(self) -> Counter[tuple[str, str]]:
        """Count planned webhook deliveries by task and state."""
        rows = self._connection.execute("SELECT task_id, event FROM webhook_deliveries")
        return Counter((row[0], row[1].removeprefix("task.")) for row in rows)

    def wants_webhooks(self) -> set[str]:
        """The tasks with a webhook URL."""
        return {row[0] for row in self._connection.execute("SELECT id FROM tasks WHERE webhook_url IS NOT NULL")}

    def close(self) -> None:
        self._connection.close()
