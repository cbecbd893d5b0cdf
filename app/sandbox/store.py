"""The sandbox's memory: one SQLite database, in memory or in a file that outlives the process."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from app.sandbox.tasks import Task

_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL, created_at REAL NOT NULL,
    finished_at REAL, notices_sent INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0,
    questions INTEGER NOT NULL DEFAULT 0);
CREATE INDEX tasks_by_settled ON tasks (settled, seq);
CREATE TABLE callbacks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    at REAL NOT NULL, notice TEXT NOT NULL, url TEXT NOT NULL, status INTEGER, error TEXT);
CREATE INDEX callbacks_by_task ON callbacks (task_id);
CREATE TABLE submits (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, path TEXT NOT NULL, headers TEXT NOT NULL,
    body TEXT NOT NULL, fault TEXT, status INTEGER, code INTEGER, task_id TEXT, prompt_key TEXT);
CREATE INDEX submits_by_prompt ON submits (prompt_key);
"""
_TASK_COLUMNS = "id, document, created_at, finished_at, notices_sent, settled"
_PRUNE_EVERY = 64


class Store:
    """Tasks, submits and callbacks; the newest `keep` tasks and submits stay, finished tasks go first.

    Statements are short and local, so they run on the event loop's own thread.
    """

    def __init__(self, path: Path | None = None, *, keep: int = 10_000) -> None:
        """Open the database; raises OSError if the file can't be used."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # Opened where the server is started, used on the server's thread, never on both at once.
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=5)
        self._db.row_factory = sqlite3.Row
        self._keep = keep
        self._inserts = 0
        try:
            self._prepare()
        except (sqlite3.DatabaseError, ValueError) as error:
            self._db.close()
            raise OSError(f"The sandbox can't use its state {path}: {error}; remove it to start anew.") from error

    def _prepare(self) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        version = self._one("PRAGMA user_version")
        if version not in {0, _VERSION}:
            raise ValueError(f"its version is {version}, not {_VERSION}")
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the database; a file is whole at any time, this only tidies it."""
        self._db.close()

    def _one(self, sql: str, *values: Any) -> Any:
        # A statement with RETURNING ends, and so commits, only when read to its end.
        rows = self._db.execute(sql, values).fetchall()
        return rows[0][0] if rows else None

    def meta(self, name: str) -> str | None:
        """Return a remembered setting, None if there is none."""
        value = self._one("SELECT value FROM meta WHERE name = ?", name)
        return None if value is None else str(value)

    def remember(self, name: str, value: str) -> None:
        """Remember a setting."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def add_submit(self, at: float, path: str, headers: dict[str, str], body: str) -> int:
        """Keep a submit as received (`at` in unix seconds); returns its number."""
        self._prune()
        cursor = self._db.execute(
            "INSERT INTO submits (at, path, headers, body) VALUES (?, ?, ?, ?)", (at, path, json.dumps(headers), body)
        )
        return int(cursor.lastrowid or 0)

    def count_prompt(self, prompt_key: str) -> tuple[int, int]:
        """Count how many submits of this prompt came so far, and how many tasks were made of them."""
        row = self._db.execute(
            "SELECT count(*), count(task_id) FROM submits WHERE prompt_key = ?", (prompt_key,)
        ).fetchone()
        return int(row[0]), int(row[1])

    def count_submit(self, seq: int, prompt_key: str, task_id: str | None) -> None:
        """Let a submit count for its prompt."""
        self._db.execute("UPDATE submits SET prompt_key = ?, task_id = ? WHERE seq = ?", (prompt_key, task_id, seq))

    def answer_submit(self, seq: int, *, fault: str | None, status: int | None, code: int | None) -> None:
        """Note how a submit was answered: the fault met, the HTTP status (None: cut off), the envelope's code."""
        self._db.execute("UPDATE submits SET fault = ?, status = ?, code = ? WHERE seq = ?", (fault, status, code, seq))

    def submits(self) -> list[dict[str, Any]]:
        """Return every submit kept, in the order received."""
        rows = self._db.execute(
            "SELECT seq, at, path, headers, body, fault, status, code, task_id FROM submits ORDER BY seq"
        )
        return [{**dict(row), "headers": json.loads(row["headers"]), "body": _body(row["body"])} for row in rows]

    def add_task(self, task: Task) -> None:
        """Keep a new task."""
        self._db.execute(
            "INSERT INTO tasks (id, document, created_at) VALUES (?, ?, ?)", (task.id, task.document(), task.created_at)
        )

    def task(self, task_id: str) -> Task | None:
        """Return a task by its id, None if there is none."""
        # Ids come from strangers and may hold what SQLite can't; none of ours does.
        if not task_id.isascii():
            return None
        row = self._db.execute(f"SELECT {_TASK_COLUMNS} FROM tasks WHERE id = ?", (task_id,)).fetchone()  # noqa: S608 -- a constant
        return None if row is None else _task(row)

    def tasks(self, *, unsettled: bool = False) -> list[Task]:
        """Return tasks in the order accepted: all, or those with something left to do."""
        where = "WHERE settled = 0" if unsettled else ""
        rows = self._db.execute(f"SELECT {_TASK_COLUMNS} FROM tasks {where} ORDER BY seq")  # noqa: S608 -- constants
        return [_task(row) for row in rows]

    def finish(self, task_id: str, at: float) -> None:
        """Note when the verdict fell."""
        self._db.execute("UPDATE tasks SET finished_at = ? WHERE id = ?", (at, task_id))

    def progress(self, task_id: str, *, notices_sent: int, settled: bool) -> None:
        """Note how many notices are done with, and whether all are."""
        self._db.execute(
            "UPDATE tasks SET notices_sent = ?, settled = ? WHERE id = ?", (notices_sent, settled, task_id)
        )

    def question(self, task_id: str) -> int:
        """Count a question to record-info; returns how many came before it."""
        asked = self._one("UPDATE tasks SET questions = questions + 1 WHERE id = ? RETURNING questions - 1", task_id)
        return int(asked or 0)

    def add_callback(
        self, task_id: str, *, at: float, notice: str, url: str, status: int | None, error: str | None
    ) -> None:
        """Note one try of a callback, unless its task is gone by now."""
        self._db.execute(
            "INSERT INTO callbacks (task_id, at, notice, url, status, error)"
            " SELECT id, ?, ?, ?, ?, ? FROM tasks WHERE id = ?",
            (at, notice, url, status, error, task_id),
        )

    def callbacks(self) -> dict[str, list[dict[str, Any]]]:
        """Return every try of a callback in its order, by task id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._db.execute("SELECT task_id, at, notice, url, status, error FROM callbacks ORDER BY seq"):
            call = dict(row)
            found.setdefault(call.pop("task_id"), []).append(call)
        return found

    def forget(self) -> None:
        """Drop all tasks, submits and callbacks; settings stay."""
        self._db.executescript("BEGIN; DELETE FROM callbacks; DELETE FROM tasks; DELETE FROM submits; COMMIT;")

    def _prune(self) -> None:
        self._inserts += 1
        if self._inserts % _PRUNE_EVERY:
            return
        self._db.execute("DELETE FROM submits WHERE seq <= (SELECT max(seq) FROM submits) - ?", (self._keep,))
        excess = self._one("SELECT count(*) FROM tasks") - self._keep
        if excess > 0:
            self._db.execute(
                "DELETE FROM tasks WHERE seq IN (SELECT seq FROM tasks ORDER BY settled DESC, seq LIMIT ?)", (excess,)
            )


def _body(text: str) -> Any:
    """Return a body as the JSON that it is, else as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _task(row: sqlite3.Row) -> Task:
    return Task.restore(**{**dict(row), "settled": bool(row["settled"])})
