"""Sample tasks in all states, with small numbers as times."""

from typing import Any

from msgspec.structs import replace

from app.domain.models import Model, TaskType
from app.domain.policy import Policy
from app.domain.task import Status, Task
from app.domain.verdict import ErrorCode, TaskError

POLICY = Policy(
    queue_timeout=86_400_000,
    task_timeout=900_000,
    poll_after=60_000,
    submit_tries=5,
    hold_retry=60_000,
    upstream_timeout=30_000,
)
NOW = 1_000_000


def make_task(**changes: Any) -> Task:
    """Make a task that was just queued."""
    task = Task(
        id="task_" + "0" * 32,
        project="default",
        model=Model.NANO_BANANA,
        type=TaskType.TEXT_TO_IMAGE,
        input={"prompt": "a lake", "image_urls": []},
        metadata={},
        created_at=NOW,
        updated_at=NOW,
        not_before=NOW,
        deadline_at=NOW + POLICY.queue_timeout,
    )
    return replace(task, **changes)


def _failed(code: ErrorCode, **changes: Any) -> Task:
    return make_task(
        status=Status.FAILED,
        attempts=1,
        error=TaskError(code, "why"),
        claimed_at=NOW,
        completed_at=NOW,
        deadline_at=None,
        **changes,
    )


_IN_HAND = {"status": Status.SUBMITTING, "attempts": 1, "claimed_at": NOW, "deadline_at": NOW + POLICY.task_timeout}

STATES: dict[str, Task] = {
    "new": make_task(),
    "requeued": make_task(attempts=1, failures=1),
    "submitting": make_task(**_IN_HAND, claimed_by="p"),
    "submitting, id known": make_task(**_IN_HAND, claimed_by="p", upstream_task_id="up", ask_at=NOW),
    "processing": make_task(
        **{**_IN_HAND, "status": Status.PROCESSING}, submitted_at=NOW, upstream_task_id="up", ask_at=NOW + 60_000
    ),
    "submission unknown": _failed(ErrorCode.SUBMISSION_UNKNOWN),
    "timed out": _failed(ErrorCode.TIMEOUT, upstream_task_id="up", submitted_at=NOW, ask_at=NOW + 60_000),
    "succeeded": make_task(
        status=Status.SUCCEEDED, attempts=1, upstream_task_id="up", completed_at=NOW, deadline_at=None
    ),
    "refused": _failed(ErrorCode.INVALID_REQUEST),
    "canceled": make_task(status=Status.CANCELED, completed_at=NOW, deadline_at=None),
}
"""All task states that the rules distinguish."""
