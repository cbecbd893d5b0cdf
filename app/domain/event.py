"""Events: what the world is told of a task's movements."""

from typing import Any

import msgspec
from msgspec.structs import replace

from app.domain.task import TERMINAL, Status, Task
from app.domain.verdict import ErrorCode, TaskError

_ENDS = frozenset(f"task.{status.value}" for status in TERMINAL)


class TaskEvent(msgspec.Struct, frozen=True):
    """One event, as appended. `snapshot` holds what of the task varies, as it was right after the movement.

    `webhook_url` is the task's, for whoever plans the event's delivery; it is not kept with the event.
    """

    task_id: str
    project: str
    type: str
    snapshot: dict[str, Any]
    created_at: int
    webhook_url: str | None = None

    @property
    def is_for_webhook(self) -> bool:
        """Whether a webhook is told of it: the task has one, and has ended."""
        return self.webhook_url is not None and self.type in _ENDS


class StoredEvent(TaskEvent, frozen=True, kw_only=True):
    """One event as it stands in the table; ids grow in the order in which events became visible."""

    id: int


def event_of(task: Task) -> TaskEvent:
    """Tell the state that a task has just entered."""
    error = task.error
    snapshot = {
        "status": task.status.value,
        "attempts": task.attempts,
        "upstream_task_id": task.upstream_task_id,
        "error": [error.code.value, error.message, error.upstream_code] if error else None,
        "submitted_at": task.submitted_at,
        "completed_at": task.completed_at,
        "updated_at": task.updated_at,
    }
    event_type = f"task.{task.status.value}"
    return TaskEvent(task.id, task.project, event_type, snapshot, task.updated_at, task.webhook_url)


def task_at(task: Task, snapshot: dict[str, Any]) -> Task:
    """Tell how a task was when an event with this snapshot was made."""
    error = snapshot["error"]
    return replace(
        task,
        status=Status(snapshot["status"]),
        attempts=snapshot["attempts"],
        upstream_task_id=snapshot["upstream_task_id"],
        error=TaskError(ErrorCode(error[0]), error[1], error[2]) if error else None,
        submitted_at=snapshot["submitted_at"],
        completed_at=snapshot["completed_at"],
        updated_at=snapshot["updated_at"],
    )


def concludes(task: Task) -> bool:
    """Whether a task, as it was when an event was made, has nothing more to tell those who follow it.

    A guess concludes as well, although a verdict may still replace it: nobody would hold a connection for a day.
    """
    # The one place to say so when something may follow the end, such as that the images' copies are settled.
    return task.is_terminal
