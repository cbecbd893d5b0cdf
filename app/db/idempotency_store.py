"""SQL statements for idempotency keys."""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, case, delete, literal_column, select, tuple_

from app.db.engine import Connection
from app.db.rows import insert
from app.db.schema import idempotency_keys as keys
from app.domain.idempotency import IdempotencyKey, Reservation

_KEY = (keys.c.project, keys.c.subject, keys.c.key)
_IS_KEY = and_(*(column == bindparam(f"of_{column.name}") for column in _KEY))


def reserve(
    connection: Connection, wanted: Sequence[Reservation], *, now: int, lifetime: int
) -> dict[IdempotencyKey, Reservation]:
    """Reserve free keys; return the reservation in effect by key.

    Keys older than `lifetime` ms are free. Waits for transactions that have inserted one of the keys but not committed.
    """
    new = insert(connection, keys)
    is_expired = keys.c.created_at <= new.excluded.created_at - literal_column(str(lifetime))
    kept_unless_expired = {
        column.name: case((is_expired, new.excluded[column.name]), else_=column)
        for column in (keys.c.fingerprint, keys.c.task_id, keys.c.created_at)
    }
    upsert = new.on_conflict_do_update(index_elements=_KEY, set_=kept_unless_expired).returning(keys)
    # Only the first reservation of a key: a statement can't change a row twice. Sorted, so that two transactions never
    # deadlock.
    first = {reservation.key: reservation for reservation in reversed(wanted)}
    rows = [
        {
            "project": key.project,
            "subject": key.subject,
            "key": key.key,
            "fingerprint": first[key].fingerprint,
            "task_id": first[key].task_id,
            "created_at": now,
        }
        for key in sorted(first, key=lambda key: (key.project, key.subject, key.key))
    ]
    held = {IdempotencyKey(r.project, r.subject, r.key): r for r in connection.execute(upsert, rows)}
    return {key: Reservation(key, row.fingerprint, row.task_id) for key, row in held.items()}


def get(connection: Connection, key: IdempotencyKey) -> Reservation | None:
    """Read a key's reservation, if there is one."""
    row = connection.execute(select(keys).where(_IS_KEY), _values(key)).one_or_none()
    return Reservation(key, row.fingerprint, row.task_id) if row else None


def release(connection: Connection, reserved: Sequence[IdempotencyKey]) -> None:
    """Delete keys whose tasks were not created."""
    connection.execute(delete(keys).where(_IS_KEY), [_values(key) for key in reserved])


def sweep(connection: Connection, *, before: int, limit: int) -> int:
    """Delete up to `limit` old keys; return how many."""
    old = select(*_KEY).where(keys.c.created_at <= before).limit(limit)
    return connection.execute(delete(keys).where(tuple_(*_KEY).in_(old))).rowcount


def _values(key: IdempotencyKey) -> dict[str, str]:
    return {"of_project": key.project, "of_subject": key.subject, "of_key": key.key}
