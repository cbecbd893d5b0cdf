"""Deletes what is past its time, in small batches."""

import structlog

from app.clock import Clock
from app.db import idempotency_store, quota_store, task_store
from app.db.engine import Database
from app.domain.idempotency import LIFETIME_MS
from app.writing.removal import remove_tasks
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

_DAY = 86_400_000
_LOOKED_AT_ONCE = 500
# Few enough that no other writer waits noticeably: everything that belongs to them goes in the same transaction.
_REMOVED_AT_ONCE = 50
_SWEPT_AT_ONCE = 200
_log = structlog.get_logger(__name__)


class Retention:
    """Deletes tasks that ended more than `days` days ago (0 keeps all), and expired idempotency keys and quota counts.

    A task that may still change or has something to report stays longer: a guess that is still polled about, a webhook
    that is still to be delivered, an image that is still to be fetched.
    """

    def __init__(self, *, database: Database, writer: Writer, clock: Clock, days: float) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._age = round(days * _DAY)
        self._position = ""
        """The task looked at last; "" at the beginning."""

    async def remove_old(self) -> int:
        """Look through one batch of tasks and delete those past their time; returns 0 when all have been looked at.

        Tasks are looked at in the order of their ids, which is that of their creation, so no index is kept for this.
        """
        if not self._age:
            return 0
        before = self._clock.now() - self._age
        looked_at = await self._database.read(
            lambda connection: task_store.created_before(
                connection, before, after=self._position, limit=_LOOKED_AT_ONCE
            )
        )
        old = [row.id for row in looked_at if row.is_over and row.completed_at <= before]
        removed = 0
        for start in range(0, len(old), _REMOVED_AT_ONCE):
            removed += await self._remove(old[start : start + _REMOVED_AT_ONCE], before)
        if removed:
            _log.info("old_tasks_deleted", tasks=removed)
        is_all = len(looked_at) < _LOOKED_AT_ONCE
        self._position = "" if is_all else looked_at[-1].id
        return 0 if is_all else len(looked_at)

    async def remove_idempotency_keys(self) -> int:
        """Delete one batch of keys past their lifetime; returns how many."""
        before = self._clock.now() - LIFETIME_MS
        return await self._writer.run(
            lambda unit: idempotency_store.sweep(unit.connection, before=before, limit=_SWEPT_AT_ONCE)
        )

    async def remove_quota_counts(self) -> int:
        """Delete one batch of counts for quotas that are over; returns how many."""
        before = self._clock.now()
        return await self._writer.run(
            lambda unit: quota_store.sweep(unit.connection, before=before, limit=_SWEPT_AT_ONCE)
        )

    async def _remove(self, task_ids: list[str], before: int) -> int:
        def work(unit: UnitOfWork) -> int:
            ended = task_store.lock_removable(unit.connection, task_ids, before=before)
            if ended:
                remove_tasks(unit, ended)
            return len(ended)

        return await self._writer.run(work)
