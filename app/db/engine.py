"""Connections: one place that knows how SQLite and PostgreSQL want to be spoken to."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg
import msgspec
import sqlalchemy
from sqlalchemy import CursorResult, Dialect, Engine, Executable, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import ServiceUnavailable

T = TypeVar("T")
_CONNECT_TIMEOUT_SECONDS = 5
_STATEMENT_TIMEOUT_SECONDS = 30
_POOL_TIMEOUT_SECONDS = 10
_FRESH_SECONDS = 1.0
_SQLITE_BUSY_MILLISECONDS = 10_000
# Random ids touch many pages of their indexes; and a checkpoint every few batches would hold up every commit.
_SQLITE_WRITER_CACHE_KIB = 8_192
_SQLITE_CHECKPOINT_PAGES = 4_000
_BEGIN_WRITING = "BEGIN IMMEDIATE"
_READERS = 8
_WRITERS = 1
_READING_THREADS = 4
# Classes of SQLSTATE: connection lost, out of resources, shutting down or starting up, system error; and a server that
# became a standby (PostgreSQL's documentation, appendix A).
_AWAY_STATES = ("08", "53", "57", "58", "25006")
# The last: a connection to which the server has said good-bye, but that isn't closed yet.
_DRIVERS_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)


class Outcome(Protocol):
    """What came of a statement in the driver's own words."""

    @property
    def rowcount(self) -> int:
        """How many rows were written."""
        ...

    def scalar_one(self) -> Any:
        """Return the one value that was read."""
        ...


class Connection(Protocol):
    """What statements need of a connection: to be run, and to know on which database."""

    @property
    def dialect(self) -> Dialect:
        """The database's dialect."""
        ...

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        """Run a statement, once or once for each set of parameters."""
        ...

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Outcome:
        """Run a statement in the driver's own words."""
        ...


Work = Callable[[Connection], Awaitable[T]]
"""What is to be done in one transaction. It may await nothing but its connection."""


class Database:
    """A database, to read from and to write to.

    `read` and `write` do a piece of work in one transaction; `reading` and `writing` open one for statement after
    statement. All raise `ServiceUnavailable` when the database can't be reached; other database errors pass unchanged.
    """

    def __init__(self, url: str) -> None:
        self.is_postgresql = url.startswith("postgres")
        self._url = url
        self._threads: _SqliteThreads | None = None
        if self.is_postgresql:
            # Apart, so that a commit never waits behind those who read.
            self._writer = _postgresql_engine(url, _WRITERS, _STATEMENT_TIMEOUT_SECONDS)
            self._reader = _postgresql_engine(url, _READERS, _STATEMENT_TIMEOUT_SECONDS)
            self._without_transactions = self._writer.execution_options(isolation_level="AUTOCOMMIT")
        else:
            parsed = make_url(url)
            path = Path(parsed.database or "")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                # For our eyes only, whoever may look into the directory: secrets of webhooks are in it.
                path.touch(mode=0o600)
            self._writer = _sqlite_engine(parsed, begin=_BEGIN_WRITING, connections=1)
            self._reader = _sqlite_engine(parsed, begin="BEGIN", connections=_READERS)
            self._threads = _SqliteThreads(parsed)

    async def write(self, work: Work[T], *, is_one_statement: bool = False) -> T:
        """Do a piece of work in a transaction and commit it; rolls back on an exception.

        `is_one_statement` promises that the work is no more than that: PostgreSQL needs no `BEGIN` and `COMMIT` for it.
        """
        async with _unavailable_as_503():
            if self._threads is None:
                return await _transact_by_driver(self._without_transactions, work, is_one_statement)
            return await self._threads.write(work)

    async def read(self, work: Work[T]) -> T:
        """Do a piece of work that only reads, on one consistent state."""
        if self._threads is None:
            async with self.reading() as connection:
                return await work(connection)
        async with _unavailable_as_503():
            return await self._threads.read(work)

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

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for writing whose statements may take as long as they do, or wait for another's."""
        if not self.is_postgresql:
            async with self.writing() as connection:
                yield connection
            return
        engine = _postgresql_engine(self._url, 1, None)
        try:
            async with _unavailable_as_503(), engine.begin() as connection:
                yield connection
        finally:
            await engine.dispose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._writer.dispose()
        await self._reader.dispose()
        if self._threads is not None:
            self._threads.close()


class _SqliteThreads:
    """Does whole transactions in threads: one trip there and back, where statement by statement it would be dozens."""

    def __init__(self, url: URL) -> None:
        self._writing = ThreadPoolExecutor(1, "sqlite-write")
        self._reading = ThreadPoolExecutor(_READING_THREADS, "sqlite-read")
        self._writer = _prepare_sqlite(
            sqlalchemy.create_engine(url, **_SQLITE_OPTIONS), _BEGIN_WRITING, is_for_batches=True
        )
        self._reader = _prepare_sqlite(
            sqlalchemy.create_engine(url, pool_size=_READING_THREADS, **_SQLITE_OPTIONS), "BEGIN"
        )

    async def write(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, _transact, self._writer, work)

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, _transact, self._reader, work)

    def close(self) -> None:
        self._writing.shutdown()
        self._reading.shutdown()
        self._writer.dispose()
        self._reader.dispose()


class _InlineConnection:
    """A connection whose statements are run at once, in the thread that awaits them."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Outcome:
        return self._connection.exec_driver_sql(statement, parameters)


def _transact(engine: Engine, work: Work[T]) -> T:
    with engine.begin() as connection:
        doing = work(_InlineConnection(connection)).__await__()
        try:
            next(doing)
        except StopIteration as end:
            result: T = end.value
            return result
        raise RuntimeError("A transaction waits for something else than its connection.")


async def _transact_by_driver(engine: AsyncEngine, work: Work[T], is_one_statement: bool) -> T:
    """Do work in a transaction of the driver's: SQLAlchemy's own costs more Python than all that is done in it."""
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            if is_one_statement:
                return await work(_DriverConnection(connection, driver, 1))
            return await _begin_and_commit(driver, _DriverConnection(connection, driver), work)
        except BaseException as error:
            # A `BEGIN` whose answer never came may have been obeyed, and the driver would take the next one for a
            # savepoint: all that follows would be told as committed, and never be.
            if not isinstance(error, Exception) or is_unreachable(error):
                await connection.invalidate()
            raise
        finally:
            if driver.is_closed():
                await connection.invalidate()


async def _begin_and_commit(driver: Any, connection: Connection, work: Work[T]) -> T:
    transaction = driver.transaction()
    await transaction.start()
    try:
        result = await work(connection)
    except Exception as error:
        # A server that didn't answer is not waited for once more.
        if not is_unreachable(error):
            await transaction.rollback()
        raise
    await transaction.commit()
    return result


class _DriverConnection:
    """A connection to PostgreSQL whose statements in the driver's own words go past SQLAlchemy.

    Runs no more statements than `at_most`.
    """

    def __init__(self, connection: AsyncConnection, driver: asyncpg.Connection, at_most: float = inf) -> None:
        self._connection = connection
        self._left = at_most
        self._driver = driver
        self._prepared: dict[str, Any] = connection.info.setdefault("prepared", {})
        self.dialect = connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        self._count()
        return await self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Outcome:
        self._count()
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = await self._driver.prepare(statement)
        return _PostgresqlOutcome(await prepared.fetch(*(parameters or ())), prepared.get_statusmsg())

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("Work that promised to be one statement is more than that.")


class _PostgresqlOutcome:
    def __init__(self, rows: list[Any], status: str) -> None:
        self._rows = rows
        self._status = status

    @property
    def rowcount(self) -> int:
        return int(self._status.rpartition(" ")[2])

    def scalar_one(self) -> Any:
        return self._rows[0][0]


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the database is away, rather than that a statement was wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    # For SQLite an OperationalError says locked, disk full, I/O error.
    if isinstance(error, (PoolTimeout, InterfaceError, OperationalError, OSError, *_DRIVERS_ERRORS)):
        return True
    # Whether SQLAlchemy has wrapped PostgreSQL's error depends on whether it came while connecting.
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_AWAY_STATES)


@asynccontextmanager
async def _unavailable_as_503() -> AsyncIterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError, asyncpg.PostgresError, *_DRIVERS_ERRORS) as error:
        if is_unreachable(error):
            raise ServiceUnavailable("The database can't be reached right now.") from error
        raise


def _dumps(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _postgresql_engine(url: str, connections: int, statement_seconds: float | None) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=connections,
        max_overflow=connections,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        json_serializer=_dumps,
        json_deserializer=msgspec.json.decode,
        connect_args={
            # The driver reads the URL as libpq does, `sslmode` and a socket's directory as `host` included.
            "dsn": url,
            "timeout": _CONNECT_TIMEOUT_SECONDS,
            "command_timeout": statement_seconds,
            "server_settings": {"application_name": "nanobanana-gateway"},
        },
    )
    _look_after_idleness(engine.sync_engine)
    return engine


def _look_after_idleness(engine: Engine) -> None:
    """Try a connection before it is used again, unless it has just been: each try is a trip of its own."""

    @event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _try(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at < _FRESH_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            raise InvalidatePoolError from error


_SQLITE_OPTIONS: dict[str, Any] = {
    "max_overflow": 0,
    "pool_timeout": _POOL_TIMEOUT_SECONDS,
    "hide_parameters": True,
    "json_serializer": _dumps,
    "json_deserializer": msgspec.json.decode,
    # The driver must not begin transactions by itself: it would begin them too late and too weak.
    "connect_args": {"isolation_level": None},
}


def _sqlite_engine(url: URL, *, begin: str, connections: int) -> AsyncEngine:
    engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"), pool_size=connections, **_SQLITE_OPTIONS)
    _prepare_sqlite(engine.sync_engine, begin)
    return engine


def _prepare_sqlite(engine: Engine, begin: str, *, is_for_batches: bool = False) -> Engine:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if begin == _BEGIN_WRITING:
            cursor.execute(f"PRAGMA cache_size = -{_SQLITE_WRITER_CACHE_KIB}")
            cursor.execute(f"PRAGMA wal_autocheckpoint = {_SQLITE_CHECKPOINT_PAGES}")
        if is_for_batches:
            # What a statement on many rows would take back if one failed: a third of all writes if it goes to a file.
            # A migration, though, would sort a whole index in memory.
            cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
