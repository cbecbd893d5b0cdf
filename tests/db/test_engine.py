"""Broken PostgreSQL connections, and SQLite's connection settings."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from app.db.engine import Connection, Database
from app.errors import ServiceUnavailable
from tests.support.databases.postgres import PostgresServer

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'nanobanana-gateway' AND datname = current_database()
"""


def ping(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


def process_of(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    return await asyncio.to_thread(postgres.create_database)


async def cut_all(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval(CUT) > 0
    finally:
        await connection.close()


async def test_a_connection_that_was_cut_in_use_is_replaced(url: str) -> None:
    database = Database(url, ping_after_seconds=600.0)
    try:
        assert await database.write(ping) == 1
        # Sometimes the server's last message is read before the connection is seen as closed.
        for _ in range(30):
            await cut_all(url)
            with pytest.raises(ServiceUnavailable):
                await database.write(ping)
            assert await database.write(ping) == 1
    finally:
        await database.aclose()


@pytest.mark.parametrize("moment", ["begin", "cancelled begin", "statement", "commit"])
async def test_acknowledged_writes_survive_an_unresponsive_server(
    url: str, postgres: PostgresServer, moment: str
) -> None:
    if not postgres.is_own:
        pytest.skip("We can't stop another server's processes.")
    database, other = Database(url, transaction_seconds=0.3, ping_after_seconds=600.0), await asyncpg.connect(url)

    def stall(connection: Connection) -> None:
        if moment == "statement":
            os.kill(process, signal.SIGSTOP)
        connection.exec_driver_sql("INSERT INTO notes VALUES (0)")
        if moment == "commit":
            os.kill(process, signal.SIGSTOP)

    def note(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO notes VALUES (1)")

    try:
        await other.execute("CREATE TABLE notes (number int)")
        process = await database.write(process_of)
        if moment not in {"statement", "commit"}:
            os.kill(process, signal.SIGSTOP)
        stalled = asyncio.create_task(database.write(stall))
        if moment == "cancelled begin":
            await asyncio.wait([stalled], timeout=0.1)
            stalled.cancel()
        with pytest.raises((ServiceUnavailable, asyncio.CancelledError)):
            await stalled
        os.kill(process, signal.SIGCONT)
        for _ in range(3):
            await database.write(note)
        assert await other.fetchval("SELECT sum(number) FROM notes") == 3
        assert await database.write(process_of) != process
    finally:
        await other.close()
        await database.aclose()


async def test_a_connection_that_was_cut_while_idle_is_replaced(url: str) -> None:
    database = Database(url, ping_after_seconds=0.0)
    try:
        assert await database.write(ping) == 1
        await cut_all(url)
        assert await database.write(ping) == 1
    finally:
        await database.aclose()


async def test_a_connection_that_was_cut_right_after_use_costs_one_transaction(url: str) -> None:
    database = Database(url, ping_after_seconds=600.0)
    try:
        assert await database.write(ping) == 1
        await cut_all(url)
        with pytest.raises(ServiceUnavailable):
            await database.write(ping)
        assert await database.write(ping) == 1
    finally:
        await database.aclose()


async def test_sqlite_keeps_temporary_data_in_memory_except_in_migrations(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")

    def place(connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA temp_store").scalar_one())

    try:
        assert await database.migrate(place) == 0
        assert await database.write(place) == 2
    finally:
        await database.aclose()
