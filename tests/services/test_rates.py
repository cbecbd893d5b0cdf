"""Rate slots: what is taken stays taken until its holder lets go or its time is over."""

import asyncio

from app.db import rates
from app.db.engine import Database
from app.db.migrate import migrate

SCOPE = "test"


def test_a_late_release_does_not_free_a_slot_that_somebody_else_has_by_now(database_url: str) -> None:
    async def work() -> tuple[list[int], list[int]]:
        database = Database(database_url)
        await migrate(database)
        async with database.writing() as connection:
            await rates.ensure(connection, SCOPE, 1)
            await rates.occupy(connection, SCOPE, [0], 100)  # the first holder, whose record comes too late
            await rates.occupy(connection, SCOPE, [0], 200)  # the second, after the first one's time
            await rates.release(connection, SCOPE, 0, held_until=100, free_at=120)
            late = await rates.find_free(connection, SCOPE, slots=1, wanted=1, now=150)
            await rates.release(connection, SCOPE, 0, held_until=200, free_at=140)
            timely = await rates.find_free(connection, SCOPE, slots=1, wanted=1, now=150)
        await database.aclose()
        return late, timely

    assert asyncio.run(work()) == ([], [0])


def test_what_another_limit_took_for_long_is_free_again_after_a_start(database_url: str) -> None:
    async def work() -> list[int]:
        database = Database(database_url)
        await migrate(database)
        async with database.writing() as connection:
            await rates.ensure(connection, SCOPE, 2)
            await rates.occupy(connection, SCOPE, [0, 1], 86_400_000)
            await rates.cap(connection, SCOPE, 100)
            free = await rates.find_free(connection, SCOPE, slots=2, wanted=2, now=100)
        await database.aclose()
        return sorted(free)

    assert asyncio.run(work()) == [0, 1]
