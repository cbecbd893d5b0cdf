"""A task with what clients see beside its row, and how they see it."""

from dataclasses import dataclass
from typing import Any

from app.clock import isoformat
from app.domain.image import Image
from app.domain.task import Status, Task


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task with what clients see beside its row; `queue_position` is 1 for the next, None unless it is queued."""

    task: Task
    images: list[Image]
    queue_position: int | None


def task_view(state: TaskState) -> dict[str, Any]:
    """Write a task as clients see it, wherever they see it: in answers, streams and webhooks."""
    task = state.task
    error = task.error if task.status is Status.FAILED else None
    return {
        "id": task.id,
        "status": task.status.value,
        "model": task.model.value,
        "type": task.type.value,
        "input": task.input,
        "images": [_image_view(image) for image in state.images],
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


def _image_view(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        # No copies are kept yet, so the source's address is the only one there is.
        "url": image.source_url,
        "source_url": image.source_url,
        "state": image.state.value,
        "content_type": image.content_type,
        "bytes": image.bytes,
        "width": image.width,
        "height": image.height,
    }


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else isoformat(milliseconds)
