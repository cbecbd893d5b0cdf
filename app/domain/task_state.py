"""A task with what clients see beside its row, and how they see it."""

from dataclasses import dataclass
from typing import Any

from app.clock import isoformat
from app.domain.image import Image, ImageState
from app.domain.task import Status, Task

IMAGE_PATH = "/v1/images"


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task with what clients see beside its row; `queue_position` is 1 for the next, None unless it is queued."""

    task: Task
    images: list[Image]
    queue_position: int | None


def task_view(state: TaskState, base_url: str) -> dict[str, Any]:
    """Write a task as clients see it, wherever they see it: in answers, streams and webhooks.

    `base_url` is the origin under which this service's own addresses are found.
    """
    task = state.task
    error = task.error if task.status is Status.FAILED else None
    return {
        "id": task.id,
        "status": task.status.value,
        "model": task.model.value,
        "type": task.type.value,
        "input": task.input,
        "images": [_image_view(image, base_url) for image in state.images],
        "error": {"code": error.code.value, "message": error.message, "upstream_code": error.upstream_code}
        if error
        else None,
        "upstream_task_id": task.upstream_task_id,
        "queue_position": state.queue_position,
        "attempts": task.attempts,
        "retry_of": task.retry_of,
        "subject": task.subject,
        "metadata": task.metadata,
        "webhook_url": task.webhook_url,
        "created_at": isoformat(task.created_at),
        "submitted_at": _time(task.submitted_at),
        "completed_at": _time(task.completed_at),
        "updated_at": isoformat(task.updated_at),
    }


def image_url(image: Image, base_url: str) -> str:
    """Tell where an image is found: here as long as there is, or may come to be, a copy; else at its source."""
    return image.source_url if image.state is ImageState.UNAVAILABLE else f"{base_url}{IMAGE_PATH}/{image.id}"


def _image_view(image: Image, base_url: str) -> dict[str, Any]:
    return {
        "id": image.id,
        "url": image_url(image, base_url),
        "source_url": image.source_url,
        "state": image.state.value,
        "reason": image.reason,
        "content_type": image.content_type,
        "bytes": image.bytes,
        "width": image.width,
        "height": image.height,
    }


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else isoformat(milliseconds)
