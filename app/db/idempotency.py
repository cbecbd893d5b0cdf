"""Statements on idempotency keys."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from app.db.engine import Connection
from app.db.schema import idempotency_keys as keys
from app.domain.idempotency import IdempotencyKey, Reservation

_KEY = tuple_(keys.c.project, keys.c.subject, keys.c.key)


async def reserve(
    connection: Connection, wanted: Sequence[Reservation], *, now: int, lifetime: int
) -> dict[IdempotencyKey, Reservation]:
    """Reserve each key for its task unless it is taken; returns for each key the reservation that holds.

    A transaction that wants a key which another has inserted and not committed waits for the other's end.
    """
    # In one order for everybody, so that transactions which want the same keys don't wait for each other in a ring.
    ordered = sorted(wanted, key=lambda w: (w.key.project, w.key.subject, w.key.key))
    named = [(w.key.project, w.key.subject, w.key.key) for w in ordered]
    await connection.execute(delete(keys).where(_KEY.in_(named), keys.c.created_at <= now - lifetime))
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows: list[dict[str, Any]] = [
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
    await connection.execute(dialect.insert(keys).values(rows).on_conflict_do_nothing())
    held = (await connection.execute(select(keys).where(_KEY.in_(named)))).all()
    found = [Reservation(IdempotencyKey(r.project, r.subject, r.key), r.fingerprint, r.task_id) for r in held]
    return {reservation.key: reservation for reservation in found}


async def get(connection: Connection, key: IdempotencyKey) -> Reservation | None:
    """Read the reservation of a key, if there is one."""
    statement = select(keys).where(_KEY.in_([(key.project, key.subject, key.key)]))
    row = (await connection.execute(statement)).one_or_none()
    return Reservation(key, row.fingerprint, row.task_id) if row else None


async def sweep(connection: Connection, *, before: int, limit: int) -> int:
    """Delete up to `limit` keys created before then; returns how many."""
    old = select(keys.c.project, keys.c.subject, keys.c.key).where(keys.c.created_at <= before).limit(limit)
    found = [tuple(row) for row in await connection.execute(old)]
    if found:
        await connection.execute(delete(keys).where(_KEY.in_(found)))
    return len(found)
