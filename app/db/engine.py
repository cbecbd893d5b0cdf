"""Connections: one place that knows how SQLite and PostgreSQL want to be spoken to."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ServiceUnavailable

_CONNECT_TIMEOUT_SECONDS = 5
_STATEMENT_TIMEOUT_SECONDS = 30
_POOL_TIMEOUT_SECONDS = 10
_SQLITE_BUSY_MILLISECONDS = 10_000
_READERS = 8
_WRITERS = 1
# Classes of SQLSTATE: connection lost, out of resources, shutting down or starting up, system error; and a server that
# became a standby (PostgreSQL's documentation, appendix A).
_AWAY_STATES = ("08", "53", "57", "58", "25006")


class Database:
    """A database as two doors: `writing()` opens a transaction that will write, `reading()` one that won't.

    Both raise `ServiceUnavailable` when the database can't be reached; other database errors pass unchanged.
    """

    def __init__(self, url: str) -> None:
        self.is_postgresql = url.startswith("postgres")
        if self.is_postgresql:
            # Apart, so that a commit never waits behind those who read.
            self._writer = _postgresql_engine(url, _WRITERS)
            self._reader = _postgresql_engine(url, _READERS)
        else:
            parsed = make_url(url)
            Path(parsed.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer = _sqlite_engine(parsed, begin="BEGIN IMMEDIATE", connections=1)
            self._reader = _sqlite_engine(parsed, begin="BEGIN", connections=_READERS)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for writing; commits on leaving, rolls back on an exception."""
        with_errors = _unavailable_as_503()
        async with with_errors, self._writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for reading one consistent state."""
        with_errors = _unavailable_as_503()
        async with with_errors, self._reader.begin() as connection:
            yield connection

    async def aclose(self) -> None:
        """Close all connections."""
        await self._writer.dispose()
        await self._reader.dispose()


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the database is away, rather than that a statement was wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    # For SQLite an OperationalError says locked, disk full, I/O error.
    if isinstance(error, (PoolTimeout, InterfaceError, OperationalError, OSError)):
        return True
    # Whether SQLAlchemy has wrapped PostgreSQL's error depends on whether it came while connecting.
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_AWAY_STATES)


@asynccontextmanager
async def _unavailable_as_503() -> AsyncIterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError, asyncpg.PostgresError) as error:
        if is_unreachable(error):
            raise ServiceUnavailable("The database can't be reached right now.") from error
        raise


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _postgresql_engine(url: str, connections: int) -> AsyncEngine:
    return create_async_engine(
        "postgresql+asyncpg://",
        pool_size=connections,
        max_overflow=connections,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=_dumps,
        connect_args={
            # The driver reads the URL as libpq does, `sslmode` and a socket's directory as `host` included.
            "dsn": url,
            "timeout": _CONNECT_TIMEOUT_SECONDS,
            "command_timeout": _STATEMENT_TIMEOUT_SECONDS,
            "server_settings": {"application_name": "nanobanana-gateway"},
        },
    )


def _sqlite_engine(url: URL, *, begin: str, connections: int) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        json_serializer=_dumps,
        # The driver must not begin transactions by itself: it would begin them too late and too weak.
        connect_args={"isolation_level": None},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
