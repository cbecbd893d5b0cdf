"""Events that notify clients of changes to tasks."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from app.domain.image import Image
from app.domain.task import TERMINAL, Status, Task, TaskState
from app.domain.verdict import ErrorCode, TaskError

IMAGES_SETTLED = "task.images_settled"
"""The event type sent after a success, once no image is pending."""
_IMAGES_FOLLOW = "images_follow"
_COPIED = ("attempts", "upstream_task_id", "submitted_at", "completed_at", "updated_at")
_ENDS = frozenset(f"task.{status.value}" for status in TERMINAL)


class TaskEvent(msgspec.Struct, frozen=True):
    """An event to append; `snapshot` holds the task's mutable fields.

    `webhook_url` and `subject` are the task's. `webhook_url` is for planning the delivery and is not stored with the
    event. `subject` lets an index find a subject's events.
    """

    task_id: str
    project: str
    type: str
    snapshot: dict[str, Any]
    created_at: int
    webhook_url: str | None = None
    subject: str | None = None

    @property
    def is_for_webhook(self) -> bool:
        """Whether to notify a webhook; only final states are sent."""
        return self.webhook_url is not None and self.type in _ENDS


class StoredEvent(TaskEvent, frozen=True, kw_only=True):
    """A stored event; ids grow in order of visibility."""

    id: int


def event_of(task: Task, *, images_follow: bool = False) -> TaskEvent:
    """Create a transition's event; set `images_follow` if images are pending."""
    return _event(f"task.{task.status.value}", task, images_follow=images_follow)


def images_settled(task: Task, now: int) -> TaskEvent:
    """Create the event that all images are settled."""
    return replace(_event(IMAGES_SETTLED, task), created_at=now)


def _event(event_type: str, task: Task, *, images_follow: bool = False) -> TaskEvent:
    error = task.error
    snapshot: dict[str, Any] = {name: getattr(task, name) for name in _COPIED}
    snapshot["status"] = task.status.value
    snapshot["error"] = [error.code.value, error.message, error.upstream_code] if error else None
    if images_follow:
        snapshot[_IMAGES_FOLLOW] = True
    return TaskEvent(task.id, task.project, event_type, snapshot, task.updated_at, task.webhook_url, task.subject)


def task_at(task: Task, snapshot: dict[str, Any]) -> Task:
    """Return a task as it was at an event."""
    error = snapshot["error"]
    return replace(
        task,
        status=Status(snapshot["status"]),
        error=TaskError(ErrorCode(error[0]), error[1], error[2]) if error else None,
        **{name: snapshot[name] for name in _COPIED},
    )


def state_at(task: Task, images: Sequence[Image], snapshot: dict[str, Any]) -> TaskState:
    """Return a past state, with current images after a success."""
    then = task_at(task, snapshot)
    return TaskState(then, images if then.status is Status.SUCCEEDED else [], None)


def concludes(event: TaskEvent) -> bool:
    """Whether streams and waiting requests end at this event.

    A guess also concludes, although a result may replace it up to a day later. A success concludes unless its snapshot
    has `images_follow`, which older versions never set.
    """
    if event.type == IMAGES_SETTLED:
        return True
    return event.type in _ENDS and not event.snapshot.get(_IMAGES_FOLLOW, False)


def is_concluded(task: Task, images: Sequence[Image]) -> bool:
    """Whether streams and waiting requests for this task can end."""
    return task.is_terminal and not any(image.is_pending for image in images)
