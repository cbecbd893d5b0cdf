"""Deliveries of events to webhooks: retried until they succeed or are given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from app.domain.event import TaskEvent
from app.domain.ids import TimeOrderedIds
from app.domain.words import Word

TRY_TIMEOUT_MS = 15_000
"""The time limit of one attempt, from name resolution to the response's status."""
LEASE_MS = 30_000
"""How long a delivery belongs to the process that claimed it."""
KEPT_RESPONSE_BYTES = 1024
_JITTER = 0.2
_MAX_RETRY_AFTER_MS = 24 * 3_600_000
_MAX_HOST_CHARACTERS = 255
_ids = TimeOrderedIds()


class DeliveryState(Word):
    """The states of a delivery."""

    PENDING = "pending"  # claimed, or waiting for its next attempt
    DELIVERED = "delivered"
    FAILED = "failed"  # given up; its owner may request redelivery


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery. Its id is the message's id, however often it is sent.

    Times are milliseconds since the epoch, UTC. `tries` counts since it was planned or redelivered, `attempts` in all.
    `next_attempt_at` is shown to its owner. From `due_at` on any process may claim it; while it is claimed
    (`claimed_by`) that is the end of the lease.
    """

    id: str
    task_id: str
    project: str
    event: str
    url: str
    host: str
    snapshot: dict[str, Any]
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    attempts: int = 0
    next_attempt_at: int | None
    due_at: int | None
    claimed_by: str | None = None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt: when it began (`at`), and the first 1 KiB of the response or the error."""

    delivery_id: str
    at: int
    status: int | None
    error: str | None
    latency_ms: int
    response: bytes | None


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """A receiver's response, or the error if there is none; `retry_after` in milliseconds."""

    status: int | None
    error: str | None = None
    response: bytes | None = None
    retry_after: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver accepted the message: any 2xx. A redirect is a failure."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def plan(event: TaskEvent) -> Delivery | None:
    """Plan the delivery of an event, due at once; None if the task has no webhook."""
    if event.webhook_url is None or not event.is_for_webhook:
        return None
    return Delivery(
        id=f"whd_{_ids.next(event.created_at)}",
        task_id=event.task_id,
        project=event.project,
        event=event.type,
        url=event.webhook_url,
        host=urlsplit(event.webhook_url).netloc.lower()[:_MAX_HOST_CHARACTERS],
        snapshot=event.snapshot,
        next_attempt_at=event.created_at,
        due_at=event.created_at,
        created_at=event.created_at,
    )


def claim(delivery: Delivery, by: str, now: int) -> Delivery:
    """Claim a due delivery."""
    return replace(delivery, claimed_by=by, due_at=now + LEASE_MS)


def settle(
    delivery: Delivery, answer: DeliveryResponse, *, by: str, now: int, schedule: Sequence[int], jitter: float
) -> Delivery:
    """Apply the outcome of an attempt.

    `schedule` lists the pauses between attempts in ms; `jitter` is random, 0 to 1. A process that lost its lease can
    still report success, but no longer schedule a retry.
    """
    tried = replace(delivery, attempts=delivery.attempts + 1)
    if answer.is_success:
        return _ended(tried, DeliveryState.DELIVERED)
    if delivery.state is not DeliveryState.PENDING or delivery.claimed_by != by:
        return tried
    if answer.status == HTTPStatus.GONE or delivery.tries >= len(schedule):
        return _ended(tried, DeliveryState.FAILED)
    planned = schedule[delivery.tries] * (1 + _JITTER * (2 * jitter - 1))
    pause = max(round(planned), min(answer.retry_after or 0, _MAX_RETRY_AFTER_MS))
    again = now + pause
    return replace(tried, tries=delivery.tries + 1, next_attempt_at=again, due_at=again, claimed_by=None)


def release(delivery: Delivery, by: str, now: int) -> Delivery:
    """Return an interrupted delivery; any process may try at once."""
    if delivery.state is not DeliveryState.PENDING or delivery.claimed_by != by:
        return delivery
    return replace(delivery, due_at=now, claimed_by=None)


def redeliver(delivery: Delivery, now: int) -> Delivery:
    """Restart the schedule, at once unless an attempt is in progress."""
    fresh = replace(delivery, state=DeliveryState.PENDING, tries=0)
    if delivery.claimed_by is not None:
        return fresh
    return replace(fresh, next_attempt_at=now, due_at=now)


def _ended(delivery: Delivery, state: DeliveryState) -> Delivery:
    return replace(delivery, state=state, next_attempt_at=None, due_at=None, claimed_by=None)
