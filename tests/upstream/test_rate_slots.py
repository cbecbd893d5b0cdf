"""Rate slots: what is taken stays taken until its holder lets go or its time is over."""

import asyncio

from app.db import rate_slot_store
from app.db.engine import Connection, Database
from app.db.migrate import migrate

SCOPE = "test"


def test_a_late_release_does_not_free_a_slot_that_somebody_else_has_by_now(database_url: str) -> None:
    async def work() -> tuple[list[int], list[int]]:
        database = Database(database_url)
        await migrate(database)

        def release_late_and_timely(connection: Connection) -> tuple[list[int], list[int]]:
            rate_slot_store.ensure(connection, SCOPE, 1)
            rate_slot_store.occupy(connection, SCOPE, [0], 100)  # the first holder, whose record comes too late
            rate_slot_store.occupy(connection, SCOPE, [0], 200)  # the second, after the first one's time
            rate_slot_store.release(connection, SCOPE, 0, held_until=100, free_at=120)
            late = rate_slot_store.find_free(connection, SCOPE, slots=1, wanted=1, now=150)
            rate_slot_store.release(connection, SCOPE, 0, held_until=200, free_at=140)
            return late, rate_slot_store.find_free(connection, SCOPE, slots=1, wanted=1, now=150)

        found = await database.write(release_late_and_timely)
        await database.aclose()
        return found

    assert asyncio.run(work()) == ([], [0])


def test_what_another_limit_took_for_long_is_free_again_after_a_start(database_url: str) -> None:
    async def work() -> list[int]:
        database = Database(database_url)
        await migrate(database)

        def cap(connection: Connection) -> list[int]:
            rate_slot_store.ensure(connection, SCOPE, 2)
            rate_slot_store.occupy(connection, SCOPE, [0, 1], 86_400_000)
            rate_slot_store.cap(connection, SCOPE, beyond=200, latest=100)
            return rate_slot_store.find_free(connection, SCOPE, slots=2, wanted=2, now=100)

        free = await database.write(cap)
        await database.aclose()
        return sorted(free)

    assert asyncio.run(work()) == [0, 1]
