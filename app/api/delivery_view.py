"""Webhook deliveries as clients see them."""

from typing import Any

from pydantic import BaseModel, Field

from app.api.task_view import Time
from app.clock import isoformat
from app.domain.delivery import Attempt, DeliveryState
from app.services.deliveries import DeliveryLog


class AttemptView(BaseModel):
    """One try."""

    at: Time
    status: int | None = Field(description="The HTTP status answered, if any was.")
    error: str | None = Field(description="Why there is no status, or what was wrong with the answer.")
    latency_ms: int
    response: str | None = Field(description="The first 1,024 bytes answered; those that are not UTF-8 as \\xNN.")


class DeliveryView(BaseModel):
    """The delivery of one event to one URL."""

    id: str = Field(
        description="Also the `webhook-id` of the message.", examples=["whd_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d"]
    )
    task_id: str
    event: str = Field(examples=["task.succeeded"])
    url: str
    state: DeliveryState
    attempts: list[AttemptView] = Field(description="Oldest first; the last 50 are kept.")
    next_attempt_at: Time | None


class DeliveryPage(BaseModel):
    """A page of deliveries, newest first."""

    data: list[DeliveryView]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class SecretView(BaseModel):
    """The secret by which receivers verify webhooks."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


def delivery_view(log: DeliveryLog) -> dict[str, Any]:
    """Write a delivery as `DeliveryView`."""
    delivery = log.delivery
    return {
        "id": delivery.id,
        "task_id": delivery.task_id,
        "event": delivery.event,
        "url": delivery.url,
        "state": delivery.state.value,
        "attempts": [_attempt_view(attempt) for attempt in log.attempts],
        "next_attempt_at": isoformat(delivery.next_attempt_at) if delivery.next_attempt_at is not None else None,
    }


def _attempt_view(attempt: Attempt) -> dict[str, Any]:
    response = attempt.response
    return {
        "at": isoformat(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "latency_ms": attempt.latency_ms,
        "response": None if response is None else response.decode(errors="backslashreplace"),
    }
