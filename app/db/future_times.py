"""Statements that cap times in the far future (ms).

They remain in rows when the clock is set back.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table, case, update

from app.db.engine import Connection
from app.db.schema import images, tasks, webhook_deliveries
from app.domain.delivery import DeliveryState
from app.domain.image import ImageState
from app.domain.policy import MAX_LATE_PAUSE_MS, MAX_SUBMIT_PAUSE_MS, Policy
from app.domain.task import Status


def cap_tasks(connection: Connection, now: int, policy: Policy) -> int:
    """Make tasks due that wait longer than any pause.

    Also caps deadlines. Returns how many times were changed.
    """
    is_queued, is_unfinished = tasks.c.status == Status.QUEUED.value, tasks.c.completed_at.is_(None)
    is_sent = tasks.c.status.in_([Status.SUBMITTING.value, Status.PROCESSING.value])
    longest_poll_pause = max(policy.poll_cap, 2 * policy.upstream_timeout)
    limits = [
        ("not_before", is_queued, MAX_SUBMIT_PAUSE_MS, 0),
        ("ask_at", is_unfinished, longest_poll_pause, 0),
        ("ask_at", ~is_unfinished, MAX_LATE_PAUSE_MS, 0),
        ("deadline_at", is_queued, policy.queue_timeout, policy.queue_timeout),
        ("deadline_at", is_sent, policy.task_timeout, policy.task_timeout),
    ]
    changed = 0
    for name, concerned, longest, then in limits:
        column = tasks.c[name]
        statement = update(tasks).where(concerned, column > now + longest).values({name: now + then})
        changed += connection.execute(statement).rowcount
    return changed


def cap_deliveries(connection: Connection, now: int, *, lease: int, pauses: Sequence[int]) -> int:
    """Cap the next attempts of webhooks; returns how many."""
    is_pending = webhook_deliveries.c.state == DeliveryState.PENDING.value
    return _cap(connection, webhook_deliveries, "due_at", is_pending, now, lease, pauses)


def cap_images(connection: Connection, now: int, *, lease: int, pauses: Sequence[int]) -> int:
    """Cap the next attempts of image copies; returns how many."""
    is_pending = images.c.state == ImageState.PENDING.value
    return _cap(connection, images, "next_try_at", is_pending, now, lease, pauses)


def _cap(
    connection: Connection,
    table: Table,
    column: str,
    is_pending: ColumnElement[bool],
    now: int,
    lease: int,
    pauses: Sequence[int],
) -> int:
    """Cap claims by the lease, retries by their pause."""
    longest = case(
        (table.c.claimed_by.is_not(None), lease),
        *[(table.c.tries == tries, pause) for tries, pause in enumerate([0, *pauses])],
        else_=max(pauses, default=0),
    )
    is_late = table.c[column] > now + longest
    return connection.execute(update(table).where(is_pending, is_late).values({column: now + longest})).rowcount
