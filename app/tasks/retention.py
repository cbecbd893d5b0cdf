"""Deletes old tasks and expired records, in small batches."""

from dataclasses import dataclass, field

import structlog

from app.clock import Clock
from app.db import idempotency_store, quota_store, task_store
from app.db.engine import Database
from app.domain.idempotency import LIFETIME_MS
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

_DAY_MS = 86_400_000
_SCAN_BATCH = 500
# Small, so that other writers don't wait noticeably: everything that belongs to a task is deleted with it.
_DELETE_BATCH = 50
_SWEEP_BATCH = 200
_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class Retention:
    """Deletes tasks that finished over `days` days ago.

    0 keeps all tasks. Expired idempotency keys and quota counts are deleted as well. A task that can still change or has
    a pending webhook or image is kept longer.
    """

    database: Database
    writer: Writer
    clock: Clock
    days: float
    _position: str = field(default="", init=False)
    """ID of the last task scanned; "" at the beginning."""

    async def remove_old(self) -> int:
        """Scan a batch of tasks and delete the old ones.

        Returns 0 at the end of the table. IDs are in order of creation, so this needs no index.
        """
        if not self.days:
            return 0
        before = self.clock.now() - round(self.days * _DAY_MS)
        scanned = await self.database.read(
            lambda connection: task_store.created_before(connection, before, after=self._position, limit=_SCAN_BATCH)
        )
        old = [row.id for row in scanned if row.is_over and row.completed_at <= before]
        removed = 0
        for start in range(0, len(old), _DELETE_BATCH):
            removed += await self._remove(old[start : start + _DELETE_BATCH], before)
        if removed:
            _log.info("old_tasks_deleted", tasks=removed)
        is_all = len(scanned) < _SCAN_BATCH
        self._position = "" if is_all else scanned[-1].id
        return 0 if is_all else len(scanned)

    async def remove_expired(self) -> int:
        """Delete expired idempotency keys and quota counts; returns how many."""
        now = self.clock.now()

        def work(unit: UnitOfWork) -> int:
            keys = idempotency_store.sweep(unit.connection, before=now - LIFETIME_MS, limit=_SWEEP_BATCH)
            return keys + quota_store.sweep(unit.connection, before=now, limit=_SWEEP_BATCH)

        return await self.writer.run(work)

    async def _remove(self, task_ids: list[str], before: int) -> int:
        def work(unit: UnitOfWork) -> int:
            removable = task_store.lock_removable(unit.connection, task_ids, before=before)
            unit.remove_tasks(removable)
            return len(removable)

        return await self.writer.run(work)
