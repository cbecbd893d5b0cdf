"""Webhook deliveries as clients see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from app.clock import isoformat
from app.domain import delivery as domain
from app.domain.delivery import DeliveryState
from app.shapes.base import Time
from app.shapes.task import NextCursor, time_or_null


@dataclass(slots=True)
class Attempt:
    """One attempt to deliver a webhook."""

    at: Time
    status: Annotated[int | None, Field(description="HTTP status of the receiver's response; null if there was none.")]
    error: Annotated[str | None, Field(description="Why there was no response, or what was wrong with it.")]
    latency_ms: int
    response: Annotated[
        str | None,
        Field(
            description="The first 1,024 bytes of the response body; bytes that are not valid UTF-8 appear as \\xNN."
        ),
    ]


@dataclass(slots=True)
class Delivery:
    """The delivery of one event to one URL."""

    id: Annotated[
        str,
        Field(description="Also sent as the `webhook-id` header.", examples=["whd_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d"]),
    ]
    task_id: str
    event: Annotated[str, Field(examples=["task.succeeded"])]
    url: str
    state: DeliveryState
    attempts: Annotated[list[Attempt], Field(description="Oldest first. The last 50 are kept.")]
    next_attempt_at: Time | None


@dataclass(slots=True)
class DeliveryPage:
    """A page of deliveries, newest first."""

    data: list[Delivery]
    next_cursor: NextCursor


@dataclass(slots=True)
class WebhookSecret:
    """The secret that verifies webhook signatures."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


def delivery_shape(delivery: domain.Delivery, attempts: Sequence[domain.Attempt]) -> Delivery:
    """Return the shape of a delivery with its attempts."""
    return Delivery(
        id=delivery.id,
        task_id=delivery.task_id,
        event=delivery.event,
        url=delivery.url,
        state=delivery.state,
        attempts=[_attempt_shape(attempt) for attempt in attempts],
        next_attempt_at=time_or_null(delivery.next_attempt_at),
    )


def _attempt_shape(attempt: domain.Attempt) -> Attempt:
    response = attempt.response
    return Attempt(
        at=isoformat(attempt.at),
        status=attempt.status,
        error=attempt.error,
        latency_ms=attempt.latency_ms,
        response=None if response is None else response.decode(errors="backslashreplace"),
    )
