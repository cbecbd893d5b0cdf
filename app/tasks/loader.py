"""Reads single tasks for many callers, in batches."""

from collections.abc import Iterable, Sequence

from app.db import task_store
from app.db.engine import Connection, Database
from app.domain.image import Image
from app.domain.task import Status, Task
from app.writing.batch_loader import BatchLoader

TaskWithImages = tuple[Task, list[Image]]


class TaskLoader:
    """Loads tasks by id. Each is read after it was requested."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loader = BatchLoader("task-loader", self._read)

    async def load(self, task_id: str) -> TaskWithImages | None:
        """Return a task and its images; None if it doesn't exist. Raises `ServiceUnavailable`."""
        return await self._loader.load(task_id)

    async def _read(self, task_ids: Sequence[str]) -> dict[str, TaskWithImages]:
        def work(connection: Connection) -> dict[str, TaskWithImages]:
            tasks = task_store.get_all(connection, task_ids)
            images = images_of(connection, tasks.values())
            return {task.id: (task, images.get(task.id, [])) for task in tasks.values()}

        return await self._database.read(work)


def images_of(connection: Connection, tasks: Iterable[Task]) -> dict[str, list[Image]]:
    """Read the images of the tasks that succeeded; others have none."""
    return task_store.images_of(connection, [task.id for task in tasks if task.status is Status.SUCCEEDED])
