"""Reads single tasks for many callers, a batch at a time."""

from collections.abc import Sequence

from app.db import task_store
from app.db.engine import Connection, Database
from app.domain.image import Image
from app.domain.task import Status, Task
from app.writing.batch_loader import BatchLoader

TaskWithImages = tuple[Task, list[Image]]


class TaskLoader:
    """Loads tasks by id, each as it is at some moment after the call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loader = BatchLoader("task-loader", self._read)

    async def load(self, task_id: str) -> TaskWithImages | None:
        """Return a task and its images; None if it doesn't exist. Raises `ServiceUnavailable`."""
        return await self._loader.load(task_id)

    async def _read(self, task_ids: Sequence[str]) -> dict[str, TaskWithImages]:
        return await self._database.read(lambda connection: _read(connection, task_ids))


def _read(connection: Connection, task_ids: Sequence[str]) -> dict[str, TaskWithImages]:
    tasks = task_store.get_all(connection, task_ids)
    images = task_store.images_of(connection, [t.id for t in tasks.values() if t.status is Status.SUCCEEDED])
    return {task.id: (task, images.get(task.id, [])) for task in tasks.values()}
