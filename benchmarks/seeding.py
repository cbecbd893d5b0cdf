"""Seeds databases through the service's own statements."""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Select, func, make_url, select, text

from app.clock import SystemClock
from app.db import batch_store
from app.db.batch_store import Batch
from app.db.engine import Connection, Database
from app.db.migrate import migrate
from app.db.schema import tasks
from app.domain import transitions
from app.domain.event import event_of
from app.domain.image import Image, new_images
from app.domain.models import Model
from app.domain.policy import Policy
from app.domain.task import Status, Task, new_task
from app.domain.verdict import Succeeded

T = TypeVar("T")
_AT_ONCE = 5_000
_HOUR = 3_600_000
# Long enough that no seeded task is polled or given up during a measurement.
POLICY = Policy(
    queue_timeout=24 * _HOUR,
    task_timeout=_HOUR,
    poll_after=_HOUR,
    submit_tries=5,
    hold_retry=60_000,
    upstream_timeout=30_000,
)
INPUT = {
    "prompt": "a lake at sunset, seen from a wooden pier",
    "image_urls": [],
    "num_images": 1,
    "aspect_ratio": "16:9",
    "watermark": None,
}


class Store:
    """A migrated database, to be used outside measurements."""

    def __init__(self, url: str) -> None:
        self.url = url
        asyncio.run(self._with_database(migrate))

    def add_queued(self, count: int) -> list[Task]:
        """Add queued tasks."""
        return self._add([_queued() for _ in range(count)])

    def add_processing(self, count: int) -> list[Task]:
        """Add tasks that wait for their result."""
        return self._add([_processing() for _ in range(count)])

    def add_succeeded(self, count: int) -> list[Task]:
        """Add succeeded tasks with one image each."""
        return self._add([_succeeded() for _ in range(count)])

    def count(self, *statuses: Status) -> int:
        """Count tasks in these states, or all by default."""
        wanted = tasks.c.status.in_([status.value for status in statuses]) if statuses else text("1 = 1")
        return int(self._read(select(func.count()).select_from(tasks).where(wanted))[0])

    def first_claim_and_last_reply(self) -> tuple[int, int]:
        """Return the first claim and last submit times, in milliseconds."""
        first, last = self._read(select(func.min(tasks.c.claimed_at), func.max(tasks.c.submitted_at)))
        return int(first), int(last)

    def settle(self) -> None:
        """Run the database maintenance that the inserts would soon trigger."""
        asyncio.run(_settle(self.url))

    def _add(self, new: list[Task]) -> list[Task]:
        asyncio.run(self._with_database(lambda database: _insert(database, new)))
        return new

    def _read(self, statement: Select[Any]) -> tuple[Any, ...]:
        async def read(database: Database) -> tuple[Any, ...]:
            return await database.read(lambda connection: tuple(connection.execute(statement).one()))

        return asyncio.run(self._with_database(read))

    async def _with_database(self, work: Callable[[Database], Awaitable[T]]) -> T:
        database = Database(self.url)
        try:
            return await work(database)
        finally:
            await database.aclose()


def _queued() -> Task:
    now = SystemClock().now()
    return new_task(
        project="default",
        model=Model.NANO_BANANA,
        task_input=INPUT,
        metadata={"order": "42"},
        now=now,
        queue_timeout=POLICY.queue_timeout,
    )


def _processing() -> Task:
    queued = _queued()
    claimed = transitions.claim(queued, "benchmark", queued.created_at, POLICY)
    accepted = transitions.accept(claimed.task, secrets.token_hex(16), queued.created_at, POLICY) if claimed else None
    if accepted is None:
        raise RuntimeError("a new task can't be claimed and accepted")
    return accepted.task


def _succeeded() -> Task:
    task = _processing()
    verdict = Succeeded(task.upstream_task_id or "", (f"https://tempfile.example/{secrets.token_hex(16)}.png",))
    concluded = transitions.conclude(task, verdict, task.updated_at)
    if concluded is None:
        raise RuntimeError("a processing task can't be concluded")
    return concluded.task


async def _insert(database: Database, new: list[Task]) -> None:
    for start in range(0, len(new), _AT_ONCE):
        part = new[start : start + _AT_ONCE]
        succeeded = [task for task in part if task.status is Status.SUCCEEDED]
        images = [
            image
            for task in succeeded
            for image in new_images(
                task.id, (f"https://tempfile.example/{task.upstream_task_id}.png",), is_kept=False, now=task.updated_at
            )
        ]
        await database.write(partial(_write, part=part, images=images))


def _write(connection: Connection, part: Sequence[Task], images: Sequence[Image]) -> None:
    batch_store.write(connection, Batch(created=part))
    # An insert writes only the columns of a new task.
    moved = [task for task in part if task.status is not Status.QUEUED]
    events = [event_of(task) for task in part]
    batch_store.write(connection, Batch(changed=moved, images=images, events=events))


async def _settle(url: str) -> None:
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url)
        try:
            # These can't run inside a transaction.
            await connection.execute("VACUUM (ANALYZE)")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()
    else:
        with closing(sqlite3.connect(make_url(url).database or "")) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
