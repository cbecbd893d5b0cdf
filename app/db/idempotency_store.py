"""Statements on idempotency keys."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Delete, Select, and_, bindparam, delete, or_, select

from app.db.engine import Connection
from app.db.inserts import insert
from app.db.schema import idempotency_keys as keys
from app.domain.idempotency import IdempotencyKey, Reservation


def reserve(
    connection: Connection, wanted: Sequence[Reservation], *, now: int, lifetime: int
) -> dict[IdempotencyKey, Reservation]:
    """Reserve each key for its task unless it is taken; returns for each key the reservation that holds.

    A transaction that wants a key which another has inserted and not committed waits for the other's end.
    """
    # In one order for everybody, so that transactions which want the same keys don't wait for each other in a ring.
    ordered = sorted(wanted, key=lambda w: (w.key.project, w.key.subject, w.key.key))
    count, these = len(ordered), _named([w.key for w in ordered])
    connection.execute(_drop_expired(count), {**these, "before": now - lifetime})
    rows = [
        {
            "project": w.key.project,
            "subject": w.key.subject,
            "key": w.key.key,
            "fingerprint": w.fingerprint,
            "task_id": w.task_id,
            "created_at": now,
        }
        for w in ordered
    ]
    connection.execute(insert(connection, keys).on_conflict_do_nothing(), rows)
    held = connection.execute(_read(count), these).all()
    found = [Reservation(IdempotencyKey(r.project, r.subject, r.key), r.fingerprint, r.task_id) for r in held]
    return {reservation.key: reservation for reservation in found}


def get(connection: Connection, key: IdempotencyKey) -> Reservation | None:
    """Read the reservation of a key, if there is one."""
    row = connection.execute(_read(1), _named([key])).one_or_none()
    return Reservation(key, row.fingerprint, row.task_id) if row else None


def release(connection: Connection, reserved: Sequence[IdempotencyKey]) -> None:
    """Delete keys that were reserved for nothing."""
    connection.execute(_drop(len(reserved)), _named(reserved))


def sweep(connection: Connection, *, before: int, limit: int) -> int:
    """Delete up to `limit` keys created before then; returns how many."""
    old = select(keys.c.project, keys.c.subject, keys.c.key).where(keys.c.created_at <= before).limit(limit)
    found = [IdempotencyKey(row.project, row.subject, row.key) for row in connection.execute(old)]
    if found:
        connection.execute(_drop(len(found)), _named(found))
    return len(found)


# One statement for each number of keys, kept: building and compiling it takes far longer than running it.


@cache
def _drop_expired(count: int) -> Delete:
    return delete(keys).where(_are(count), keys.c.created_at <= bindparam("before", type_=BigInteger))


@cache
def _drop(count: int) -> Delete:
    return delete(keys).where(_are(count))


@cache
def _read(count: int) -> Select[Any]:
    return select(keys).where(_are(count))


def _are(count: int) -> ColumnElement[bool]:
    """Match so many keys, one by one: for a list of tuples SQLite would read all keys."""
    columns = (keys.c.project, keys.c.subject, keys.c.key)
    return or_(*(and_(*(column == bindparam(f"{column.name}_{n}") for column in columns)) for n in range(count)))


def _named(wanted: Sequence[IdempotencyKey]) -> dict[str, str]:
    """Give the values for `_are`."""
    values: dict[str, str] = {}
    for n, key in enumerate(wanted):
        values |= {f"project_{n}": key.project, f"subject_{n}": key.subject, f"key_{n}": key.key}
    return values
