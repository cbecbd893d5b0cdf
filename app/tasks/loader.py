"""Loads single tasks for many callers in batches."""

from collections.abc import Iterable, Sequence

from app.db import task_store
from app.db.engine import Connection, Database
from app.domain.image import Image
from app.domain.task import Status, Task
from app.writing.batch_loader import BatchLoader

TaskWithImages = tuple[Task, list[Image]]


class TaskLoader(BatchLoader[str, TaskWithImages]):
    """Loads tasks and images by ID, read after the request."""

    def __init__(self, database: Database) -> None:
        super().__init__("task-loader", self._read_all)
        self._database = database

    async def _read_all(self, task_ids: Sequence[str]) -> dict[str, TaskWithImages]:
        def work(connection: Connection) -> dict[str, TaskWithImages]:
            tasks = task_store.get_all(connection, task_ids)
            images = images_of(connection, tasks.values())
            return {task.id: (task, images.get(task.id, [])) for task in tasks.values()}

        return await self._database.read(work)


def images_of(connection: Connection, tasks: Iterable[Task]) -> dict[str, list[Image]]:
    """Read the images of succeeded tasks, by task ID."""
    return task_store.images_of(connection, [task.id for task in tasks if task.status is Status.SUCCEEDED])
