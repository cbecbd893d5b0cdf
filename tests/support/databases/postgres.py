"""One PostgreSQL server per run, one database per test."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg
from sqlalchemy.engine import make_url

from app.db.engine import Database
from app.db.migrate import migrate
from tests.support.paths import ROOT

# Tests kill processes, not the machine, so nothing needs fsync. All workers of a run share the server.
FAST = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "max_connections=500",
    # Otherwise a killed server leaves its shared memory behind.
    "dynamic_shared_memory_type=mmap",
)
_TEMPLATE_LOCK = 1


def is_postgres_given() -> bool:
    """Whether TEST_DATABASE_URL names a server to use."""
    return bool(os.environ.get("TEST_DATABASE_URL"))


class PostgresKeeper:
    """Starts and stops a keeper; `address` works in any process."""

    def __init__(self, options: tuple[str, ...] = FAST) -> None:
        # Not in pytest's directory, which only its owner may enter. For root's tests, PostgreSQL runs as another user.
        directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.address = str(directory / "keeper")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(64)
            number = listener.fileno()
            command = [sys.executable, "-W", "ignore", "-m", "tests.support.databases.postgres_keeper", str(number)]
            # Ctrl-C must reach only the tests, which need the server until their end.
            self._process = subprocess.Popen(
                [*command, str(directory), *(part for option in options for part in ("-c", option))],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                pass_fds=[number],
                start_new_session=True,
            )

    def close(self) -> None:
        """Stop the server and remove its files."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class PostgresServer:
    """The server in TEST_DATABASE_URL, a keeper's, or a new one.

    Database names contain the `run`, so that they can be dropped together.
    """

    def __init__(self, keeper: str | None = None, *, run: str | None = None, options: tuple[str, ...] = FAST) -> None:
        self._run = run or uuid.uuid4().hex[:8]
        self._template: str | None = None
        self._own_keeper: PostgresKeeper | None = None
        self._keeper = keeper
        self.pid: int | None = None
        """The server's process; None if TEST_DATABASE_URL names the server."""
        if is_postgres_given():
            self._url = make_url(os.environ["TEST_DATABASE_URL"])
            return
        if keeper is None:
            self._own_keeper = PostgresKeeper(options)
            self._keeper = self._own_keeper.address
        self._url = make_url(self.start())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own_keeper is not None:
            self._own_keeper.close()

    @property
    def is_own(self) -> bool:
        """Whether we may stop the server."""
        return self.pid is not None

    def stop(self) -> None:
        """Stop the server, disconnecting its clients."""
        self._request("stop")

    def start(self) -> str:
        """Start the server, also after `stop`; return its stable URL."""
        reply = self._request("start")
        self.pid = int(reply["pid"])
        return str(reply["url"])

    def create_database(self, *, migrated: bool = True) -> str:
        """Create a database, by default with tables; return its URL."""
        return asyncio.run(self._create(migrated=migrated))

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """Create a database, and drop it after the block."""
        url = self.create_database(migrated=migrated)
        yield url
        asyncio.run(self._execute(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)'))

    def drop_all(self) -> None:
        """Drop all databases of the run."""
        asyncio.run(self._drop_all())

    async def _create(self, *, migrated: bool) -> str:
        connection = await self._connect()
        try:
            if not migrated:
                return await self._add(connection, uuid.uuid4().hex)
            if self._template is None:
                self._template = await self._make_template(connection)
            return await self._add(connection, uuid.uuid4().hex, f'TEMPLATE "{self._template}"')
        finally:
            await connection.close()

    async def _make_template(self, connection: Any) -> str:
        """Create the migrated template, unless another worker has done so."""
        name = self._name("template")
        await connection.execute("SELECT pg_advisory_lock($1)", _TEMPLATE_LOCK)
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
            database = Database(await self._add(connection, "unfinished"))
            try:
                await migrate(database)
            finally:
                await database.aclose()
            await connection.execute(f'ALTER DATABASE "{self._name("unfinished")}" RENAME TO "{name}"')
        await connection.execute("SELECT pg_advisory_unlock($1)", _TEMPLATE_LOCK)
        return name

    async def _add(self, connection: Any, name: str, options: str = "") -> str:
        await connection.execute(f'CREATE DATABASE "{self._name(name)}" {options}')
        return self._url.set(database=self._name(name)).render_as_string(hide_password=False)

    async def _drop_all(self) -> None:
        connection = await self._connect()
        try:
            names = await connection.fetch(
                "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", self._name("")
            )
            for row in names:
                await connection.execute(f'DROP DATABASE "{row["datname"]}" WITH (FORCE)')
        finally:
            await connection.close()

    async def _execute(self, statement: str) -> None:
        connection = await self._connect()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _connect(self) -> Any:
        return await asyncpg.connect(self._url.render_as_string(hide_password=False))

    def _name(self, name: str) -> str:
        return f"test_{self._run}_{name}"

    def _request(self, command: str) -> dict[str, Any]:
        assert self._keeper is not None, "the server in TEST_DATABASE_URL must not be stopped"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._keeper)
            connection.sendall(command.encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                reply: dict[str, Any] = json.loads(file.read())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply


async def stored_events(url: str) -> list[tuple[int, str, str]]:
    """Return id, task and type of all events, in order."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT id, task_id, type FROM events ORDER BY id")
        return [(row["id"], row["task_id"], row["type"]) for row in rows]
    finally:
        await connection.close()
