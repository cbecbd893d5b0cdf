"""The writer: the one way by which this process changes tasks and all that belongs to them.

A service calls `create`, `move` or `run` like any other await; when it returns, the change is durable.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from app.clock import Clock
from app.db import cluster_state
from app.db.engine import Connection, Database
from app.domain.event import TaskEvent
from app.domain.idempotency import IdempotencyKey, Reservation
from app.domain.quota import Quota
from app.domain.task import Task
from app.errors import ServiceUnavailable
from app.writing.group_commit import GroupCommit
from app.writing.task_batch import Change, Creation, Run, TaskBatch, Work
from app.writing.unit_of_work import Decider, UnitOfWork

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Writer:
    """Writes changes in group commits. `on_commit` receives the events of each committed transaction.

    With `keeps_images`, copies of the images of tasks that succeed are made later.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: Callable[[Sequence[TaskEvent]], None],
        *,
        keeps_images: bool = False,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._keeps_images = keeps_images
        self._commits: GroupCommit[Work] = GroupCommit(self._commit)
        self._reserving: set[IdempotencyKey] = set()

    def start(self) -> None:
        """Start committing."""
        self._commits.start()

    async def aclose(self) -> None:
        """Commit what waits, then stop."""
        await self._commits.aclose()

    @property
    def is_stuck(self) -> bool:
        """Whether nothing can be written any more."""
        return self._commits.is_stuck

    async def is_able(self) -> bool:
        """Whether changes can be committed. After a failed commit it tries: a full disk can still be read."""
        if not self._commits.has_failed:
            return True
        try:
            await self.run(_write_something)
        except ServiceUnavailable:
            return False
        self._commits.has_failed = False
        return True

    def is_reserving(self, key: IdempotencyKey) -> bool:
        """Whether a request with this key is being committed in this process."""
        return key in self._reserving

    async def create(self, task: Task, reservation: Reservation | None = None, quotas: Sequence[Quota] = ()) -> str:
        """Insert a new task with its event; with a reservation, only if its key is free.

        Returns the id of the task that serves the request. Raises `IdempotencyKeyReused` if the key belongs to a
        request with different content, and the refusal of a quota that the task would exceed.
        """
        created = self._commits.submit(Creation(task, reservation, quotas))
        if reservation is not None:
            self._reserving.add(reservation.key)
            # The key is reserved until the commit, whether or not the caller still waits.
            created.add_done_callback(lambda _: self._reserving.discard(reservation.key))
        return str(await asyncio.shield(created))

    async def move(self, task_id: str, decide: Decider[T]) -> T:
        """Lock a task, let `decide` choose its transition, and commit that."""
        result: T = await self._commits.submit(Change(task_id, decide))
        return result

    async def run(self, work: Callable[[UnitOfWork], T], *, locking: str | None = None, blob: str = "") -> T:
        """Do `work` in the next transaction. A `GatewayError` must be raised before anything is written.

        With a task's id as `locking` its row is locked before, together with those of all other changes, so that none
        deadlock. For the same reason work that locks a `blob` gives its hash: such works run in the order of hashes.
        """
        result: T = await self._commits.submit(Run(work, locking, blob))
        return result

    async def _commit(self, works: list[Work]) -> list[Any]:
        outcomes, unit = await self._database.write(partial(self._apply, works))
        self._notify(unit)
        return outcomes

    def _apply(self, works: list[Work], connection: Connection) -> tuple[list[Any], UnitOfWork]:
        unit = UnitOfWork(connection, self._clock.now(), self._keeps_images)
        return TaskBatch(unit, works).apply(), unit

    def _notify(self, unit: UnitOfWork) -> None:
        try:
            for act in unit.after:
                act()
            if unit.events:
                self._on_commit(unit.events)
        except Exception:  # noqa: BLE001 -- logged; a listener's fault must not stop all writing
            _log.exception("commit_listener_failed")


def _write_something(unit: UnitOfWork) -> None:
    cluster_state.put(unit.connection, "written_at", str(unit.now))
