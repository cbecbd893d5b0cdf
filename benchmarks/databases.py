"""Empty databases of both kinds for benchmarks."""

import sqlite3
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.processes import cpu_seconds_of_tree
from tests.support.databases.postgres import PostgresServer

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
KINDS = (SQLITE, POSTGRESQL)


@dataclass(frozen=True, slots=True)
class EmptyDatabase:
    """An empty database; `server_pid` is None unless we run PostgreSQL."""

    kind: str
    url: str
    server_pid: int | None = None

    def server_cpu_seconds(self) -> float | None:
        """Return the server processes' CPU seconds; None if unknown."""
        return None if self.server_pid is None else cpu_seconds_of_tree(self.server_pid)


class Databases:
    """Creates databases, starting PostgreSQL when first needed.

    `TEST_DATABASE_URL` names another PostgreSQL server to use; its CPU time is unknown.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._postgres: PostgresServer | None = None
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def create(self, kind: str) -> EmptyDatabase:
        """Create an empty database."""
        if kind == SQLITE:
            return EmptyDatabase(kind, f"sqlite:///{self._directory / f'{uuid.uuid4().hex}.db'}")
        if self._postgres is None:
            self._postgres = self._exits.enter_context(PostgresServer(options=()))
        return EmptyDatabase(kind, self._postgres.create_database(migrated=False), self._server_pid())

    def server_cpu_seconds(self) -> float:
        """Return the CPU seconds of our PostgreSQL, if running."""
        pid = self._server_pid()
        return 0.0 if pid is None else cpu_seconds_of_tree(pid)

    def _server_pid(self) -> int | None:
        return None if self._postgres is None else self._postgres.pid


def sqlite_version() -> str:
    """Return the version of Python's SQLite library."""
    return sqlite3.sqlite_version
