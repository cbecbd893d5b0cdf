"""Taking away what has served its time, in small batches."""

from app.clock import Clock
from app.db import idempotency_store, quota_store
from app.domain.idempotency import LIFETIME
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

_AT_ONCE = 200


class Sweep:
    """Deletes what nobody needs any more."""

    def __init__(self, *, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    async def idempotency_keys(self) -> int:
        """Delete one batch of keys past their lifetime; returns how many."""
        before = self._clock.now() - LIFETIME

        def work(unit: UnitOfWork) -> int:
            return idempotency_store.sweep(unit.connection, before=before, limit=_AT_ONCE)

        return await self._writer.run(work)

    async def quota_counts(self) -> int:
        """Delete one batch of what was counted for quotas that are over; returns how many."""
        before = self._clock.now()

        def work(unit: UnitOfWork) -> int:
            return quota_store.sweep(unit.connection, before=before, limit=_AT_ONCE)

        return await self._writer.run(work)
