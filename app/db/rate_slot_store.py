"""SQL statements for rate slots.

A limit of N calls per window is N rows, each free or taken until a time.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, update

from app.db.engine import Connection
from app.db.rows import insert
from app.db.schema import rate_slots


def ensure(connection: Connection, scope: str, count: int) -> None:
    """Add free slots until a scope has `count`."""
    existing = select(func.count()).select_from(rate_slots).where(rate_slots.c.scope == scope)
    have = int(connection.execute(existing).scalar_one())
    if have < count:
        new = [{"scope": scope, "slot": number, "free_at": 0} for number in range(have, count)]
        connection.execute(insert(connection, rate_slots).on_conflict_do_nothing(), new)


def cap(connection: Connection, scope: str, *, beyond: int, latest: int) -> None:
    """Free by `latest` what is taken until after `beyond`."""
    too_long = (rate_slots.c.scope == scope) & (rate_slots.c.free_at > beyond)
    connection.execute(update(rate_slots).where(too_long).values(free_at=latest))


def find_free(connection: Connection, scope: str, *, slots: int, wanted: int, now: int) -> list[int]:
    """Lock up to `wanted` free slots; return their numbers.

    Considers only the scope's first `slots` slots.
    """
    is_free = (rate_slots.c.scope == scope) & (rate_slots.c.slot < slots) & (rate_slots.c.free_at <= now)
    statement = select(rate_slots.c.slot).where(is_free).order_by(rate_slots.c.free_at).limit(wanted)
    return list(connection.execute(statement.with_for_update(skip_locked=True)).scalars())


def occupy(connection: Connection, scope: str, numbers: Sequence[int], until: int) -> None:
    """Take slots that `find_free` returned."""
    found = (rate_slots.c.scope == scope) & rate_slots.c.slot.in_(numbers)
    connection.execute(update(rate_slots).where(found).values(free_at=until))


def release(connection: Connection, scope: str, number: int, *, held_until: int, free_at: int) -> None:
    """Set when a taken slot becomes free.

    Does nothing if the slot's time ran out and another call took it.
    """
    is_held = rate_slots.c.free_at == held_until
    slot = update(rate_slots).where(rate_slots.c.scope == scope, rate_slots.c.slot == number, is_held)
    connection.execute(slot.values(free_at=free_at))


def next_free(connection: Connection, scope: str, slots: int, *, after: int) -> int | None:
    """Return when the next taken slot becomes free, if any."""
    is_taken = (rate_slots.c.scope == scope) & (rate_slots.c.slot < slots) & (rate_slots.c.free_at > after)
    free_at: int | None = connection.execute(select(func.min(rate_slots.c.free_at)).where(is_taken)).scalar_one()
    return free_at


def first_free(connection: Connection, scope: str, slots: int) -> int | None:
    """Return when the first slot is or was free."""
    is_ours = (rate_slots.c.scope == scope) & (rate_slots.c.slot < slots)
    free_at: int | None = connection.execute(select(func.min(rate_slots.c.free_at)).where(is_ours)).scalar_one()
    return free_at
