"""Rate slots stay taken until released or expired."""

import asyncio

from app.db import rate_slot_store
from app.db.engine import Connection, Database
from app.db.migrate import migrate

SCOPE = "test"


def test_a_late_release_does_not_free_a_slot_taken_by_another_call(database_url: str) -> None:
    async def work() -> tuple[list[int], list[int]]:
        database = Database(database_url)
        await migrate(database)

        def release_late_and_timely(connection: Connection) -> tuple[list[int], list[int]]:
            rate_slot_store.ensure(connection, SCOPE, 1)
            rate_slot_store.occupy(connection, SCOPE, [0], 100)  # the first holder, which releases too late
            rate_slot_store.occupy(connection, SCOPE, [0], 200)  # the second, after the first one's time
            rate_slot_store.release(connection, SCOPE, 0, held_until=100, free_at=120)
            late = rate_slot_store.find_free(connection, SCOPE, slots=1, wanted=1, now=150)
            rate_slot_store.release(connection, SCOPE, 0, held_until=200, free_at=140)
            return late, rate_slot_store.find_free(connection, SCOPE, slots=1, wanted=1, now=150)

        found = await database.write(release_late_and_timely)
        await database.aclose()
        return found

    assert asyncio.run(work()) == ([], [0])


def test_slots_taken_for_longer_under_another_limit_are_freed_at_start(database_url: str) -> None:
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
