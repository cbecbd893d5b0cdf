"""SQLite transactions, run in threads with a single writer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event

from app.clock import SystemClock
from app.db.engine.json import dumps, loads
from app.db.engine.transaction import T, Work, transact

_BUSY_MS = 10_000
_READERS = 4
# Random ids touch many index pages.
_WRITER_CACHE_KIB = 8_192
# A checkpoint every few batches would delay every commit.
_CHECKPOINT_PAGES = 4_000
_WRITER_PRAGMAS = {
    "cache_size": f"-{_WRITER_CACHE_KIB}",
    "wal_autocheckpoint": str(_CHECKPOINT_PAGES),
    # In a file, the statement journal would be a third of all writes.
    "temp_store": "MEMORY",
}


class SqliteEngine:
    """Runs one writing thread and a few reading threads.

    A whole transaction runs in its thread. Statement by statement, the event loop and the thread would wait for each
    other dozens of times (170 instead of 84 µs of CPU per result, 2026-11).
    """

    clock_skew_ms = 0

    def __init__(self, url: str) -> None:
        self.clock = SystemClock()
        path = sqlite_path(url)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            # The file holds webhook secrets: only its owner may read it, whatever the directory's mode.
            path.touch(mode=0o600)
        self._writer = open_engine(url, "BEGIN IMMEDIATE", _WRITER_PRAGMAS)
        self._migrator = partial(open_engine, url, "BEGIN IMMEDIATE", {})
        self._reader = open_engine(url, "BEGIN", {}, connections=_READERS)
        self._writing = ThreadPoolExecutor(1, "sqlite-write")
        self._reading = ThreadPoolExecutor(_READERS, "sqlite-read")

    async def check_pooler(self) -> None:
        """Do nothing: there is no server."""

    async def read(self, work: Work[T]) -> T:
        """Run work in a reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, transact, self._reader, work)

    async def write(self, work: Work[T]) -> T:
        """Run work in the writing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, transact, self._writer, work)

    async def migrate(self, work: Work[T]) -> T:
        """Run work in the writing thread, sorting in files.

        An index may be larger than memory.
        """
        migrator = self._migrator()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writing, transact, migrator, work)
        finally:
            migrator.dispose()

    async def listen(self, _channel: str, on_notification: Callable[[], None]) -> None:
        """Call `on_notification` once, then wait forever.

        No other process writes to SQLite.
        """
        on_notification()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Wait for running transactions and close all connections."""
        self._writing.shutdown()
        self._reading.shutdown()
        self._writer.dispose()
        self._reader.dispose()


def sqlite_path(url: str) -> Path:
    """Return the file that `sqlite:///PATH` names."""
    return Path(url.removeprefix("sqlite:///"))


def open_engine(url: str, begin: str, pragmas: dict[str, str], *, connections: int = 1) -> Engine:
    """Open a SQLite file; `begin` starts each transaction."""
    engine = sqlalchemy.create_engine(
        # A path may contain any character, also those that mean something in URLs.
        URL.create("sqlite", database=str(sqlite_path(url))),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=dumps,
        json_deserializer=loads,
        # The driver would begin transactions too late and without a lock. Connections move between threads.
        connect_args={"isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
