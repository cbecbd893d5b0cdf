"""The delivery of one event to one webhook: planned with the event, tried until it arrives or is given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uuid_utils
from msgspec.structs import replace

from app.domain.event import TaskEvent

TRY_TIMEOUT_MS = 15_000
"""How long one try may take, in milliseconds, from looking the name up to the status of the answer."""
LEASE_MS = 30_000
"""For how long, in milliseconds, a delivery is left to the process that has it in hand; then others try."""
KEPT_RESPONSE_BYTES = 1024
_JITTER = 0.2
_MAX_RETRY_AFTER = 24 * 3_600_000
_MAX_HOST = 255


class DeliveryState(StrEnum):
    """The states of a delivery."""

    PENDING = "pending"  # in hand, or waiting for its next try
    DELIVERED = "delivered"
    FAILED = "failed"  # gave up; its owner may have it delivered again


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery. Times are milliseconds since the epoch, UTC; its id is the message's id, however often it is sent.

    `snapshot` is the event's. `tries` counts since it was planned or asked for again, `attempts` in all.
    `next_attempt_at` is what its owner is told; from `due_at` on any process may take it, which while one has it in
    hand (`claimed_by`) is the end of its lease.
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
    """One try: when it began, what was answered (at most 1 KiB of it) or why nothing was, how long it took in ms."""

    delivery_id: str
    at: int
    status: int | None
    error: str | None
    latency_ms: int
    response: bytes | None


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """What a receiver answered, or why there is no answer (`status` None); `retry_after` in milliseconds."""

    status: int | None
    error: str | None = None
    response: bytes | None = None
    retry_after: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver took the message: any 2xx. A redirect is a failure."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def plan(event: TaskEvent) -> Delivery | None:
    """Plan the delivery of an event, due at once; None if nobody asked for it."""
    if event.webhook_url is None or not event.is_for_webhook:
        return None
    return Delivery(
        id=f"whd_{uuid_utils.uuid7().hex}",
        task_id=event.task_id,
        project=event.project,
        event=event.type,
        url=event.webhook_url,
        host=urlsplit(event.webhook_url).netloc.lower()[:_MAX_HOST],
        snapshot=event.snapshot,
        next_attempt_at=event.created_at,
        due_at=event.created_at,
        created_at=event.created_at,
    )


def claim(delivery: Delivery, by: str, now: int) -> Delivery:
    """Take a due delivery in hand."""
    return replace(delivery, claimed_by=by, due_at=now + LEASE_MS)


def settle(
    delivery: Delivery, answer: DeliveryResponse, *, by: str, now: int, schedule: Sequence[int], jitter: float
) -> Delivery:
    """Apply what came of a try. `schedule` has the pauses between tries in ms; `jitter` is a draw from 0 to 1.

    A process that has lost its lease can still tell that the message arrived, but no longer when to try again.
    """
    tried = replace(delivery, attempts=delivery.attempts + 1)
    if answer.is_success:
        return _ended(tried, DeliveryState.DELIVERED)
    if delivery.state is not DeliveryState.PENDING or delivery.claimed_by != by:
        return tried
    if answer.status == HTTPStatus.GONE or delivery.tries >= len(schedule):
        return _ended(tried, DeliveryState.FAILED)
    planned = schedule[delivery.tries] * (1 + _JITTER * (2 * jitter - 1))
    pause = max(round(planned), min(answer.retry_after or 0, _MAX_RETRY_AFTER))
    again = now + pause
    return replace(tried, tries=delivery.tries + 1, next_attempt_at=again, due_at=again, claimed_by=None)


def release(delivery: Delivery, by: str, now: int) -> Delivery:
    """Put back a delivery whose try was broken off; others may try at once."""
    if delivery.state is not DeliveryState.PENDING or delivery.claimed_by != by:
        return delivery
    return replace(delivery, due_at=now, claimed_by=None)


def redeliver(delivery: Delivery, now: int) -> Delivery:
    """Begin anew with the first try, at once unless a try is under way."""
    fresh = replace(delivery, state=DeliveryState.PENDING, tries=0)
    if delivery.claimed_by is not None:
        return fresh
    return replace(fresh, next_attempt_at=now, due_at=now)


def _ended(delivery: Delivery, state: DeliveryState) -> Delivery:
    return replace(delivery, state=state, next_attempt_at=None, due_at=None, claimed_by=None)
