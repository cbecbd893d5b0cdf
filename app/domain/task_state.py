"""A task with what is not in its row."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.image import Image
from app.domain.task import Task


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task with its images and its position in the queue (from 1), None unless queued."""

    task: Task
    images: Sequence[Image]
    queue_position: int | None
