"""Connections to PostgreSQL that the server cut while they were idle."""

import asyncio
from collections.abc import Awaitable, Callable

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
