"""PostgreSQL: pooled connections, one for writing and some for reading."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from app.db.engine.errors import sqlstate
from app.db.engine.json import dumps, loads
from app.db.engine.postgresql_url import connect_arguments
from app.db.engine.server_clock import ServerClock
from app.db.engine.sessions import (
    begin_session,
    is_direct,
    is_prepared_elsewhere,
    keep_sessions,
    pooler_found,
    read_clock,
    session_settings,
)
from app.db.engine.transaction import T, Work, transact

_NAME = "nanobanana-gateway"
_LISTENER_NAME = "nanobanana-gateway notifications"
_CLOSE_TIMEOUT_SECONDS = 2
_LISTENER_CHECK_SECONDS = 15
_LISTENER_TIMEOUT_SECONDS = 5
# Few are kept open, so that a small server suffices for three replicas. Bursts open more and close them again.
_READERS, _MORE_READERS = 3, 3
_FULL_PAUSE_SECONDS = 0.2
_TOO_MANY_CONNECTIONS = "53300"
# Enough for a server that has recovered, and no long wait for one that hasn't.
_SILENT_SECONDS = 2.0
_CLOCK_AGE_MS = 10_000


class PostgresqlEngine:
    """Reads and writes on separate connections.

    A commit never waits for readers. A whole transaction runs in one greenlet, which SQLAlchemy suspends while the
    driver waits. `AsyncConnection` makes one for each call, which costs 40 to 47 instead of 22 to 27 µs of CPU per
    result in batches of 64 (2026-11).
    """

    def __init__(self, url: str, *, transaction_seconds: float, ping_after_seconds: float) -> None:
        self.clock = ServerClock()
        self._url = url
        self._transaction_seconds = transaction_seconds
        self._is_silent = False
        self._writer = _engine(url, self.clock, statement_seconds=transaction_seconds)
        readers = _engine(
            url, self.clock, statement_seconds=transaction_seconds, connections=_READERS, more=_MORE_READERS
        )
        for engine in (self._writer, readers):
            _test_idle_connections(engine.sync_engine, self.clock, ping_after_seconds)
        # A snapshot for the whole transaction; the default takes a new one for each statement.
        self._reader = readers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def clock_skew_ms(self) -> int:
        """How far this machine's clock is ahead of the server's."""
        return self.clock.skew_ms

    async def check_pooler(self) -> None:
        """Raise `ConfigurationError` if a connection pooler doesn't keep sessions."""
        try:
            async with asyncio.timeout(self._transaction_seconds), self._reader.connect() as one:
                driver = (await one.get_raw_connection()).driver_connection
                if await is_direct(driver):
                    return
                async with self._reader.connect() as other:
                    if not await keep_sessions(driver, (await other.get_raw_connection()).driver_connection):
                        raise pooler_found()
        except (asyncpg.PostgresError, DBAPIError) as error:
            if is_prepared_elsewhere(sqlstate(error)):
                raise pooler_found() from error
            raise

    async def read(self, work: Work[T]) -> T:
        """Run work on a snapshot, without the right to write."""
        return await self._transact(self._reader, work)

    async def write(self, work: Work[T]) -> T:
        """Run work in a transaction and commit it."""
        return await self._transact(self._writer, work)

    async def migrate(self, work: Work[T]) -> T:
        """Run work on a connection without a statement timeout."""
        engine = _engine(self._url, self.clock, statement_seconds=None)
        try:
            return await greenlet_spawn(transact, engine.sync_engine, work)
        finally:
            await _close(engine)

    async def listen(self, channel: str, on_notification: Callable[[], None]) -> None:
        """Call back now and on each notification, until disconnected."""
        # On a server with few connections, the writer gets one first. Without notifications, events are only late.
        await self.write(lambda _: None)
        engine = _engine(
            self._url,
            self.clock,
            statement_seconds=_LISTENER_TIMEOUT_SECONDS,
            command_timeout=_LISTENER_TIMEOUT_SECONDS,
            application_name=_LISTENER_NAME,
        )
        # In a transaction, notifications would wait for its end.
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            closed = asyncio.Event()
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                driver.add_termination_listener(lambda _: closed.set())
                await driver.add_listener(channel, lambda *_: on_notification())
                on_notification()
                while True:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(closed.wait(), _LISTENER_CHECK_SECONDS)
                    # Raises if the connection is closed. One that a firewall dropped only looks idle.
                    await connection.exec_driver_sql("SELECT 1")
            finally:
                await connection.invalidate()

    async def aclose(self) -> None:
        """Close all connections.

        A silent server isn't waited for. It notices when the process ends.
        """
        if not self._is_silent:
            await asyncio.gather(_close(self._writer), _close(self._reader))

    async def _transact(self, engine: AsyncEngine, work: Work[T]) -> T:
        """Run work within a limit, shorter for a silent server."""
        limit = min(self._transaction_seconds, _SILENT_SECONDS) if self._is_silent else self._transaction_seconds
        try:
            async with asyncio.timeout(limit):
                result = await self._transact_connected(engine, work)
        except TimeoutError:
            self._is_silent = True
            raise
        self._is_silent = False
        return result

    async def _transact_connected(self, engine: AsyncEngine, work: Work[T]) -> T:
        """Run work; waits for a connection if none is left."""
        while True:
            try:
                return await greenlet_spawn(transact, engine.sync_engine, work)
            except (asyncpg.PostgresError, DBAPIError) as error:
                if sqlstate(error) != _TOO_MANY_CONNECTIONS:
                    raise
                if engine is self._writer:
                    # Idle readers give up their connections, because reads alone are of no use.
                    await self._reader.dispose()
                await asyncio.sleep(_FULL_PAUSE_SECONDS)


def _engine(
    url: str,
    clock: ServerClock,
    *,
    statement_seconds: float | None,
    command_timeout: float | None = None,
    connections: int = 1,
    more: int = 0,
    application_name: str = _NAME,
) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=connections,
        max_overflow=more,
        hide_parameters=True,
        json_serializer=dumps,
        json_deserializer=loads,
        connect_args={
            **connect_arguments(url),
            "command_timeout": command_timeout,
            "server_settings": {"application_name": application_name},
        },
    )
    settings = session_settings(statement_seconds=statement_seconds)

    @event.listens_for(engine.sync_engine, "connect")
    def _begin(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.run_async(lambda driver: begin_session(driver, settings, clock))

    return engine


def _test_idle_connections(engine: Engine, clock: ServerClock, after_seconds: float) -> None:
    """Test idle connections before use by reading the server's clock.

    Each test is a round trip. In constant use, the clock is read every ten seconds.
    """

    @event.listens_for(engine, "checkin")
    def _record_use(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ping(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or (time.monotonic() - used_at < after_seconds and clock.age_ms < _CLOCK_AGE_MS):
            return
        try:
            connection.run_async(lambda driver: read_clock(driver, clock))
        except Exception as error:
            raise InvalidatePoolError from error


async def _close(engine: AsyncEngine) -> None:
    """Close connections, as long as the server replies."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
            await engine.dispose()
