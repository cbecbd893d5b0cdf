"""SQL statements for webhook deliveries and their attempts."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import bindparam, delete, insert, literal, select, update

from app.db import sql
from app.db.engine import Connection
from app.db.rows import LIMIT, NOW, read_all, read_one
from app.db.schema import webhook_attempts as attempts
from app.db.schema import webhook_deliveries as deliveries
from app.domain.delivery import Attempt, Delivery, DeliveryState

KEPT_PER_DELIVERY = 50
"""Attempts kept per delivery. Owners can request any number of attempts."""
_MUTABLE = ("state", "tries", "attempts", "next_attempt_at", "due_at", "claimed_by")
_IS_PENDING = deliveries.c.state == literal(DeliveryState.PENDING.value, literal_execute=True)
_LOCK = select(deliveries).where(deliveries.c.id == bindparam("row_id")).with_for_update()
_UPDATE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("row_id"))
    .values({name: bindparam(name) for name in _MUTABLE})
)
_CLAIMABLE = (
    select(deliveries)
    .where(_IS_PENDING, deliveries.c.host == bindparam("host"), deliveries.c.due_at <= NOW)
    .order_by(deliveries.c.due_at)
    .limit(LIMIT)
    .with_for_update(skip_locked=True)
)
_HOSTS = sql.load("pending_hosts")


def lock(connection: Connection, delivery_id: str) -> Delivery | None:
    """Read one delivery and lock it until the transaction ends."""
    return read_one(connection, Delivery, _LOCK, {"row_id": delivery_id})


def save(connection: Connection, changed: Sequence[Delivery]) -> None:
    """Write the mutable columns of deliveries locked by this transaction."""
    rows = [{**{name: getattr(delivery, name) for name in _MUTABLE}, "row_id": delivery.id} for delivery in changed]
    connection.execute(_UPDATE, rows)


def hosts(connection: Connection, *, after: str, limit: int) -> list[tuple[str, int]]:
    """List hosts with pending deliveries and their earliest due times.

    Returns up to `limit` hosts that sort after `after`.
    """
    rows = connection.execute(_HOSTS(connection), {"after": after, "limit": limit})
    return [(row.host, row.due_at) for row in rows]


def claimable(connection: Connection, host: str, *, now: int, limit: int) -> list[Delivery]:
    """Lock due deliveries, most overdue first, skipping locked ones."""
    return read_all(connection, Delivery, _CLAIMABLE, {"host": host, "now": now, "limit": limit})


def page(
    connection: Connection,
    *,
    project: str | None = None,
    task_id: str | None = None,
    state: DeliveryState | None,
    before_id: str | None,
    limit: int,
) -> list[Delivery]:
    """Read a page of deliveries, newest first.

    Pass either `project` or `task_id`: with both, a database might read all of the project's deliveries.
    """
    owner = deliveries.c.project == project if task_id is None else deliveries.c.task_id == task_id
    statement = select(deliveries).where(owner).order_by(deliveries.c.id.desc()).limit(limit)
    if state is not None:
        statement = statement.where(deliveries.c.state == state)
    if before_id is not None:
        statement = statement.where(deliveries.c.id < before_id)
    return read_all(connection, Delivery, statement)


def add_attempt(connection: Connection, attempt: Attempt, *, number: int) -> None:
    """Record attempt `number`, keeping only the newest `KEPT_PER_DELIVERY`."""
    connection.execute(insert(attempts), asdict(attempt))
    if number > KEPT_PER_DELIVERY:
        of_delivery = attempts.c.delivery_id == attempt.delivery_id
        kept = select(attempts.c.id).where(of_delivery).order_by(attempts.c.id.desc()).limit(KEPT_PER_DELIVERY)
        connection.execute(delete(attempts).where(of_delivery, attempts.c.id.not_in(kept.scalar_subquery())))


def attempts_of(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """Read attempts by delivery, oldest first."""
    found: dict[str, list[Attempt]] = {delivery_id: [] for delivery_id in delivery_ids}
    statement = (
        select(attempts).where(attempts.c.delivery_id.in_(delivery_ids)).order_by(attempts.c.delivery_id, attempts.c.id)
    )
    for attempt in read_all(connection, Attempt, statement):
        found[attempt.delivery_id].append(attempt)
    return found
