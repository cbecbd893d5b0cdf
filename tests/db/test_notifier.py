"""Notices of commits, on a connection that breaks and comes back."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.db.batch_store import CHANNEL
from app.db.notifier import Notifier
from tests.support.databases.postgres import PostgresServer

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'nanobanana-gateway notices' AND datname = current_database()
"""


class Heard:
    """Counts notices, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        self.count += 1
        task = asyncio.create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(15), self._changed:
            await self._changed.wait_for(lambda: self.count >= count)


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    return await asyncio.to_thread(postgres.create_database)


@pytest.fixture
async def other(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def test_notices_arrive_again_after_the_connection_was_cut(url: str, other: asyncpg.Connection) -> None:
    heard = Heard()
    notices = Notifier(url, heard)
    notices.start()
    try:
        # Each new connection counts as a notice of what may have been missed.
        await heard.wait(1)
        await other.execute(f"NOTIFY {CHANNEL}")
        await heard.wait(2)
        assert await other.fetchval(CUT) == 1
        await heard.wait(3)
        await other.execute(f"NOTIFY {CHANNEL}")
        await heard.wait(4)
    finally:
        await notices.aclose()
    assert heard.count == 4


async def test_a_server_that_is_away_is_tried_again_until_it_is_there(url: str) -> None:
    heard = Heard()
    nowhere = Notifier("postgresql://nobody@127.0.0.1:9/none", heard)
    nowhere.start()
    somewhere = Notifier(url, heard)
    somewhere.start()
    await heard.wait(1)
    await nowhere.aclose()
    await somewhere.aclose()
    assert heard.count == 1
