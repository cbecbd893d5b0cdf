"""Deletes old tasks, old events and expired records."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from app.clock import Clock
from app.db import event_store, idempotency_store, quota_store, task_store
from app.db.engine import Database
from app.domain.idempotency import LIFETIME_MS
from app.writing.small_steps import SmallSteps
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

_DAY_MS = 86_400_000
_SCAN_BATCH = 500
_SWEEP_BATCH = 200
_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class Retention:
    """Deletes old data in small transactions, after all other changes.

    Tasks are deleted `days` days after they finished, their events after `event_days`; 0 keeps them forever. A task
    with a pending webhook or image is kept longer. Expired idempotency keys and quota counts are deleted as well.
    """

    database: Database
    writer: Writer
    clock: Clock
    days: float
    event_days: float = 0
    _position: str = field(default="", init=False)
    """ID of the last task scanned; "" before the first."""
    _event_position: int = field(default=0, init=False)
    """ID of the last event scanned. The next round starts at the first event that was kept."""
    _first_kept: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._task_steps = SmallSteps(self.writer)
        self._event_steps = SmallSteps(self.writer)

    async def remove_old(self) -> int:
        """Scan a batch of tasks and delete the old ones.

        Returns 0 at the end of the table. IDs are in order of creation, so this needs no index.
        """
        if not self.days:
            return 0
        before = self._before(self.days)
        scanned = await self.database.read(
            lambda connection: task_store.created_before(connection, before, after=self._position, limit=_SCAN_BATCH)
        )
        old = [row.id for row in scanned if row.is_over and row.completed_at <= before]

        def remove(unit: UnitOfWork, task_ids: Sequence[str]) -> int:
            removable = task_store.lock_removable(unit.connection, task_ids, before=before)
            unit.remove_tasks(removable)
            return len(removable)

        reached, removed = await self._task_steps.run(old, remove)
        if removed:
            _log.info("old_tasks_deleted", tasks=removed)
        if reached < len(old):
            self._position = old[reached - 1]
            return reached
        is_all = len(scanned) < _SCAN_BATCH
        self._position = "" if is_all else scanned[-1].id
        return 0 if is_all else len(scanned)

    async def remove_old_events(self) -> int:
        """Scan a batch of events and delete the old ones.

        Returns 0 after the last old one. Events are scanned in the order in which they happened.
        """
        if not self.event_days:
            return 0
        before, last = self._before(self.event_days), self._event_position
        scanned = await self.database.read(
            lambda connection: event_store.oldest_after(connection, last, ended_before=before, limit=_SCAN_BATCH)
        )
        old = [row.id for row in scanned if row.is_old]
        reached, removed = await self._event_steps.run(old, lambda unit, ids: event_store.remove(unit.connection, ids))
        if removed:
            _log.info("old_events_deleted", events=removed)
        if reached < len(old):
            scanned = [row for row in scanned if row.id <= old[reached - 1]]
        if self._first_kept is None:
            self._first_kept = next((row.id for row in scanned if not row.is_old), None)
        if scanned:
            self._event_position = scanned[-1].id
        if reached < len(old) or (len(scanned) == _SCAN_BATCH and scanned[-1].created_at <= before):
            return len(scanned)
        if self._first_kept is not None:
            self._event_position, self._first_kept = self._first_kept - 1, None
        return 0

    async def remove_expired(self) -> int:
        """Delete expired idempotency keys and quota counts; returns how many."""
        now = self.clock.now()

        def work(unit: UnitOfWork) -> int:
            keys = idempotency_store.sweep(unit.connection, before=now - LIFETIME_MS, limit=_SWEEP_BATCH)
            return keys + quota_store.sweep(unit.connection, before=now, limit=_SWEEP_BATCH)

        return await self.writer.run_in_background(work)

    def _before(self, days: float) -> int:
        return self.clock.now() - round(days * _DAY_MS)
