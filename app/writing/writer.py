"""The writer: all changes to tasks go through it."""

import asyncio
from collections.abc import Callable, Sequence
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
from app.writing.task_batch import Change, Creation, Item, Run, TaskBatch
from app.writing.unit_of_work import Decider, UnitOfWork

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Writer(GroupCommit[Item]):
    """Writes changes in group commits.

    A change is durable once `create`, `move` or `run` returns. `on_commit` receives the events of each committed
    transaction. With `keeps_images`, images of succeeded tasks are queued for copying.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: Callable[[Sequence[TaskEvent]], None],
        *,
        keeps_images: bool = False,
    ) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._keeps_images = keeps_images
        self._reserving: set[IdempotencyKey] = set()
        self._check: asyncio.Future[bool] | None = None

    async def can_write(self, *, within_seconds: float) -> bool:
        """Whether changes can be committed now.

        Takes the lock that events need, as another replica may hold it. After a failed commit, it also writes, because
        a full disk can still be read.
        """
        has_failed = self.has_failed

        def probe(unit: UnitOfWork) -> bool:
            unit.locks_events = True
            if has_failed:
                cluster_state.put(unit.connection, "written_at", str(unit.now))
            return has_failed

        try:
            # Shared, so that many checks of a blocked database don't fill the queue.
            check = self._check = self.enqueue(Run(probe)) if self._check is None or self._check.done() else self._check
        except ServiceUnavailable:
            return False
        done, _ = await asyncio.wait([check], timeout=within_seconds)
        if not done or check.exception() is not None:
            return False
        if check.result():
            self.has_failed = False
        return not self.has_failed

    def is_reserving(self, key: IdempotencyKey) -> bool:
        """Whether this process is committing a request with this key."""
        return key in self._reserving

    async def create(self, task: Task, reservation: Reservation | None = None, quotas: Sequence[Quota] = ()) -> str:
        """Insert a task and its event; returns the task's id.

        If another task holds the idempotency key, nothing is inserted and that task's id is returned. Raises
        `IdempotencyKeyReused` if that task's request had different content, and the error of a quota that is used up.
        """
        created = self.enqueue(Creation(task, reservation, quotas))
        if reservation is None:
            return str(await created)
        self._reserving.add(reservation.key)
        # The key is reserved until the commit, even if the caller has left.
        created.add_done_callback(lambda _: self._reserving.discard(reservation.key))
        return str(await asyncio.shield(created))

    async def move(self, task_id: str, decide: Decider[T]) -> T:
        """Lock a task, let `decide` choose its transition, and commit."""
        result: T = await self.enqueue(Change(task_id, decide))
        return result

    async def run(self, work: Callable[[UnitOfWork], T], *, locking: str | None = None, blob: str = "") -> T:
        """Run `work` in the next transaction.

        `work` may raise a `GatewayError` only before it writes. Two parameters prevent deadlocks: the task `locking` is
        locked first, together with all other tasks of the batch. `blob` is the hash of the blob that `work` locks, as
        blobs are locked in the order of their hashes.
        """
        result: T = await self.enqueue(Run(work, locking, blob))
        return result

    async def run_in_background(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run short `work` in its own transaction once nothing waits."""
        result: T = await self.enqueue(Run(work), in_background=True)
        return result

    async def commit(self, items: list[Item]) -> list[Any]:
        """Apply a batch in one transaction, then call listeners."""

        def apply(connection: Connection) -> tuple[list[Any], UnitOfWork]:
            unit = UnitOfWork(connection, self._clock.now(), self._keeps_images)
            return TaskBatch(unit, items).apply(), unit

        outcomes, unit = await self._database.write(apply)
        try:
            for act in unit.after:
                act()
            if unit.events:
                self._on_commit(unit.events)
        except Exception:  # noqa: BLE001 -- logged: a faulty listener must not stop all writing
            _log.exception("commit_listener_failed")
        return outcomes
