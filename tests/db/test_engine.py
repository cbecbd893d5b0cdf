"""Connections: to PostgreSQL that were cut, or whose server fell silent; to SQLite as they are set."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from app.db import engine
from app.db.engine import Connection, Database
from app.errors import ServiceUnavailable
from tests.support.databases import PostgresServer

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'nanobanana-gateway' AND datname = current_database()
"""


async def look(connection: Connection) -> int:
    return int((await connection.execute(text("SELECT 1"))).scalar_one())


async def process_of(connection: Connection) -> int:
    return int((await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one())


async def look_by_driver(connection: Connection) -> int:
    return int((await connection.exec_driver_sql("SELECT 1")).scalar_one())


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    return await asyncio.to_thread(postgres.create_database)


async def cut_all(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval(CUT) > 0
    finally:
        await connection.close()


@pytest.mark.parametrize("is_one_statement", [False, True])
async def test_a_connection_that_was_cut_in_use_is_replaced(
    url: str, monkeypatch: pytest.MonkeyPatch, is_one_statement: bool
) -> None:
    monkeypatch.setattr(engine, "_FRESH_SECONDS", 600.0)
    database = Database(url)
    try:
        assert await database.write(look_by_driver, is_one_statement=is_one_statement) == 1
        # Now and then the server's good-bye is read and the end of the connection is not yet.
        for _ in range(30):
            await cut_all(url)
            with pytest.raises(ServiceUnavailable):
                await database.write(look_by_driver, is_one_statement=is_one_statement)
            assert await database.write(look_by_driver, is_one_statement=is_one_statement) == 1
    finally:
        await database.aclose()


@pytest.mark.parametrize("kind", [look, look_by_driver])
async def test_work_that_promises_to_be_one_statement_can_do_no_more(
    url: str, kind: Callable[[Connection], Awaitable[int]]
) -> None:
    async def look_twice(connection: Connection) -> int:
        return await look_by_driver(connection) + await kind(connection)

    database = Database(url)
    try:
        with pytest.raises(RuntimeError):
            await database.write(look_twice, is_one_statement=True)
        assert await database.write(look_twice) == 2
    finally:
        await database.aclose()


@pytest.mark.parametrize("moment", ["begin", "cancelled begin", "statement", "commit", "only statement"])
async def test_what_is_told_as_written_is_written_after_the_server_fell_silent(
    url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    if not postgres.is_own:
        pytest.skip("The server's processes are not ours to stop.")
    monkeypatch.setattr(engine, "_STATEMENT_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(engine, "_FRESH_SECONDS", 600.0)
    database, other = Database(url), await asyncpg.connect(url)
    is_one_statement = moment == "only statement"

    async def stall(connection: Connection) -> None:
        if moment == "statement":
            os.kill(process, signal.SIGSTOP)
        await connection.exec_driver_sql("INSERT INTO notes VALUES (0)")
        if moment == "commit":
            os.kill(process, signal.SIGSTOP)

    async def note(connection: Connection) -> None:
        await connection.exec_driver_sql("INSERT INTO notes VALUES (1)")

    try:
        await other.execute("CREATE TABLE notes (number int)")
        process = await database.write(process_of)
        if moment not in {"statement", "commit"}:
            os.kill(process, signal.SIGSTOP)
        stalled = asyncio.create_task(database.write(stall, is_one_statement=is_one_statement))
        if moment == "cancelled begin":
            await asyncio.wait([stalled], timeout=0.1)
            stalled.cancel()
        with pytest.raises((ServiceUnavailable, asyncio.CancelledError)):
            await stalled
        os.kill(process, signal.SIGCONT)
        for _ in range(3):
            await database.write(note)
            await database.write(note, is_one_statement=True)
        assert await other.fetchval("SELECT sum(number) FROM notes") == 6
        assert await database.write(process_of) != process
    finally:
        await other.close()
        await database.aclose()


async def test_a_connection_that_was_cut_while_idle_is_replaced(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_FRESH_SECONDS", 0.0)
    database = Database(url)
    try:
        assert await database.write(look) == 1
        await cut_all(url)
        assert await database.write(look) == 1
    finally:
        await database.aclose()


async def test_a_connection_that_was_cut_right_after_use_costs_one_transaction(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_FRESH_SECONDS", 600.0)
    database = Database(url)
    try:
        assert await database.write(look) == 1
        await cut_all(url)
        with pytest.raises(ServiceUnavailable):
            await database.write(look)
        assert await database.write(look) == 1
    finally:
        await database.aclose()


async def test_sqlite_keeps_in_memory_what_a_batch_needs_and_not_what_a_migration_sorts(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")

    async def place(connection: Connection) -> int:
        return int((await connection.exec_driver_sql("PRAGMA temp_store")).scalar_one())

    try:
        async with database.migrating() as connection:
            assert await place(connection) == 0
        assert await database.write(place) == 2
    finally:
        await database.aclose()
