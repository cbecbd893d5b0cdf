"""The task loader: one unreadable task doesn't affect others."""

import asyncio

from sqlalchemy import update

from app.clock import SystemClock
from app.db.engine import Database
from app.db.migrate import migrate
from app.db.schema import tasks
from app.tasks.loader import TaskLoader
from app.writing.writer import Writer
from tests.support.tasks import make_task


async def test_a_task_that_cannot_be_read_fails_alone(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)
    writer = Writer(database, SystemClock(), lambda _: None)
    writer.start()
    first, odd, last = [await writer.create(make_task(id=f"task_{number:032x}")) for number in range(3)]
    await database.write(
        lambda connection: connection.execute(update(tasks).where(tasks.c.id == odd).values(metadata=[]))
    )
    loader = TaskLoader(database)
    asked = [first, odd, last, "task_" + "f" * 32]
    found = await asyncio.gather(*map(loader.load, asked), return_exceptions=True)
    assert [one[0].id for one in found if isinstance(one, tuple)] == [first, last]
    assert found[3] is None
    assert isinstance(found[1], Exception)
    await writer.aclose()
    await database.aclose()
