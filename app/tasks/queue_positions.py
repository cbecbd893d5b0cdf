"""Positions in the queue, from a shared snapshot.

Counting the queue for every response would read all of it each time. So a snapshot of a deep queue is kept for a
multiple of the time it took. Positions are exact while the queue is short and approximate when it is deep.
"""

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.db import task_store
from app.db.engine import Database
from app.writing.batch_loader import BatchLoader

_MAX_SHORT_QUEUE = 200
_LIFETIME_PER_COST = 50
_MAX_MARKS = 500


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Queued task IDs with positions; every n-th in deep queues."""

    fresh_until: float = 0.0
    ids: Sequence[str] = ()
    positions: Sequence[int] = ()

    def position(self, task_id: str) -> int:
        index = bisect_right(self.ids, task_id)
        if index == 0:
            return 1
        known = self.positions[index - 1]
        return known if self.ids[index - 1] == task_id else known + 1


class QueuePositions:
    """Returns positions in the queue, 1 for the next task."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshot = _Snapshot()
        self._loader = BatchLoader("queue-positions", self._take)

    async def of(self, task_ids: Sequence[str]) -> dict[str, int]:
        """Return the positions of queued tasks; raises `ServiceUnavailable`."""
        if not task_ids:
            return {}
        # There is a single snapshot, so its loader has a single key.
        snapshot = self._snapshot if self._is_fresh() else await self._loader.load("queue") or _Snapshot()
        return {task_id: snapshot.position(task_id) for task_id in task_ids}

    def _is_fresh(self) -> bool:
        return time.monotonic() < self._snapshot.fresh_until

    async def _take(self, keys: Sequence[str]) -> Mapping[str, _Snapshot]:
        """Take a snapshot, unless the last one is still fresh."""
        if not self._is_fresh():
            began = time.monotonic()
            marks = await self._database.read(lambda connection: task_store.queue_marks(connection, _MAX_MARKS))
            ended = time.monotonic()
            lifetime = _LIFETIME_PER_COST * (ended - began) if len(marks) > _MAX_SHORT_QUEUE else 0.0
            self._snapshot = _Snapshot(ended + lifetime, [mark[0] for mark in marks], [mark[1] for mark in marks])
        return dict.fromkeys(keys, self._snapshot)
