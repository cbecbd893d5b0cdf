"""Connections to PostgreSQL that the server cut while they were idle."""

import asyncio

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


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    return await asyncio.to_thread(postgres.create_database)


async def cut_all(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval(CUT) > 0
    finally:
        await connection.close()


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
