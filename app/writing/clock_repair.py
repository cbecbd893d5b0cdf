"""Repairs times in rows after a clock is set back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from app.clock import Clock
from app.db import account_store, event_store, future_times
from app.db.engine import Connection
from app.domain import delivery, image
from app.domain.policy import Policy
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

# Clocks that are adjusted gradually differ by less.
_STEP_MS = 1_000
_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class ClockRepair:
    """Caps times in rows after the clock is set back.

    Otherwise work would wait until the clock reaches them again. Acts when the clock falls behind `timer`, a monotonic
    clock in seconds, and at the start if the newest event is in the future. `webhook_pauses` is the retry schedule;
    `cap_rate_slots` caps the rate limit.
    """

    writer: Writer
    clock: Clock
    policy: Policy
    webhook_pauses: Sequence[int]
    cap_rate_slots: Callable[[Connection, int], None] | None = None
    timer: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._ahead: int | None = None
        """How far the clock was ahead of the timer; None before the first check."""

    async def run_once(self) -> int:
        """Check the clock and repair what is needed; returns 0."""
        ahead = self.clock.now() - round(self.timer() * 1000)
        if self._ahead is None:
            await self.writer.run(self._repair_at_start)
        elif ahead < self._ahead - _STEP_MS:
            await self.writer.run(self._repair)
        self._ahead = ahead
        return 0

    def _repair_at_start(self, unit: UnitOfWork) -> None:
        if event_store.newest_at(unit.connection) > unit.now + _STEP_MS:
            self._repair(unit)

    def _repair(self, unit: UnitOfWork) -> None:
        connection, now = unit.connection, unit.now
        if self.cap_rate_slots is not None:
            self.cap_rate_slots(connection, now)
        account_store.cap(connection, now)
        changed = [
            future_times.cap_tasks(connection, now, self.policy),
            future_times.cap_deliveries(connection, now, lease=delivery.LEASE_MS, pauses=self.webhook_pauses),
            future_times.cap_images(connection, now, lease=image.LEASE_MS, pauses=image.RETRY_PAUSES_MS),
        ]
        _log.warning("clock_set_back", changed=sum(changed))
