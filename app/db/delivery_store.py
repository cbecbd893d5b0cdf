"""Statements on webhook deliveries and their attempts."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    Row,
    Select,
    String,
    bindparam,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)

from app.db.engine import Connection
from app.db.schema import webhook_attempts as attempts
from app.db.schema import webhook_deliveries as deliveries
from app.domain.delivery import Attempt, Delivery, DeliveryState

KEPT_PER_DELIVERY = 50
"""How many attempts of a delivery are kept; its owner may ask for any number."""
_MUTABLE = ("state", "tries", "attempts", "next_attempt_at", "due_at", "claimed_by")
_IS_PENDING = deliveries.c.state == literal(DeliveryState.PENDING.value, literal_execute=True)
_NOW = bindparam("now", type_=BigInteger)
_AT_MOST = bindparam("at_most", type_=Integer)

_LOCK = select(deliveries).where(deliveries.c.id == bindparam("row_id")).with_for_update()
_UPDATE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("row_id"))
    .values({name: bindparam(name) for name in _MUTABLE})
)
_CLAIMABLE = (
    select(deliveries)
    .where(_IS_PENDING, deliveries.c.host == bindparam("of_host"), deliveries.c.due_at <= _NOW)
    .order_by(deliveries.c.due_at)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True)
)
_ATTEMPTS = (
    select(attempts)
    .where(attempts.c.delivery_id.in_(bindparam("delivery_ids", expanding=True)))
    .order_by(attempts.c.delivery_id, attempts.c.id)
)


def _hop_through_hosts() -> Select[tuple[str, int]]:
    """Hosts that something is to be delivered to, with when the first of it is due: two index look-ups for each."""
    after = bindparam("after", type_=String)
    nth = literal_column("1", Integer)
    first = select(func.min(deliveries.c.host).label("host"), nth.label("nth")).where(
        _IS_PENDING, deliveries.c.host > after
    )
    hop = first.cte("hop", recursive=True)
    following = (
        select(func.min(deliveries.c.host)).where(_IS_PENDING, deliveries.c.host > hop.c.host).correlate(hop)
    ).scalar_subquery()
    hop = hop.union_all(select(following, hop.c.nth + 1).where(hop.c.host.is_not(None), hop.c.nth < _AT_MOST))
    due_at = (
        select(func.min(deliveries.c.due_at)).where(_IS_PENDING, deliveries.c.host == hop.c.host).correlate(hop)
    ).scalar_subquery()
    return select(hop.c.host, due_at.label("due_at")).where(hop.c.host.is_not(None))


_HOSTS = _hop_through_hosts()


def to_delivery(row: Row[Any]) -> Delivery:
    """Turn a row of `webhook_deliveries` into a `Delivery`."""
    values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
    values["state"] = DeliveryState(values["state"])
    return Delivery(**values)


def lock(connection: Connection, delivery_id: str) -> Delivery | None:
    """Read one and keep others from changing it until the transaction ends."""
    row = connection.execute(_LOCK, {"row_id": delivery_id}).one_or_none()
    return to_delivery(row) if row else None


def save(connection: Connection, changed: Sequence[Delivery]) -> None:
    """Write what may change of deliveries that this transaction has locked."""
    rows = [{**{name: getattr(d, name) for name in _MUTABLE}, "state": d.state.value, "row_id": d.id} for d in changed]
    connection.execute(_UPDATE, rows)


def hosts(connection: Connection, *, after: str, at_most: int) -> list[tuple[str, int]]:
    """List up to so many hosts with pending deliveries, in order, after that one, with when their first is due."""
    rows = connection.execute(_HOSTS, {"after": after, "at_most": at_most})
    return [(row.host, row.due_at) for row in rows]


def claimable(connection: Connection, host: str, *, now: int, limit: int) -> list[Delivery]:
    """Lock up to `limit` of a host's due deliveries, the most overdue first, passing over those locked by others."""
    rows = connection.execute(_CLAIMABLE, {"of_host": host, "now": now, "at_most": limit})
    return [to_delivery(row) for row in rows]


def page(
    connection: Connection,
    *,
    project: str | None = None,
    task_id: str | None = None,
    state: DeliveryState | None,
    before_id: str | None,
    limit: int,
) -> list[Delivery]:
    """Read up to `limit` deliveries of a project or of a task, newest first, below `before_id`.

    Not of both: a database may then look through all of the project's for those of the task.
    """
    of_whom = deliveries.c.project == project if task_id is None else deliveries.c.task_id == task_id
    statement = select(deliveries).where(of_whom)
    if state is not None:
        statement = statement.where(deliveries.c.state == state.value)
    if before_id is not None:
        statement = statement.where(deliveries.c.id < before_id)
    rows = connection.execute(statement.order_by(deliveries.c.id.desc()).limit(limit))
    return [to_delivery(row) for row in rows]


def add_attempt(connection: Connection, attempt: Attempt, *, number: int) -> None:
    """Keep a delivery's `number`-th attempt, and of its older ones only the newest."""
    row = {field.name: getattr(attempt, field.name) for field in fields(Attempt)}
    connection.execute(insert(attempts), row)
    if number > KEPT_PER_DELIVERY:
        of_it = attempts.c.delivery_id == attempt.delivery_id
        kept = select(attempts.c.id).where(of_it).order_by(attempts.c.id.desc()).limit(KEPT_PER_DELIVERY)
        connection.execute(delete(attempts).where(of_it, attempts.c.id.not_in(kept.scalar_subquery())))


def attempts_of(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """Read the attempts of deliveries, each one's oldest first."""
    found: dict[str, list[Attempt]] = {delivery_id: [] for delivery_id in delivery_ids}
    if delivery_ids:
        for row in connection.execute(_ATTEMPTS, {"delivery_ids": list(delivery_ids)}):
            values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
            del values["id"]
            found[row.delivery_id].append(Attempt(**values))
    return found
