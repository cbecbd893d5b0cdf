"""Webhook deliveries: their schedule, leases and outcomes."""

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
"""The time limit of one attempt, from DNS lookup to response status."""
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
    """One delivery; its id identifies the message across retries.

    Times are milliseconds since the epoch, UTC. `tries` counts attempts since it was planned or redelivered, `attempts`
    all of them. The API shows `next_attempt_at`. Any process may claim it from `due_at` on; while it is claimed
    (`claimed_by`), `due_at` is the end of the lease.
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
    """One attempt; `response` is the body's first KiB."""

    delivery_id: str
    at: int
    status: int | None
    error: str | None
    latency_ms: int
    response: bytes | None


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """A receiver's response, or the error; `retry_after` is in milliseconds."""

    status: int | None
    error: str | None = None
    response: bytes | None = None
    retry_after: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver responded 2xx; redirects are failures."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def plan(event: TaskEvent) -> Delivery | None:
    """Plan an event's delivery, due immediately; None without a webhook."""
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

    `schedule` lists the pauses between attempts in ms; `jitter` is random, 0 to 1. A process that has lost its lease
    can still report a success, but can't schedule a retry.
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
    """Release an interrupted delivery for any process to claim."""
    if delivery.state is not DeliveryState.PENDING or delivery.claimed_by != by:
        return delivery
    return replace(delivery, due_at=now, claimed_by=None)


def redeliver(delivery: Delivery, now: int) -> Delivery:
    """Restart the schedule; due immediately unless an attempt is running."""
    fresh = replace(delivery, state=DeliveryState.PENDING, tries=0)
    if delivery.claimed_by is not None:
        return fresh
    return replace(fresh, next_attempt_at=now, due_at=now)


def _ended(delivery: Delivery, state: DeliveryState) -> Delivery:
    return replace(delivery, state=state, next_attempt_at=None, due_at=None, claimed_by=None)
