"""Tasks and their states.

`transitions.py` has the transitions; docs/explanation/architecture.md shows them as a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from app.domain.ids import MAX_TIME, TimeOrderedIds
from app.domain.image import Image
from app.domain.models import Model, TaskType, type_of
from app.domain.verdict import GUESSES, TaskError
from app.domain.words import Word


class Status(Word):
    """The states of a task."""

    # Each comment says what ends the state.
    QUEUED = "queued"  # the dispatcher claims it; its owner may cancel it; the queue timeout ends it
    SUBMITTING = "submitting"  # the submit's outcome ends it; a callback or the task timeout may come first
    PROCESSING = "processing"  # a callback, a poll or the task timeout ends it
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # final, unless it is our own guess (see `Task.is_final`)
    CANCELED = "canceled"


_ids = TimeOrderedIds()
TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task. Times are milliseconds since the epoch, UTC.

    `error` is why the task failed or, until it ends, why its latest attempt failed or its result can't be read.
    `failures` counts the attempts that count toward SUBMIT_RETRIES, `attempts` counts all. `claimed_by` names the
    process that last claimed the task. A queued task is not submitted before `not_before`. `ask_at` is the time of the
    next poll, `asked_at` the time of the last one, and `asks` the number of polls. Without a result, the task fails at
    `deadline_at`.
    """

    id: str
    project: str
    subject: str | None = None
    model: Model
    type: TaskType
    input: dict[str, Any]
    metadata: dict[str, str]
    webhook_url: str | None = None
    retry_of: str | None = None
    status: Status = Status.QUEUED
    upstream_task_id: str | None = None
    attempts: int = 0
    failures: int = 0
    error: TaskError | None = None
    created_at: int
    claimed_at: int | None = None
    claimed_by: str | None = None
    submitted_at: int | None = None
    completed_at: int | None = None
    updated_at: int
    not_before: int
    ask_at: int | None = None
    asked_at: int | None = None
    asks: int = 0
    deadline_at: int | None
    callbacks: int = 0
    version: int = 0

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended, possibly by a guess."""
        return self.status in TERMINAL

    @property
    def is_guess(self) -> bool:
        """Whether the task failed only because the upstream was silent."""
        return self.status is Status.FAILED and self.error is not None and self.error.code in GUESSES

    @property
    def is_final(self) -> bool:
        """Whether no upstream report can change the task anymore."""
        return self.is_terminal and not self.is_guess


class WaitReason(StrEnum):
    """Why an unfinished task makes no progress."""

    RATE_LIMIT = "rate_limit"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    UPSTREAM_UNAUTHORIZED = "upstream_unauthorized"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    HELD = "held"
    OUTCOME_UNKNOWN = "outcome_unknown"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task waits, and until when (ms), if known."""

    reason: WaitReason
    until: int | None = None


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task with its images, queue position and wait.

    The position counts from 1; it is None unless the task is queued.
    """

    task: Task
    images: Sequence[Image]
    queue_position: int | None
    wait: Wait | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks a list includes.

    Times are in milliseconds; `created_before` is exclusive.
    """

    status: Status | None = None
    model: Model | None = None
    type: TaskType | None = None
    created_after: int | None = None
    created_before: int | None = None


def id_at(milliseconds: int) -> str:
    """Return the lowest possible id for a creation time."""
    return f"task_{max(milliseconds, 0) & MAX_TIME:012x}{'0' * 20}"


def new_task(
    *,
    project: str,
    model: Model,
    task_input: dict[str, Any],
    metadata: dict[str, str],
    now: int,
    queue_timeout: int,
    subject: str | None = None,
    webhook_url: str | None = None,
    retry_of: str | None = None,
) -> Task:
    """Create a queued task with a new, time-ordered id."""
    return Task(
        id=f"task_{_ids.next(now)}",
        project=project,
        subject=subject,
        model=model,
        type=type_of(task_input["image_urls"]),
        input=task_input,
        metadata=metadata,
        webhook_url=webhook_url,
        retry_of=retry_of,
        created_at=now,
        updated_at=now,
        not_before=now,
        deadline_at=now + queue_timeout,
    )
