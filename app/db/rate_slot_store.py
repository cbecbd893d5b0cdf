"""Statements on rate slots: a limit of N calls per window is N rows, free or taken until a time."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Integer, bindparam, func, select, update

from app.db.engine import Connection
from app.db.inserts import insert
from app.db.schema import rate_slots

_FREE = (
    select(rate_slots.c.slot)
    .where(
        rate_slots.c.scope == bindparam("in_scope"),
        rate_slots.c.slot < bindparam("slots", type_=Integer),
        rate_slots.c.free_at <= bindparam("now", type_=BigInteger),
    )
    .order_by(rate_slots.c.free_at)
    .limit(bindparam("wanted", type_=Integer))
    .with_for_update(skip_locked=True)
)
_OCCUPY = (
    update(rate_slots)
    .where(rate_slots.c.scope == bindparam("in_scope"), rate_slots.c.slot == bindparam("number"))
    .values(free_at=bindparam("until"))
)
_RELEASE = (
    update(rate_slots)
    .where(
        rate_slots.c.scope == bindparam("in_scope"),
        rate_slots.c.slot == bindparam("number"),
        rate_slots.c.free_at == bindparam("held_until"),
    )
    .values(free_at=bindparam("at"))
)


def ensure(connection: Connection, scope: str, count: int) -> None:
    """Make sure that a scope has at least so many slots; new ones are free."""
    existing = select(func.count()).select_from(rate_slots).where(rate_slots.c.scope == scope)
    have = int(connection.execute(existing).scalar_one())
    if have < count:
        new = [{"scope": scope, "slot": number, "free_at": 0} for number in range(have, count)]
        connection.execute(insert(connection, rate_slots).on_conflict_do_nothing(), new)


def cap(connection: Connection, scope: str, latest: int) -> None:
    """Free by `latest` what was taken for longer, under another limit or by another clock."""
    too_long = (rate_slots.c.scope == scope) & (rate_slots.c.free_at > latest)
    connection.execute(update(rate_slots).where(too_long).values(free_at=latest))


def find_free(connection: Connection, scope: str, *, slots: int, wanted: int, now: int) -> list[int]:
    """Lock up to `wanted` free ones of a scope's first `slots` slots; returns their numbers."""
    rows = connection.execute(_FREE, {"in_scope": scope, "slots": slots, "now": now, "wanted": wanted})
    return [row.slot for row in rows]


def occupy(connection: Connection, scope: str, numbers: Sequence[int], until: int) -> None:
    """Take slots that `find_free` has found."""
    if numbers:
        connection.execute(_OCCUPY, [{"in_scope": scope, "number": n, "until": until} for n in numbers])


def release(connection: Connection, scope: str, number: int, *, held_until: int, free_at: int) -> None:
    """Set when a taken slot is free again, unless its time had run out and somebody else has it."""
    values = {"in_scope": scope, "number": number, "held_until": held_until, "at": free_at}
    connection.execute(_RELEASE, [values])


def next_free(connection: Connection, scope: str, slots: int, *, after: int) -> int | None:
    """When the next slot that is taken now will be free; None if all are free."""
    statement = select(func.min(rate_slots.c.free_at)).where(
        rate_slots.c.scope == scope, rate_slots.c.slot < slots, rate_slots.c.free_at > after
    )
    free_at: int | None = connection.execute(statement).scalar_one()
    return free_at
