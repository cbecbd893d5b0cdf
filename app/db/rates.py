"""Statements on rate slots: a limit of N calls per window is N rows, free or taken until a time."""

from collections.abc import Sequence

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.schema import rate_slots

_FREE = (
    update(rate_slots)
    .where(rate_slots.c.scope == bindparam("in_scope"), rate_slots.c.slot == bindparam("number"))
    .values(free_at=bindparam("at"))
)


async def ensure(connection: AsyncConnection, scope: str, count: int) -> None:
    """Make sure that a scope has at least so many slots; new ones are free."""
    existing = select(func.count()).select_from(rate_slots).where(rate_slots.c.scope == scope)
    have = int((await connection.execute(existing)).scalar_one())
    if have < count:
        new = [{"scope": scope, "slot": number, "free_at": 0} for number in range(have, count)]
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        await connection.execute(dialect.insert(rate_slots).on_conflict_do_nothing(), new)


async def take(connection: AsyncConnection, scope: str, *, slots: int, wanted: int, now: int, until: int) -> list[int]:
    """Take up to `wanted` free ones of a scope's first `slots` slots until then; returns their numbers."""
    statement = (
        select(rate_slots.c.slot)
        .where(rate_slots.c.scope == scope, rate_slots.c.slot < slots, rate_slots.c.free_at <= now)
        .order_by(rate_slots.c.free_at)
        .limit(wanted)
        .with_for_update(skip_locked=True)
    )
    taken = [row.slot for row in await connection.execute(statement)]
    await release(connection, scope, taken, until)
    return taken


async def release(connection: AsyncConnection, scope: str, taken: Sequence[int], free_at: int) -> None:
    """Set when taken slots are free again."""
    if taken:
        await connection.execute(_FREE, [{"in_scope": scope, "number": slot, "at": free_at} for slot in taken])


async def next_free(connection: AsyncConnection, scope: str, slots: int) -> int | None:
    """When the next slot is free; None without slots."""
    statement = select(func.min(rate_slots.c.free_at)).where(rate_slots.c.scope == scope, rate_slots.c.slot < slots)
    free_at: int | None = (await connection.execute(statement)).scalar_one()
    return free_at
