"""Stores tasks and submits in memory and optionally in SQLite."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from app.sandbox.orders import Order
from app.sandbox.plans import TaskPlan

_SCHEMA = "CREATE TABLE IF NOT EXISTS records (kind TEXT, id TEXT, document TEXT NOT NULL, UNIQUE (kind, id))"


@dataclass(slots=True)
class Task:
    """An accepted order and its progress; times are Unix seconds."""

    id: str
    order: Order
    plan: TaskPlan
    created_at: float
    finished_at: float | None = None
    problem: str | None = None
    """Why its input images can't be used."""
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    """All attempts to deliver callbacks, oldest first."""
    callbacks_done: int = 0
    """How many planned callbacks were delivered or given up."""
    polls: int = 0
    is_settled: bool = False
    """Whether it has finished and all callbacks were delivered or given up."""


@dataclass(slots=True)
class Submit:
    """A submit as received, and its response's status and code.

    `status` is None if the connection was cut. `prompt_key` is set once the submit counts toward its prompt.
    """

    id: str
    at: float
    path: str
    headers: dict[str, str]
    body: str
    prompt_key: str | None = None
    task_id: str | None = None
    fault: str | None = None
    status: int | None = None
    code: int | None = None


class Store:
    """The newest `keep` tasks and submits; drops settled tasks first."""

    def __init__(self, path: Path | None = None, *, keep: int = 10_000) -> None:
        """Load the file; raises OSError if it can't be used."""
        self.tasks: dict[str, Task] = {}
        self.submits: dict[str, Submit] = {}
        self.port: int | None = None
        self._keep = keep
        self._db: sqlite3.Connection | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The thread that starts the server opens it, and the server's thread uses it later, never both at once.
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
            try:
                self._load(self._db)
            except (sqlite3.DatabaseError, ValueError) as error:
                self._db.close()
                raise OSError(f"The sandbox can't use its state in {path} ({error}); delete the file.") from error

    def _load(self, db: sqlite3.Connection) -> None:
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", _SCHEMA):
            db.execute(statement)
        with closing(db.execute("SELECT kind, id, document FROM records ORDER BY rowid")) as rows:
            for kind, record_id, document in rows:
                fields = json.loads(document)
                if kind == "Task":
                    self.tasks[record_id] = msgspec.convert(fields, Task)
                elif kind == "Submit":
                    self.submits[record_id] = msgspec.convert(fields, Submit)
                else:
                    self.port = fields

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()

    def remember_port(self, port: int) -> None:
        """Save the server's port for the next run."""
        self.port = port
        self._execute("INSERT OR REPLACE INTO records VALUES ('port', '', ?)", port)

    def count_prompt(self, prompt_key: str) -> tuple[int, int]:
        """Return the numbers of submits and tasks for a prompt."""
        task_ids = [submit.task_id for submit in self.submits.values() if submit.prompt_key == prompt_key]
        return len(task_ids), len(task_ids) - task_ids.count(None)

    def add(self, record: Task | Submit) -> None:
        """Add a new task or submit."""
        if isinstance(record, Task):
            if len(self.tasks) >= self._keep:
                oldest = next(
                    (task for task in self.tasks.values() if task.is_settled), next(iter(self.tasks.values()))
                )
                self._drop(self.tasks.pop(oldest.id))
            self.tasks[record.id] = record
        else:
            if len(self.submits) >= self._keep:
                self._drop(self.submits.pop(next(iter(self.submits))))
            self.submits[record.id] = record
        self._execute("INSERT INTO records (document, kind, id) VALUES (?, ?, ?)", record, *_key(record))

    def save(self, record: Task | Submit) -> None:
        """Save changes to a task or submit, unless dropped."""
        self._execute("UPDATE records SET document = ? WHERE kind = ? AND id = ?", record, *_key(record))

    def clear(self) -> None:
        """Delete all tasks and submits."""
        self.tasks.clear()
        self.submits.clear()
        self._execute("DELETE FROM records WHERE kind != 'port'")

    def _drop(self, record: Task | Submit) -> None:
        self._execute("DELETE FROM records WHERE kind = ? AND id = ?", *_key(record))

    def _execute(self, sql: str, *values: object) -> None:
        if self._db is not None:
            # ASCII JSON, as prompts may contain lone surrogates.
            self._db.execute(sql, [v if isinstance(v, str) else json.dumps(msgspec.to_builtins(v)) for v in values])


def _key(record: Task | Submit) -> tuple[str, str]:
    return type(record).__name__, record.id
