"""Events as clients see them in streams and webhooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import Field

from app.clock import isoformat
from app.domain.delivery import Delivery
from app.domain.event import StoredEvent, concludes, state_at
from app.domain.image import Image
from app.domain.task import Task, TaskState
from app.shapes import task as shapes
from app.shapes.base import Time, encode


@dataclass(slots=True)
class WebhookMessage:
    """The body of a webhook."""

    type: Annotated[str, Field(examples=["task.succeeded", "task.failed", "task.canceled"])]
    timestamp: Annotated[Time, Field(description="When the event happened.")]
    data: Annotated[shapes.Task, Field(description="The task as it was at the event, with its images as they are now.")]


@dataclass(frozen=True)
class BroadcastEvent:
    """An event with the task's state then, shared by subscribers."""

    id: int
    type: str
    state: TaskState
    is_conclusion: bool
    """Whether this is the task's last event."""
    base_url: str

    @cached_property
    def frame(self) -> bytes:
        """The event in `text/event-stream` format (HTML standard, 9.2)."""
        # The encoder escapes line breaks, so the data is always one line.
        data = encode(shapes.task_shape(self.state, self.base_url))
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.id, self.type.encode(), data)


def broadcast_event(event: StoredEvent, task: Task, images: Sequence[Image], base_url: str) -> BroadcastEvent:
    """Return an event with the task's state at that time."""
    return BroadcastEvent(event.id, event.type, state_at(task, images, event.snapshot), concludes(event), base_url)


def webhook_message(delivery: Delivery, task: Task, images: Sequence[Image], base_url: str) -> WebhookMessage:
    """Return the webhook message of a delivery."""
    data = shapes.task_shape(state_at(task, images, delivery.snapshot), base_url)
    return WebhookMessage(delivery.event, isoformat(delivery.created_at), data)
