"""Commit notifications on a connection that breaks and is replaced."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.db.batch_store import CHANNEL
from app.db.engine import Database
from app.db.notifier import Notifier
from tests.support.databases.postgres import PostgresServer

_OURS = (
    "FROM pg_stat_activity WHERE application_name = 'nanobanana-gateway notifications' AND datname = current_database()"
)
COUNT = f"SELECT count(*) {_OURS}"
CUT = f"SELECT count(pg_terminate_backend(pid)) {_OURS}"


class Received:
    """Counts notifications; tests can wait for a count."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        self.count += 1
        task = asyncio.create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
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


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.aclose()


async def test_notifications_arrive_after_the_connection_was_cut(database: Database, other: asyncpg.Connection) -> None:
    received = Received()
    notifier = Notifier(database, received)
    notifier.start()
    try:
        # Each new connection counts as a notification of what may have been missed.
        await received.wait(1)
        await other.execute(f"NOTIFY {CHANNEL}")
        await received.wait(2)
        assert await other.fetchval(CUT) == 1
        await received.wait(3)
        await other.execute(f"NOTIFY {CHANNEL}")
        await received.wait(4)
    finally:
        await notifier.aclose()
    assert received.count == 4


async def test_a_server_that_is_down_is_tried_again_until_it_is_up(database: Database) -> None:
    received = Received()
    absent = Database("postgresql://nobody@127.0.0.1:9/none")
    nowhere = Notifier(absent, received)
    nowhere.start()
    somewhere = Notifier(database, received)
    somewhere.start()
    await received.wait(1)
    await nowhere.aclose()
    await somewhere.aclose()
    await absent.aclose()
    assert received.count == 1


async def test_a_stopped_notifier_leaves_no_connection(database: Database, other: asyncpg.Connection) -> None:
    received = Received()
    notifier = Notifier(database, received)
    notifier.start()
    await received.wait(1)
    await notifier.aclose()
    # A server process ends a moment after its connection.
    async with asyncio.timeout(15):
        while await other.fetchval(COUNT):
            pass
