"""The queue as clients see it, from a shared snapshot.

Counting the queue for every response would read all of it each time. So a snapshot of a deep queue is reused for a
multiple of the time that it took. Positions are exact in a short queue and approximate in a deep one.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.clock import Clock
from app.db import account_store, task_store
from app.db.engine import Connection, Database
from app.domain.account import Account
from app.writing.batch_loader import BatchLoader

_MAX_SHORT_QUEUE = 200
_LIFETIME_PER_COST = 50
_MAX_MARKS = 500
RateExhausted = Callable[[Connection, int], int | None]
"""Takes the time (ms) and returns when the rate limit admits the next submit; None if it admits one now."""


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """Queued task IDs with positions; every n-th in deep queues.

    `account` and `slot_free_at` (ms, None if a slot is free) show whether tasks can be sent.
    """

    fresh_until: float = 0.0
    ids: Sequence[str] = ()
    positions: Sequence[int] = ()
    account: Account = field(default_factory=Account)
    slot_free_at: int | None = None

    def position(self, task_id: str) -> int:
        """Return a queued task's position, 1 for the next."""
        index = bisect_right(self.ids, task_id)
        if index == 0:
            return 1
        known = self.positions[index - 1]
        return known if self.ids[index - 1] == task_id else known + 1


class Queue:
    """Takes snapshots of the queue."""

    def __init__(self, database: Database, clock: Clock, rate_exhausted_until: RateExhausted | None) -> None:
        self._database = database
        self._clock = clock
        self._rate_exhausted_until = rate_exhausted_until
        self._snapshot = QueueSnapshot()
        self._loader = BatchLoader("queue", self._take)

    async def look(self) -> QueueSnapshot:
        """Return a fresh snapshot; raises `ServiceUnavailable`."""
        # There is a single snapshot, so its loader has a single key.
        return self._snapshot if self._is_fresh() else await self._loader.load("queue") or QueueSnapshot()

    def _is_fresh(self) -> bool:
        return time.monotonic() < self._snapshot.fresh_until

    async def _take(self, keys: Sequence[str]) -> Mapping[str, QueueSnapshot]:
        """Take a snapshot, unless the last one is still fresh."""
        if not self._is_fresh():
            began = time.monotonic()
            marks, account, slot_free_at = await self._database.read(self._read)
            ended = time.monotonic()
            lifetime = _LIFETIME_PER_COST * (ended - began) if len(marks) > _MAX_SHORT_QUEUE else 0.0
            ids, positions = [mark[0] for mark in marks], [mark[1] for mark in marks]
            self._snapshot = QueueSnapshot(ended + lifetime, ids, positions, account, slot_free_at)
        return dict.fromkeys(keys, self._snapshot)

    def _read(self, connection: Connection) -> tuple[list[tuple[str, int]], Account, int | None]:
        free_at = self._rate_exhausted_until and self._rate_exhausted_until(connection, self._clock.now())
        return task_store.queue_marks(connection, _MAX_MARKS), account_store.get(connection), free_at
