"""Group reads: all who ask for a task while a read is under way share the next."""

import asyncio
from collections.abc import Sequence
from functools import partial

from app.db import tasks as task_rows
from app.db.engine import Connection, Database
from app.domain.image import Image
from app.domain.task import Status, Task
from app.errors import ServiceUnavailable

_MAX_GROUP = 256
Found = tuple[Task, list[Image]]


class Lookup:
    """Reads tasks by id, each as it was at some moment after it was asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, asyncio.Future[Found | None]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def get(self, task_id: str) -> Found | None:
        """Read a task and its images; None if there is none. Raises `ServiceUnavailable`."""
        found = self._waiting.get(task_id)
        if found is None:
            found = self._waiting[task_id] = asyncio.get_running_loop().create_future()
            if self._worker is None:
                self._worker = asyncio.create_task(self._work(), name="lookup")
        # Shielded: whoever goes away must not take the answer from others who asked for the same task.
        return await asyncio.shield(found)

    async def _work(self) -> None:
        while self._waiting:
            ids = list(self._waiting)[:_MAX_GROUP]
            await self._answer({task_id: self._waiting.pop(task_id) for task_id in ids})
        self._worker = None

    async def _answer(self, group: dict[str, "asyncio.Future[Found | None]"]) -> None:
        """Read a group; if that fails for one task's sake, read its tasks one by one."""
        try:
            found = await self._database.read(partial(_read, task_ids=list(group)))
        except Exception as error:  # noqa: BLE001 -- passed on to those who asked
            if len(group) > 1 and not isinstance(error, ServiceUnavailable):
                for task_id, future in group.items():
                    await self._answer({task_id: future})
                return
            for future in group.values():
                future.set_exception(error)
                future.exception()  # fetched, lest asyncio complain where everybody has gone away
        else:
            for task_id, future in group.items():
                future.set_result(found.get(task_id))


def _read(connection: Connection, task_ids: Sequence[str]) -> dict[str, Found]:
    tasks = task_rows.get_all(connection, task_ids)
    images = task_rows.images_of(connection, [t.id for t in tasks.values() if t.status is Status.SUCCEEDED])
    return {task.id: (task, images.get(task.id, [])) for task in tasks.values()}
